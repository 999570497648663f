"""A run of several processes in one of which a number is none: all end and save nothing of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from moca.engine.wrapped import unwrapped
from tests.campaign import tool_runs
from tests.campaign.campaign import Outcome
from tests.campaign.numbers import BROKEN, STATES, look_at_no_numbers, unsound
from tests.campaign.tiny_runs import EVERY, STEPS, Kind, pretraining, starts
from tests.campaign.tool_runs import Ended, Start

Draw = random.Random
METHODS = ('moca', 'mae')


def break_number(
    start: Start, place: str, step: int, value: float, unwatched: bool, victim: bool
) -> None:
    """Have a number of this process be none in a step (from 1), if it is the victim."""
    from mmengine.runner import Runner

    if unwatched:
        look_at_no_numbers()
    if not victim:
        return
    call = Runner.call_hook

    def call_hook(self: Any, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'before_train':
            _break_within(self, place, lambda: bool(self.iter + 1 == step), value)
        elif self.iter + 1 == step and fn_name == 'before_train_iter' and place == 'a weight':
            _first_weight(self).data.view(-1)[1] = value
        elif self.iter + 1 == step and fn_name == 'after_train_iter' and place in STATES:
            (state, *_) = self.optim_wrapper.optimizer.state.values()
            state[STATES[place]].view(-1)[0] = value
        call(self, fn_name, **kwargs)

    Runner.call_hook = call_hook


def _first_weight(runner: Any) -> Tensor:
    return next(weight for weight in unwrapped(runner.model).parameters() if weight.requires_grad)


def _break_within(runner: Any, place: str, is_now: Callable[[], bool], value: float) -> None:
    """Break what the step computes: the loss, a gradient before it is shared, or an image."""
    model = unwrapped(runner.model)
    if place == 'a gradient':
        _first_weight(runner).register_hook(lambda grad: grad * value if is_now() else grad)
    if place not in ('the loss', 'an image'):
        return
    forward = model.forward

    def broken(view1: Tensor, **others: Any) -> Any:
        if place == 'an image' and is_now():
            view1 = view1.clone()
            view1[0] = value  # all of it: no method looks at every patch
        losses = forward(view1=view1, **others)
        if place == 'the loss' and is_now():
            return {name: loss * value for name, loss in losses.items()}
        return losses

    model.forward = broken


@dataclass(frozen=True)
class Broken:
    """One process of several has a number that is none.

    Attributes:
        place: Of `tests.campaign.numbers.PLACES`.
    """

    place: str

    @property
    def title(self) -> str:
        """For tables."""
        return f'no number in one: {self.place}'

    def run(
        self, draw: Draw, count: int, folder: Path, modules: tuple[str, ...], apart: bool
    ) -> Outcome:
        """A pre-training of ``count`` processes; what breaks in which and when is drawn."""
        method = draw.choice(METHODS)
        kind = Kind(method, 'pretrain', pretraining(method, count=8 * count + 1), processes=count)
        victim, step = draw.randrange(count), draw.randint(1, STEPS)
        value = draw.choice(sorted(BROKEN))
        about = f'{method} by {count}: {value} in process {victim}, step {step}'
        given = self.place, step, BROKEN[value], apart
        processes = [
            replace(start, before=break_number, given=(*given, rank == victim))
            for rank, start in enumerate(starts(kind, kind.write(folder), folder))
        ]
        ended = tool_runs.run(*processes, modules=modules, seconds=240)
        return self._judge(about, step, folder / 'run', ended)

    def _judge(self, about: str, step: int, work_dir: Path, ended: list[Ended]) -> Outcome:
        if fault := unsound(work_dir, (step - 1) // EVERY):
            return Outcome(self.title, 'silent', f'{about}: {fault}')
        for rank, each in enumerate(ended):
            lines = [line for line in each.said.splitlines() if line.startswith('error: ')]
            said = f'{about}: process {rank}, exit {each.code}: {each.said[-1500:]}'
            if each.code in (0, None) or each.orphans:
                return Outcome(self.title, 'silent', said)
            if 'Traceback' in each.said:
                return Outcome(self.title, 'traceback', said)
            named = len(lines) == 1 and 'step ' in lines[0] and str(work_dir) in lines[0]
            if each.code != 2 or not named:
                return Outcome(self.title, 'unnamed', said)
        return Outcome(self.title, 'refused', about)
