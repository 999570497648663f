"""What no tensor shows, in a run's config and in exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from torch.testing import assert_close

from moca.backbone import PlainViT
from moca.checkpoints import check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.evaluation.backbones import load_backbones
from moca.pretrain.moca.export import export
from tests.backbone.helpers import TINY, random_images, save, timm_vit
from tests.checkpoints import families

HALF = (0.5, 0.5, 0.5)
OTHER = (0.1, 0.2, 0.3)


def own_run(path: Path, cfg: dict[str, Any], **arch: Any) -> Path:
    """A checkpoint of pre-training with this config."""
    settings = dict(TINY, **arch)
    backbone = dict(type='PlainViT', arch=settings, norm_eps=1e-5, interpolation='bicubic-offset')
    cfg = {**cfg, 'model': {'backbone': backbone, **cfg.get('model', {})}}
    model = timm_vit(settings)
    content = families.own_run(model, model)
    content['meta']['cfg'] = Config(cfg).pretty_text
    return save(content, path)


def test_a_run_passes_on_what_it_was_started_with(tmp_path: Path) -> None:
    views = dict(train_dataloader=dict(dataset=dict(views=dict(mean=OTHER, std=HALF))))
    path = own_run(tmp_path / 'epoch_1.pth', views)
    info = inspect_checkpoint(path)
    assert (info.mean, info.std, info.normalized_by) == (OTHER, HALF, 'its run')
    assert (info.norm_eps, info.interpolation) == (1e-5, 'bicubic-offset')
    pixels = dict(mean=[25.5, 51.0, 76.5], std=[127.5] * 3)
    downstream = own_run(tmp_path / 'iter_1.pth', dict(model=dict(data_preprocessor=pixels)))
    info = inspect_checkpoint(downstream)
    assert (info.mean, info.std, info.normalized_by) == (OTHER, HALF, 'its run')
    plain = inspect_checkpoint(own_run(tmp_path / 'plain.pth', {}))
    assert plain.mean == (0.485, 0.456, 0.406)
    assert plain.normalized_by == 'pre-training run'


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_so_does_an_exported_file(suffix: str, tmp_path: Path) -> None:
    views = dict(train_dataloader=dict(dataset=dict(views=dict(mean=OTHER))))
    run = own_run(tmp_path / 'epoch_1.pth', views)
    target = tmp_path / f'teacher{suffix}'
    to = 'timm' if suffix == '.pth' else None
    export(run, run, target, branch='teacher', to=to)
    before, after = PlainViT(TINY), PlainViT(TINY)
    first = load_checkpoint(before, run, 'teacher')
    info = load_checkpoint(after, target)
    assert (info.mean, info.std) == (first.mean, first.std) == (OTHER, (0.229, 0.224, 0.225))
    assert (info.norm_eps, info.interpolation) == (1e-5, 'bicubic-offset')
    images = random_images(1, 3, 40, 56)  # another grid: the resampling shows
    assert before.eval()(images)[0].equal(after.eval()(images)[0])
    # another normalization and other patches travel as well
    changed = tmp_path / f'changed{suffix}'
    export(run, run, changed, branch='teacher', to=to, std=HALF, patch=16)
    info = inspect_checkpoint(changed)
    assert (info.mean, info.std, info.patch_size) == (OTHER, HALF, 16)


def test_the_activation_of_a_run_is_its_own(tmp_path: Path) -> None:
    path = own_run(tmp_path / 'epoch_1.pth', {}, act_layer='quick_gelu')
    info = inspect_checkpoint(path)
    assert info.arch is not None
    check_checkpoint(path, info.arch)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_positions_of_an_oblong_run_keep_their_grid(suffix: str, tmp_path: Path) -> None:
    """As of a run on crops that are no squares; the tensors alone do not tell 2 x 8 from 4 x 4."""
    high, wide = 2 * TINY['patch_size'], 8 * TINY['patch_size']
    arch = dict(TINY, img_size=(high, wide))
    model = timm_vit(arch)
    content = families.own_run(model, model)
    backbone = dict(type='PlainViT', arch=dict(TINY), img_size=(high - 1, wide))  # padded
    content['meta']['cfg'] = Config(dict(model=dict(backbone=backbone))).pretty_text
    run = save(content, tmp_path / 'iter_1.pth')
    assert 'for 2 x 8 patches' in inspect_checkpoint(run).positions
    target = tmp_path / f'encoder{suffix}'
    export(run, run, target, branch='teacher', to='timm' if suffix == '.pth' else None)
    assert inspect_checkpoint(target).grid == (2, 8)
    images = random_images(1, 3, high, wide)
    for path in (run, target):
        (found,) = load_backbones([str(path)], [])
        assert found.model.grid == (2, 8)
        own = found.model.cpu()(images)[-1].flatten(2).transpose(1, 2)
        assert_close(own, model.eval().forward_features(images)[:, 1:])
        oblong, square = PlainViT(TINY, img_size=(wide, high)), PlainViT(TINY, img_size=wide)
        load_checkpoint(square, path)
        load_checkpoint(oblong, path)  # turned: resampled, not taken as it is
        assert not oblong.pos_embed.equal(found.model.cpu().pos_embed)
