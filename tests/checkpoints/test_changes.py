"""Patches of another size and another normalization, as a file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import resample_patch_embed
from torch.nn import functional

from moca.backbone import PlainViT
from moca.checkpoints import check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.checkpoints.changes import change_arguments, changed, changes_of
from moca.checkpoints.loading import open_encoder
from moca.errors import CheckpointMismatch, UserError
from tests.backbone.helpers import TINY, random_images, save, timm_vit
from tests.checkpoints import families
from tools.train import parse_args

KERNEL = 'patch_embed.proj.weight'
OTHER = dict(TINY, patch_size=16, img_size=64)  # the same four by four patches


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(timm_vit(TINY).state_dict(), tmp_path_factory.mktemp('files') / 'vit.pth')


def test_kernels_are_resampled_as_timm_does(checkpoint: Path) -> None:
    model = PlainViT(OTHER)
    info = load_checkpoint(model, checkpoint, patch=16)
    before = torch.load(checkpoint)
    expected = resample_patch_embed(before[KERNEL], [16, 16])
    assert torch.equal(model.patch_embed.proj.weight, expected)
    others = {key: value for key, value in model.state_dict().items() if key != KERNEL}
    assert all(torch.equal(value, before[key]) for key, value in others.items())
    assert (info.patch_size, info.resampled_from) == (16, 8)
    assert 'patch 16 (resampled from 8)' in str(info)


def test_enlarged_patches_make_the_same_tokens(checkpoint: Path) -> None:
    """What FlexiViT derives the resampling from: the same token of an enlarged patch."""
    small, large = PlainViT(TINY), PlainViT(OTHER)
    load_checkpoint(small, checkpoint)
    load_checkpoint(large, checkpoint, patch=16)
    # every patch alone: the resizing looks over no border
    patches = random_images(16, 3, 8, 8)
    resized = functional.interpolate(patches, (16, 16), mode='bicubic', antialias=True)
    with torch.no_grad():
        tokens = small.patch_embed.proj(patches)
        torch.testing.assert_close(large.patch_embed.proj(resized), tokens, rtol=1e-3, atol=1e-4)


def test_its_own_size_changes_nothing(checkpoint: Path) -> None:
    encoder, info = open_encoder(checkpoint)
    assert changed(encoder, checkpoint, patch=8) is encoder
    assert info.resampled_from is None
    assert 'resampled' not in str(info)


@pytest.mark.parametrize(
    ('arch', 'grown'), [(TINY, OTHER), ('vit_tiny_patch8', 'vit_tiny_patch16')]
)
def test_the_architecture_of_a_run_follows(arch: Any, grown: Any, tmp_path: Path) -> None:
    named = isinstance(arch, str)
    settings = dict(patch_size=8, img_size=32)
    model = timm_vit('vit_tiny_patch16_224', **settings) if named else timm_vit(TINY)
    content = families.own_run(model, model)
    content['meta']['cfg'] = f'model = dict(backbone=dict(type="PlainViT", arch={arch!r}))'
    path = save(content, tmp_path / 'epoch_1.pth')
    assert inspect_checkpoint(path, patch=16).arch == grown
    assert check_checkpoint(path, grown, patch=16).num_positions == 17  # resampled with the grid


def test_dinov2_with_patches_of_16(tmp_path: Path) -> None:
    """Its tensors are those of DeiT-III then, but for the position of the class token."""
    model = PlainViT('vit_small_patch14_dinov2', img_size=56)
    path = save(model.state_dict(), tmp_path / 'dinov2.pth')
    arch = inspect_checkpoint(path, patch=16).arch
    assert arch is not None
    assert check_checkpoint(path, arch, patch=16, img_size=64).patch_size == 16


def test_another_size_is_refused_with_the_remedy(checkpoint: Path) -> None:
    with pytest.raises(CheckpointMismatch, match='--patch 16 --arch auto resamples its kernels'):
        check_checkpoint(checkpoint, OTHER)
    with pytest.raises(CheckpointMismatch) as caught:
        check_checkpoint(checkpoint, dict(TINY, depth=2))
    assert '--patch' not in str(caught.value)
    with pytest.raises(UserError, match='--patch 0: give the side'):
        inspect_checkpoint(checkpoint, patch=0)


def test_broken_kernels_are_refused_before(tmp_path: Path) -> None:
    state = dict(timm_vit(TINY).state_dict())
    state[KERNEL] = state[KERNEL] * torch.nan
    with pytest.raises(UserError, match='holds NaN'):
        inspect_checkpoint(save(state, tmp_path / 'nan.pth'), patch=16)


def test_half_precision(tmp_path: Path) -> None:
    state = {key: value.bfloat16() for key, value in timm_vit(TINY).state_dict().items()}
    model = PlainViT(OTHER)
    load_checkpoint(model, save(state, tmp_path / 'half.pth'), patch=16)
    expected = resample_patch_embed(state[KERNEL].float(), [16, 16]).bfloat16().float()
    assert torch.equal(model.patch_embed.proj.weight, expected)


def test_normalization_that_is_given(checkpoint: Path) -> None:
    model = PlainViT(TINY)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    info = load_checkpoint(model, checkpoint, mean=mean, std=std)
    assert (model.mean, model.std) == (info.mean, info.std) == (mean, std)
    assert info.normalized_by == '--mean and --std'
    told = inspect_checkpoint(checkpoint, mean=mean, std=std, said_by='the run')
    assert (told.mean, told.normalized_by) == (mean, 'the run')
    half = inspect_checkpoint(checkpoint, std=std)
    assert (half.mean, half.std) == ((0.485, 0.456, 0.406), std)
    assert 'the other of ImageNet' in str(half.normalized_by)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(mean=(123.7, 116.3, 103.5)), 'of pixels from 0 to 255 divided by 255'),
        (dict(std=(0.2, 0.0, 0.2)), 'cannot be divided by a deviation of 0'),
        (dict(mean=(float('nan'),) * 3), 'three numbers from 0 to 1'),
    ],
)
def test_impossible_normalization(given: dict[str, Any], message: str, checkpoint: Path) -> None:
    with pytest.raises(UserError, match=message):
        inspect_checkpoint(checkpoint, **given)


def test_arguments_there_and_back() -> None:
    given = dict(patch=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.2, 0.1))
    assert changes_of(parse_args(['CONFIG', *change_arguments(given)])) == given
    assert changes_of(parse_args(['CONFIG'])) == {}
