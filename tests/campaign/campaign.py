"""Run numbered cases in a process that may hang or die, and keep what became of each."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]

SECONDS = 30.0
"""After this long a case hangs."""

MEMORY = 2 << 30
"""Bytes that one case may take beyond what its process had before."""

KEPT = ('refused', 'equal', 'accepted', 'beyond telling')
"""Outcomes that are promised: refused with the name of the file; the same result as without the
damage; accepted, where what follows can be read; or damage that no reader can see, counted."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: Of what was done.
        result: One of :data:`KEPT`, or else a fault: ``silent``, ``traceback``, ``unnamed``,
            ``ran code``, ``memory``, ``hang``, ``died``.
        detail: The message, or what was otherwise than promised.
    """

    kind: str
    result: str
    detail: str = ''


class Area(ABC):
    """A kind of misfortune; its cases are numbered, and each is a function of seed and number."""

    name: str
    title: str
    seconds = SECONDS
    """After this long one of its cases hangs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @abstractmethod
    def count(self, quick: bool) -> int:
        """The number of cases."""

    @abstractmethod
    def run(self, number: int, folder: Path) -> Outcome:
        """Run a case in an empty folder, which is removed afterwards."""

    def inject(self) -> None:
        """Break on purpose what the area watches over: the campaign then has to fail."""
        raise NotImplementedError


class Worker:
    """A process that runs cases, of any area; another takes its place when it hangs or dies."""

    def __init__(self, scratch: Path, inject: bool = False) -> None:
        self._arguments = str(scratch), inject
        self._process: Any = None

    def run(self, area: Area, number: int) -> Outcome:
        """What becomes of a case; a fault where it gives no answer in time."""
        if self._process is None:
            context = multiprocessing.get_context('spawn')
            self._ours, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, *self._arguments))
            self._process.start()
            theirs.close()
        self._ours.send((area, number))
        self._ours.recv()  # imports are no part of a case
        outcome = _wait(self._ours, area.seconds)
        if outcome.result in ('hang', 'died'):
            self._process.kill()
            self._process.join()
            self._process = None
        return outcome

    def end(self) -> None:
        """Let the process end."""
        if self._process is not None:
            self._ours.send(None)
            self._process.join(10)
            self._process.kill()
            self._process = None


def run_area(
    area: Area, work_dir: Path, quick: bool, inject: bool = False, worker: Worker | None = None
) -> list[Outcome]:
    """Run the cases of an area that have no outcome yet, and return all outcomes.

    Args:
        area: What to run.
        work_dir: Keeps ``AREA.jsonl``, a line per case.
        quick: Fewer cases.
        inject: Break what the area watches over first.
        worker: To run them in, if it serves others as well; it has its own mind on `inject`.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / f'{area.name}.jsonl'
    code, digest = work_dir / f'{area.name}.code', code_digest()
    if path.is_file() and (not code.is_file() or code.read_text() != digest):
        print(f'{path}: outcomes of other code are left out; the area starts anew.', flush=True)
        path.unlink()
    code.write_text(digest)
    known = {number: outcome for number, outcome, _ in read_outcomes(path)}
    todo = [number for number in range(area.count(quick)) if number not in known]
    scratch = work_dir / f'{area.name}_scratch'
    used = worker or Worker(scratch, inject)
    with path.open('a') as log:
        for number in todo:
            since = time.monotonic()
            known[number] = used.run(area, number)
            took = dict(number=number, seconds=round(time.monotonic() - since, 3))
            log.write(json.dumps(took | asdict(known[number])) + '\n')
            log.flush()
    if worker is None:
        used.end()
        shutil.rmtree(scratch, ignore_errors=True)
    return [known[number] for number in range(area.count(quick))]


@functools.cache
def code_digest() -> str:
    """SHA-256 of what cases run: an outcome holds for this code alone."""
    found = hashlib.sha256()
    for room in ('moca', 'tools', 'tests/campaign'):
        for path in sorted((_ROOT / room).rglob('*.py')):
            found.update(f'{path.relative_to(_ROOT)} '.encode() + path.read_bytes())
    return found.hexdigest()


def read_outcomes(path: Path) -> Iterator[tuple[int, Outcome, float]]:
    """Numbers, outcomes and seconds of the cases in a ``AREA.jsonl``."""
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            content = json.loads(line)
        except ValueError:  # the last line of a campaign that was killed
            continue
        number, seconds = content.pop('number'), content.pop('seconds', 0.0)
        yield number, Outcome(**content), seconds


def _wait(connection: Connection, seconds: float) -> Outcome:
    try:
        if connection.poll(seconds):
            return connection.recv()
    except (EOFError, ConnectionResetError):
        return Outcome('?', 'died', 'the process is gone')
    return Outcome('?', 'hang', f'no answer within {seconds:.0f} s')


def _work(connection: Connection, scratch: str, inject: bool) -> None:
    import torch

    torch.set_num_threads(1)
    Path(scratch).mkdir(parents=True, exist_ok=True)
    with open(f'{scratch}.log', 'a') as log:  # what cases print is no part of the table
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    injected = False
    while (asked := connection.recv()) is not None:
        area, number = asked
        if inject and not injected:
            area.inject()
            injected = True
        connection.send('ready')
        connection.send(_outcome(area, number, Path(scratch, str(number))))
    os._exit(0)


def _outcome(area: Area, number: int, folder: Path) -> Outcome:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = _peak()
    try:
        outcome = area.run(number, folder)
    except BaseException:
        outcome = Outcome('?', 'traceback', traceback.format_exc())
    if _peak() - before > MEMORY and outcome.result in KEPT:
        outcome = Outcome(outcome.kind, 'memory', f'{(_peak() - before) >> 20} MiB')
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def table(area: Area, outcomes: list[Outcome], started: float | None = None) -> str:
    """Counts of outcomes by kind, in Markdown."""
    results = [*KEPT, *sorted({o.result for o in outcomes} - set(KEPT))]
    rows = [['', 'cases', *results]]
    for kind in [*sorted({o.kind for o in outcomes}), None]:
        of_kind = [o for o in outcomes if kind in (None, o.kind)]
        counts = Counter(o.result for o in of_kind)
        shown = [str(counts[result]) if counts[result] else '' for result in results]
        rows.append([kind or '**all**', str(len(of_kind)), *shown])
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    lines.insert(1, '|' + '---|' * len(rows[0]))
    took = f', {time.monotonic() - started:.0f} s' if started is not None else ''
    return '\n'.join([f'## {area.title}', '', f'Seed {area.seed}{took}.', '', *lines])


def faults(outcomes: list[Outcome]) -> list[tuple[int, Outcome]]:
    """What is not promised, with the numbers of the cases."""
    return [(n, outcome) for n, outcome in enumerate(outcomes) if outcome.result not in KEPT]
