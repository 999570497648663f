"""Ctrl-C, and SIGTERM of a batch system, end a run after its current step, which is saved.

Slurm sends SIGTERM at a job's time limit and at ``scancel``, torchrun when one of its processes has
ended; both kill what is still there after 30 seconds. So a validation, which may take longer and
during which weights may be a moving average, is not waited for: the last checkpoint remains.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data._utils import signal_handling

from moca.engine.background import finish_jobs
from moca.engine.checkpoints import AtomicCheckpointHook
from moca.engine.epoch_loop import ExactEpochLoop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds between two agreements of several processes on whether one of them was told to stop, a
# small part of the 30 that launchers give; and steps at most.
_SECONDS_BETWEEN_LOOKS, _MOST_STEPS = 2.0, 1000
# Seconds within which several SIGTERMs are one order [our choice: a launcher takes far below one].
_ONE_ORDER = 5.0
# Seconds that a worker which is told to end waits to learn whether its run was told as well.
_WORKERS_PATIENCE = 2.0
_TRAINING, _SAVING, _LEAVING = range(3)


class Interrupted(KeyboardInterrupt):
    """A run has ended because of a signal.

    Attributes:
        code: Exit status of the process: 130 after Ctrl-C, 143 after SIGTERM.
        of_all: Whether every process of the run ends with it, after the same step.
    """

    def __init__(self, number: int, message: str, of_all: bool = False) -> None:
        super().__init__(message)
        self.code, self.of_all = 128 + number, of_all


class _Signals:
    """Notes SIGINT and SIGTERM while steps are taken; at other times they end the run at once.

    A signal that comes a second time ends it at once as well. (One of each is one order: torchrun
    and the queue of runs answer Ctrl-C with a SIGTERM. So are several SIGTERMs within seconds:
    Slurm tells every process, and launchers tell theirs again.)

    The terminal and Slurm tell the workers of the data loader too, which the step still needs: they
    are forked with these handlers.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self.deferred = False
        self._told = 0.0
        self._owner = os.getpid()
        self._state = mmap.mmap(-1, 1)  # seen by the workers

    def handle(self, number: int, _: FrameType | None) -> None:
        """Note a signal or raise `Interrupted`."""
        if os.getpid() != self._owner:
            self._in_worker(number)
            return
        now = time.monotonic()
        again = number in self.came and (number == signal.SIGINT or now > self._told + _ONE_ORDER)
        if not self.came:
            self._told = now
        self.came.append(number)
        if again or not self.deferred:
            raise Interrupted(number, 'Interrupted.')
        self._state[0] = _SAVING
        if get_rank() == 0:
            text = 'Interrupted: saving after this step. Once more ends at once.\n'
            os.write(2, text.encode())

    def _in_worker(self, number: int) -> None:
        if number == signal.SIGINT:
            return
        until = time.monotonic() + _WORKERS_PATIENCE
        while self._state[0] == _TRAINING:
            if time.monotonic() > until:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            time.sleep(0.05)
        if self._state[0] == _LEAVING:
            os._exit(0)

    def defer_no_more(self) -> None:
        """Let signals end the run at once, as does one that came after the last look at them."""
        self.deferred = False
        if self.came:
            raise Interrupted(self.came[0], 'Interrupted.')

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle signals here and in the workers that are forked meanwhile."""
        before = {number: signal.signal(number, self.handle) for number in _SIGNALS}
        theirs = signal_handling._set_worker_signal_handlers

        def in_worker() -> None:
            theirs()  # ends a worker at SIGTERM, whoever sends it
            if os.getpid() != self._owner:
                signal.signal(signal.SIGTERM, self.handle)

        signal_handling._set_worker_signal_handlers = in_worker
        try:
            yield
        finally:
            self._state[0] = _LEAVING
            signal_handling._set_worker_signal_handlers = theirs
            for number, handler in before.items():
                signal.signal(number, handler)


class _SaveWhenTold(Hook):
    """Saves a checkpoint after the step in which a signal came, and ends the run."""

    # after the hook that saves at intervals
    priority = 'LOWEST'

    def __init__(self, signals: _Signals) -> None:
        self._signals = signals
        self._next_look = 0
        self._looked = time.monotonic(), 0

    def before_train(self, runner: Any) -> None:
        """Begin to defer signals to the end of a step."""
        self._next_look = runner.iter
        self._looked = time.monotonic(), runner.iter
        self._signals.deferred = True

    def before_val(self, runner: Any) -> None:
        """Let a signal end a validation at once: it has no step to wait for."""
        self._signals.defer_no_more()

    def after_val(self, runner: Any) -> None:
        """Defer them again."""
        self._signals.deferred = True

    def after_train_epoch(self, runner: Any) -> None:
        """Defer them again, after what has looked at the epoch (`_EndLooks`)."""
        self._signals.deferred = True

    def after_train(self, runner: Any) -> None:
        """End."""
        self._signals.deferred = False

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save and leave if any process was told to."""
        number = self._agreed(runner.iter, _long_without_step(runner))
        if not number:
            return
        hooks = [hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)]
        exact = not isinstance(runner.train_loop, EpochBasedTrainLoop) or isinstance(
            runner.train_loop, ExactEpochLoop
        )
        if hooks and exact:
            hooks[0].save_now(runner)
        raise Interrupted(number, 'Interrupted.', of_all=True)

    def _agreed(self, step: int, at_once: bool = False) -> int:
        """The signal that came to any process, seen by all after the same step; 0 for none.

        Args:
            step: The number of the step.
            at_once: Look, though it is early.
        """
        came = self._signals.came[0] if self._signals.came else 0
        if get_world_size() == 1:
            return came
        if step < self._next_look and not at_once:
            return 0
        since, last = self._looked
        now = time.monotonic()
        each = (now - since) / max(1, step - last)
        ahead = min(_MOST_STEPS, max(1, round(_SECONDS_BETWEEN_LOOKS / max(each, 1e-6))))
        found = torch.tensor([came, -ahead])  # the fewest steps that any proposes
        all_reduce(found, 'max')
        came, ahead = int(found[0]), -int(found[1])
        self._looked, self._next_look = (now, step), step + ahead
        return came


class _EndLooks(Hook):
    """Lets a signal end at once what looks at the model after an epoch, such as k-NN."""

    # after the epoch's checkpoint (VERY_LOW, 90), before what looks (LOWEST, 100)
    priority = 95

    def __init__(self, signals: _Signals) -> None:
        self._signals = signals

    def after_train_epoch(self, runner: Any) -> None:
        """Defer no more; `_SaveWhenTold`, which comes last, does again."""
        self._signals.defer_no_more()


def _long_without_step(runner: Any) -> bool:
    """Whether a validation or the end of an epoch, with all that looks at it, follows this step."""
    loop, step = runner.train_loop, runner.iter + 1
    if isinstance(loop, EpochBasedTrainLoop):
        return step % _steps_per_epoch(loop) == 0
    validates = runner.val_loop is not None and step % loop.val_interval == 0
    return validates or step == loop.max_iters


def _steps_per_epoch(loop: EpochBasedTrainLoop) -> int:
    return loop.max_iters // loop.max_epochs


def steps_since(runner: Any, saved: str | None) -> int:
    """How many steps a run has taken since a checkpoint of its own; 0 where that cannot be told."""
    named = re.fullmatch(r'(iter|epoch)_(\d+)\.pth', Path(saved or '').name)
    if named is None:
        return 0
    loop, number = runner.train_loop, int(named[2])
    if named[1] == 'epoch':
        number *= _steps_per_epoch(loop)
    return max(0, loop.iter - number)


def resume_text(saved: str | None, lost: int = 0) -> str:
    """What to do next, after an interrupt.

    Args:
        saved: The newest checkpoint; None for none.
        lost: Steps that were taken since.
    """
    if saved is None:
        return 'No checkpoint was written yet: the same command starts anew.'
    # behind a --resume FILE, the last one counts
    given = [place for place, word in enumerate(sys.argv) if word == '--resume']
    newest = given and (sys.argv[given[-1] + 1 :] or ['-'])[0].startswith('-')
    words = sys.argv if newest else [*sys.argv, '--resume']
    launched = get_world_size() > 1 or 'TORCHELASTIC_RUN_ID' in os.environ
    command = 'the same command with --resume' if launched else f'python {shlex.join(words)}'
    if lost:
        steps = 'a step' if lost == 1 else f'{lost} steps'
        return f'The last checkpoint is of {steps} before: {saved}. Go on with: {command}'
    return f'Saved: {saved}. Go on with: {command}'


@contextmanager
def saved_when_interrupted(runner: Any) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM save a checkpoint after the current step of a run, and end it.

    mmengine's own loop over epochs, which resumes at epochs only, saves nothing: the checkpoint of
    its last epoch remains. Nothing changes outside the main thread, which alone gets signals.

    Args:
        runner: Of mmengine, before ``train``.

    Raises:
        Interrupted: With the exit status, the newest checkpoint and the command that goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = _Signals()
    runner.register_hook(_SaveWhenTold(signals))
    runner.register_hook(_EndLooks(signals))
    try:
        with signals.handling():
            yield
    except Interrupted as error:
        for worker in multiprocessing.active_children():
            worker.terminate()  # torch waits five seconds for each before it does that
        finish_jobs()  # a checkpoint that is being written may become the newest
        saved = runner.message_hub.runtime_info.get('last_ckpt')
        text = resume_text(saved, steps_since(runner, saved))
        number = error.code - 128
        raise Interrupted(number, f'Interrupted. {text}', error.of_all) from None
