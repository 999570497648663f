"""Predict a finished run's whole validation set again, for what `run.json` does not keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from moca.errors import UserError
from moca.evaluation.finished import FinishedRun, predict


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
    """Fill a metric with a run's predictions of every validation picture.

    Takes as long as the validation of the training.
    """
    for _, result in predict(finished, _counted(finished)):
        metric.process({}, [result.to_dict()])


def _counted(finished: FinishedRun) -> Iterator[int]:
    console = Console(stderr=True)
    yield from track(range(len(finished.dataset)), f'predicting, {finished.label}', console=console)


def class_ious(results: list[tuple[torch.Tensor, ...]]) -> NDArray[np.float64]:
    """IoU of each class in percent over all pictures together; NaN where no label contains it.

    Args:
        results: What mmseg's `IoUMetric` keeps of each picture: areas of intersection, union,
            prediction and label, each `[classes]`.
    """
    intersection, union, _, label = (
        torch.stack(areas).double().sum(0).numpy() for areas in zip(*results, strict=True)
    )
    present = label > 0
    return np.where(present, 100 * intersection / np.where(present, union, 1), np.nan)
