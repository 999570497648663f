"""Two processes of a real pre-training, one of which is killed, stopped for a while or fails."""

from __future__ import annotations

import os
import random
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

from moca.engine import agreement
from moca.engine.watch import WatchTraining
from moca.errors import UserError
from tests.campaign.campaign import Area, Outcome
from tests.engine.sharded_runs import CONFIG
from tests.engine.two_processes import nothing, run_two
from tests.images.photographs import save_photographs

FATES = ('killed', 'slow', 'an error of the user', 'another error')
STEPS = 4


def befall(fate: str, step: int) -> None:
    """Let something happen to this process after a step."""
    watch = WatchTraining.after_train_iter

    def after(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == step:
            _happen(fate)
        watch(self, runner, *args, **kwargs)

    WatchTraining.after_train_iter = after  # type: ignore[method-assign]


def _happen(fate: str) -> None:
    if fate == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == 'slow':
        threading.Event().wait(3)
    elif fate == 'another error':
        raise ZeroDivisionError('of this node')
    else:
        raise UserError('x.png: a broken image.')


def unwatched() -> None:
    """Processes do not look at each other."""
    agreement.Processes.watch = lambda self: None  # type: ignore[method-assign]


class Processes(Area):
    """One of two processes comes to grief."""

    name = 'processes'
    title = 'Processes'
    seconds = 150.0

    def count(self, quick: bool) -> int:
        """Each takes some ten seconds: none of them is quick."""
        return 0 if quick else 16

    def run(self, number: int, folder: Path) -> Outcome:
        """Each fate at each rank, at a step that is drawn."""
        draw = random.Random(f'{self.seed} {number}')
        fate, rank = FATES[number % len(FATES)], number // len(FATES) % 2
        step = draw.randint(1, STEPS)
        save_photographs(folder / 'images', count=16)
        (folder / 'config.py').write_text(CONFIG)
        command = [f'{folder}/config.py', '--data-root', f'{folder}/images']
        command += ['--work-dir', f'{folder}/run', '--cfg-options', 'strategy=None']
        before: list[Any] = [nothing, nothing]
        before[rank] = partial(befall, fate, step)
        before[1 - rank] = unwatched if BROKEN else nothing
        ended = run_two(folder, 'pretrain', [command] * 2, (before[0], before[1]), timeout=90)
        kind = f'process {rank}: {fate}'
        codes, other = [end.code for end in ended], ended[1 - rank]
        said = f'{codes}, {other.seconds:.0f} s: {other.output[-800:]}'
        if fate == 'slow':
            return Outcome(kind, 'equal' if codes == [0, 0] else 'silent', said)
        cause = {
            'killed': 'a process has ended without a word',
            'an error of the user': 'x.png: a broken image.',
            'another error': 'ZeroDivisionError: of this node',
        }[fate]
        lines = [line for line in other.output.splitlines() if line.startswith('error: ')]
        named = any(cause in line and f'(process {rank} on ' in line for line in lines)
        if other.code in (0, None, -signal.SIGKILL) or other.seconds > 85:
            return Outcome(kind, 'hang', said)
        return Outcome(kind, 'refused' if named else 'unnamed', said)

    def inject(self) -> None:
        """The other process does not look whether this one lives."""
        globals()['BROKEN'] = True


BROKEN = False
