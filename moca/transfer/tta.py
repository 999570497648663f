"""Multi-scale and flip test-time augmentation, derived from the test pipeline of a config."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from moca.data.config_datasets import leaf_datasets
from moca.errors import UserError

DETECTION: dict[str, Any] = dict(ratios=[1.0, 0.5, 1.5], flip=True)
"""Source: mmdetection, configs/retinanet/retinanet_tta.py: images of (1333, 800), (666, 400) and
(2000, 1200), each mirrored as well; suppression is that of the detector's own test."""

_RESIZES = ('Resize', 'mmseg.Resize', 'mmdet.Resize', 'mmcv.Resize')


def set_tta(cfg: Config) -> None:
    """Test a model on several sizes of each image, and flipped, by the config's ``tta``.

    A detector whose config has none takes `DETECTION` and merges boxes; its masks are left out.
    Of segmentors:

    ``tta.ratios`` multiply the size to which the test pipeline resizes; a ratio at which the short
    side would fall below that of the sliding window is raised to where it does not, as in the
    sources of the protocols. ``tta.flip`` tests each size mirrored, too. ``tta_model``,
    `AveragingTTAModel` (also in the place of mmseg's `SegTTAModel`), averages the probabilities.

    Args:
        cfg: a config, checked and otherwise ready; it is changed.

    Raises:
        UserError: if the config has no ``tta`` or none that can be used, or its test pipeline
            leaves no place for it.
    """
    tta, model = cfg.get('tta'), cfg.get('tta_model')
    if cfg.protocol.task == 'detection':
        _check_boxes(cfg)
        tta, model = tta or ConfigDict(DETECTION), model or _merged_boxes(cfg)
    if not tta or not model:
        raise UserError(
            f'--tta: {cfg.filename} has no tta and tta_model. Those of the segmentation protocols '
            "are in configs/_base_/tta.py: add it to the config's _base_."
        )
    ratios = tta.get('ratios') or []
    if set(tta) != {'ratios', 'flip'} or not ratios or any(ratio <= 0 for ratio in ratios):
        raise UserError(f'tta={tta}: give ratios above 0, as [0.75, 1.0], and flip=True or False.')
    for dataset in leaf_datasets(cfg.test_dataloader['dataset']):
        dataset['pipeline'] = _augmented(dataset['pipeline'], ratios, tta.flip, _window(cfg))
    if cfg.model.get('test_cfg', {}).get('keep_logits') is False:
        cfg.model.test_cfg.keep_logits = True
    if model['type'] in ('SegTTAModel', 'mmseg.SegTTAModel'):
        model = dict(model, type='AveragingTTAModel')
    cfg.model = dict(**model, module=cfg.model)


def _check_boxes(cfg: Config) -> None:
    """Have boxes alone evaluated, and flips reach the model; of detectors that find boxes first."""
    if 'roi_head' not in cfg.model:
        raise UserError(
            f'--tta: {cfg.filename}: boxes are merged over scales and flips, and a '
            f'{cfg.model.type} finds masks. Leave it out.'
        )
    for dataset in leaf_datasets(cfg.test_dataloader['dataset']):
        last = dataset['pipeline'][-1]
        if keys := last.get('meta_keys'):
            last['meta_keys'] = tuple(dict.fromkeys((*keys, 'flip', 'flip_direction')))
    found = cfg.test_evaluator
    for metric in found if isinstance(found, list | tuple) else [found]:
        kinds = metric.get('metric', 'bbox')
        if kinds != 'bbox' and kinds != ['bbox']:
            metric['metric'] = ['bbox']
            print_log('--tta: masks are not merged; boxes alone are evaluated.', 'current')


def _merged_boxes(cfg: Config) -> ConfigDict:
    test = cfg.model.test_cfg.rcnn
    return ConfigDict(
        type='BoxTTAModel', tta_cfg=dict(nms=dict(test.nms), max_per_img=test.max_per_img)
    )


def _window(cfg: Config) -> int:
    """The short side of the sliding window, or 0 without one."""
    test_cfg = cfg.model.get('test_cfg') or {}
    return min(test_cfg['crop_size']) if test_cfg.get('mode') == 'slide' else 0


def _augmented(
    pipeline: Sequence[dict[str, Any]], ratios: Sequence[float], flip: bool, window: int
) -> list[dict[str, Any]]:
    kinds = [step['type'] for step in pipeline]
    place = next((number for number, kind in enumerate(kinds) if kind in _RESIZES), None)
    labels = [n for n, kind in enumerate(kinds) if str(kind).endswith('Annotations')]
    scale = None if place is None else pipeline[place].get('scale')
    if place is None or not isinstance(scale, tuple | list) or any(n < place for n in labels):
        raise UserError(
            f'--tta: the test pipeline {kinds} needs a Resize with scale=(width, height), and the '
            'labels loaded after it.'
        )
    sizes = []
    for ratio in ratios:
        ratio = max(ratio, window / min(scale))
        sizes.append(dict(pipeline[place], scale=tuple(round(side * ratio) for side in scale)))
    flips = [dict(type='RandomFlip', prob=0.0, direction='horizontal')]
    if flip:
        flips.append(dict(type='RandomFlip', prob=1.0, direction='horizontal'))
    rest = [[copy.deepcopy(step)] for step in pipeline[place + 1 :]]
    return [*pipeline[:place], dict(type='TestTimeAug', transforms=[sizes, flips, *rest])]
