"""Run numbered cases in a process that may hang or die, and keep what became of each."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_ROOMS = ('configs', 'moca', 'tools', 'tests')

SECONDS = 30.0
"""After this long a case hangs; waiting for a processor that others have does not count."""

STARTING = 300.0
"""Seconds that a process has to import what cases need, under any load."""

MEMORY = 2 << 30
"""Bytes that one case may take beyond what its process has when it begins."""

_LOOK = 0.5  # seconds between looks at how long a case takes
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_STATUS, _CLEAR = Path('/proc/self/status'), Path('/proc/self/clear_refs')

KEPT = ('refused', 'equal', 'accepted', 'beyond telling')
"""Outcomes that are promised: refused with the name of the file; the same result as without the
damage; accepted, where what follows can be read; or damage that no reader can see, counted."""

SKIPPED = 'skipped'
"""What becomes of a case that this system does not allow; its detail says why. It keeps no promise
and breaks none."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: Of what was done.
        result: One of :data:`KEPT`, or `SKIPPED`, or else a fault: ``silent``, ``traceback``,
            ``unnamed``, ``ran code``, ``memory``, ``hang``, ``died``.
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
    memory = MEMORY
    """Bytes that one of its cases may take."""
    proofs: tuple[tuple[str, str], ...]
    """What each of some kinds of case has to end in after `inject`, both as regular expressions: a
    failure of another kind proves nothing, least of all one of the campaign itself."""

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
    """A process that runs cases, of any area; another takes its place when it hangs or dies.

    Args:
        scratch: A folder for what cases write, which is emptied first and removed by `end`.
        inject: Break what areas watch over first.
    """

    def __init__(self, scratch: Path, inject: bool = False) -> None:
        self._scratch, self._inject = scratch, inject
        self._process: Any = None
        shutil.rmtree(scratch, ignore_errors=True)  # of a campaign that was killed

    def run(self, area: Area, number: int) -> Outcome:
        """What becomes of a case; a fault where it gives no answer in time."""
        if self._process is None:
            self._start()
        outcome = self._ask(area, number)
        if outcome.result in ('hang', 'died'):
            self._process.kill()
            self._process.join()
            self._process = None
        return outcome

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self._ours, theirs = context.Pipe()
        given = theirs, str(self._scratch), self._inject
        self._process = context.Process(target=_work, args=given)
        self._process.start()
        theirs.close()  # so that its end is noticed

    def _ask(self, area: Area, number: int) -> Outcome:
        try:
            self._ours.send((area, number))
        except OSError:
            return Outcome('?', 'died', 'the process was gone before the case began')
        ready = self._answer(STARTING)  # imports are no part of a case
        return ready if isinstance(ready, Outcome) else self._answer(area.seconds)

    def _answer(self, seconds: float) -> Any:
        """What the process says, or the outcome of a case to which it says nothing.

        Seconds for which it was ready and others had the processors do not count.
        """
        since, before = time.monotonic(), queued(self._process.pid)
        try:
            while not self._ours.poll(_LOOK):
                took = time.monotonic() - since
                if took > seconds and took - (queued(self._process.pid) - before) > seconds:
                    return Outcome('?', 'hang', f'no answer within {seconds:.0f} s')
            return self._ours.recv()
        except (EOFError, OSError):
            return Outcome('?', 'died', 'the process is gone')

    def end(self) -> None:
        """Let the process end, and remove what it has written."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._ours.send(None)
            self._process.join(10)
            self._process.kill()
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)
        _log_of(self._scratch).unlink(missing_ok=True)


def _log_of(scratch: Path) -> Path:
    """What the cases of a process print."""
    return scratch.with_name(f'{scratch.name}.log')


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
    if path.is_file() and not is_of_this_code(path):
        print(f'{path}: outcomes of other code are left out; the area starts anew.', flush=True)
        path.unlink()
    path.with_suffix('.code').write_text(code_digest())
    known = {number: outcome for number, outcome, _ in read_outcomes(path)}
    todo = [number for number in range(area.count(quick)) if number not in known]
    with contextlib.ExitStack() as stack:
        if worker is None:
            worker = Worker(work_dir / f'{area.name}_scratch', inject)
            stack.callback(worker.end)
        end_line(path)
        log = stack.enter_context(path.open('a'))
        for number in todo:
            since = time.monotonic()
            known[number] = worker.run(area, number)
            took = dict(number=number, seconds=round(time.monotonic() - since, 3))
            log.write(json.dumps(took | asdict(known[number])) + '\n')
            log.flush()
    return [known[number] for number in range(area.count(quick))]


def end_line(path: Path) -> None:
    """Let what is appended to a file begin a line, where a campaign was killed in one."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b'\n'):
        path.write_bytes(content + b'\n')


@functools.cache
def code_digest() -> str:
    """SHA-256 of what cases run: an outcome holds for this code alone.

    That is the code, the configs, the locked packages, and all tests, since cases take their data
    from helpers of many.
    """
    found = hashlib.sha256()
    code = [path for room in _ROOMS for path in sorted((_ROOT / room).rglob('*.py'))]
    for path in (*code, _ROOT / 'requirements/lock.txt'):
        found.update(f'{path.relative_to(_ROOT)} '.encode() + path.read_bytes())
    return found.hexdigest()


def is_of_this_code(outcomes: Path) -> bool:
    """Whether the outcomes in a ``AREA.jsonl`` are those of the code as it is."""
    digest = outcomes.with_suffix('.code')
    return digest.is_file() and digest.read_text() == code_digest()


def read_outcomes(path: Path) -> Iterator[tuple[int, Outcome, float]]:
    """Numbers, outcomes and seconds of the cases in a ``AREA.jsonl``."""
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            content = json.loads(line)
        except ValueError:  # the last line of a campaign that was killed
            continue
        number, seconds = content.pop('number'), content.pop('seconds', 0.0)
        yield number, Outcome(**content), seconds


def queued(process: int) -> float:
    """Seconds that the main thread of a process has waited for a processor [sched-stats of Linux].

    Zero where the system does not tell: then a case may seem to hang under load.
    """
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f'/proc/{process}/schedstat').read_text().split()[1]) * 1e-9
    return 0.0


def _end_with_parent() -> None:
    """Let this process be killed when the one that started it ends, which Linux can do.

    That one alone hears of Ctrl-C, which here would seem to be an outcome.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _work(connection: Connection, scratch: str, inject: bool) -> None:
    _end_with_parent()
    # read by torch, which is imported with the first case, if that needs it
    os.environ.update(dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1'))
    Path(scratch).mkdir(parents=True, exist_ok=True)
    with _log_of(Path(scratch)).open('a') as log:  # what cases print is no part of the table
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    injected = False
    while (asked := connection.recv()) is not None:
        area, number = asked
        if inject and not injected:
            area.inject()
            injected = True
        connection.send('ready')
        connection.send(outcome_of(area, number, Path(scratch, str(number))))
    os._exit(0)


def outcome_of(area: Area, number: int, folder: Path) -> Outcome:
    """Run a case in this process, in a folder that is made and removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reset_peak()
    before = peak()
    try:
        outcome = area.run(number, folder)
    except BaseException:
        outcome = Outcome('?', 'traceback', traceback.format_exc())
    if (taken := peak() - before) > area.memory and outcome.result in KEPT:
        outcome = Outcome(outcome.kind, 'memory', f'{taken >> 20} MiB')
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def reset_peak() -> bool:
    """Count the most memory from now on [5 in /proc/self/clear_refs: proc(5)]; whether that works.

    Where it does not, a case is held against the most that the process ever had, and one that takes
    less than an earlier one goes unseen.
    """
    try:
        _CLEAR.write_text('5')
    except OSError:
        return False
    return True


def peak() -> int:
    """The most bytes of memory since `reset_peak`; since the process began where there is none."""
    with contextlib.suppress(OSError):
        if found := re.search(r'^VmHWM:\s*(\d+) kB', _STATUS.read_text(), re.MULTILINE):
            return int(found[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def table(area: Area, outcomes: Sequence[Outcome], started: float | None = None) -> str:
    """Counts of outcomes by kind, in Markdown."""
    results = [*KEPT, *sorted({outcome.result for outcome in outcomes} - set(KEPT))]
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


def faults(outcomes: Sequence[Outcome]) -> list[tuple[int, Outcome]]:
    """What is not promised, with the numbers of the cases."""
    fine = (*KEPT, SKIPPED)
    return [(n, outcome) for n, outcome in enumerate(outcomes) if outcome.result not in fine]


def unproven(area: Area, outcomes: Sequence[Outcome]) -> list[str]:
    """What an injected fault should have shown and has not: see `Area.proofs`."""
    return [
        f'{kind}: {result}'
        for kind, result in area.proofs
        if not any(re.fullmatch(result, o.result) and re.fullmatch(kind, o.kind) for o in outcomes)
    ]
