"""Operators on batches against those on one image, each image with parameters of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moca.images import batch_transforms, transforms
from moca.images.transforms import Pixels
from tests.images.photographs import photograph

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
FACTORS = [0.6, 0.83, 1.0, 1.27, 1.4]
TURNS = [-0.1, -0.033, 0.0, 0.04, 0.1]
RADII = [0.1, 0.3, 0.7, 1.3, 2.0]


@pytest.fixture(scope='module')
def images() -> list[Pixels]:
    return [photograph(40, 56, seed) for seed in range(len(FACTORS))]


def kernels(radii: list[float]) -> Tensor:
    rows = torch.zeros(len(radii), 7)
    for row, radius in zip(rows, radii, strict=True):
        kernel = transforms.blur_kernel(radius)
        half = torch.from_numpy(kernel[len(kernel) // 2 :].copy())
        row[: len(half)] = half
    return rows


# name, parameters, the levels by which a pixel may differ, and the mean over all
OPERATORS = [
    ('adjust_brightness', FACTORS, 1, 0.001),
    ('adjust_contrast', FACTORS, 1, 0.01),
    ('adjust_saturation', FACTORS, 1, 0.1),
    ('adjust_hue', TURNS, 6, 0.02),  # where a hue lies between two of 256 steps
    ('gaussian_blur', RADII, 1, 0.1),
    ('solarize', [128, 0, 255, 256, 77], 0, 0.0),
]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('name', 'parameters', 'largest', 'mean'), OPERATORS)
def test_every_image_is_changed_as_if_it_were_alone(
    name: str,
    parameters: list[float],
    largest: float,
    mean: float,
    device: str,
    images: list[Pixels],
) -> None:
    one: Callable[..., Pixels] = getattr(transforms, name)
    many: Callable[..., Tensor] = getattr(batch_transforms, name)
    given: Any = kernels(parameters) if name == 'gaussian_blur' else torch.tensor(parameters)
    batch = torch.stack([transforms.planes(image) for image in images]).float().to(device)
    changed = many(batch, given.to(device)).cpu()
    expected = torch.stack(
        [transforms.planes(one(image, p)) for image, p in zip(images, parameters, strict=True)]
    ).float()
    error = (changed - expected).abs()
    assert error.max() <= largest
    assert error.mean() <= mean
    assert torch.equal(changed, changed.round())
    # parameters differ and matter: in another order they would not do
    assert (changed.roll(1, 0) - expected).abs().mean() > 5


@pytest.mark.parametrize('device', DEVICES)
def test_gray(device: str, images: list[Pixels]) -> None:
    batch = torch.stack([transforms.planes(image) for image in images]).float().to(device)
    expected = np.stack([transforms.to_gray(image).transpose(2, 0, 1) for image in images])
    error = (batch_transforms.to_gray(batch).cpu() - torch.from_numpy(expected)).abs()
    assert error.max() <= 1
    assert error.mean() <= 0.01
