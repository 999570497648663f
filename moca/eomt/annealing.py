"""Masked attention that fades: how likely a query keeps to its mask, by block and step.

Source: EoMT, section 3.3 and `training/mask_classification_loss.py`'s neighbors: (1 - share) ** .9
of the way from a block's start to its end, block after block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from moca.engine.wrapped import unwrapped
from moca.eomt.network import MaskTransformer
from moca.errors import UserError

POWER = 0.9


def mask_prob(step: int, start: int, end: int) -> float:
    """The probability after so many finished steps: 1 before `start`, 0 from `end` on."""
    if step < start:
        return 1.0
    if step >= end:
        return 0.0
    return (1.0 - (step - start) / (end - start)) ** POWER


def phases(
    total: int, num_blocks: int, first_end: int | None = None
) -> tuple[list[int], list[int]]:
    """Starts and ends of a run's blocks: a sixth of it each, spread from one to two thirds.

    The released tables follow this rule: start i at T / 6 + i (T / 2) / (blocks - 1), and the end
    T / 6 later; those for DINOv3 fade the first block from step 0 to `first_end`.
    """
    apart = total / 2 / max(num_blocks - 1, 1)
    starts = [round(total / 6 + number * apart) for number in range(num_blocks)]
    ends = [start + round(total / 6) for start in starts]
    if first_end is not None:
        starts[0], ends[0] = 0, first_end
    return starts, ends


def length_of_rule(steps: int, total: int | None) -> int:
    """`total`, unless it is None or belongs to a run of another length than `steps`."""
    return total if total is not None and abs(total - steps) <= steps / 20 else steps


@HOOKS.register_module()
class MaskAnnealing(Hook):
    """Set the probabilities of a `MaskTransformer` after every step, by the steps that are done.

    Nothing is kept: a resumed run computes them from its step.

    Args:
        starts: Step from which each block's probability falls; None for the rule of `phases`.
        ends: Step at which it is 0.
        first_end: Of the rule: the first block's, which then starts at 0.
        total: Of the rule: the steps that the released table was made for, which are not quite
            those of its run; None for the run's own, which also counts where they are more than a
            twentieth apart.

    Attributes:
        step_fields: The arguments that grow and shrink with a run's length.
        first_step_fields: Those of its beginning, which shrink with it alone.

    Raises:
        UserError: The lists do not fit each other or the network.
    """

    priority = 'NORMAL'
    step_fields = ('starts', 'ends', 'total')
    first_step_fields = ('first_end',)

    def __init__(
        self,
        starts: Sequence[int] | None = None,
        ends: Sequence[int] | None = None,
        first_end: int | None = None,
        total: int | None = None,
    ) -> None:
        if (starts is None) != (ends is None):
            raise UserError('MaskAnnealing: give starts and ends, or none of them.')
        first, last = list(starts or ()), list(ends or ())
        if len(first) != len(last) or any(a >= b for a, b in zip(first, last, strict=True)):
            raise UserError(
                f'MaskAnnealing: starts={first} and ends={last}: give one of each for every block '
                'that sees queries, each end behind its start.'
            )
        if starts is not None and (first_end, total) != (None, None):
            raise UserError(
                'MaskAnnealing: first_end and total belong to the rule, which starts and ends '
                'replace: set them to None, or leave out starts and ends.'
            )
        self.starts, self.ends, self.first_end, self.total = starts, ends, first_end, total

    def before_train(self, runner: Any) -> None:
        """Start, or go on, with the probabilities of the step."""
        if self.total not in (None, length_of_rule(runner.max_iters, self.total)):
            print_log(
                f'MaskAnnealing.total={self.total} is of a run of another length: masks fade along '
                f'the {runner.max_iters} steps of this one.',
                'current',
            )
        self._set(runner, runner.iter)

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Set those of the next step."""
        self._set(runner, runner.iter + 1)

    def _set(self, runner: Any, step: int) -> None:
        network = network_of(runner.model)
        starts, ends = self.starts, self.ends
        if starts is None or ends is None:
            total = length_of_rule(runner.max_iters, self.total)
            starts, ends = phases(total, network.num_blocks, self.first_end)
        if len(starts) != network.num_blocks:
            raise UserError(
                f'MaskAnnealing.starts has {len(starts)} steps for the {network.num_blocks} blocks '
                'that see queries.'
            )
        network.set_mask_probs(
            [mask_prob(step, start, end) for start, end in zip(starts, ends, strict=True)]
        )


def network_of(model: Any) -> MaskTransformer:
    """The network inside a segmentor, wrapped for several processes or not.

    Raises:
        UserError: It has none.
    """
    inner = unwrapped(model)
    network = getattr(inner, 'network', None)
    if not isinstance(network, MaskTransformer):
        raise UserError(
            f'{type(inner).__name__} has no MaskTransformer as its network; MaskAnnealing '
            'belongs to EoMT. Remove it (default_hooks.annealing).'
        )
    return network
