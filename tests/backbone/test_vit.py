"""PlainViT against timm's own models with the same weights."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from moca.backbone import PlainViT, vit_dimensions
from moca.errors import UserError
from tests.backbone.helpers import TINY, as_map, random_images, timm_vit

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


def make_pair(
    arch: Any, theirs: Any, overrides: dict[str, Any], side: int, **options: Any
) -> tuple[PlainViT, VisionTransformer]:
    """Return ours and timm's with the same weights, positions built for `side` x `side` patches."""
    size = side * vit_dimensions(arch).patch_size
    if isinstance(arch, dict):
        arch = {**arch, 'img_size': size}
    reference = timm_vit(theirs, img_size=size, **overrides)
    model = PlainViT(arch, img_size=size, **options)
    model.load_state_dict(reference.state_dict())  # the same key names, all of them
    return model.eval(), reference


def make_tiny(**options: Any) -> tuple[PlainViT, VisionTransformer]:
    return make_pair(TINY, TINY, {}, 4, **options)


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

    def test_blocks_and_names(self) -> None:
        for arch in ('vit_small_patch14_dinov2', 'vit_tiny_patch8', TINY):
            dimensions = vit_dimensions(arch)
            model = PlainViT(arch, img_size=56)
            assert model.embed_dims == dimensions.embed_dim == model.blocks[0].norm1.weight.numel()
            assert model.num_layers == dimensions.depth == len(model.blocks)
            assert (
                model.patch_size == dimensions.patch_size == model.patch_embed.proj.kernel_size[0]
            )

    def test_bilinear_positions(self) -> None:
        model, reference = make_tiny(interpolation='bilinear')
        images = random_images(1, 3, 24, 56)
        grid = reference.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (3, 7), mode='bilinear', antialias=True)
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


class TestFrozen:
    def test_nothing_is_kept_for_a_backward_pass(self) -> None:
        model, _ = make_tiny(frozen=True, drop_path_rate=0.5)
        images = random_images(1, 3, 32, 32).requires_grad_()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            (output,) = model(images)
        assert output.grad_fn is None
        assert not saved
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_stays_in_eval_mode(self) -> None:
        model, reference = make_tiny(frozen=True, drop_path_rate=0.9)
        parent = nn.Sequential(model, nn.Dropout()).train()
        assert parent.training
        assert not any(module.training for module in model.modules())
        images = random_images(2, 3, 32, 32)
        (output,) = model(images)  # with drop-path, most of it would be missing
        expected = as_map(reference.forward_features(images), (4, 4), 1)
        torch.testing.assert_close(output, expected, **CLOSE)

    def test_frozen_can_be_left_out(self) -> None:
        model, _ = make_tiny(drop_path_rate=0.9)
        model.train()
        images = random_images(16, 3, 32, 32)
        torch.manual_seed(0)
        (first,), (second,) = model(images), model(images)
        assert first.grad_fn is not None
        assert not torch.equal(first, second)  # drop-path is at work

    @pytest.mark.parametrize('final_norm', [True, False])
    @pytest.mark.parametrize('out_indices', [(0,), (0, 1), (2,)])
    def test_every_trainable_parameter_gets_a_gradient(
        self, out_indices: tuple[int, ...], final_norm: bool
    ) -> None:
        # DDP waits for parameters that no output depends on.
        model, _ = make_tiny(out_indices=out_indices, final_norm=final_norm)
        model.train()
        sum(out.square().sum() for out in model(random_images(1, 3, 32, 32))).backward()
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), name
        assert model.blocks[0].attn.qkv.weight.requires_grad


class TestGradientCheckpointing:
    @staticmethod
    def run(grad_checkpoint: bool, drop_path_rate: float) -> tuple[dict[str, Tensor], int]:
        """Gradients, and the bytes held for the backward pass."""
        model, _ = make_tiny(grad_checkpoint=grad_checkpoint, drop_path_rate=drop_path_rate)
        model.train()
        held: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            held.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            (output,) = model(random_images(4, 3, 32, 32))
        (output * random_images(*output.shape, seed=1)).sum().backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        return gradients, sum(held)

    @pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
    def test_same_gradients_from_less_memory(self, drop_path_rate: float) -> None:
        expected, all_held = self.run(False, drop_path_rate)
        actual, held = self.run(True, drop_path_rate)
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name], gradient, rtol=1e-5, atol=1e-6)
        assert held < all_held / 3


class TestLayerDepth:
    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_rule_of_beit(self, prefix: str) -> None:
        model = PlainViT(dict(TINY, reg_tokens=1, pre_norm=True))
        for name, _ in model.named_parameters():
            depth, total = model.get_layer_depth(prefix + name, prefix)
            assert total == 5  # 3 blocks, the stem, and what comes after
            if name.startswith('blocks.'):
                assert depth == int(name[len('blocks.')]) + 1
            elif name.startswith('norm.'):
                assert depth == 4
            else:
                assert depth == 0, name

    def test_two_digits(self) -> None:
        model = PlainViT(dict(TINY, depth=12))
        assert model.get_layer_depth('blocks.10.mlp.fc1.bias') == (11, 14)
        assert model.get_layer_depth('decode_head.conv_seg.weight', 'backbone.') == (13, 14)


class TestInitialisation:
    def test_random_weights_as_in_mae(self) -> None:
        torch.manual_seed(0)
        model = PlainViT(dict(TINY, embed_dim=128, num_heads=4, reg_tokens=2))
        model.init_weights()
        fc1 = model.blocks[1].mlp.fc1  # Xavier: U(-a, a) with a = sqrt(6 / (in + out))
        bound = (6 / (128 + 512)) ** 0.5
        assert fc1.weight.abs().max() <= bound
        assert fc1.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert fc1.bias.abs().max() == 0
        kernel = model.patch_embed.proj.weight
        assert kernel.std().item() == pytest.approx((2 / (128 + 3 * 64)) ** 0.5, rel=0.05)
        assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
        assert (model.blocks[0].norm1.weight == 1).all()

    def test_sine_cosine_positions(self) -> None:
        model = PlainViT(TINY)
        model.init_weights()
        table = model.pos_embed[0].detach()
        assert table[0].abs().max() == 0  # class token
        for row, column in itertools.product(range(4), range(4)):
            entry = table[1 + 4 * row + column].tolist()
            for i in range(8):  # 32 channels: column sines, column cosines, row sines, row cosines
                angle = torch.tensor([column, row], dtype=torch.float64) * 10000 ** (-i / 8)
                sines, cosines = angle.sin().tolist(), angle.cos().tolist()
                expected = [sines[0], cosines[0], sines[1], cosines[1]]
                assert entry[i::8] == pytest.approx(expected, abs=1e-6)

    def test_a_parent_does_not_initialise_again(self) -> None:
        model = PlainViT(TINY)
        parent = Parent(model)
        parent.init_weights()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        parent.init_weights()
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_built_from_a_config(self) -> None:
        model = MODELS.build(dict(type='PlainViT', arch=TINY, out_indices=(0, 2)))
        assert isinstance(model, PlainViT)
        assert len(model(random_images(1, 3, 32, 32))) == 2


class Parent(BaseModule):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


class TestBadInput:
    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (dict(arch='vit_smal_patch16'), 'vit_smal_patch16.*vit_small_patch16'),
            (dict(arch='resnet50'), 'resnet50.*not a plain ViT'),
            (dict(arch='deit_tiny_distilled_patch16_224'), 'distilled.*not a plain ViT'),
            (dict(arch='vit_tiny_r_s16_p8_224'), 'vit_tiny_r_s16_p8_224.*not a plain ViT'),
            (dict(arch='vit_pwee_patch16_reg1_gap_256'), 'vit_pwee.*not a plain ViT'),
            (dict(arch=dict(patchsize=8)), "'patchsize'.*'patch_size'"),
            (dict(arch=TINY, out_indices=(3,)), 'block 3 .* ViT of 3'),
            (dict(arch=TINY, out_indices=(-4,)), 'block -4'),
            (dict(arch=TINY, out_indices=()), 'out_indices is empty'),
            (dict(arch=TINY, interpolation='cubic'), "'cubic'.*bicubic or bilinear"),
        ],
    )
    def test_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            PlainViT(**arguments)

    def test_other_initialiser(self) -> None:
        model = PlainViT(TINY, init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
        with pytest.raises(UserError, match=r"'Pretrained'.*ViTCheckpoint"):
            model.init_weights()


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
