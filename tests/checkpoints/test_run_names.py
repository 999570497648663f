"""What runs are called: rows of the leaderboard and folders."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import timm

from moca.checkpoints.run_names import (
    arch_label,
    checkpoint_label,
    layer_scale,
    random_label,
    run_folder,
)

DIMENSIONS: dict[str, Any] = dict(patch_size=8, embed_dim=192, depth=6, num_heads=3)


@pytest.mark.parametrize(
    ('path', 'label'),
    [
        ('/runs/moca_tiny/epoch_10.pth', 'moca_tiny/epoch_10'),
        ('/runs/moca_tiny/iter_200.pth', 'moca_tiny/iter_200'),
        ('/weights/mae_pretrain_vit_base.pth', 'mae_pretrain_vit_base'),
    ],
)
def test_checkpoint_labels(path: str, label: str) -> None:
    assert checkpoint_label(path) == label


def test_arch_labels_are_strings() -> None:
    assert arch_label('vit_base_patch16') == 'vit_base_patch16'
    assert arch_label(DIMENSIONS) == 'vit_192x6_patch8'


def test_layer_scale_is_that_of_timm_s_weights() -> None:
    name = 'vit_small_patch14_dinov2'
    gamma = timm.create_model(name, img_size=28).blocks[3].ls2.gamma
    assert layer_scale(name) == pytest.approx(gamma[0].item(), rel=1e-6)
    assert layer_scale('vit_tiny_patch16') is None


def test_random_weights_with_layer_scale_are_a_row_of_their_own() -> None:
    assert random_label('vit_small_patch16') == 'random init'
    assert random_label('vit_small_patch14_dinov2') == 'random init, LayerScale 1e-05'
    assert random_label(dict(DIMENSIONS, init_values=0.1)) == 'random init, LayerScale 0.1'


def test_folders_differ_wherever_the_measurement_does() -> None:
    folders = {
        run_folder(protocol, dict(name=name, branch=branch), arch, seed, subset)
        for protocol, name, branch, arch, seed, subset in itertools.product(
            ('cityscapes_linear_bn', 'driving_linear_bn'),
            ('moca/epoch_9', 'moca/epoch_10'),
            ('teacher', 'student'),
            ('vit_tiny_patch16', 'vit_small_patch16'),
            (0, 1),
            (None, 100),
        )
    }
    assert len(folders) == 2**6


def test_folders_are_plain_names() -> None:
    weights = dict(name='../a b/épo:ch_1', branch='encoder')
    folder = run_folder('p', weights, 'vit_tiny_patch16', 3)
    assert folder.parts == ('work_dirs', 'p', 'a-b-épo-ch_1_vit_tiny_patch16_seed3')
