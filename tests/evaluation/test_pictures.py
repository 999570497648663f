"""Colours of labels and of features, against numpy."""

import numpy as np
import pytest
import torch

from moca.errors import UserError
from moca.evaluation.finished import choose
from moca.evaluation.pictures import blend, colour_labels, principal_colours


def test_labels_take_their_colours_and_ignored_pixels_are_black():
    labels = np.array([[0, 1], [255, 1]])
    colours = colour_labels(labels, [[10, 20, 30], [200, 100, 50]])
    assert colours.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [200, 100, 50]]]


def test_blend_keeps_the_light_of_the_picture_and_the_hue_of_the_label():
    image = np.full((1, 1, 3), 100, np.uint8)
    colours = np.array([[[200, 0, 0]]], np.uint8)
    assert blend(image, colours, share=0.5).tolist() == [[[150, 50, 50]]]
    assert blend(np.array([[[30, 60, 90]]], np.uint8), colours, share=0.0).tolist() == [[[60] * 3]]


def test_principal_colours_order_tokens_as_the_eigenvectors_of_the_covariance_do():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([5.0, 3.0, 2.0, 0.1, 0.1])[:, None, None]
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    maps = [
        torch.einsum('cd,dhw->chw', turn, scale * torch.randn(5, 6, 8, generator=generator))
        for _ in range(3)
    ]
    colours = principal_colours(maps)
    assert [c.shape for c in colours] == [(6, 8, 3)] * 3
    assert min(c.min() for c in colours) == 0.0
    assert max(c.max() for c in colours) == 1.0
    tokens = np.concatenate([m.numpy().reshape(5, -1).T for m in maps])
    values, vectors = np.linalg.eigh(np.cov(tokens.T))
    found = np.concatenate([c.reshape(-1, 3) for c in colours])
    inside = ((found > 0) & (found < 1)).all(axis=1)
    for component in range(3):
        expected = tokens @ vectors[:, np.argsort(values)[-1 - component]]
        r = np.corrcoef(expected[inside], found[inside, component])[0, 1]
        assert abs(r) == pytest.approx(1.0, abs=1e-4)


def test_too_few_dimensions_are_an_error():
    with pytest.raises(UserError, match='too few'):
        principal_colours([torch.zeros(2, 3, 3)])


@pytest.mark.parametrize(
    ('count', 'shown', 'chosen'),
    [(40, 4, [0, 13, 26, 39]), (2, 4, [0, 1]), (1, 1, [0])],
)
def test_pictures_are_chosen_evenly(count, shown, chosen):
    assert choose(count, shown) == chosen
