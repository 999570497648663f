"""The benchmark of mask transformers measures both networks, in training and inference."""

from __future__ import annotations

import pytest
import torch

from moca.errors import UserError
from tools.benchmarks.__main__ import main
from tools.benchmarks.eomt import Costs, measure_eomt
from tools.benchmarks.table import Version


def test_ratios_are_of_medians() -> None:
    train = {'EoMT': Version([2.0, 1.0, 3.0], 100 << 20), 'UPerNet': Version([4.0], 200 << 20)}
    test = {'EoMT': Version([0.5], 50 << 20), 'UPerNet': Version([1.0], 25 << 20)}
    rows = str(Costs('semantic', 2, train, test)).splitlines()
    assert rows[0].split() == ['semantic', 'EoMT', '1.000', '100.0', '4.000', '50.0']
    assert rows[2].split() == ['ratio', '2.000', '0.500', '2.000', '2.000']


def test_semantic_networks_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['eomt', 'semantic', '--arch', 'vit_tiny_patch16', '--size', '32']
    assert main([*arguments, '--steps', '1', '--batch-size', '2', '--dtype', 'float32']) in (
        None,
        0,
    )
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows[-3:-1]] == ['EoMT', 'UPerNet']
    assert all(float(word) > 0 for word in rows[-1].split()[1:])


def test_sizes_are_of_whole_patches() -> None:
    with pytest.raises(UserError, match='not a multiple of the patches'):
        measure_eomt('semantic', 'vit_tiny_patch16', 65, 1, 1, 'float32', torch.device('cpu'))
    with pytest.raises(UserError, match='must be 1 or more'):
        measure_eomt('semantic', 'vit_tiny_patch16', 64, 0, 1, 'float32', torch.device('cpu'))
