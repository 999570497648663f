"""The network of queries in a plain ViT, against literal tables and its own definition."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from moca.backbone.rope import rotated, with_unrotated
from moca.eomt.network import MaskTransformer
from moca.errors import UserError
from tests.eomt.tiny import ARCH, tiny_network


def test_only_what_a_query_sees_of_patches_is_masked() -> None:
    """2 queries, class token and 4 registers, 2 x 2 patches: one row for each who looks."""
    network = tiny_network(queries=2, arch={**ARCH, 'reg_tokens': 4}, img_size=32)
    masks = torch.full((1, 2, 8, 8), -1.0)
    masks[0, 0, :4, :4] = 1.0  # the first query: the first patch
    masks[0, 1, 4:] = 1.0  # the second one: the lower patches
    table = network.attention_mask(masks, (2, 2), 1.0)[0, 0].int()
    everything = [1] * 11
    assert table.tolist() == [
        [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1],
        *[everything] * 9,
    ]


def test_a_probability_frees_whole_queries() -> None:
    network = tiny_network(queries=400)
    masks = torch.full((2, 400, 16, 16), -1.0)
    torch.manual_seed(1)
    patches = network.attention_mask(masks, (4, 4), 0.25)[:, 0, :400, -16:]
    free = patches.all(-1)
    assert (free | ~patches.any(-1)).all()
    assert 0.68 < free.float().mean() < 0.82
    assert network.attention_mask(masks, (4, 4), 0.0).all()


def test_each_block_has_its_own_probability_and_the_prediction_before_it() -> None:
    network = tiny_network(blocks=3)
    network.set_mask_probs([0.0, 0.5, 1.0])
    made = network.attention_mask
    with mock.patch.object(network, 'attention_mask', mock.Mock(side_effect=made)) as asked:
        found = network(torch.randn(2, 3, 64, 64))
    assert [call.args[2] for call in asked.call_args_list] == [0.0, 0.5, 1.0]
    for number, call in enumerate(asked.call_args_list):
        assert call.args[0] is found.masks[number]


def test_without_probability_nothing_is_masked_and_one_prediction_is_made() -> None:
    network, images = tiny_network().eval(), torch.randn(2, 3, 64, 64)
    network.set_mask_probs([1.0, 0.0])
    with torch.no_grad():
        masked = network(images)
        network.set_mask_probs([0.0, 0.0])
        network.masked_attn_enabled = True
        free = network(images)
        network.masked_attn_enabled = None
        quick = network(images)
    assert len(masked.masks) == len(free.masks) == 3
    assert len(quick.masks) == len(quick.classes) == 1
    for ours, theirs in zip((quick.masks, quick.classes), free, strict=True):
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(masked.masks[-1], free.masks[-1], atol=1e-3)


def test_each_prediction_goes_through_the_final_norm() -> None:
    network, images = tiny_network(), torch.randn(1, 3, 64, 64)
    before = network(images)
    assert [len(part) for part in before] == [3, 3]
    network.backbone.norm = nn.Identity()
    after = network(images)
    for first, second in zip(before.masks, after.masks, strict=True):
        assert not torch.allclose(first, second, atol=1e-2)


@pytest.mark.parametrize(('patch', 'steps'), [(16, 2), (14, 1), (8, 1), (32, 3)])
def test_masks_are_of_a_quarter_or_a_seventh(patch: int, steps: int) -> None:
    network = tiny_network(arch={**ARCH, 'patch_size': patch}, img_size=2 * patch)
    found = network(torch.randn(1, 3, 2 * patch, 3 * patch))
    assert found.masks[0].shape == (1, 5, 2 * 2**steps, 3 * 2**steps)
    assert found.classes[0].shape == (1, 5, 4)


def test_rotary_positions_turn_no_query() -> None:
    network = tiny_network(arch={**ARCH, 'rope': {}})
    images = torch.randn(2, 3, 64, 64)
    x, _, table = network.backbone.start(images)
    assert table is not None
    wider = with_unrotated(table, 5)
    heads = torch.randn(2, 2, 5 + x.shape[1], 16)
    turned = rotated(heads, wider, True)
    torch.testing.assert_close(turned[:, :, :5], heads[:, :, :5])
    torch.testing.assert_close(turned[:, :, 5:], rotated(heads[:, :, 5:], table, True))
    assert not torch.allclose(turned[:, :, -1], heads[:, :, -1])
    network.set_mask_probs([1.0, 0.0])
    loss = sum(part.square().mean() for part in network(images).masks)
    loss.backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if 'class_head' not in n)


def losses_and_gradients(network: MaskTransformer, images: Any) -> tuple[Any, dict[str, Any]]:
    found = network(images)
    loss = sum(part.square().mean() for parts in found for part in parts)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in network.named_parameters()}


def test_recomputed_activations_change_nothing() -> None:
    images = torch.randn(2, 3, 64, 64)
    plain = losses_and_gradients(tiny_network(), images)
    spared = losses_and_gradients(tiny_network(grad_checkpoint=True), images)
    torch.testing.assert_close(spared, plain)


def test_a_frozen_backbone_leaves_queries_and_heads() -> None:
    network = tiny_network(frozen=True)
    trained = {name.split('.')[0] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {'q', 'class_head', 'mask_head', 'upscale'}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match='leave windows out'):
        tiny_network(window_size=2)
    with pytest.raises(UserError, match='num_blocks=5: the backbone has 4 blocks'):
        tiny_network(blocks=5)
    with pytest.raises(UserError, match='3 probabilities for 2 blocks'):
        tiny_network().set_mask_probs([1.0] * 3)
