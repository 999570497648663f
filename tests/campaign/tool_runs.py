"""Runs of tools in processes of their own, which end at a moment that is chosen by what they do.

The processes are forked from one that has imported everything and computed nothing, so that a case
takes seconds and its moments lie in the run instead of in the imports.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

PRETRAINING = ('moca.pretrain', 'tools.pretrain')
ALL = (
    *PRETRAINING,
    'tools.train',
    'moca.transfer.run',
    'mmseg.models',
    'mmdet.models',
    'moca.eomt',
)
"""Modules that are imported once: those of pre-training, and of every kind of run."""

# What mmengine's runner tells its hooks, by the phase of a run.
_PHASES = {
    **dict.fromkeys(('before_run', 'after_load_checkpoint', 'before_train'), 'start-up'),
    **dict.fromkeys(('before_train_iter', 'after_train_iter'), 'step'),
    **dict.fromkeys(('before_val', 'after_val_iter', 'after_val_epoch', 'after_val'), 'validation'),
    'before_save_checkpoint': 'checkpoint',
    **dict.fromkeys(('after_train', 'after_run'), 'end'),
}


@dataclass(frozen=True)
class Moment:
    """When a process gets a signal: ``delay`` seconds after an event of a phase, counted from 1.

    Attributes:
        phase: Of the event.
        count: Which of them.
        delay: Seconds.
        number: Of the signal.
        path: A file that has to have come to be, instead of an event.
        to_group: Whether all that the process has started get the signal as well.
    """

    phase: str
    count: int
    delay: float = 0.0
    number: int = signal.SIGKILL
    path: Path | None = None
    to_group: bool = False

    def __str__(self) -> str:
        """Such as ``SIGKILL 0.013 s after checkpoint 3``."""
        name = signal.Signals(self.number).name + (' to all' if self.to_group else '')
        event = f'{self.path.parent.name}/{self.path.name}' if self.path else ''
        return f'{name} {self.delay:.3f} s after {event or f"{self.phase} {self.count}"}'


SIGNAL = 'signal '
"""How the line of an event begins that is a signal."""

Write = Callable[[str, Path], None]
"""Called before a file of the work dir is opened for writing, renamed or removed (``action``)."""


@dataclass
class Start:
    """A tool to be run.

    Attributes:
        tool: Its name, such as ``pretrain``.
        arguments: Of the command line.
        work_dir: Whose files are watched.
        log: Gets what the process prints.
        moment: When it gets a signal; None for never.
        before: Called in the process first: a function of a module, with `given`.
        given: To `before`, with the start.
        environment: Of a launcher.
        directory: That it runs in; None for this one's.
        piped: Whether what it prints, and its events, go through processes of their own, for which
            a limit on the size of its files does not hold.
    """

    tool: str
    arguments: Sequence[str]
    work_dir: Path
    log: Path
    moment: Moment | None = None
    before: Callable[..., None] | None = None
    given: tuple[Any, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path | None = None
    piped: bool = False

    @property
    def events(self) -> Path:
        """A line for each event, ``PHASE LABEL``; what was written survives a kill."""
        return self.log.with_suffix('.events')


@dataclass(frozen=True)
class Ended:
    """What is left of a process.

    Attributes:
        code: Exit status, -N after signal N.
        said: What it has printed.
        events: ``PHASE LABEL``, in order; ``signal NAME`` right before one is sent.
        orphans: Processes of its group that were still there long after it had ended.
        gone: When it was no longer there, in seconds as `time.time` has them.
    """

    code: int
    said: str
    events: list[str]
    orphans: list[int]
    gone: float = 0.0

    @property
    def signaled(self) -> bool:
        """Whether its signal has come."""
        return any(event.startswith(SIGNAL) for event in self.events)

    def count(self, label: str, since_signal: bool = False) -> int:
        """How often an event has happened; only what did so after the signal, if that is asked."""
        events = self.events
        if since_signal:
            places = [n for n, event in enumerate(events) if event.startswith(SIGNAL)]
            events = events[places[0] :] if places else []
        return sum(event.split(' ')[1] == label for event in events)


def run(*starts: Start, modules: Sequence[str] = ALL, seconds: float = 120) -> list[Ended]:
    """Run tools at the same time, and wait for all that they have started.

    Args:
        starts: One for each process.
        modules: To import once, in the process that all later ones are forked from. Those of the
            first call count; others are imported where they are needed.
        seconds: After which what is still there is killed.
    """
    context: Any = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__, *modules])
    processes = [context.Process(target=_work, args=(start,)) for start in starts]
    until = time.monotonic() + seconds
    for process in processes:
        process.start()
    gone = _ends([process.sentinel for process in processes], until)
    orphans = [_wait_for_group(process.pid) for process in processes]
    for process in processes:
        process.join()
    return [
        Ended(
            process.exitcode,
            _text(start.log),
            _text(start.events).splitlines(),
            left,
            gone.get(process.sentinel, time.time()),
        )
        for process, start, left in zip(processes, starts, orphans, strict=True)
    ]


def _ends(sentinels: Sequence[int], until: float) -> dict[int, float]:
    """When each of some processes has ended, of those that do so in time."""
    gone: dict[int, float] = {}
    while there := [each for each in sentinels if each not in gone]:
        ready = wait(there, max(0.0, until - time.monotonic()))
        if not ready:
            break
        gone |= dict.fromkeys(ready, time.time())  # type: ignore[arg-type]  # as they were given
    return gone


def _text(path: Path) -> str:
    return path.read_text(errors='replace') if path.is_file() else ''


# torch's workers look for the process that they serve every five seconds, and the runs of a queue
# that is gone save and end
_PATIENCE = 45.0


def _wait_for_group(group: int) -> list[int]:
    """Kill what is left of a group of processes after a while, and return it."""
    until = time.monotonic() + _PATIENCE
    while (left := _members(group)) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return left


def _members(group: int) -> list[int]:
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            state, _, of_group = path.read_text().rpartition(')')[2].split()[:3]
            if int(of_group) == group and state != 'Z':
                found.append(int(path.parent.name))
    return found


def _work(start: Start) -> None:
    os.setsid()
    out = _outlet(start.log, start.piped)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.environ.update(start.environment)
    if start.directory:
        os.chdir(start.directory)
    # ignored where a shell has started the campaign in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(1)
    if start.before:
        start.before(start, *start.given)
    _watch(start)
    sys.argv[:] = [f'tools/{start.tool}.py', *start.arguments]
    main = importlib.import_module(f'tools.{start.tool}').main
    sys.exit(main(list(start.arguments)))


def _outlet(path: Path, piped: bool) -> int:
    """Open a file for writing; another process writes it if that is asked."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    if not piped:
        return file
    reading, writing = os.pipe()
    subprocess.Popen(['cat'], stdin=reading, stdout=file)
    os.close(reading)
    os.close(file)
    return writing


def _watch(start: Start) -> None:
    """Note events, and send the signal when its moment has come."""
    from mmengine.runner import Runner

    events = _outlet(start.events, start.piped)
    counts: Counter[str] = Counter()
    moment, due = start.moment, threading.Event()

    def send(moment: Moment) -> None:
        os.write(events, f'{SIGNAL}{signal.Signals(moment.number).name}\n'.encode())
        if moment.to_group:
            os.killpg(target, moment.number)
        else:
            os.kill(target, moment.number)

    def send_later(moment: Moment) -> None:
        while moment.path and not moment.path.exists():
            time.sleep(0.002)
        if not moment.path:
            due.wait()
        time.sleep(moment.delay)
        send(moment)

    target = os.getpid()
    if moment and (moment.delay or moment.path):
        threading.Thread(target=send_later, args=(moment,), daemon=True).start()

    def note(phase: str, label: str) -> None:
        os.write(events, f'{phase} {label}\n'.encode())
        counts[phase] += 1
        if moment and (phase, counts[phase]) == (moment.phase, moment.count):
            if moment.delay:
                due.set()
            else:
                send(moment)

    on_writes(start.work_dir, lambda action, path: note(phase_of(path), f'{action}:{path.name}'))
    call = Runner.call_hook

    def call_hook(self: Any, fn_name: str, **kwargs: Any) -> None:
        if fn_name in _PHASES:
            note(_PHASES[fn_name], fn_name)
        call(self, fn_name, **kwargs)

    Runner.call_hook = call_hook


def phase_of(path: Path) -> str:
    """What a run does when it writes a file."""
    if '.pth' in path.name or 'last_checkpoint' in path.name:
        return 'checkpoint'
    if 'run' in path.name and '.json' in path.name:
        return 'record'
    return 'log' if path.suffix in ('.json', '.log') else 'start-up'


def on_writes(folder: Path, act: Write) -> None:
    """Call a function before this process writes below a folder; what it raises prevents that."""
    root, owner = f'{folder.resolve()}/', os.getpid()

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == 'open':
            path, mode, flags = args
            writes = set('wax+') & set(mode or '') or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if not writes:
                return
        elif event in ('os.rename', 'os.remove', 'os.mkdir'):
            path = args[0]
        else:
            return
        if isinstance(path, str | Path) and os.getpid() == owner:
            whole = os.path.abspath(path)
            if whole.startswith(root) or f'{whole}/' == root:
                act(event.removeprefix('os.'), Path(whole))

    sys.addaudithook(audit)
