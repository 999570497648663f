"""Features of a frozen ViT, against tokens whose means are known and norms that show themselves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from moca.backbone import PlainViT
from moca.backbone.vit import Tokens
from moca.errors import UserError
from moca.evaluation.features import (
    KINDS,
    check_finite,
    feature_width,
    image_feature,
    patch_map,
)

ARCH = dict(embed_dim=8, depth=3, num_heads=2, patch_size=4, img_size=16, reg_tokens=2)


@pytest.fixture(scope='module')
def model() -> PlainViT:
    torch.manual_seed(0)
    model = PlainViT(ARCH, img_size=16, frozen=True)
    model.reset_parameters()
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Known(PlainViT):
    """Prefix tokens of 1000 and patches of their own number; before the norm, ten times that."""

    def tokens(
        self, images: Tensor, ids_keep: Tensor | None = None, layers: Sequence[int] = ()
    ) -> Tokens:
        numbers = torch.arange(16.0).view(1, 16, 1).expand(len(images), 16, 8)
        prefix = torch.full((len(images), 3, 8), 1000.0)
        prefix[:, 0] = 500
        some = len(layers)
        return Tokens(prefix, numbers, (10 * numbers,) * some, (10 * prefix,) * some)


def test_class_and_register_tokens_are_no_patches(images: Tensor) -> None:
    known = Known(ARCH, img_size=16, frozen=True)
    mean, token = torch.full((2, 8), 7.5), torch.full((2, 8), 500.0)
    assert torch.equal(image_feature(known, images, 'avg'), mean)
    assert torch.equal(image_feature(known, images, 'cls'), token)
    assert torch.equal(image_feature(known, images, 'cls+avg'), torch.cat([token, mean], 1))
    assert torch.equal(image_feature(known, images, 'avg_prenorm'), 10 * mean)
    assert torch.equal(image_feature(known, images, 'cls_prenorm'), 10 * token)
    rows = torch.arange(16.0).view(4, 4)
    assert torch.equal(patch_map(known, images)[1, 3], rows)
    assert torch.equal(patch_map(known, images, norm=False)[1, 3], 10 * rows)


@pytest.mark.parametrize('extra', [dict(class_token=False, reg_tokens=0), dict(reg_tokens=4)])
def test_a_marked_patch_changes_its_cell_alone(extra: dict[str, object]) -> None:
    """No token sees another one: of 0 or 1 + 4 prefix tokens any that stays would shift cells."""
    known = PlainViT({**ARCH, 'global_pool': '', **extra}, frozen=True).eval()
    known.reset_parameters()
    for block in known.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    plain = torch.zeros(1, 3, 12, 20)
    marked = plain.clone()
    marked[..., 4:8, 12:16] = 1
    maps = patch_map(known, marked), patch_map(known, plain)
    assert maps[0].shape == (1, 8, 3, 5)
    assert (maps[0] - maps[1]).abs().sum(1)[0].nonzero().tolist() == [[1, 3]]


def test_the_final_norm_is_where_its_kind_says(model: PlainViT, images: Tensor) -> None:
    before = {kind: image_feature(model, images, kind) for kind in (*KINDS[:3], 'cls*2')}
    raw = {kind: image_feature(model, images, kind) for kind in ('avg_prenorm', 'cls_prenorm')}
    try:
        model.norm.weight.fill_(2.0)
        model.norm.bias.fill_(3.0)
        for kind, feature in before.items():
            torch.testing.assert_close(image_feature(model, images, kind), 2 * feature + 3)
        for kind, feature in raw.items():
            assert torch.equal(image_feature(model, images, kind), feature)
    finally:
        model.norm.weight.fill_(1.0)
        model.norm.bias.fill_(0.0)


def test_several_class_tokens_end_with_the_last_blocks(model: PlainViT, images: Tensor) -> None:
    several = image_feature(model, images, 'cls*3')
    assert several.shape == (2, feature_width('cls*3', 8))
    torch.testing.assert_close(several[:, 16:], image_feature(model, images, 'cls'))
    # the first block's, as a ViT of that block alone gives it
    first = PlainViT({**ARCH, 'depth': 1}, img_size=16, frozen=True)
    first.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(several[:, :8], image_feature(first, images, 'cls'))


def test_what_a_model_does_not_have_is_refused(model: PlainViT, images: Tensor) -> None:
    with pytest.raises(UserError, match=r"feature='mean': .* Give one of avg, cls"):
        image_feature(model, images, 'mean')
    with pytest.raises(UserError, match='the ViT has 3 blocks'):
        image_feature(model, images, 'cls*4')
    bare = PlainViT(
        {**ARCH, 'reg_tokens': 0, 'class_token': False, 'global_pool': 'avg'}, img_size=16
    )
    with pytest.raises(UserError, match='no class token'):
        image_feature(bare, images, 'cls+avg')
    assert image_feature(bare, images, 'avg').shape == (2, 8)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_what_is_not_finite_is_refused(value: float) -> None:
    features = torch.zeros(3, 4)
    assert check_finite(features, 'bees') is features
    features[1, 2] = value
    with pytest.raises(UserError, match='its features of bees are not all finite'):
        check_finite(features, 'bees')
