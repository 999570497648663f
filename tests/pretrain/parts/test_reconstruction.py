"""Targets and errors of pixels against torch's unfold and numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from moca.errors import UserError
from moca.pretrain.parts.masking import visible_tokens
from moca.pretrain.parts.reconstruction import (
    normalize_patches,
    num_visible,
    patch_error,
    patchify,
)


def unfolded(images, patch):
    """Patches by torch's own function, colors moved innermost."""
    columns = F.unfold(images, patch, stride=patch).transpose(1, 2)
    return columns.unflatten(2, (3, patch * patch)).transpose(2, 3).flatten(2)


def test_patches_are_those_of_unfold():
    images = torch.randn(2, 3, 12, 20)
    assert torch.equal(patchify(images, 4), unfolded(images, 4))


def test_patches_are_normalized_by_their_unbiased_variance():
    patches = torch.randn(3, 5, 12, dtype=torch.float64) * 7 + 3
    values = patches.numpy()
    mean, deviation = values.mean(-1, keepdims=True), values.std(-1, ddof=1, keepdims=True)
    expected = (values - mean) / np.sqrt(deviation**2 + 1e-6)
    np.testing.assert_allclose(normalize_patches(patches).numpy(), expected, rtol=1e-12)


def test_a_patch_of_one_color_is_zero():
    assert torch.equal(normalize_patches(torch.full((1, 1, 12), 0.5)), torch.zeros(1, 1, 12))


def test_errors_equal_torch_and_an_empty_set_has_none():
    prediction, target = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    torch.testing.assert_close(patch_error(prediction, target), F.mse_loss(prediction, target))
    absolute = patch_error(prediction, target, 'absolute')
    torch.testing.assert_close(absolute, F.l1_loss(prediction, target))
    empty = torch.zeros(2, 0, 5, requires_grad=True)
    error = patch_error(empty, torch.zeros(2, 0, 5))
    error.backward()
    assert error.item() == 0


@pytest.mark.parametrize(
    ('tokens', 'ratio', 'visible'),
    [(196, 0.5, 98), (196, 0.75, 49), (196, 0.9, 19), (64, 0.75, 16), (64, 0.9, 6), (196, 0, 196)],
)
def test_visible_tokens(tokens, ratio, visible):
    assert visible_tokens(tokens, ratio) == visible


@pytest.mark.parametrize('ratio', [1.0, -0.1, float('nan'), 0.99])
def test_masks_that_leave_nothing_are_errors(ratio):
    with pytest.raises(UserError, match=r'model\.mask_ratio='):
        num_visible(36, ratio)


def test_a_mask_that_hides_nothing_is_an_error_where_something_is_to_be_predicted():
    with pytest.raises(UserError, match=r'mask_ratio=0 hides none of 36'):
        num_visible(36, 0)
