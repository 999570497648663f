"""Top-1 and top-5 accuracy, of one head or of many, with what was chosen on which images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from moca.errors import UserError


@METRICS.register_module()
class ClassAccuracy(BaseMetric):
    """Accuracy in percent over the images of a data set, none counted twice.

    ``top1`` and ``top5`` of a single head, and its mean cross-entropy ``loss``. Of several, which
    a `SweepHead` has, ``top1`` is the best of them on the validation images, the published
    convention, and ``top1_held_out`` is that of the head which is best on images held out of
    training, if there are any: an estimate that was not chosen on what it is measured on. Ties go
    to the larger rate (valeoai/MOCA, eval_linear.py:166). ``top5`` belongs to the same head.

    A data set may say in its metainfo ``kept`` to which classes logits are cut before they are
    compared (ImageNet-A and -R); and an image may have several right classes or none (ReaL), with
    ``labels`` in the batch; one without is left out.

    Args:
        rates: Of the heads, for the record.
        kwargs: Of mmengine's `BaseMetric`.
    """

    default_prefix = None

    def __init__(self, rates: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rates = tuple(rates)
        self.chosen: dict[str, Any] = {}

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Note of each image whether it is right at the first, within five, and its loss."""
        kept = (self.dataset_meta or {}).get('kept')
        held = data_batch.get('held_out')
        several = data_batch.get('labels')
        for index, sample in enumerate(data_samples):
            logits = sample['logits'].float().cpu()
            label = data_batch['label'][index].cpu()
            if kept is not None:
                logits = logits[:, kept]
            loss = F.cross_entropy(logits, label.expand(len(logits)), reduction='none')
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices
            if several is None:
                right = top == label
            else:
                right = several[index].cpu()[top]
                if not several[index].any():
                    continue
            self.results.append(
                (
                    right[:, 0].numpy(),
                    right.any(1).numpy(),
                    loss.numpy(),
                    bool(held[index]) if held is not None else False,
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return the metrics; see the class."""
        held = np.array([result[3] for result in results], bool)
        if held.all():
            raise UserError('no image of the validation set was scored: none of them has a label.')
        first, five, loss = (np.stack([r[i] for r in results]) for i in range(3))
        scored = first[~held].mean(0), five[~held].mean(0), loss[~held].mean(0)
        if first.shape[1] == 1 and not held.any():
            return {
                'top1': 100 * float(scored[0][0]),
                'top5': 100 * float(scored[1][0]),
                'loss': float(scored[2][0]),
            }
        best = _last_best(scored[0])
        found = {'top1': 100 * float(scored[0][best]), 'top5': 100 * float(scored[1][best])}
        self.chosen = {
            'top1': {'chosen': 'rate and epoch', 'chosen_on': 'validation images'},
            'last': {'rate': self._rate(best), 'chosen_on': 'validation images'},
        }
        if held.any():
            mine = _last_best(first[held].mean(0))
            found['top1_held_out'] = 100 * float(scored[0][mine])
            found['top5_held_out'] = 100 * float(scored[1][mine])
            self.chosen['top1_held_out'] = {
                'rate': self._rate(mine),
                'epoch': 'last',
                'chosen_on': f'{int(held.sum())} training images held out',
            }
        return found

    def _rate(self, head: int) -> float | None:
        return self.rates[head] if head < len(self.rates) else None


def _last_best(values: NDArray[Any]) -> int:
    """The last of the places of the largest value."""
    return int(np.flatnonzero(values == values.max())[-1])
