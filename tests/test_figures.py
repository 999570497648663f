"""Colors of labels, against numpy."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from moca.figures import blend, color_labels, distinct_colors, plt, sheet
from moca.images.files import evenly_spread
from moca.images.shown_names import shortened, shown_names
from moca.transfer.finished import FinishedRun


def test_labels_take_their_colors_and_ignored_pixels_are_black():
    labels = np.array([[0, 1], [255, 1]])
    colors = color_labels(labels, [[10, 20, 30], [200, 100, 50]])
    assert colors.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [200, 100, 50]]]


def test_blend_keeps_the_light_of_the_image_and_the_hue_of_the_label():
    image = np.full((1, 1, 3), 100, np.uint8)
    colors = np.array([[[200, 0, 0]]], np.uint8)
    assert blend(image, colors, share=0.5).tolist() == [[[150, 50, 50]]]
    assert blend(np.array([[[30, 60, 90]]], np.uint8), colors, share=0.0).tolist() == [[[60] * 3]]


@pytest.mark.parametrize(
    ('count', 'shown', 'chosen'),
    [(40, 4, [0, 13, 26, 39]), (2, 4, [0, 1]), (1, 1, [0])],
)
def test_images_are_chosen_evenly(count, shown, chosen):
    assert evenly_spread(count, shown) == chosen


def inches(figure):
    """Width and height of each axis' image."""
    figure.canvas.draw()
    return [tuple(np.round(axis.get_window_extent().size / figure.dpi, 2)) for axis in figure.axes]


def image(height, width):
    return np.zeros((height, width, 3), np.uint8)


def test_images_of_several_shapes_fill_their_rows():
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


def test_file_names_stand_below_their_images_and_change_no_size():
    rows = [[image(40, 80)] * 2, [image(80, 40)] * 2]
    without = sheet(rows, ['a', 'b'], 'heading', 1.0)
    long = 'frankfurt_000000_000294_leftImg8bit' * 3 + '.png'
    figure = sheet(rows, ['a', 'b'], 'heading', 1.0, names=[['$a$.png'], ['', long]])
    assert np.allclose(inches(figure), inches(without), rtol=0.03)
    written = {axis: text for axis in figure.axes for text in axis.texts if text.get_text()}
    assert list(written) == [figure.axes[0], figure.axes[3]]
    shown = [text.get_text() for text in written.values()]
    assert shown[0] == r'\$a\$.png'  # no formula
    assert shown[1].startswith('frankfurt')
    assert shown[1].endswith('8bit.png')
    others = [axis.get_window_extent() for axis in figure.axes]
    for axis, text in written.items():
        box, own = text.get_window_extent(), axis.get_window_extent()
        assert box.y1 <= own.y0
        assert own.x0 <= box.x0
        assert box.x1 <= own.x1
        assert not any(box.overlaps(other) for other in others)
        assert box.y0 > figure.dpi * 1.0  # what is kept free stays free
    for each in (figure, without):
        plt.close(each)


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['d/a/0.png', 'd/b/1.png'], ['0.png', '1.png']),
        (['d/a/0.png', 'd/b/0.png', 'd/b/c/1.png'], ['a/0.png', 'b/0.png', 'b/c/1.png']),
        (['0.png', 'a/0.png'], ['0.png', 'a/0.png']),
        (['d/0.png', 'd/0.png'], ['0.png', '0.png']),
        ([], []),
    ],
)
def test_names_tell_files_apart(paths, names):
    assert shown_names(paths) == names


@pytest.mark.parametrize('most', [5, 6, 12, 13])
def test_long_names_keep_both_ends(most):
    name = 'frankfurt_0001.png'
    short = shortened(name, most)
    assert len(short) == most
    start, end = short.split('…')
    assert name.startswith(start)
    assert name.endswith(end)
    assert abs(len(start) - len(end)) <= 1
    assert shortened(name, len(name)) == name


def test_colors_of_many_classes_are_colors_and_differ():
    colors = np.array(distinct_colors(60))
    assert colors.min() >= 0
    assert colors.max() <= 255
    assert len(np.unique(colors.round(), axis=0)) == 60
    # as the eye sees it: 2.3 is a difference that is just seen (CIE 1976)
    lab = lab_of(colors)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(60)
    assert apart[:8, :8].min() > 60
    assert apart[:20, :20].min() > 40
    assert apart.min() > 20
    assert distinct_colors(60) == distinct_colors(61)[:60]
    assert len(distinct_colors(1000)) == 1000


def lab_of(colors):
    """CIELAB of sRGB under D65, by the formulas of CIE 15 and IEC 61966-2-1."""
    linear = np.where(
        colors > 0.04045 * 255, ((colors / 255 + 0.055) / 1.055) ** 2.4, colors / 3294.6
    )
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / (0.9505, 1, 1.089)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1
    )


@pytest.mark.parametrize(('given', 'own'), [([[1, 2, 3]] * 3, True), ([[1, 2, 3]], False)])
def test_a_run_has_colors_for_all_classes(given, own, monkeypatch):
    class Lazy(Dataset):
        def __init__(self, lazy_init=False):
            assert lazy_init
            self.metainfo = dict(classes=('a', 'b', 'c'), palette=given)

    monkeypatch.setitem(DATASETS._module_dict, 'Lazy', Lazy)
    cfg = Config(dict(val_dataloader=dict(dataset=dict(type='Lazy'))))
    palette = FinishedRun(None, cfg, None).palette
    assert len(palette) == 3
    assert (palette == given) == own
