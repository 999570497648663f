"""Top-1 and top-5 accuracy, of one head or of many, with what was chosen on which images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
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
        rate: Only the head that was trained at this rate of 256 images counts.
        kwargs: Of mmengine's `BaseMetric`.

    Attributes:
        chosen: What the last validation has chosen, and on which images.
    """

    default_prefix = None

    def __init__(self, rate: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        # of the heads, which predictions bring
        self.rates: tuple[float, ...] = ()
        self.chosen: dict[str, Any] = {}

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Note of each image whether it is right at the first, within five, and its loss."""
        kept = (self.dataset_meta or {}).get('kept')
        self.rates = tuple(data_samples[0].get('rates', ()))
        logits = torch.stack([sample['logits'] for sample in data_samples]).float()
        labels = data_batch['label'].to(logits.device)
        if self.rate is not None:
            logits = logits[:, [self.rates.index(self.rate)]]
        if kept is not None:
            logits = logits[..., kept]
            labels = torch.tensor([kept.index(int(label)) for label in labels]).to(logits.device)
        heads = logits.shape[1]
        each = labels[:, None].expand(-1, heads)
        loss = F.cross_entropy(logits.flatten(0, 1), each.flatten(), reduction='none')
        top = logits.topk(min(5, logits.shape[2]), dim=2).indices
        several = data_batch.get('labels')
        if several is None:
            right = top == each[..., None]
            labeled = torch.ones(len(labels), dtype=torch.bool)
        else:
            rows = several.to(logits.device)[:, None].expand(-1, heads, -1)
            right = rows.gather(2, top)
            labeled = several.any(1)
        # what is no number would be sorted before all others
        right = right & logits.isfinite().all(2)[..., None]
        held = data_batch.get('held_out', torch.zeros(len(labels), dtype=torch.bool))
        columns = (right[..., 0], right.any(2), loss.view(-1, heads), held, labeled)
        # one entry an image, without a label too: processes' lists are joined by their places
        self.results.extend(zip(*(column.cpu().numpy() for column in columns), strict=True))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return the metrics; see the class."""
        results = [result for result in results if result[4]]
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
