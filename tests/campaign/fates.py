"""A run of several processes, one of which is slow, is killed or fails."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.campaign.campaign import Outcome
from tests.campaign.kills import Reference
from tests.campaign.promises import Fault, check_same
from tests.campaign.tiny_runs import KINDS, STEPS, Kind, pretraining, starts
from tests.campaign.tool_runs import Ended, Start, run

Draw = random.Random

WITHIN = 60.0
"""Seconds in which the others have to end."""

_SLOW = 3.0  # seconds: three looks of the processes at each other

CAUSES = {
    'is killed': 'a process has ended without a word',
    'fails by an error of the user': 'x.png: a broken image.',
    'fails by another error': 'ZeroDivisionError: of this node',
}
"""What the others have to say."""
FATES = ('comes late', 'is slow', *CAUSES)

_CODES = {
    'is killed': -signal.SIGKILL,
    'fails by an error of the user': 2,
    'fails by another error': 1,
}
_PROBE = next(kind for kind in KINDS if kind.name == 'linear probe')
_PROBE_NEEDS = 'tools.train'


def meet(start: Start, fate: str, step: int, unwatched: bool) -> None:
    """Have a process meet its fate, after a step or at once; note when."""
    from mmengine.runner import Runner

    if unwatched:
        look_away(start)
    if fate == 'comes late':
        time.sleep(_SLOW)
        return
    call = Runner.call_hook

    def call_hook(self: Any, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'after_train_iter' and self.iter + 1 == step:
            _time_of(start.log).touch()
            _happen(fate)
        call(self, fn_name, **kwargs)

    Runner.call_hook = call_hook


def look_away(start: Start) -> None:
    """Processes do not look at each other: an injected fault."""
    from moca.engine.agreement import Processes

    Processes.watch = lambda self: None  # type: ignore[method-assign]


def _time_of(log: Path) -> Path:
    return log.with_suffix('.fate')


def _happen(fate: str) -> None:
    if fate == 'is slow':
        time.sleep(_SLOW)
    elif fate == 'is killed':
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == 'fails by another error':
        raise ZeroDivisionError('of this node')
    else:
        from moca.errors import UserError

        raise UserError('x.png: a broken image.')


@dataclass(frozen=True)
class Fate:
    """One process of several meets its fate; the others wait for it, or end within a minute.

    Attributes:
        name: Of :data:`FATES`.
    """

    name: str

    @property
    def title(self) -> str:
        """For tables."""
        return f'one {self.name}'

    def run(
        self, draw: Draw, count: int, folder: Path, modules: tuple[str, ...], apart: bool
    ) -> Outcome:
        """A pre-training or a probe of ``count`` processes; which and when is drawn."""
        # two steps an epoch of four images in each process
        kinds = [Kind('moca', 'pretrain', pretraining('moca', count=8 * count + 1)), _PROBE]
        kind = draw.choice(kinds if _PROBE_NEEDS in modules else kinds[:1])
        kind = replace(kind, name=f'{kind.name} by {count}', processes=count)
        victim, step = draw.randrange(count), draw.randint(1, STEPS - 1)
        about = f'{kind.name}: process {victim} after step {step}'
        whole = None if self.name in CAUSES else Reference.of(kind, folder.parent, modules)
        processes = starts(kind, whole.told if whole else kind.write(folder), folder)
        given = self.name, step, apart
        processes[victim] = replace(processes[victim], before=meet, given=given)
        if apart:
            for rank in set(range(count)) - {victim}:
                processes[rank] = replace(processes[rank], before=look_away)
        ended = run(*processes, modules=modules, seconds=240)
        try:
            if whole is None:
                self._check_ends(victim, ended, processes)
                return Outcome(self.title, 'refused', about)
            _check_waited(ended)
            check_same(folder / 'run', whole.run)
        except Fault as fault:
            return Outcome(self.title, fault.args[0], f'{about}: {fault.args[1]}')
        return Outcome(self.title, 'equal', about)

    def _check_ends(self, victim: int, ended: list[Ended], processes: list[Start]) -> None:
        if ended[victim].code != _CODES[self.name]:
            raise Fault('silent', f'exit {ended[victim].code}: {ended[victim].said[-2000:]}')
        since = _time_of(processes[victim].log).stat().st_mtime
        for rank in set(range(len(ended))) - {victim}:
            other, seconds = ended[rank], ended[rank].gone - since
            said = f'process {rank}, exit {other.code}, {seconds:.0f} s: {other.said[-2000:]}'
            if other.code in (0, None, -signal.SIGKILL) or other.orphans or seconds > WITHIN:
                raise Fault('hang', said)
            lines = [line for line in other.said.splitlines() if line.startswith('error: ')]
            named = [
                CAUSES[self.name] in each and f'(process {victim} on ' in each for each in lines
            ]
            if named != [True]:
                raise Fault('unnamed', said)


def _check_waited(ended: list[Ended]) -> None:
    if found := [f'exit {each.code}: {each.said[-1500:]}' for each in ended if each.code]:
        raise Fault('traceback', found)
