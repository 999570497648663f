"""Propagation of labels through videos, against a procedure written out patch by patch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from moca.evaluation.dense import propagation
from moca.evaluation.dense.propagation import (
    Propagation,
    in_neighborhood,
    labels_on_grid,
    propagate,
    propagate_video,
    stretched,
)
from moca.evaluation.dense.video_frames import (
    DINO_STD,
    PRESETS,
    deviates,
    dino_size,
    dinov3_size,
    frame_tensor,
    label_map,
    network_size,
    preset_std,
)
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD


def by_patches(
    features: Tensor, context: list[Tensor], labels: list[Tensor], how: Propagation
) -> Tensor:
    """What `propagate` computes, one patch after the other."""
    _, height, width = features.shape
    out = torch.zeros(labels[0].shape)
    for row, column in itertools.product(range(height), range(width)):
        near = []
        for frame, mask in zip(context, labels, strict=True):
            for i, j in itertools.product(range(height), range(width)):
                di, dj = abs(i - row), abs(j - column)
                inside = max(di, dj) <= how.radius
                if how.shape == 'circle':
                    inside = math.hypot(di, dj) <= how.radius
                if inside or not how.radius:
                    near.append((float(features[:, row, column] @ frame[:, i, j]), mask[:, i, j]))
        fifth = sorted((value for value, _ in near), reverse=True)[: how.top_k][-1]
        kept = [(math.exp(value / how.temperature), mask) for value, mask in near if value >= fifth]
        total = sum(weight for weight, _ in kept)
        out[:, row, column] = sum(weight / total * mask for weight, mask in kept)
    return out


@pytest.mark.parametrize('shape', ['square', 'circle'])
@pytest.mark.parametrize('radius', [0, 2])
def test_propagation_equals_the_written_out_procedure(
    shape: str, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Propagation(0.1, shape, radius, top_k=3)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    frames = F.normalize(torch.randn(3, 5, 4, 7, generator=generator), dim=1)
    labels = list(torch.rand(2, 2, 4, 7, generator=generator))
    expected = by_patches(frames[0], list(frames[1:]), labels, how)
    for block in (2**25, 1):  # the whole frame at a time, and row by row
        monkeypatch.setattr(propagation, 'BLOCK_CELLS', block)
        ours = propagate(frames[0], list(frames[1:]), labels, how)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(('shape', 'members'), [('square', 9), ('circle', 5)])
def test_neighborhoods_on_a_small_grid(shape: str, members: int) -> None:
    how = Propagation(0.1, shape, radius=1)  # type: ignore[arg-type]
    rows, columns = torch.arange(3)[:, None] - 1, torch.arange(5)[None] - 2
    found = in_neighborhood(rows, columns, how)
    assert found.sum() == members
    assert found[0, 2]
    assert found[2, 2]
    assert found[1, 1]
    assert not found[1, 0]


def test_the_best_patches_of_all_context_frames_together() -> None:
    # one patch, two frames: similarities .9 .8 .1 and .7 .6 .5 of a 1 x 3 grid
    query = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 3)
    similar = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.6, 0.5]])
    context = [torch.stack([row, (1 - row**2).sqrt()]).view(2, 1, 3) for row in similar]
    labels = [torch.eye(6)[:, :3].view(6, 1, 3), torch.eye(6)[:, 3:].view(6, 1, 3)]
    ours = propagate(query, context, labels, Propagation(0.1, radius=0, top_k=3))[:, 0, 0]
    weights = torch.tensor([0.9, 0.8, 0.7]).div(0.1).exp()
    expected = torch.zeros(6)
    expected[[0, 1, 3]] = weights / weights.sum()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_ties_with_the_last_one_are_kept() -> None:
    features = torch.ones(1, 1, 4)
    labels = torch.eye(4).view(4, 1, 4)
    ours = propagate(features, [features], [labels], Propagation(0.1, radius=0, top_k=2))
    torch.testing.assert_close(ours, torch.full((4, 1, 4), 0.25))


def test_a_still_video_keeps_its_first_mask() -> None:
    frame = torch.eye(12).view(12, 3, 4)
    first = F.one_hot(torch.arange(12).view(3, 4) % 3, 3).permute(2, 0, 1).float()
    for preset in PRESETS.values():
        found = list(propagate_video([frame] * 20, first, preset.propagation))
        assert len(found) == 19
        assert all((soft.argmax(0) == first.argmax(0)).all() for soft in found)


def test_the_first_frame_never_leaves_the_context() -> None:
    # an object that is hidden for longer than the queue is found again by the first frame alone
    frames = [torch.eye(4)[:, [0, 1]], *[torch.eye(4)[:, [2, 2]]] * 4, torch.eye(4)[:, [1, 0]]]
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 2)
    how = Propagation(0.01, radius=0, top_k=1, last_frames=2)
    found = list(propagate_video([frame.view(4, 1, 2) for frame in frames], first, how))
    torch.testing.assert_close(found[-1], first.flip(2))


def test_a_small_object_keeps_its_channel() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 1
    mask[0, 1:3] = 2
    for by in ('pillow', 'torch'):
        labels = labels_on_grid(mask, (2, 2), by)  # type: ignore[arg-type]
        assert labels.shape == (3, 2, 2)
        assert labels[2].sum() == 0


def test_maps_are_stretched_channel_by_channel() -> None:
    maps = torch.tensor([[[0.2, 0.4, 0.6]], [[0.5, 0.5, 0.5]], [[0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[0, 0.5, 1]], [[0.5, 0.5, 0.5]], [[0, 0, 0]]])
    torch.testing.assert_close(stretched(maps), expected)


def test_an_object_that_covers_the_frame_is_not_lost_to_rounding() -> None:
    soft = torch.stack([torch.zeros(3, 4), torch.rand(3, 4).mul(1e-7).add(1)])
    assert (label_map(soft, (48, 64), (48, 64), PRESETS['dino']) == 1).all()


def test_sizes_of_the_presets() -> None:
    assert dino_size(480, 854, 16) == (480, 832)
    assert dino_size(854, 480, 8) == (832, 480)
    assert dino_size(480, 854, 14) == (476, 826)
    assert deviates(14, PRESETS['dino'])
    assert not deviates(16, PRESETS['dino'])
    assert not deviates(14, PRESETS['dinov3-m'])
    assert dinov3_size(480, 854, 16, 960) == (960, 1712)
    assert dinov3_size(854, 480, 16, 480) == (864, 480)
    assert dinov3_size(480, 480, 16, 480) == (480, 480)
    sizes = [network_size(480, 854, 14, PRESETS[f'dinov3-{letter}'])[0] for letter in 'sml']
    assert sizes == [420, 840, 1260]


def test_constants_of_the_presets() -> None:
    dino, medium = PRESETS['dino'], PRESETS['dinov3-m']
    assert (dino.propagation.temperature, dino.propagation.shape) == (0.1, 'square')
    assert (medium.propagation.temperature, medium.propagation.shape) == (0.2, 'circle')
    for preset in PRESETS.values():
        how = preset.propagation
        assert (how.radius, how.top_k, how.last_frames) == (12, 5, 7)
    assert preset_std(IMAGENET_MEAN, IMAGENET_STD, dino) == DINO_STD == (0.228, 0.224, 0.225)
    assert preset_std(IMAGENET_MEAN, IMAGENET_STD, medium) == IMAGENET_STD
    assert preset_std((0.5,) * 3, (0.5,) * 3, dino) == (0.5,) * 3


def test_frames_are_resized_as_each_preset_says() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 255  # the right half is white
    for preset in PRESETS.values():
        tensor = frame_tensor(image, (16, 32), (0.0,) * 3, (1.0,) * 3, preset)
        assert tensor.shape == (3, 16, 32)
        assert tensor[:, :, :8].max() < 0.1
        assert tensor[:, :, 24:].min() > 0.9
    # without antialiasing, a thin line between the samples of OpenCV is lost
    thin = np.zeros((16, 16, 3), np.uint8)
    thin[:, 5] = 255
    lost = frame_tensor(thin, (4, 4), (0.0,) * 3, (1.0,) * 3, PRESETS['dino'])
    kept = frame_tensor(thin, (4, 4), (0.0,) * 3, (1.0,) * 3, PRESETS['dinov3-s'])
    assert lost[:, :, 1].max() > 0.4 > kept[:, :, 1].max() > 0.1
