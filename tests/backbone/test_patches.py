"""Patches embedded by a linear layer are those of the convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import PatchEmbed
from torch import nn

from moca.backbone.patches import embed_pixels, unfold
from tests.backbone.helpers import make_tiny


@pytest.mark.parametrize(('height', 'width'), [(16, 24), (13, 21)])
@pytest.mark.parametrize('options', [{}, dict(bias=False), dict(norm_layer=nn.LayerNorm)])
def test_equals_the_convolution(height: int, width: int, options: dict) -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(None, 8, 3, 20, dynamic_img_pad=True, **options)
    views = [torch.randn(2, 3, height, width) for _ in range(2)]
    pixels = unfold(8, *views)
    assert pixels.grid == (2, 3)
    parameters = list(embed.parameters())
    ours, expected = embed_pixels(embed, pixels.values), embed(torch.cat(views))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(ours)
    for gradient, known in zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(gradient, known, rtol=1e-4, atol=1e-4)


def test_under_autocast_pixels_are_rounded_as_the_convolution_rounds_them() -> None:
    images = torch.randn(2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        pixels = unfold(8, images)
    assert torch.equal(pixels.values, unfold(8, images.bfloat16()).values)


def test_unfolded_images_give_the_tokens_of_images() -> None:
    model, _ = make_tiny()
    height, width = (side * model.patch_size for side in model.grid)
    images = torch.randn(2, 3, height, width)
    pixels = model.unfold(images)
    close: dict[str, Any] = dict(rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.tokens(pixels).patches, model.tokens(images).patches)
        ids = torch.rand(2, pixels.values.shape[1]).argsort(1)[:, :3]
        patches, grid = model._patches(images)  # by the convolution
        visible = patches.gather(1, ids[..., None].expand(-1, -1, patches.shape[2]))
        expected = model._encode(visible, grid, ids, ())
        for given in (pixels, images):
            ours = model.tokens(given, ids)
            torch.testing.assert_close(ours.patches, expected.patches, **close)
            torch.testing.assert_close(ours.prefix, expected.prefix, **close)
