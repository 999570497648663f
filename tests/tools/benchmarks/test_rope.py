"""The benchmark of rotary positions: what it compares, and that it does."""

from __future__ import annotations

import pytest
import torch

from moca.errors import UserError
from tools.benchmarks.__main__ import main
from tools.benchmarks.rope import PLAIN, ROTARY, RopeCost, dimensions, measure_rope


def test_both_versions_are_timed_at_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--arch', 'vit_tiny_patch32', '--size', '64', '96', '--steps', '2']
    main(['rope', *options, '--device', 'cpu', '--dtype', 'float32'])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[2:]] == ['5', '10']  # patches and a class token
    assert all(float(line.split()[-1]) > 0 for line in lines[2:])


def test_the_ratio_is_the_median_of_those_of_the_turns() -> None:
    cost = RopeCost(224, 196, 1, {PLAIN: [1.0, 2.0, 4.0], ROTARY: [1.5, 2.2, 4.0]})
    assert cost.ratio == pytest.approx(1.1)


def test_dimensions_are_those_of_the_name() -> None:
    expected = dict(patch_size=16, embed_dim=768, depth=12, num_heads=12)
    assert dimensions('vit_base_patch16') == expected


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match='class token and learned positions'):
        dimensions('vit_small_patch14_reg4_dinov2')
    with pytest.raises(UserError, match='1 or more'):
        measure_rope('vit_tiny_patch16', 0, 1, 1, 'float32', torch.device('cpu'))
