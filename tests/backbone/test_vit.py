"""PlainViT against timm's own models with the same weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.backbone.helpers import TINY, as_map, make_pair, make_tiny, random_images

# Our name (or dimensions), timm's, and what timm has to be told for a size it does not list.
ARCHITECTURES = [
    pytest.param('vit_tiny_patch16', 'vit_tiny_patch16_224', {}, id='ti16'),
    pytest.param('vit_tiny_patch8', 'vit_tiny_patch16_224', dict(patch_size=8), id='ti8'),
    pytest.param('vit_small_patch14_dinov2', 'vit_small_patch14_dinov2', {}, id='dinov2'),
    pytest.param('vit_small_patch14_reg4_dinov2', 'vit_small_patch14_reg4_dinov2', {}, id='reg4'),
    pytest.param('test_vit', 'test_vit', {}, id='test_vit'),
    pytest.param(
        dict(patch_size=8, embed_dim=48, depth=3, num_heads=3, init_values=1e-5, qkv_bias=False),
        dict(patch_size=8, embed_dim=48, depth=3, num_heads=3, init_values=1e-5, qkv_bias=False),
        {},
        id='dict',
    ),
    pytest.param(
        dict(TINY, class_token=False, global_pool='avg', fc_norm=False, reg_tokens=2),
        dict(TINY, class_token=False, global_pool='avg', fc_norm=False, reg_tokens=2),
        {},
        id='no-class-token',
    ),
    pytest.param(
        dict(TINY, pre_norm=True, qk_norm=True),
        dict(TINY, pre_norm=True, qk_norm=True),
        {},
        id='pre-norm',
    ),
]
CLOSE = dict(rtol=1e-4, atol=1e-5)


def pad_to_patches(images: Tensor, patch: int) -> Tensor:
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % patch, 0, -height % patch))


class TestForward:
    @pytest.mark.parametrize(('arch', 'theirs', 'overrides'), ARCHITECTURES)
    def test_equals_timm_at_any_size(
        self, arch: Any, theirs: Any, overrides: dict[str, Any]
    ) -> None:
        model, reference = make_pair(arch, theirs, overrides, side=4)
        patch, prefix = model.patch_size, reference.num_prefix_tokens
        # Own size, non-square, and no multiple of the patch; the last two resample positions.
        for rows, columns, cut in ((4, 4, 0), (3, 6, 0), (5, 4, 3)):
            images = random_images(2, 3, rows * patch - cut, columns * patch - cut)
            with torch.no_grad():
                (ours,) = model(images)
                expected = reference.forward_features(pad_to_patches(images, patch))
            assert ours.shape == (2, model.embed_dims, rows, columns)
            torch.testing.assert_close(ours, as_map(expected, (rows, columns), prefix), **CLOSE)

    @pytest.mark.parametrize('final_norm', [True, False])
    def test_chosen_blocks(self, final_norm: bool) -> None:
        model, reference = make_tiny(out_indices=(2, 0, -1, -2), final_norm=final_norm)
        images = random_images(2, 3, 24, 40)
        with torch.no_grad():
            ours = model(images)
            expected = reference.forward_intermediates(
                images, [0, 1, 2], norm=final_norm, intermediates_only=True
            )
        assert len(ours) == 4
        for actual, index in zip(ours, (2, 0, 2, 1), strict=True):
            torch.testing.assert_close(actual, expected[index], **CLOSE)

    def test_bilinear_positions(self) -> None:
        model, reference = make_tiny(interpolation='bilinear')
        images = random_images(1, 3, 24, 56)
        grid = reference.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (3, 7), mode='bilinear')
        reference.pos_embed = nn.Parameter(
            torch.cat((reference.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)), 1)
        )
        reference.patch_embed.grid_size = reference.patch_embed.img_size = (3, 7)
        reference.dynamic_img_size = reference.patch_embed.strict_img_size = False
        reference.patch_embed.flatten = True
        with torch.no_grad():
            (ours,) = model(images)
            expected = reference.forward_features(images)
        torch.testing.assert_close(ours, as_map(expected, (3, 7), 1), **CLOSE)

    def test_bfloat16_on_the_cpu(self) -> None:
        # The path without fused attention: close to fp32, at bfloat16's precision (2**-8).
        model, reference = make_tiny()
        images = random_images(1, 3, 32, 32)
        with torch.no_grad():
            expected = as_map(reference.forward_features(images), (4, 4), 1)
            with torch.autocast('cpu', torch.bfloat16):
                (ours,) = model(images)
        assert (ours.float() - expected).abs().max() < 0.05 * expected.abs().max()


class TestTokens:
    def test_equals_attention_that_ignores_hidden_patches(self) -> None:
        model, reference = make_tiny()
        images = random_images(2, 3, 32, 32)
        shuffled = torch.stack([torch.randperm(16, generator=g) for g in _generators(2)])
        ids_keep = shuffled[:, :5]
        with torch.no_grad():
            ours = model.tokens(images, ids_keep, layers=(0, -1))
            for index, keep in enumerate(ids_keep):
                visible = torch.zeros(17, dtype=torch.bool)
                visible[torch.cat((torch.tensor([0]), keep + 1))] = True
                mask = visible.expand(1, 1, 17, 17)  # queries attend to visible keys only
                image = images[index : index + 1]
                expected = reference.forward_features(image, attn_mask=mask)[0]
                torch.testing.assert_close(ours.prefix[index], expected[:1], **CLOSE)
                torch.testing.assert_close(ours.patches[index], expected[1:][keep], **CLOSE)
                layers = reference.forward_intermediates(
                    image, [0, 2], output_fmt='NLC', intermediates_only=True, attn_mask=mask
                )
                for actual, layer in zip(ours.intermediate, layers, strict=True):
                    torch.testing.assert_close(actual[index], layer[0][keep], **CLOSE)

    def test_all_visible_is_the_whole_model(self) -> None:
        model, reference = make_tiny()
        images = random_images(2, 3, 40, 24)
        with torch.no_grad():
            ours = model.tokens(images)
            expected = reference.forward_features(images)
        torch.testing.assert_close(torch.cat((ours.prefix, ours.patches), 1), expected, **CLOSE)

    def test_hidden_pixels_do_not_matter(self) -> None:
        model, _ = make_tiny()
        images = random_images(1, 3, 32, 32)
        changed = images.clone()
        changed[..., :8, :8] = 100.0  # patch 0
        ids_keep = torch.arange(1, 16)[None]
        with torch.no_grad():
            kept, same = model.tokens(images, ids_keep), model.tokens(changed, ids_keep)
        torch.testing.assert_close(kept.patches, same.patches, rtol=0, atol=0)


@pytest.mark.gpu
def test_gpu_equals_cpu() -> None:
    model, reference = make_tiny()
    images = random_images(2, 3, 40, 24)
    with torch.no_grad():
        expected = as_map(reference.forward_features(images), (5, 3), 1)
        (ours,) = model.cuda()(images.cuda())
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-3, atol=1e-4)
        with torch.autocast('cuda', torch.bfloat16):
            (half,) = model(images.cuda())
    assert (half.float().cpu() - expected).abs().max() < 0.05 * expected.abs().max()


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]
