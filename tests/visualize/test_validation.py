"""IoU of each class over a whole set, and bars of them."""

from __future__ import annotations

import numpy as np
import torch
from mmseg.evaluation import IoUMetric

from moca.figures import bars_inches, class_bars, plt
from moca.visualize.predictions import class_ious


def test_ious_are_over_all_images_together_and_absent_classes_have_none() -> None:
    random = np.random.default_rng(0)
    labels, found = random.integers(0, 4, (2, 5, 16, 16))
    labels[labels == 2] = 255  # class 2 is predicted, but in no label
    labels[0], found[0] = 1, 0  # an image of one class, all wrong
    results = [
        IoUMetric.intersect_and_union(torch.tensor(f), torch.tensor(t), 5, 255)
        for f, t in zip(found, labels, strict=True)
    ]
    ious = class_ious(results)
    known = labels != 255
    for number in (0, 1, 3):
        here, there = (labels == number) & known, (found == number) & known
        assert np.isclose(ious[number], 100 * (here & there).sum() / (here | there).sum())
    assert np.isnan(ious[[2, 4]]).all()


def test_bars_leave_out_what_is_absent_and_start_with_the_best() -> None:
    nan = float('nan')
    ours, theirs = np.array([10.0, nan, 60.0, 0.0, nan]), np.array([20.0, nan, 30.0, 50.0, nan])
    figure = plt.figure(figsize=(8, bars_inches([ours, theirs])))
    class_bars(figure, 'abcde', [ours, theirs], ['ours', 'theirs'], 'IoU, %')
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ['c', 'a', 'd']
    heights = [[bar.get_height() for bar in bars] for bars in axis.containers]
    assert heights == [[60, 10, 0], [30, 20, 50]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ['ours: mean 23.3', 'theirs: mean 33.3']
    plt.close(figure)


def test_many_classes_take_several_lines() -> None:
    values = [np.linspace(0, 100, 95)]
    figure = plt.figure(figsize=(12, bars_inches(values)))
    class_bars(figure, [str(i) for i in range(95)], values, ['run'], 'IoU, %')
    assert [len(axis.get_xticks()) for axis in figure.axes] == [40, 40, 15]
    boxes = [axis.get_position() for axis in figure.axes]
    assert boxes[0].y0 > boxes[1].y1
    assert boxes[1].y0 > boxes[2].y1 > boxes[2].y0 > 0
    plt.close(figure)
