"""Files that the suite wrote before its rooms moved are still read, to the last bit.

`data/before_rooms` was written by commit 94e285a: two epochs of MOCA on eight images (`run.pth`),
what `tools/checkpoint.py export` made of it then (`teacher.safetensors`, `released.pth`), and the
`run.json` of a linear probe that started from it.
"""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from safetensors import safe_open
from safetensors.torch import load_file

import moca.backbone
import moca.checkpoints
from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.checkpoints.integrity import CHECKSUM
from moca.checkpoints.reading import read_file, run_config
from moca.engine.config_check import arguments_of, root_registries
from moca.engine.renamed import FIELDS, TYPES
from moca.pretrain.data.views import ViewRecipe
from moca.pretrain.moca.export import export
from moca.pretrain.moca.released import accept_released
from moca.records.run_reading import read_runs
from tests.images.photographs import save_photographs
from tools import pretrain

ROOT = Path(__file__).parents[1]
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


def test_functions_that_moved_are_found_where_they_were() -> None:
    for name in ('check_checkpoint', 'inspect_checkpoint', 'load_checkpoint'):
        assert getattr(moca.backbone, name) is getattr(moca.checkpoints, name)
    absent = 'save_checkpoint'
    with pytest.raises(AttributeError, match=r'moca\.backbone.*save_checkpoint'):
        getattr(moca.backbone, absent)


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
    added = {'mean', 'std', 'interpolation', CHECKSUM}  # which files of today say as well
    assert metadata(target).keys() == metadata(recorded).keys() | added


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


@pytest.mark.parametrize(
    ('field', 'value', 'new'),
    [
        ('train_dataloader.dataset.type', 'UnlabelledPictures', 'UnlabeledImages'),
        ('default_hooks.corrupt.type', 'CorruptPictures', 'CorruptImages'),
        ('model.normaliser_decay', 0.9, 'normalizer_decay'),
        ('train_dataloader.dataset.views.views', [dict(grey_p=0.1)] * 2, 'gray_p'),
        ('train_dataloader.dataset.views.views', [dict(solarise_p=0.1)] * 2, 'solarize_p'),
    ],
)
def test_an_old_name_in_a_config_is_an_error_that_says_the_new(
    field: str, value: Any, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.fromfile(ROOT / 'configs/pretrain/moca_small.py')
    config.merge_from_dict({field: value})
    config.dump(tmp_path / 'own.py')
    arguments = ['--data-root', str(tmp_path), '--work-dir', str(tmp_path / 'run')]
    assert pretrain.main([str(tmp_path / 'own.py'), *arguments]) == 2
    assert f'is called {new!r} now' in capsys.readouterr().err


def test_every_new_name_exists() -> None:
    registered = {name for root in root_registries().values() for name in root.module_dict}
    assert set(TYPES.values()) <= registered
    recipe = {field.name for field in fields(ViewRecipe)}
    for (owner, _), new in FIELDS.items():
        assert new in (recipe if owner == 'ViewRecipe' else arguments_of(class_named(owner)) or ())


def class_named(name: str) -> Any:
    return next(c for root in root_registries().values() if (c := root.module_dict.get(name)))


def test_a_config_inside_a_checkpoint_has_the_names_of_today() -> None:
    cfg = run_config(read_file(BEFORE / 'run.pth'))
    assert cfg['model']['normalizer_decay'] == 0.99
    assert cfg['train_dataloader']['dataset']['type'] == 'UnlabeledImages'
    assert cfg['train_dataloader']['dataset']['views']['views'][1]['solarize_p'] == 0.2
    assert cfg['custom_hooks'][1]['type'] == 'CorruptImages'


def test_the_codebook_of_an_old_run_is_read() -> None:
    """Its buffers have other names, and ``strict`` loading takes no others."""
    content = torch.load(BEFORE / 'run.pth', weights_only=False)
    model = MODELS.build(Config(run_config(content)).model)
    old = content['state_dict']
    model.load_state_dict(dict(old))
    assert torch.equal(model.codebook.normalizer, old['codebook.normaliser'])
    assert torch.equal(model.codebook.frozen_normalizer, old['codebook.frozen_normaliser'])
