"""The processes of one run: they agree on what they are to do, and when one fails all end.

Collectives wait for a process that never comes, for minutes and without a word. Under torchrun the
launcher ends the others; plain srun does not. What is said here goes through torch's key-value
store at MASTER_ADDR:MASTER_PORT, before there is a process group and beside it afterwards. One
that is killed says nothing: its connection with the first process ends (`moca.engine.presence`).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

from moca.engine.background import finish_jobs
from moca.engine.presence import Gone, NobodyListensError, NotHeardError, Report, Roll
from moca.errors import AgreedError, UserError

T = TypeVar('T')

WAIT = 600.0
"""Seconds in which every process has to come to an agreement: a cold start may take minutes."""

_LOOK = 1.0  # seconds between looks at whether another process has failed
_SOON = 0.05  # seconds between looks at whether all have done their work
_GONE = 20.0  # seconds in which a lost store must answer again
_RESUME = '--resume goes on from the last checkpoint.'
KILLED = (
    'error: a process has ended without a word, as by SIGKILL or where the system is out of memory '
    f'(its log: dmesg). {_RESUME}'
)
LOST = (
    'error: the first process has gone without a word, or its machine cannot be reached any more. '
    f'{_RESUME}'
)
_OWN_WORDS = 10.0  # seconds that a process has to end by itself, by an error that all raise
_END = 60.0  # seconds that the first process waits for the others to end as well


class Failure(NamedTuple):
    """What a process says of its own end: its number, machine, exit code and one line.

    One that is `of_all` ends every process at the same point, and is of none in particular.
    """

    rank: int
    host: str
    code: int
    message: str
    of_all: bool = False


class _Blind:
    """Sees of no process whether it is there."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def look(self, seconds: float) -> list[Gone]:
        self._ended.wait(seconds)
        return []


class Processes:
    """The processes that a launcher has started for one run, as one of them sees them.

    Args:
        rank: The number of this one.
        size: How many there are.
        connect: Gives a connection to the store that they share, waiting for it some seconds at
            most before a `UserError`; of a single process None.
        hosts: Whether the store ends with this process.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        connect: Callable[[float], dist.Store] | None = None,
        hosts: bool = False,
    ) -> None:
        self.rank, self.size, self.hosts = rank, size, hosts
        self._connect = connect
        self._store = connect(WAIT) if connect else None
        self._ended = threading.Event()
        self._gone: set[int] = set()
        self._leaving = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._others: Roll | Report | _Blind | None = None  # kept for as long as this one lives

    # ------------------------------------------------------------------ agreements

    def first(self, about: str, decide: Callable[[], T]) -> T:
        """What the first process decides; the others do not look themselves.

        Args:
            about: What is being decided, for messages; the same on all processes.
            decide: Returns something that JSON can hold.

        Raises:
            AgreedError: On all processes, if `decide` raises a `UserError` on the first.
            UserError: One does not come.
        """
        answers = self.everywhere(about, decide if self.rank == 0 else lambda: None)
        return answers[0]  # type: ignore[return-value]

    def everywhere(self, about: str, look: Callable[[], T]) -> list[T]:
        """What each process finds, in the order of their numbers, on all of them.

        Args:
            about: What is being looked for, for messages; the same on all processes.
            look: Returns something that JSON can hold.

        Raises:
            AgreedError: On all processes, if `look` raises a `UserError` on any.
            UserError: One does not come.
        """
        if self._store is None:
            return [look()]
        try:
            mine: dict[str, Any] = {'value': look()}
        except UserError as error:
            mine = {'error': str(error)}
        # counted in the store, which may serve several runs one after the other
        key = f'{self._store.add(f"calls/{self.rank}", 1)}/{about}'
        self._store.set(f'{key}/{self.rank}', json.dumps(mine))
        if self.rank == 0:  # gathers for all, so that each asks for one key
            self._wait([f'{key}/{rank}' for rank in range(self.size)], about, WAIT)
            found = [json.loads(self._store.get(f'{key}/{rank}')) for rank in range(self.size)]
            self._store.set(key, json.dumps(found))
        self._wait([key], about, WAIT + _END)
        answers = json.loads(self._store.get(key))
        errors = {rank: a['error'] for rank, a in enumerate(answers) if 'error' in a}
        if errors:
            message = next(iter(errors.values()))
            alike = [rank for rank, error in errors.items() if error == message]
            raise AgreedError(message + ('' if len(alike) == self.size else f' ({numbers(alike)})'))
        return [answer['value'] for answer in answers]

    def _wait(self, keys: list[str], about: str, seconds: float) -> None:
        assert self._store is not None
        try:
            self._store.wait(keys, timedelta(seconds=seconds))
        except RuntimeError as error:
            try:
                late = [n for n, key in enumerate(keys) if not self._store.check([key])]
            except RuntimeError:
                late = [0]
            raise UserError(
                f'{numbers(late)} of {self.size} did not come to an agreement ({about}) within '
                f'{seconds:.0f} s. See what it wrote, and start the run again.'
            ) from error

    # ------------------------------------------------------------------ the end

    def watch(self) -> None:
        """Look every second, in a thread, whether another process has failed; end if so."""
        if self._store is not None and self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        assert self._connect is not None
        store: dist.Store | None = None  # of its own: a connection serves one thread at a time
        while not self._ended.is_set():
            first = None
            try:
                # before the store is asked, which may have gone with its host
                for gone in self._look():
                    self._gone.add(gone.rank)
                    first = first or self._failure_of(store, gone)
                    if first is None and isinstance(self._others, Report):
                        # it has finished: its connection would answer at once from now on
                        self._others = _Blind(self._ended)
                store = store or (None if first else self._connect(_GONE))
                if store is not None and self._others is None:
                    self._others = self._presence(store)
                if first is None and store is not None and store.check(['failed']):
                    first = Failure(*json.loads(store.get('failed')))
            except RuntimeError:
                store = None
            except UserError:
                host = os.environ.get('MASTER_ADDR', '')
                first = Failure(0, host, 1, LOST)
            if first is not None and first.of_all:
                self._ended.wait(_OWN_WORDS)
            if first is not None and not self._ended.is_set():
                self._note_end(store)
                self.leave(first.code, first.message + self.whose(first))

    def _look(self) -> list[Gone]:
        """Wait for a second at most, and return the processes that have gone."""
        try:
            return self._others.look(_LOOK) if self._others else []
        except NotHeardError:
            self._others = None  # another try
            self._ended.wait(_LOOK)
            return []

    def _presence(self, store: dist.Store) -> Roll | Report | _Blind | None:
        """The connections, or None where it is too early for them."""
        try:
            if self.rank == 0:
                return Roll(store)
            if Report.can_be_made(store):
                return Report(store, self.rank)
            self._ended.wait(_LOOK)
            return None
        except NobodyListensError:  # which the first process has told
            pass
        except OSError as error:  # the network forbids it
            who = 'the others' if self.rank == 0 else 'process 0'
            print(
                f'warning: process {self.rank} has no connection with {who} ({error}): if one of '
                'them is killed without a word, it waits for that until torch gives up, mostly '
                'after 10 minutes.',
                file=sys.stderr,
                flush=True,
            )
        return _Blind(self._ended)

    @staticmethod
    def _failure_of(store: dist.Store | None, gone: Gone) -> Failure | None:
        """Note for all the end of a process that has not done so itself."""
        killed = Failure(gone.rank, gone.host, 1, KILLED)
        if store is None or (gone.rank == 0 and not launcher_has_store()):
            return killed
        try:
            if store.check([f'finished/{gone.rank}']):
                return None
            return Failure(*json.loads(store.compare_set('failed', '', json.dumps(killed))))
        except RuntimeError:  # the store has gone with it
            return killed

    def whose(self, failure: Failure) -> str:
        """Name the process of a failure, if that is another's alone."""
        if failure.rank == self.rank or failure.of_all:
            return ''
        return f' (process {failure.rank} on {failure.host}, which ended first)'

    def fail(self, code: int, message: str, certain: bool = True, of_all: bool = False) -> Failure:
        """Note that this process ends by an error; returns the first failure of the run.

        Args:
            code: Its exit code.
            message: One line.
            certain: False of an error that may well be the consequence of another process's end,
                as a broken connection is: what is known of the others comes first then.
            of_all: True of one that every process raises at the same point.
        """
        mine = Failure(self.rank, socket.gethostname(), code, message, of_all)
        if self._store is None:
            return mine
        if self._watcher is not None and not certain:
            self._watcher.join(3 * _LOOK)  # it ends the process as soon as it knows of another
        self._ended.set()
        try:
            first = self._store.compare_set('failed', '', json.dumps(mine))
        except RuntimeError:  # the store is gone
            return mine
        self._note_end(self._store)
        return Failure(*json.loads(first))

    def _note_end(self, store: dist.Store | None) -> None:
        """Let the store's host know that this process needs it no more."""
        if store is not None:
            with suppress(RuntimeError):  # it is gone
                store.set(f'ended/{self.rank}', '')

    def leave(self, code: int, line: str) -> None:
        """Print a line and end the process, whatever its threads wait for.

        A process that hosts the store stays until the others need it no more, and one that writes a
        checkpoint until it is written, but for a minute at most (`finish_jobs`).
        """
        self._leaving.acquire()  # for good: one thread says why
        print(line, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if self.hosts:
            self._keep_store()
        finish_jobs()
        os._exit(code)

    def _keep_store(self) -> None:
        """Keep the store until each of the others has ended too, for as long as that may take.

        One that has been told of an error ends within a second or two, or by words of its own.
        """
        assert self._connect is not None
        if self._watcher not in (None, threading.current_thread()):
            self._watcher.join(3 * _LOOK)  # which looks at the same connections
        with suppress(RuntimeError, UserError):
            store = self._connect(_GONE)  # of its own: any thread may end the process
            self._wait_for_others(store, 'ended', _OWN_WORDS + 3 * _LOOK)

    def finish(self) -> None:
        """Note that this process has done its work; the store's host waits for the others."""
        self._ended.set()
        if self._store is None or self._watcher is None:
            return
        self._watcher.join()
        try:
            self._store.set(f'finished/{self.rank}', '')
            self._note_end(self._store)
            if self.hosts:
                self._wait_for_others(self._store, 'finished', _END)
        except RuntimeError:  # others have ended by an error
            pass

    def _wait_for_others(self, store: dist.Store, note: str, seconds: float) -> None:
        """Keep the store until each of the others has left a note there or has gone."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            others = set(range(self.size)) - {self.rank} - self._gone
            if not others or store.check([f'{note}/{rank}' for rank in others]):
                return
            if isinstance(self._others, Roll):
                self._gone |= {gone.rank for gone in self._others.look(_SOON)}
            else:
                time.sleep(_SOON)


def launcher_has_store() -> bool:
    """Whether the store is torchrun's own, and not the first process's."""
    return os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'


def numbers(ranks: Iterable[int]) -> str:
    """``process 1``, ``processes 1, 2``, or the first of many."""
    known = list(ranks)
    shown = ', '.join(map(str, known[:4])) + (f' and {len(known) - 4} more' * (len(known) > 4))
    return f'process{"es" if len(known) > 1 else ""} {shown}'
