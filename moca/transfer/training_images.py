"""The training images that ``--subset`` and ``--held-out`` draw from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.data.config_datasets import leaf_datasets
from moca.data.depth_check import find_depth_pairs
from moca.data.pairs import find_pairs
from moca.errors import UserError

_FIELD = 'train_dataloader.dataset'
_WHOLE = {
    'detection': 'Give it an annotation file of fewer images (train_dataloader.dataset.ann_file).',
    'image': 'Few images of each class are measured without training by '
    'configs/imagenet/lowshot*.py (evaluation.shots).',
}


@dataclass(frozen=True)
class TrainingImages:
    """What a run could train on.

    Attributes:
        dataset: the config of the one data set, which takes ``indices``.
        names: of all of its images, without their ending, in the data set's order.
        source: the list or the folder that they were found by.
    """

    dataset: dict[str, Any]
    names: list[str]
    source: Path


def training_images(cfg: Config, option: str) -> TrainingImages:
    """List the training images of a config of segmentation or depth.

    Args:
        cfg: of the run.
        option: what they are wanted for, for messages, such as ``--subset 100``.

    Raises:
        UserError: the data are of another task, or of several data sets; or as `find_pairs` and
            `find_depth_pairs`.
    """
    task = cfg.protocol.task
    if task not in ('segmentation', 'depth'):
        raise UserError(
            f'{option}: draws from images with label or depth maps; {cfg.filename} has another '
            f'kind of training data. {_WHOLE.get(task, "Leave it out.")}'
        )
    datasets = leaf_datasets(cfg.train_dataloader.dataset)
    if len(datasets) != 1:
        raise UserError(
            f'{option}: draws from one data set, and {cfg.filename} has {len(datasets)} joined '
            f'({_FIELD}). Give one.'
        )
    (dataset,) = datasets
    if task == 'segmentation':
        pairs = find_pairs(dataset, _FIELD)
        names = [str(path).removesuffix(pairs.suffix) for path in pairs.images]
        return TrainingImages(dataset, names, pairs.source)
    maps = find_depth_pairs(dataset, _FIELD)
    return TrainingImages(dataset, [str(path.with_suffix('')) for path in maps.images], maps.source)
