"""A ViT with rotary positions and gated MLPs in all that the tools do with a backbone.

Its features are held against timm's ``Eva``, everything else against its own plain forward pass.
"""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from moca.backbone import PlainViT
from moca.backbone.compile import compile_blocks
from moca.checkpoints.export import as_eva
from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor
from tests.backbone.helpers import as_map, random_images, randomize

SIZES: dict[str, Any] = dict(patch_size=8, embed_dim=32, depth=3, num_heads=2, img_size=32)
ARCH = dict(
    SIZES,
    rope={},
    norm_eps=1e-5,
    init_values=1.0,
    reg_tokens=2,
    qkv_bias=False,
    mlp='swiglu',
    mlp_hidden=64,
)
CLOSE = dict(rtol=1e-4, atol=1e-5)


def backbone(arch: dict[str, Any] | None = None, **options: Any) -> PlainViT:
    model = PlainViT({**ARCH, **(arch or {})}, **options)
    randomize(model)
    return model.eval()


def eva(model: PlainViT) -> Any:
    """timm's model with the same weights."""
    sizes = {**SIZES, 'num_reg_tokens': 2, 'mlp_ratio': 2, 'swiglu_align_to': None}
    other = timm.create_model('vit_small_plus_patch16_dinov3', num_classes=0, **sizes)
    other.load_state_dict(as_eva(model.state_dict())[0])
    return other.eval()


def gradients(model: PlainViT, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    outs = model.train()(images)
    sum((out * random_images(*out.shape, seed=1)).sum() for out in outs).backward()
    return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('final_norm', [True, False])
@torch.no_grad()
def test_maps_of_the_blocks_asked_for(final_norm: bool) -> None:
    model = backbone(out_indices=(0, 2), final_norm=final_norm)
    images = random_images(2, 3, 40, 64)
    expected = eva(model).forward_intermediates(
        images, indices=[0, 2], norm=final_norm, intermediates_only=True
    )
    for ours, theirs in zip(model(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@torch.no_grad()
def test_all_tokens_kept_is_none_left_out() -> None:
    model = backbone()
    images = random_images(2, 3, 32, 48)
    order = torch.stack([torch.randperm(24) for _ in range(2)])
    whole, shuffled = model.tokens(images), model.tokens(images, ids_keep=order)
    index = order[..., None].expand(-1, -1, 32)
    torch.testing.assert_close(shuffled.patches, whole.patches.gather(1, index), **CLOSE)
    torch.testing.assert_close(shuffled.prefix, whole.prefix, **CLOSE)


@torch.no_grad()
def test_a_token_kept_has_the_angles_of_its_place() -> None:
    model = backbone()
    pixels = model.unfold(random_images(1, 3, 32, 32))
    pixels.values[:, 15] = pixels.values[:, 1]  # the same content at another place
    pairs = [torch.tensor([[0, other]]) for other in (1, 15)]
    near, far = (model.tokens(pixels, ids_keep=pair).patches for pair in pairs)
    assert (near - far).abs().max() > 1e-3
    model.rope = None
    near, far = (model.tokens(pixels, ids_keep=pair).patches for pair in pairs)
    torch.testing.assert_close(near, far)


@pytest.mark.parametrize('prefix', [True, False])
@torch.no_grad()
def test_a_window_that_covers_the_image_is_global(prefix: bool) -> None:
    bare = dict(class_token=False, reg_tokens=0)
    windowed, plain = backbone(bare, window_size=4), backbone(bare)
    images = random_images(2, 3, 32, 32)
    torch.testing.assert_close(windowed(images)[0], plain(images)[0], **CLOSE)
    if prefix:  # windows leave out prefix tokens, whose number changes nothing then
        other = backbone(window_size=4)
        other.load_state_dict(windowed.state_dict(), strict=False)
        torch.testing.assert_close(other(images)[0], plain(images)[0], **CLOSE)


@torch.no_grad()
def test_windows_keep_the_angles_of_the_image() -> None:
    bare = dict(class_token=False, reg_tokens=0, depth=1)
    model, plain = backbone(bare, window_size=2), backbone(bare)
    images = random_images(1, 3, 32, 32)
    (ours,) = model(images)
    for row, column in ((0, 0), (1, 1)):  # a window alone, with its places kept
        places = [4 * r + c for r in (2 * row, 2 * row + 1) for c in (2 * column, 2 * column + 1)]
        alone = plain.tokens(images, ids_keep=torch.tensor([places])).patches
        window = ours[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        torch.testing.assert_close(window, as_map(alone, (2, 2), 0), **CLOSE)


class TestTraining:
    @pytest.mark.parametrize('window_size', [None, 2])
    @pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
    def test_recomputed_gradients_are_the_same(
        self, drop_path_rate: float, window_size: int | None
    ) -> None:
        options: dict[str, Any] = dict(drop_path_rate=drop_path_rate, window_size=window_size)
        images = random_images(4, 3, 32, 48)
        expected = gradients(backbone(**options), images)
        actual = gradients(backbone(grad_checkpoint=True, **options), images)
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name], gradient, rtol=1e-5, atol=1e-6)

    def test_drop_path_drops_in_training_alone(self) -> None:
        model, images = backbone(drop_path_rate=0.9), random_images(8, 3, 32, 32)
        expected = as_map(eva(model).forward_features(images), (4, 4), 3)
        torch.testing.assert_close(model(images)[0], expected, **CLOSE)
        model.train()
        assert not torch.equal(model(images)[0], model(images)[0])

    def test_frozen(self) -> None:
        model = backbone(dict(rope=dict(rescale=2.0)), frozen=True).train()
        images = random_images(1, 3, 32, 32).requires_grad_()
        (first,), (second,) = model(images), model(images)
        assert first.grad_fn is None
        assert torch.equal(first, second)  # nor are coordinates rescaled
        assert not any(parameter.requires_grad for parameter in model.parameters())

    @pytest.mark.parametrize('final_norm', [True, False])
    @pytest.mark.parametrize('out_indices', [(0,), (0, 1), (2,)])
    def test_every_trainable_parameter_gets_a_gradient(
        self, out_indices: tuple[int, ...], final_norm: bool
    ) -> None:
        model = backbone(out_indices=out_indices, final_norm=final_norm)
        found = gradients(model, random_images(1, 3, 32, 32))
        assert set(found) == {k for k, p in model.named_parameters() if p.requires_grad}
        assert 'blocks.0.mlp.fc1_g.weight' in found

    def test_layer_decay(self) -> None:
        """lr x decay^(layers above): stem 0, block i at i + 1, the final norm above all."""
        model = backbone()
        constructor = LayerDepthOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1)), dict(layer_decay=0.5)
        )
        rates = {
            name: (group['lr'], group['weight_decay'])
            for group in constructor.parameter_groups(model)
            for name in group['param_names']
        }
        assert set(rates) == {name for name, _ in model.named_parameters()}
        assert rates['reg_token'] == (0.5**4, 0.1)
        assert rates['blocks.0.mlp.fc1_g.weight'] == (0.5**3, 0.1)
        assert rates['blocks.2.mlp.fc1_x.bias'] == (0.5, 0.0)
        assert rates['norm.weight'] == (1.0, 0.0)

    @pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs g++ on a CPU')
    @pytest.mark.parametrize('window_size', [None, pytest.param(2, marks=pytest.mark.slow)])
    def test_compiled_blocks_compute_the_same(self, window_size: int | None) -> None:
        torch._dynamo.reset()
        model = backbone(dict(depth=1), window_size=window_size)
        compiled = copy.deepcopy(model)
        assert compile_blocks(compiled) == 1
        images = random_images(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(compiled(images)[0], model(images)[0], **CLOSE)

    @pytest.mark.parametrize('window_size', [None, 2])
    def test_bfloat16(self, window_size: int | None) -> None:
        model = backbone(window_size=window_size)
        images = random_images(2, 3, 32, 32)
        with torch.no_grad():
            (expected,) = model(images)
            with torch.autocast('cpu', torch.bfloat16):
                (found,) = model(images)
        error = (found.float() - expected).abs().max() / expected.abs().max()
        assert 0 < error < 0.05
