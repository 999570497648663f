"""Files that the suite wrote before its rooms moved are still read, to the last bit.

`data/before_rooms` was written by commit 94e285a: two epochs of MOCA on eight images (`run.pth`),
what `tools/checkpoint.py export` made of it then (`teacher.safetensors`, `released.pth`), and the
`run.json` of a linear probe that started from it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from safetensors import safe_open
from safetensors.torch import load_file

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.checkpoints.reading import read_file, run_config
from moca.pretrain.moca.export import export
from moca.pretrain.moca.released import accept_released
from moca.transfer.run_reading import read_runs
from tests.images.photographs import save_photographs
from tools import pretrain

BEFORE = Path(__file__).parent / 'data/before_rooms'
ARCH = dict(patch_size=8, embed_dim=16, depth=3, num_heads=2)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, 'pt') as file:
        found: dict[str, str] = file.metadata()
    return found


def assert_same(ours: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert ours.keys() == recorded.keys()
    for name, value in recorded.items():
        assert torch.equal(ours[name], value), name


def test_the_encoder_of_a_run_is_the_one_exported_then() -> None:
    model = PlainViT(arch=ARCH, img_size=32)
    info = load_checkpoint(model, BEFORE / 'run.pth', 'teacher')
    assert info.branch == 'teacher'
    recorded = load_file(BEFORE / 'teacher.safetensors')
    state = model.state_dict()
    for name, value in recorded.items():
        assert torch.equal(state[name], value), name


def test_an_exported_file_loads() -> None:
    model = PlainViT(arch=ARCH, img_size=32)
    load_checkpoint(model, BEFORE / 'teacher.safetensors')
    assert inspect_checkpoint(BEFORE / 'teacher.safetensors').arch == ARCH


def test_an_encoder_is_exported_as_then(tmp_path: Path) -> None:
    target = tmp_path / 'teacher.safetensors'
    export(BEFORE / 'run.pth', BEFORE / 'run.pth', target, branch='teacher')
    recorded = BEFORE / 'teacher.safetensors'
    assert_same(load_file(target), load_file(recorded))
    assert metadata(target).keys() == metadata(recorded).keys()


def test_a_whole_run_is_exported_as_then(tmp_path: Path) -> None:
    target = tmp_path / 'released.pth'
    export(BEFORE / 'run.pth', BEFORE / 'run.pth', target, to='moca')
    ours, recorded = read_file(target), read_file(BEFORE / 'released.pth')
    assert_same(ours['model'], recorded['model'])
    assert vars(ours['args']) == vars(recorded['args'])


def test_a_run_goes_on(tmp_path: Path) -> None:
    """With its own config, as mmengine has dumped it beside the checkpoint."""
    save_photographs(tmp_path / 'images', count=8)
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    shutil.copy(BEFORE / 'run.pth', work_dir / 'epoch_2.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    config = work_dir / 'tiny_moca.py'
    old = run_config(read_file(BEFORE / 'run.pth'))
    Config(old).dump(config)
    arguments = [str(config), '--data-root', str(tmp_path / 'images'), '--work-dir', str(work_dir)]
    assert not pretrain.main([*arguments, '--resume'])
    before, after = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (BEFORE / 'run.pth', work_dir / 'epoch_4.pth')
    )
    assert after.keys() == MODELS.build(Config(old).model).state_dict().keys()
    assert not torch.equal(before['student.norm.weight'], after['student.norm.weight'])


def test_a_released_file_that_we_wrote_starts_a_run() -> None:
    cfg = Config(run_config(read_file(BEFORE / 'run.pth')))
    cfg.load_from = str(BEFORE / 'released.pth')
    accept_released(cfg)
    assert cfg.default_hooks.released.type == 'ReleasedNames'


def test_a_result_is_read() -> None:
    ((run,), omissions) = read_runs([BEFORE])
    assert not omissions
    assert (run.protocol, run.checkpoint, run.branch) == (
        'driving_linear_bn',
        'run/epoch_2',
        'teacher',
    )
    assert run.metrics['mIoU'] == pytest.approx(2.43)
    assert run.shown == ('mIoU_present', 'mIoU')
    assert (run.iterations, run.train_images, run.arch) == (2, 4, 'vit_16x3_patch8')
