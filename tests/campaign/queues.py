"""Two queues over one folder, and a run whose folder is removed while its queue waits for it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from moca.results.claims import CLAIM
from moca.results.queue import Here, Run, run_jobs
from tests.campaign.campaign import Outcome


@dataclass(frozen=True)
class _Run(Run):
    """One that is finished when its folder says so."""

    @property
    def finished(self) -> bool:
        return (self.folder / 'finished').is_file()


class _Instead:
    """Stands for the process of a run: it ends at the third look, and does something then."""

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._at_end, self._looks = at_end, 0

    def poll(self) -> int | None:
        self._looks += 1
        if self._looks == 3:
            self._at_end()
        return 0 if self._looks >= 3 else None

    def terminate(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int:
        return 0


def two_queues(held: Path, other: Path, removed: bool, hold: str) -> Outcome:
    """Work off two runs, on the first of which another queue is at work until the second has ended.

    Args:
        held: The folder of the first run.
        other: That of the second.
        removed: Remove the second one's folder while it runs.
        hold: A program that holds the lock of a file as ``process 7 on elsewhere``.
    """
    kind = 'a run of a queue that is removed' if removed else 'two queues over one folder'
    held.mkdir(parents=True)
    started: list[Path] = []
    command = [sys.executable, '-S', '-c', hold, str(held / CLAIM)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        def launch(arguments: Sequence[str], log: Path) -> _Instead:
            started.append(log.parent)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()

            def end() -> None:
                if removed and log.parent == other:
                    shutil.rmtree(other)
                else:
                    (log.parent / 'finished').touch()
                holder.kill()
                holder.wait()

            return _Instead(end)

        said = io.StringIO()
        runs = [_Run(folder.name, folder, ()) for folder in (held, other)]
        console = Console(file=said, width=2000)
        outcomes = run_jobs(runs, Here([launch, launch]), console, poll=0.01)
        holder.kill()
    if started != [other, held]:
        return Outcome(kind, 'silent', f'started: {started}')
    found = {name: [run.folder for run in several] for name, several in outcomes.items()}
    failed = [other] if removed else []
    if found['failed'] != failed or len(found['finished']) != 2 - len(failed):
        return Outcome(kind, 'silent', str(found))
    text = said.getvalue()
    told = not removed or f'removed or emptied while it ran ({other})' in text
    named = text.count('another queue is at work on it (process 7 on elsewhere)') == 1 and told
    return Outcome(kind, 'refused' if named else 'unnamed', text)
