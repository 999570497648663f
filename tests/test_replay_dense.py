"""The replay of recorded dense protocols: what it passes, and that a deviation is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.replay_dense.__main__ import main

RECORDED = Path(__file__).parent / 'data' / 'dense'
RECORDINGS = sorted(path.parent.name for path in RECORDED.rglob('*.json'))


CHANGED = {
    'hummingbird': {'zero.sampled': 'sampled', 'permuted.prediction': 'label maps'},
    'capi': {
        'scaler.scale': 'scaler',
        'knn.test': 'k-NN predictions',
        'logreg.C4.coef': 'weights',
    },
    'davis': {'short_queue.soft': 'soft labels', 'tiny_object.labels': 'label maps'},
    'lost': {'plain.degrees': 'degrees', 'candidates.M': 'sum'},
    'spair': {'input.bus.p0': 'input images'},
    'depth': {'eval.depth_grid': 'depth', 'train.gradient.bias': 'gradients'},
}
"""Tensors of a recording, and the measure that sees a change of one element."""


@pytest.mark.parametrize('name', RECORDINGS)
def test_the_original_code_is_replayed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RECORDED / name)]) == 0
    assert '1 of 1 recordings as recorded' in capsys.readouterr().out


@pytest.mark.parametrize('name', CHANGED)
def test_a_deviation_is_seen(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RECORDED / name, tmp_path / name)
    path = tmp_path / name / f'{name}.safetensors'
    tensors = load_file(path)
    for tensor in CHANGED[name]:
        tensors[tensor].view(-1)[0] += 1
    save_file(tensors, path)
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if 'FAILED' in line]
    assert len(failed) == len(CHANGED[name])
    for measure in CHANGED[name].values():
        assert any(measure in line for line in failed)


def test_others_are_said_to_be_skipped_and_nothing_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'other').mkdir()
    save_file({'a': torch.zeros(1)}, tmp_path / 'other' / 'other.safetensors')
    (tmp_path / 'other' / 'other.json').write_text(json.dumps({'source': {'repository': 'other'}}))
    assert main([str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert 'other: skipped' in output.out
    assert 'nothing to replay' in output.err


def test_a_crash_is_a_failure_of_its_recording_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RECORDED / 'capi', tmp_path / 'capi')
    shutil.copytree(RECORDED / 'capi', tmp_path / 'capi_broken')
    path = tmp_path / 'capi_broken' / 'capi.safetensors'
    tensors = load_file(path)
    del tensors['test.features']
    save_file(tensors, path)
    assert main([str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert '1 of 2 recordings as recorded' in output
    assert 'KeyError' in output
