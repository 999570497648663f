"""Architectures by name or by dimensions, and what is refused."""

from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from moca.backbone import PlainViT, vit_dimensions
from moca.errors import UserError
from tests.backbone.helpers import TINY


def test_dimensions() -> None:
    for arch in ('vit_small_patch14_dinov2', 'vit_tiny_patch8', TINY):
        dimensions = vit_dimensions(arch)
        model = PlainViT(arch, img_size=56)
        assert model.embed_dims == dimensions.embed_dim == model.blocks[0].norm1.weight.numel()
        assert model.num_layers == dimensions.depth == len(model.blocks)
        assert model.patch_size == dimensions.patch_size == model.patch_embed.proj.kernel_size[0]


@pytest.mark.parametrize('patch', [2, 4, 8, 14, 16, 32])
def test_patch_sizes_that_timm_has_no_name_for(patch: int) -> None:
    dimensions = vit_dimensions(f'vit_tiny_patch{patch}')
    assert (dimensions.patch_size, dimensions.embed_dim, dimensions.num_heads) == (patch, 192, 3)


def test_another_number_of_heads() -> None:
    dimensions = vit_dimensions('vit_small_patch16_heads12')
    assert (dimensions.num_heads, dimensions.embed_dim, dimensions.depth) == (12, 384, 12)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='vit_smal_patch16'), 'vit_smal_patch16.*vit_small_patch16'),
        (
            dict(arch='vit_tiny_patch17'),
            r'patches of 17 pixels; vit_tiny_patchN takes N of 2, 4, 8',
        ),
        (dict(arch='vit_base_patch0'), 'patches of 0 pixels'),
        (dict(arch='vit_small_patch16_heads7'), '_headsN .* divides its width, 384'),
        (dict(arch='vit_small_patch16_headsx'), '_headsN'),
        (dict(arch='vit_small_patch16_heads'), '_headsN'),
        (dict(arch='vit_small_patch16_heads0'), '_headsN'),
        (dict(arch='resnet50'), 'resnet50.*not a plain ViT'),
        (dict(arch='deit_tiny_distilled_patch16_224'), 'distilled.*not a plain ViT'),
        (dict(arch='vit_tiny_r_s16_p8_224'), 'vit_tiny_r_s16_p8_224.*not a plain ViT'),
        (dict(arch='vit_pwee_patch16_reg1_gap_256'), 'vit_pwee.*not a plain ViT'),
        (dict(arch=dict(patchsize=8)), "'patchsize'.*'patch_size'"),
        (dict(arch=TINY, out_indices=(3,)), 'block 3 .* ViT of 3'),
        (dict(arch=TINY, out_indices=(-4,)), 'block -4'),
        (dict(arch=TINY, out_indices=()), 'out_indices is empty'),
        (dict(arch=TINY, interpolation='cubic'), "'cubic'.*bicubic, bilinear"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PlainViT(**arguments)


def test_other_initializer() -> None:
    model = PlainViT(TINY, init_cfg=dict(type='Pretrained', checkpoint='x.pth'))
    with pytest.raises(UserError, match=r"'Pretrained'.*ViTCheckpoint"):
        model.init_weights()


@pytest.mark.slow
def test_every_plain_vit_of_timm() -> None:
    """Names, key names and map sizes for all that timm lists, without allocating weights."""
    built, refused = 0, []
    for name in timm.list_models(['vit_*', 'deit*', 'flexivit_*', 'beit3_*']):
        try:
            with torch.device('meta'):
                model = PlainViT(name)
                reference = timm.create_model(name)
                size = [side * model.patch_size for side in model.grid]
                (output,) = model(torch.zeros(1, 3, *size))
        except UserError as error:
            refused.append(str(error))
            continue
        built += 1
        assert output.shape == (1, reference.embed_dim, *model.grid), name
        if not isinstance(reference, VisionTransformer):
            continue  # DINOv3's names build another class there; tests/backbone/test_rotary_vit.py
        # the norm of the pooled vector serves as the norm of the tokens
        heads = ('head', 'fc_norm', 'norm.', 'attn_pool')
        expected = {key for key in reference.state_dict() if not key.startswith(heads)}
        assert {key for key in model.state_dict() if not key.startswith('norm.')} == expected, name
    assert all('not a plain ViT' in message for message in refused), refused
    assert built >= 150  # of timm 1.0.31
