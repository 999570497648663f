"""Colours of labels, against numpy."""

import numpy as np
import pytest

from moca.evaluation.folder import choose
from moca.evaluation.pictures import blend, colour_labels, plt, sheet


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


def inches(figure):
    """Width and height of each axis' picture."""
    figure.canvas.draw()
    return [tuple(np.round(axis.get_window_extent().size / figure.dpi, 2)) for axis in figure.axes]


def image(height, width):
    return np.zeros((height, width, 3), np.uint8)


def test_pictures_of_several_shapes_fill_their_rows():
    rows = [[image(40, 80), image(20, 40)], [image(80, 40), None], [image(40, 40), image(5, 5)]]
    figure = sheet(rows, ['a', 'b'], 'heading')
    sizes = inches(figure)
    assert np.ptp([width for width, _ in sizes]) < 0.05
    shapes = [height / width for width, height in sizes]
    assert np.allclose(shapes, [0.5, 0.5, 2, 2, 1, 1], atol=0.03)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 0, 1, 1]
    plt.close(figure)


def test_columns_of_several_shapes_are_equally_high():
    figure = sheet([[image(40, 80), image(80, 40), image(40, 40)]] * 2, [''] * 3, 'heading')
    sizes = inches(figure)
    assert np.ptp([height for _, height in sizes]) < 0.05
    assert np.allclose([w / h for w, h in sizes], [2, 0.5, 1] * 2, atol=0.05)
    plt.close(figure)


def test_room_below_stays_free():
    heights = {}
    for below in (0.0, 1.5):
        figure = sheet([[image(40, 40)] * 4], [''] * 4, 'heading', below)
        lowest = min(axis.get_position().y0 for axis in figure.axes) * figure.get_figheight()
        assert lowest >= below
        heights[below] = figure.get_figheight()
        plt.close(figure)
    assert heights[1.5] - heights[0.0] == pytest.approx(1.5)
