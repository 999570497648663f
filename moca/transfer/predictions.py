"""Where a test's predictions go, what their files hold, and test sets without label maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmseg.datasets
import mmseg.registry
from mmengine.config import Config
from mmengine.logging import print_log

from moca.data.config_datasets import datasets_of
from moca.data.pairs import has_labels, label_rule
from moca.errors import UserError
from moca.images.files import dataset_path

FOLDER = 'predictions'
"""Below the work dir, where predictions of a test set without label maps go by default."""


def set_predictions(cfg: Config, splits: Sequence[str] = ('val', 'test')) -> None:
    """Have evaluators with an ``output_dir`` keep folders and write the files' own values.

    Changes each `PresentIoUMetric` among them. mmseg's `IoUMetric` becomes one: it writes images of
    one name over each other.

    Raises:
        UserError: if data set and pipeline contradict each other.
    """
    for split in splits:
        metrics = [m for m in _metrics(cfg, split) if m.get('output_dir')]
        if not metrics:
            continue
        bases = mmseg.datasets.BaseSegDataset
        parts = [dataset for _, dataset, _ in datasets_of(cfg, bases, [split])]
        folders = [
            os.path.abspath(
                dataset_path(part, (part.get('data_prefix') or {}).get('img_path') or '')
            )
            for part in parts
        ]
        for metric in metrics:
            metric['type'] = 'PresentIoUMetric'
            metric.setdefault('root', os.path.commonpath(folders))
            metric.setdefault('values', label_values(cfg, split))


def predict_without_labels(cfg: Config) -> None:
    """Make a test of a test set without label maps one that predicts and scores nothing.

    Nothing changes where ``test_dataloader`` has label maps. Else its pipeline no longer loads
    them, and the evaluators write predictions, to ``predictions`` in the work dir if they name no
    ``output_dir``.

    Raises:
        UserError: if some of its parts have label maps and some have not, or an evaluator is of
            another kind than mmseg's `IoUMetric`.
    """
    base = mmseg.datasets.BaseSegDataset
    parts = [dataset for _, dataset, _ in datasets_of(cfg, base, ['test'])]
    without = [dataset for dataset in parts if not has_labels(dataset)]
    if not without:
        return
    if len(without) < len(parts):
        raise UserError(
            'test_dataloader: some of its data sets have label maps (data_prefix.seg_map_path) and '
            'some have none. Test them one after the other.'
        )
    metrics = _metrics(cfg, 'test')
    if not metrics:
        raise UserError(
            'test_dataloader has no label maps (data_prefix.seg_map_path), and test_evaluator is '
            "none that writes predictions. Set test_evaluator=dict(type='PresentIoUMetric')."
        )
    values = label_values(cfg, 'test')
    for dataset in without:
        dataset['pipeline'] = [
            step for step in dataset['pipeline'] if not str(step['type']).endswith('Annotations')
        ]
    cfg.test_evaluator = metrics
    for metric in metrics:
        metric.update(format_only=True, values=metric.get('values') or values)
        if not metric.get('output_dir'):
            metric['output_dir'] = str(Path(cfg.work_dir, FOLDER))
        print_log(
            'test_dataloader has no label maps: predictions are written to '
            f'{metric["output_dir"]}, and nothing is scored.',
            'current',
        )


def _metrics(cfg: Config, split: str) -> list[dict[str, Any]]:
    """The evaluators of a split that are mmseg's metric of IoU, or ours."""
    found = cfg.get(f'{split}_evaluator') or []
    found = found if isinstance(found, list | tuple) else [found]
    names = ('PresentIoUMetric', 'IoUMetric', 'mmseg.IoUMetric')
    return [metric for metric in found if metric.get('type') in names]


def label_values(cfg: Config, split: str) -> list[int] | None:
    """The value of each class in the label maps: of a split's, else of the first that has some.

    None where no data set says it, as without names of classes.

    Raises:
        UserError: if data set and pipeline contradict each other.
    """
    base = mmseg.datasets.BaseSegDataset
    for _, dataset, _ in datasets_of(cfg, base, [split, 'val', 'train']):
        options = {key: value for key, value in dataset.items() if key != 'indices'}
        built = mmseg.registry.DATASETS.build({**options, 'pipeline': [], 'lazy_init': True})
        rule = label_rule(dataset, built) if built.metainfo.get('classes') else None
        if rule is not None:
            return list(rule.values)
    return None
