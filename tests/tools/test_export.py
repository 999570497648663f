"""tools/export.py on a run, and what docs/export.md makes of its file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from moca.export.verifying import generated
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY, shrink
from tools import export

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


def test_the_example_predicts_what_the_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/driving/linear-bn.py')
    shrink(cfg, 8)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    randomize(model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=1.0)
    cfg.dump(str(tmp_path / 'linear-bn.py'))
    names = tuple('abcdefghijklmnopqrs')
    meta = dict(dataset_meta=dict(classes=names, palette=[(0, 0, 0)] * 19))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'iter_2.pth')
    out = tmp_path / 'model.onnx'
    assert export.main([str(tmp_path), '--to', 'onnx', '--out', str(out)]) in (None, 0)
    assert 'Verified on a generated image' in capsys.readouterr().out

    page = (REPOSITORY / 'docs/export.md').read_text()
    (example,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    assert len(example.splitlines()) <= 30
    size = tuple(cfg.crop_size)
    image = generated(size)
    monkeypatch.chdir(tmp_path)
    np.save('image.npy', image)
    exec(compile(example, 'docs/export.md', 'exec'), {})
    assert re.search(r'^[a-s]: [\d.]+% of the pixels$', capsys.readouterr().out, re.MULTILINE)
    planes = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)  # BGR, as mm's loaders
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=[planes], data_samples=None))
        truth = model.predict(data['inputs'])[0].pred_sem_seg.data[0]
    assert (np.load('labels.npy') == truth.numpy()).mean() >= 0.999


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(tmp_path)]) == 2
    assert 'no checkpoint' in capsys.readouterr().err
    assert export.main([str(tmp_path), '--backbone']) == 2
    assert 'a folder without checkpoints of a run' in capsys.readouterr().err
    there = tmp_path / 'model.onnx'
    there.write_text('kept')
    assert export.main([str(tmp_path), '--out', str(there)]) == 2
    assert 'model.onnx: exists already' in capsys.readouterr().err
    assert there.read_text() == 'kept'
    assert export.main([str(tmp_path), '--out', str(there), '--force']) == 2
    assert 'no checkpoint' in capsys.readouterr().err  # and no word of the file
