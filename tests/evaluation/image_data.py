"""Tiny labeled images and a tiny backbone for evaluations of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from moca.backbone import PlainViT

ARCH = dict(embed_dim=24, depth=2, num_heads=3, patch_size=8)
SIZE = 32


def write_images(
    folder: Path, counts: Mapping[str, int], seed: int = 0, side: Sequence[int] = (40, 50)
) -> Path:
    """Write images whose color tells their class, more or less, below its folder."""
    random = np.random.default_rng(seed)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        color = np.random.default_rng(number).integers(90, 160, 3)
        for index in range(count):
            coarse = random.integers(-60, 60, (5, 5, 3)) + random.integers(-30, 30, 3)
            noise = np.kron(coarse, np.ones((-(-side[0] // 5), -(-side[1] // 5), 1)))
            pixels = (color + noise[: side[0], : side[1]]).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{index:02d}.png')
    return folder


def tiny_vit() -> PlainViT:
    """A random ViT whose final norm is not trivial and which normalizes in its own way."""
    torch.manual_seed(0)
    model = PlainViT(ARCH, img_size=SIZE, frozen=True)
    model.reset_parameters()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    model.mean, model.std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    return model
