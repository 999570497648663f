"""What can be seen to be wrong with a run of classification before anything long runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.errors import UserError
from moca.evaluation.classification.class_lists import VARIANTS, check_same_classes
from moca.evaluation.classification.dataset import held_out_places, read_split
from moca.evaluation.classification.heads import check_classes
from moca.evaluation.image_sets import check_apart
from moca.evaluation.labeled import Labeled


def check_images(
    cfg: Config,
    splits: Sequence[str] = ('train', 'val'),
    trained: Sequence[str] | None = None,
) -> None:
    """Read the lists of images of a config's data sets and hold them against each other.

    Args:
        cfg: Of a run of an `ImageClassifier`.
        splits: Which of train, val and test to look at.
        trained: The classes that a head was trained on, where that is known.

    Raises:
        UserError: A folder is missing; the class lists of two splits differ, or from the head's,
            or in number from the head's; training and validation images are the same; images are
            of another size than the backbone; Mixup's batch is odd.
    """
    read: dict[str, Labeled] = {}
    found: dict[str, Sequence[str]] = {}
    if trained is not None:
        found['the images that the head was trained on'] = trained
    places: dict[str, str] = {}
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            continue
        dataset = loader.dataset
        where = os.path.join(dataset.data_root, dataset.get('split', 'train'))
        images = read_split(
            dataset.data_root, dataset.get('split', 'train'), dataset.get('variant')
        )
        found[where], places[split], read[split] = images.classes, where, images
        _check_size(cfg, dataset, split)
        _check_head(cfg, len(images.classes), where)
    if len(found) > 1:
        (first, classes), *others = found.items()
        for where, listed in others:
            check_same_classes(classes, listed, first, where)
    if 'train' in read:
        _check_apart(read, places)
    if 'train' in splits:
        _check_batch(cfg)


def set_variant(cfg: Config, variant: str, checkpoint: str) -> None:
    """Test on images of another set of ImageNet's classes, without further training.

    Of heads side by side, the one is tested that the run has chosen: on held-out images if there
    were any, else on its validation images.

    Args:
        cfg: Of a run of an `ImageClassifier`; its test set and evaluator are changed.
        variant: One of `VARIANTS`. ``imagenet-real`` is the validation set itself with other
            labels; of the others, ``data_root`` holds the class folders.
        checkpoint: Of the run, beside its ``run.json``.

    Raises:
        UserError: No such set, or no record of a choice among heads.
    """
    if variant not in VARIANTS:
        raise UserError(f'--variant {variant}: it is none of {", ".join(VARIANTS)}.')
    dataset = cfg.test_dataloader.dataset
    dataset.variant, dataset.held_out = variant, 0
    if variant != 'imagenet-real':
        dataset.split = ''
    if cfg.model.head.type != 'SweepHead':
        return
    cfg.test_evaluator.rate = chosen_rate(checkpoint)


def chosen_rate(checkpoint: str | Path) -> float:
    """The rate of the head that a run has chosen among those side by side.

    On held-out images if there were any, else on its validation images.

    Args:
        checkpoint: Of the run, beside its ``run.json``.

    Raises:
        UserError: There is no record of a choice.
    """
    record = Path(checkpoint).with_name('run.json')
    try:
        chosen = json.loads(record.read_text())['chosen']
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f'{record}: it does not tell which of the heads was chosen ({error!r}). Let the run '
            'finish first.'
        ) from None
    return float((chosen.get('top1_held_out') or chosen['last'])['rate'])


def hold_out(cfg: Config, share: float) -> tuple[int, int]:
    """Validate on the last images of each class of the training images, and train on the others.

    Args:
        cfg: Of a run of an `ImageClassifier`; changed.
        share: Of each class, at least one image.

    Returns:
        How many images of how many are held out.

    Raises:
        UserError: The share is none, or the run holds images out by itself.
    """
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    if train.get('held_out'):
        raise UserError(
            f'--held-out {share:g}: {cfg.filename} holds {train.held_out:g} of each class out by '
            'itself, and chooses on them (top1_held_out in run.json). Leave it out.'
        )
    if not 0 < share < 1:
        raise UserError(f'--held-out {share:g}: give a share between 0 and 1.')
    split = train.get('split', 'train')
    labels = read_split(train.data_root, split).labels
    train.held_out, train.train_split = share, split
    val.update(data_root=train.data_root, held_out=share, train_split=split, held_out_alone=True)
    return len(held_out_places(labels, share)), len(labels)


def _check_apart(read: dict[str, Labeled], places: dict[str, str]) -> None:
    """Verify that no split has training images."""
    for split in read.keys() - {'train'}:
        if os.path.realpath(places['train']) == os.path.realpath(places[split]):
            raise UserError(
                f'{places[split]}: it is both what is trained on and what is tested on. Give two '
                'folders (train_dataloader.dataset.split, and those of val and test).'
            )
        check_apart(read['train'], read[split], (places['train'], places[split]))


def _check_head(cfg: Config, classes: int, where: str) -> None:
    asked = cfg.model.head.get('num_classes')
    if asked is None:
        raise UserError(
            f'{where}: {classes} classes. Give --cfg-options model.head.num_classes={classes}.'
        )
    heads = check_classes(asked)
    if heads != classes:
        raise UserError(
            f'{where}: {classes} classes, and the head is of {heads}. Give --cfg-options '
            f'model.head.num_classes={classes}, or the images that the head is meant for.'
        )


def _check_size(cfg: Config, dataset: Any, split: str) -> None:
    """Positions that are made for one size and resampled to another give other features."""
    size, built = dataset.get('size', 224), cfg.model.backbone.get('img_size')
    sides = [[each, each] if isinstance(each, int) else [*each] for each in (size, built or size)]
    if sides[0] != sides[1]:
        raise UserError(
            f'{split}_dataloader.dataset.size={size}: the backbone is built for {built}. Give both '
            'the same (model.backbone.img_size, and the sizes of train, val and test).'
        )


def _check_batch(cfg: Config) -> None:
    loader: Any = cfg.get('train_dataloader')
    if loader and cfg.model.get('mixup') and loader.batch_size % 2:
        raise UserError(
            f'train_dataloader.batch_size={loader.batch_size}: Mixup pairs the images of a batch, '
            'so it has to be even.'
        )
