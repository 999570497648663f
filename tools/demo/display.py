"""Progress of the demo: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tools.demo.stages import Stage

PLAIN_INTERVAL = 20.0
"""Seconds between lines of progress where there is no terminal."""


def minutes(seconds: float) -> str:
    """`3:05` for 185 seconds."""
    whole = max(0, round(seconds))
    return f'{whole // 60}:{whole % 60:02d}'


class ProgressDisplay:
    """Shows what runs, how far it is, and about how long the rest will take."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._start = time.monotonic()
        self._told = 0.0
        self._state: dict[str, str] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=28),
            TextColumn('{task.percentage:>3.0f} %'),
            TimeElapsedColumn(),
            TextColumn('{task.fields[note]}'),
            console=console,
            transient=True,
            disable=not self._live,
        )
        self._total = self._progress.add_task('[bold]all', total=None, note='')

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the display was made."""
        return time.monotonic() - self._start

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the bars, after the time spent so far."""
        line = f'[{minutes(self.elapsed):>5}] {text}'
        # Never wrapped: commands are there to be copied.
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show work of this process; gives a function to be called with (done, total)."""
        bar = self._progress.add_task(title, total=1.0, note='')

        def advance(done: int, total: int) -> None:
            self._progress.update(bar, completed=done / total)

        yield advance
        self._progress.remove_task(bar)

    def started(self, stage: Stage, command: Sequence[str]) -> None:
        """A command starts: show it as one would type it."""
        self.say(f'{stage.title}\n        $ python {shlex.join(command)}')
        self._bars[stage.name] = self._progress.add_task(stage.title, total=1.0, note='')
        self._state[stage.name] = f'{stage.title}: starting'

    def advanced(self, stage: Stage, share: float, loss: str | None) -> None:
        """A stage has done a share (0..1) of its work."""
        note = '' if loss is None else f'loss {loss}'
        self._progress.update(self._bars[stage.name], completed=share, note=note)
        self._state[stage.name] = f'{stage.title}: {100 * share:.0f} % {note}'.rstrip()

    def finished(self, stage: Stage, seconds: float, losses: list[float]) -> None:
        """A stage ended well; its first and last logged loss say whether it learnt."""
        fall = f', loss {losses[0]:.3g} -> {losses[-1]:.3g}' if len(losses) > 1 else ''
        self.say(f'done: {stage.title} ({seconds:.0f} s{fall})', style='green')
        self._progress.remove_task(self._bars.pop(stage.name))
        self._state.pop(stage.name)

    def skipped(self, stage: Stage) -> None:
        """An earlier run has done a stage."""
        self.say(f'already done: {stage.title}', style='dim')

    def left(self, seconds: float) -> None:
        """New estimate of the time left for everything."""
        total = self.elapsed + seconds
        note = f'about {minutes(seconds)} left'
        self._progress.update(self._total, completed=self.elapsed, total=total, note=note)
        if not self._live and self.elapsed - self._told >= PLAIN_INTERVAL and self._state:
            self._told = self.elapsed
            self.say(f'{"; ".join(self._state.values())}; {note}')
