"""Colours of labels, against numpy."""

import numpy as np
import pytest

from moca.evaluation.finished import choose
from moca.evaluation.pictures import blend, colour_labels


def test_labels_take_their_colours_and_ignored_pixels_are_black():
    labels = np.array([[0, 1], [255, 1]])
    colours = colour_labels(labels, [[10, 20, 30], [200, 100, 50]])
    assert colours.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [200, 100, 50]]]


def test_blend_keeps_the_light_of_the_picture_and_the_hue_of_the_label():
    image = np.full((1, 1, 3), 100, np.uint8)
    colours = np.array([[[200, 0, 0]]], np.uint8)
    assert blend(image, colours, share=0.5).tolist() == [[[150, 50, 50]]]
    assert blend(np.array([[[30, 60, 90]]], np.uint8), colours, share=0.0).tolist() == [[[60] * 3]]


@pytest.mark.parametrize(
    ('count', 'shown', 'chosen'),
    [(40, 4, [0, 13, 26, 39]), (2, 4, [0, 1]), (1, 1, [0])],
)
def test_pictures_are_chosen_evenly(count, shown, chosen):
    assert choose(count, shown) == chosen
