"""The three sheets of tools/visualize.py: segmentation, detection, patch features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope

from moca.errors import UserError
from moca.evaluation import pictures
from moca.evaluation.components import principal_colours
from moca.evaluation.finished import FinishedRun, choose, load_finished, predict, read_picture
from moca.transfer.run import prepare_training


def segmentation_sheet(folders: Sequence[Path], out: Path, count: int) -> None:
    """Pictures, truth and the predictions of several runs on the same validation set."""
    runs = [load_finished(folder, 'segmentation') for folder in folders]
    indices = _shared_pictures(runs, count)
    palette = runs[0].dataset.metainfo['palette']
    names = runs[0].dataset.metainfo['classes']
    rows: list[list[Any]] = []
    seen: set[int] = set()
    for number, finished in enumerate(runs):
        for place, (sample, result) in enumerate(predict(finished, indices)):
            image = read_picture(sample)
            if number == 0:
                truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
                seen |= set(np.unique(truth).tolist()) - {255}
                rows.append([image, _over(image, truth, palette)])
            found = result.pred_sem_seg.data[0].cpu().numpy()
            seen |= set(np.unique(found).tolist())
            rows[place].append(_over(image, found, palette))
    titles = ['picture', 'truth', *(_title(finished, 'mIoU_present') for finished in runs)]
    classes = sorted(seen)
    lines = -(-len(classes) // 6)
    figure = pictures.sheet(rows, titles, _heading(runs), legend=lines)
    pictures.class_legend(figure, [names[i] for i in classes], [palette[i] for i in classes])
    pictures.save_figure(figure, out)


def _over(image: pictures.Image, labels: Any, palette: Any) -> pictures.Image:
    if labels.shape != image.shape[:2]:  # a data set that validates at another size
        rows = np.arange(image.shape[0]) * labels.shape[0] // image.shape[0]
        columns = np.arange(image.shape[1]) * labels.shape[1] // image.shape[1]
        labels = labels[rows[:, None], columns[None, :]]
    return pictures.blend(image, pictures.colour_labels(labels, palette))


def detection_sheet(folders: Sequence[Path], out: Path, count: int, score: float) -> None:
    """Pictures with the true objects, and those of `score` or more that several runs find."""
    runs = [load_finished(folder, 'detection') for folder in folders]
    indices = _shared_pictures(runs, count)
    names, colours = runs[0].dataset.metainfo['classes'], runs[0].dataset.metainfo['palette']
    found: list[list[dict[str, Any]]] = [[] for _ in indices]
    images = []
    for number, finished in enumerate(runs):
        for place, (sample, result) in enumerate(predict(finished, indices)):
            if number == 0:
                images.append(read_picture(sample))
                found[place].append(_true_instances(finished, indices[place], images[place]))
            found[place].append(_found_instances(result, score))
    titles = ['truth', *(_title(finished, 'bbox_mAP') for finished in runs)]
    # Transposed: pictures of objects are square, and many fit beside each other.
    heading = f'{_heading(runs)}; objects of score {100 * score:.0f} % and more'
    columns = len(indices)
    rows = [[images[place] for place in range(columns)] for _ in titles]
    figure = pictures.sheet(rows, [''] * columns, heading, indent=True)
    for line, title in enumerate(titles):
        for place in range(columns):
            axis = figure.axes[line * columns + place]
            pictures.draw_instances(axis, found[place][line], names, colours)
        pictures.row_title(figure.axes[line * columns], title.replace(': ', '\n'))
    pictures.save_figure(figure, out)


def _true_instances(finished: FinishedRun, index: int, image: pictures.Image) -> dict[str, Any]:
    """The annotations of a picture, crowds left out, as `draw_instances` takes them."""
    from pycocotools import mask as mask_utils

    height, width = image.shape[:2]
    boxes, labels, masks = [], [], []
    for instance in finished.dataset.get_data_info(index)['instances']:
        if instance['ignore_flag']:
            continue
        runs = mask_utils.merge(mask_utils.frPyObjects(instance['mask'], height, width))
        boxes.append(instance['bbox'])
        labels.append(instance['bbox_label'])
        masks.append(mask_utils.decode(runs).astype(bool))
    return dict(boxes=boxes, labels=labels, masks=masks)


def _found_instances(result: Any, score: float) -> dict[str, Any]:
    found = result.pred_instances
    kept = found[found.scores >= score].cpu()
    return dict(
        boxes=kept.bboxes.numpy(),
        labels=kept.labels.tolist(),
        masks=np.asarray(kept.masks, bool),
        scores=kept.scores.tolist(),
    )


def _shared_pictures(runs: Sequence[FinishedRun], count: int) -> list[int]:
    """Indices of some pictures; all runs must have been validated on the same ones."""
    lengths = {len(finished.dataset) for finished in runs}
    roots = {str(finished.dataset.data_root) for finished in runs}
    if len(lengths) > 1 or len(roots) > 1:
        folders = ', '.join(str(finished.run.folder) for finished in runs)
        raise UserError(f'{folders}: these runs were validated on different pictures.')
    return choose(lengths.pop(), count)


def _title(finished: FinishedRun, metric: str) -> str:
    run = finished.run
    value = run.metrics.get(metric)
    score = '' if value is None else f': {metric} {value:.1f}'
    return f'{finished.label}{score}'


def _heading(runs: Sequence[FinishedRun]) -> str:
    run = runs[0].run
    return f'{run.title}: {run.arch}, {run.iterations} steps on {run.train_images} pictures'


@torch.no_grad()
def features_sheet(args: Any, out: Path, count: int) -> None:
    """Principal components of the patch features of a checkpoint beside those of random weights.

    Args:
        args: Arguments of tools/train.py, which say which backbone, weights and pictures.
        out: File to write.
        count: How many pictures.
    """
    cfg, record = prepare_training(args)
    if not args.checkpoint:
        raise UserError('--checkpoint is missing: whose features are to be drawn?')
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    samples = [dataset[index] for index in choose(len(dataset), count)]
    rows: list[list[Any]] = [[read_picture(sample)] for sample in samples]
    weights = cfg.model.backbone.pop('init_cfg')
    for init in (weights, None):
        torch.manual_seed(0)
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': init})
        backbone.init_weights()
        backbone.eval()
        maps = [_features(backbone, preprocessor, sample) for sample in samples]
        for row, colours in zip(rows, principal_colours(maps), strict=True):
            row.append(colours)
    titles = ['picture', record['checkpoint']['name'], 'random init']
    heading = 'Patch features: first three principal components as red, green, blue'
    pictures.save_figure(pictures.sheet(rows, titles, heading), out)


def _features(backbone: Any, preprocessor: Any, sample: Any) -> torch.Tensor:
    data = preprocessor(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), False
    )
    return backbone(data['inputs'])[-1][0]
