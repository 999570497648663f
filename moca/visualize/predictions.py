"""The sheets of tools/visualize.py that show what finished runs predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmseg.evaluation import IoUMetric
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from moca import figures
from moca.data.coco_masks import decode_mask
from moca.errors import UserError
from moca.figures import bars_inches, class_bars
from moca.images.files import evenly_spread, some_images
from moca.images.shown_names import shown_names
from moca.transfer.finished import FinishedRun, load_finished, predict


def validated(finished: FinishedRun, kind: type[Any]) -> Any:
    """What `own_metric` returns, filled with the run's predictions (see `fill`)."""
    metric = own_metric(finished, kind)
    fill(metric, finished)
    return metric


def own_metric(finished: FinishedRun, kind: type[Any]) -> Any:
    """The run's own metric of a class, empty.

    Args:
        finished: The run.
        kind: mmseg's `IoUMetric` or mmdet's `CocoMetric`.

    Raises:
        UserError: The run was validated by another one.
    """
    evaluator = Evaluator(finished.cfg.val_evaluator)
    evaluator.dataset_meta = finished.metainfo
    metrics = [metric for metric in evaluator.metrics if isinstance(metric, kind)]
    if not metrics:
        names = ', '.join(type(metric).__name__ for metric in evaluator.metrics)
        raise UserError(f'{finished.run.folder}: validated by {names}; {kind.__name__} is needed.')
    return metrics[0]


def fill(metric: Any, finished: FinishedRun) -> None:
    """Fill a metric with a run's predictions of every validation image.

    Takes as long as the validation of the training.
    """
    for _, result in predict(finished, _counted(finished)):
        metric.process({}, [result.to_dict()])


def _counted(finished: FinishedRun) -> Iterator[int]:
    console = Console(stderr=True)
    yield from track(range(len(finished.dataset)), f'predicting, {finished.label}', console=console)


def class_ious(results: list[tuple[torch.Tensor, ...]]) -> NDArray[np.float64]:
    """IoU of each class in percent over all images together; NaN where no label contains it.

    Args:
        results: What mmseg's `IoUMetric` keeps of each image: areas of intersection, union,
            prediction and label, each `[classes]`.
    """
    intersection, union, _, label = (
        torch.stack(areas).double().sum(0).numpy() for areas in zip(*results, strict=True)
    )
    present = label > 0
    return np.where(present, 100 * intersection / np.where(present, union, 1), np.nan)


def segmentation_sheet(
    folders: Sequence[Path],
    out: Path,
    count: int,
    folder: Path | None = None,
    per_class: bool = True,
) -> None:
    """Images, truth and the predictions of several runs, and the IoU of each class below.

    Args:
        folders: Work dirs of runs with the same classes.
        out: Image to write.
        count: How many images.
        folder: Of images without labels, instead of the validation set; then there is neither
            truth nor IoU.
        per_class: Predict the whole validation set for the IoU of the classes that it contains.

    Raises:
        UserError: Runs cannot be read or compared, or images not be found.
    """
    runs = [load_finished(path, 'segmentation') for path in folders]
    sources = sources_of(runs, count, folder)
    palette, names = runs[0].palette, runs[0].classes
    seen: set[int] = set()

    def drawn(image: figures.Image, labels: torch.Tensor) -> figures.Image:
        values = labels[0].cpu().numpy()
        seen.update(set(np.unique(values).tolist()) - {255})
        return overlaid(image, values, palette)

    rows, files = prediction_rows(
        runs,
        sources,
        lambda image, result: drawn(image, result.pred_sem_seg.data),
        None if folder else lambda image, result: drawn(image, result.gt_sem_seg.data),
    )
    ious = []
    if folder is None and per_class:
        ious = [class_ious(validated(finished, IoUMetric).results) for finished in runs]
    titles = ['image', *['truth'] * (folder is None)]
    titles += [_title(finished, 'mIoU_present', folder) for finished in runs]
    classes = sorted(seen)
    shown = [names[i] for i in classes]
    room = bars_inches(ious) if ious else 0.0
    below = room + figures.legend_inches(shown)
    figure = figures.sheet(rows, titles, heading_of(runs), below, names=files)
    figures.class_legend(figure, shown, [palette[i] for i in classes], above=room)
    if ious:
        class_bars(figure, names, ious, [finished.label for finished in runs], 'IoU, %')
    figures.save_figure(figure, out)


Drawn = Callable[[figures.Image, Any], Any]
"""What a sheet shows of an image (RGB, ``[H, W, 3]``) and its data sample."""


def prediction_rows(
    runs: Sequence[FinishedRun], sources: Sequence[Any], found: Drawn, truth: Drawn | None
) -> tuple[list[list[Any]], list[list[str]]]:
    """A row for each image: itself, the truth, and what every run predicts.

    Args:
        runs: Of the same images.
        sources: Images, as `sources_of` returns them.
        found: Draws a prediction.
        truth: Draws the truth; None where there is none.

    Returns:
        The rows, and the file name of each row's image as `figures.sheet` takes names.
    """
    rows: list[list[Any]] = []
    paths: list[str] = []
    for number, finished in enumerate(runs):
        for place, (image, result) in enumerate(predict(finished, sources)):
            if number == 0:
                rows.append([image, *([truth(image, result)] if truth else [])])
                paths.append(result.metainfo['img_path'])
            rows[place].append(found(image, result))
    return rows, [[name] for name in shown_names(paths)]


def overlaid(image: figures.Image, labels: Any, palette: Any) -> figures.Image:
    """Lay a label map's colors over an image; one of another size is stretched to it."""
    if labels.shape != image.shape[:2]:  # a data set that validates at another size
        rows = np.arange(image.shape[0]) * labels.shape[0] // image.shape[0]
        columns = np.arange(image.shape[1]) * labels.shape[1] // image.shape[1]
        labels = labels[rows[:, None], columns[None, :]]
    return figures.blend(image, figures.color_labels(labels, palette))


def detection_sheet(
    folders: Sequence[Path], out: Path, count: int, score: float, folder: Path | None = None
) -> None:
    """Images with the true objects, and those of `score` or more that several runs find.

    Args:
        folders: Work dirs of runs with the same classes.
        out: Image to write.
        count: How many images.
        score: In 0..1.
        folder: Of images without labels, instead of the validation set; then there is no truth.

    Raises:
        UserError: Runs cannot be read or compared, or images not be found.
    """
    runs = [load_finished(path, 'detection') for path in folders]
    sources = sources_of(runs, count, folder)
    names, colors = runs[0].classes, runs[0].palette
    found: list[list[dict[str, Any]]] = [[] for _ in sources]
    images, paths = [], []
    for number, finished in enumerate(runs):
        for place, (image, result) in enumerate(predict(finished, sources)):
            if number == 0:
                images.append(image)
                paths.append(result.metainfo['img_path'])
                if folder is None:
                    found[place].append(_true_instances(finished, sources[place], image))
            found[place].append(_found_instances(result, score))
    titles = ['truth'] * (folder is None)
    titles += [_title(finished, 'bbox_mAP', folder) for finished in runs]
    # Transposed: images of objects are square, and many fit beside each other.
    heading = f'{heading_of(runs)}; objects of score {100 * score:.0f} % and more'
    columns = len(sources)
    files = [shown_names(paths)]
    rows = [images for _ in titles]
    figure = figures.sheet(rows, [''] * columns, heading, indent=True, names=files)
    for line, title in enumerate(titles):
        for place in range(columns):
            axis = figure.axes[line * columns + place]
            figures.draw_instances(axis, found[place][line], names, colors)
        figures.row_title(figure.axes[line * columns], title.replace(': ', '\n'))
    figures.save_figure(figure, out)


def _true_instances(finished: FinishedRun, index: Any, image: figures.Image) -> dict[str, Any]:
    """The annotations of an image, crowds left out, as `draw_instances` takes them."""
    height, width = image.shape[:2]
    boxes, labels, masks = [], [], []
    for instance in finished.dataset.get_data_info(index)['instances']:
        if instance['ignore_flag']:
            continue
        mask = instance.get('mask')
        boxes.append(instance['bbox'])
        labels.append(instance['bbox_label'])
        masks.append(None if mask is None else decode_mask(mask, height, width))
    return dict(boxes=boxes, labels=labels, masks=masks)


def _found_instances(result: Any, score: float) -> dict[str, Any]:
    found = result.pred_instances
    kept = found[found.scores >= score].cpu()
    return dict(
        boxes=kept.bboxes.numpy(),
        labels=kept.labels.tolist(),
        masks=np.asarray(kept.masks, bool) if 'masks' in kept else [None] * len(kept),
        scores=kept.scores.tolist(),
    )


def sources_of(runs: Sequence[FinishedRun], count: int, folder: Path | None) -> list[Any]:
    """Return images for all runs: files of a folder, or indices into the validation set they share.

    Raises:
        UserError: The runs have other classes or images, or the folder has none.
    """
    folders = ', '.join(str(finished.run.folder) for finished in runs)
    if len({tuple(finished.classes) for finished in runs}) > 1:
        raise UserError(f'{folders}: these runs have different classes.')
    if folder is not None:
        return some_images(folder, count)
    lengths = {len(finished.dataset) for finished in runs}
    roots = {str(finished.dataset.data_root) for finished in runs}
    if len(lengths) > 1 or len(roots) > 1:
        raise UserError(f'{folders}: these runs were validated on different images.')
    return evenly_spread(lengths.pop(), count)


def _title(finished: FinishedRun, metric: str, folder: Path | None) -> str:
    value = None if folder else finished.run.metrics.get(metric)
    score = '' if value is None else f': {metric} {value:.1f}'
    return f'{finished.label}{score}'


def heading_of(runs: Sequence[FinishedRun]) -> str:
    """Return what stands above a sheet: protocol, architecture, length and images."""
    run = runs[0].run
    return f'{run.title}: {run.arch}, {run.iterations} steps on {run.train_images} images'
