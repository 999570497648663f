"""The recorded run of the released code is reproduced, and a wrong implementation is caught."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from moca.errors import UserError
from tests.replay import main, replay

RECORDING = Path(__file__).parents[2] / 'data' / 'moca_tiny.json'


def test_recorded_run_is_reproduced(capsys):
    assert main([str(RECORDING)]) == 0
    assert 'FAILED' not in capsys.readouterr().out


def test_bfloat16_is_near_it_and_another_layer_is_not(tmp_path, capsys):
    assert main([str(RECORDING), '--amp']) == 0
    assert 'targets' in capsys.readouterr().out
    record = json.loads(RECORDING.read_text())
    record['model'].update(early_layer=1, skip_offset=0)
    changed = tmp_path / 'changed.json'
    changed.write_text(json.dumps(record))
    shutil.copy(RECORDING.with_suffix('.safetensors'), changed.with_suffix('.safetensors'))
    worst = replay(changed, amp=True).worst
    assert worst['targets'][0] > 0.1
    assert worst['logits'][0] > 0.1
    assert replay(RECORDING, amp=True).worst['losses'][0] > 1e-5  # it is not fp32


@pytest.mark.parametrize(
    ('section', 'key', 'value', 'kind'),
    [
        ('model', 'kappa', 3.01, 'logits'),
        ('model', 'inv_delta', 10.1, 'targets'),
        ('model', 'img_weight', 0.6, 'gradients'),
        ('model', 'skip_offset', 0, 'targets'),
        ('model', 'early_layer', 1, 'logits'),
        ('optim', 'weight_decay', 0.0, 'final weights'),
        ('optim', 'lr_wgen', 2e-4, 'final weights'),
        ('optim', 'clip_grad', 1.0, 'final weights'),
    ],
)
def test_another_setting_is_beyond_tolerance(tmp_path, section, key, value, kind):
    record = json.loads(RECORDING.read_text())
    record[section][key] = value
    changed = tmp_path / 'changed.json'
    changed.write_text(json.dumps(record))
    shutil.copy(RECORDING.with_suffix('.safetensors'), changed.with_suffix('.safetensors'))
    report = replay(changed)
    assert not report.passed
    assert f'{kind:22}' in '\n'.join(row for row in str(report).split('\n') if 'FAILED' in row)


def test_a_changed_codebook_is_beyond_tolerance(tmp_path):
    changed = tmp_path / 'changed.json'
    shutil.copy(RECORDING, changed)
    tensors = load_file(RECORDING.with_suffix('.safetensors'))
    tensors['final.bow_extractor.bow_extractor.0._embedding'][-1, 0] += 1e-5
    save_file(tensors, changed.with_suffix('.safetensors'))
    assert replay(changed).worst['codebook and buffers'][0] > 1e-6


def test_unknown_setting_is_refused(tmp_path):
    record = json.loads(RECORDING.read_text())
    record['model']['queue_warmup'] = 3
    changed = tmp_path / 'changed.json'
    changed.write_text(json.dumps(record))
    shutil.copy(RECORDING.with_suffix('.safetensors'), changed.with_suffix('.safetensors'))
    with pytest.raises(UserError, match='queue_warmup'):
        replay(changed)
