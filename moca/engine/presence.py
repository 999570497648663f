"""Whether the processes of a run are still there, by a connection that ends with each of them.

A process that is killed says nothing, and NCCL waits for it for ten minutes. Its sockets are closed
by the system, at once and whatever its threads did; where a whole machine is lost, the system's own
keep-alive finds out. No process has to answer anything, so that none is taken for dead which only
has much to do.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import selectors
import socket
import time
from contextlib import suppress
from typing import NamedTuple

import torch.distributed as dist

_KEY = 'presence'
_HEARD = b'+'  # the first process's answer, by which another knows that it is known
_PATIENCE = 20.0  # seconds for what is small and takes no time: to connect, to say who one is
_MOST_SILENT = (
    64  # connections that have not said whose they are; further ones wait unopened [ours]
)
_PAUSE = 1.0  # seconds before another try where the system has no room for a connection
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Seconds of silence, seconds between questions after that, and how many remain unanswered.
_KEEP_ALIVE = {'TCP_KEEPIDLE': 10, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 4}


class Gone(NamedTuple):
    """A process whose connection has ended: its number and its machine."""

    rank: int
    host: str


class NobodyListensError(OSError):
    """The first process could not open its end, and has said so."""


class NotHeardError(OSError):
    """A connection has ended before the first process noticed it, which is nobody's end."""


class Roll:
    """The first process's end of the connections.

    It listens at a port of the system's choice, on all addresses. A stranger who finds it can say
    nothing that counts; who has not said within 20 seconds whose the connection is loses it, and no
    more than 64 are open meanwhile.

    Args:
        store: That all processes share: it says where to connect, and a word that a stranger who
            finds the port does not know.

    Raises:
        OSError: The system gives no port. The others are told not to wait for one.
    """

    def __init__(self, store: dist.Store) -> None:
        try:
            self._server = socket.create_server(('', 0), backlog=1024)
        except OSError as error:
            store.set(_KEY, json.dumps(None))
            raise OSError(
                f'{error}; {socket.gethostname()} has to let it listen at a port of the '
                "system's choice"
            ) from error
        self._server.setblocking(False)
        self._word = secrets.token_hex(16)
        self._selector = selectors.DefaultSelector()
        self._known: dict[socket.socket, Gone] = {}
        self._silent: dict[socket.socket, float] = {}  # with the time of their coming, oldest first
        self._listens, self._listen_from = False, 0.0
        store.set(_KEY, json.dumps([self._server.getsockname()[1], self._word]))

    def look(self, seconds: float) -> list[Gone]:
        """Wait so long at most, and return the processes that have gone."""
        now = time.monotonic()
        for other in [other for other, since in self._silent.items() if since < now - _PATIENCE]:
            self._drop(other)
        self._listen(len(self._silent) < _MOST_SILENT and now >= self._listen_from)
        gone = []
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._server:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                gone += self._hear(key.fileobj)
        return gone

    def _listen(self, listens: bool) -> None:
        """Wait for connections, or for a while not: the system keeps them."""
        if listens and not self._listens:
            self._selector.register(self._server, selectors.EVENT_READ)
        if self._listens and not listens:
            self._selector.unregister(self._server)
        self._listens = listens

    def _accept(self) -> None:
        try:
            other, _ = self._server.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:  # it would be offered again at once, for ever
                self._listen_from = time.monotonic() + _PAUSE
            return  # else it has hung up
        other.setblocking(False)
        _keep_alive(other)
        self._silent[other] = time.monotonic()
        self._selector.register(other, selectors.EVENT_READ)

    def _hear(self, other: socket.socket) -> list[Gone]:
        """What one says: at first who it is, and then nothing but its end."""
        try:
            said = other.recv(4096)
            if said and other in self._silent:
                self._get_to_know(other, said)
        except BlockingIOError:
            return []
        except OSError:
            said = b''
        if said and other in self._known:
            return []
        who = self._known.get(other)
        self._drop(other)
        return [] if who is None else [who]

    def _get_to_know(self, other: socket.socket, said: bytes) -> None:
        try:
            word, rank, host = json.loads(said)
            who = Gone(int(rank), str(host))
        except (ValueError, TypeError):  # a stranger
            return
        if word == self._word:
            del self._silent[other]
            self._known[other] = who
            with suppress(OSError):  # it has gone by now, as the next look will find
                other.send(_HEARD)

    def _drop(self, other: socket.socket) -> None:
        self._selector.unregister(other)
        self._silent.pop(other, None)
        self._known.pop(other, None)
        other.close()


class Report:
    """Another process's end: kept for as long as that lives, it sees the first one's end.

    Args:
        store: The `Roll`'s.
        rank: The number of this process.

    Raises:
        NobodyListensError: The first process takes no connections.
        OSError: It cannot be reached at the host and port that the text names.
        RuntimeError: The store is gone.
    """

    def __init__(self, store: dist.Store, rank: int) -> None:
        address = json.loads(store.get(_KEY))
        if address is None:
            raise NobodyListensError('the first process takes no connections')
        port, word = address
        self._host = os.environ.get('MASTER_ADDR', 'localhost')
        self._heard = False
        said = json.dumps([word, rank, socket.gethostname()])
        try:
            self._connection = socket.create_connection((self._host, port), timeout=_PATIENCE)
            _keep_alive(self._connection)
            self._connection.sendall(said.encode())
        except OSError as error:
            raise OSError(
                f'{self._host}:{port}: {error}; the machines of a run have to reach each other at '
                'every port, of which the system chooses, for NCCL as well'
            ) from error

    @staticmethod
    def can_be_made(store: dist.Store) -> bool:
        """Whether the first process has said by now where it is, or that it is nowhere."""
        return bool(store.check([_KEY]))

    def look(self, seconds: float) -> list[Gone]:
        """Wait so long at most, and return the first process if it has gone.

        Raises:
            NotHeardError: The connection has ended, but by what the first process has not noticed.
        """
        self._connection.settimeout(seconds)
        try:
            if self._connection.recv(1):
                self._heard = True
                return []
        except TimeoutError:
            return []
        except OSError:
            pass
        if not self._heard:
            self._connection.close()
            raise NotHeardError(f'{self._host}: no answer')
        return [Gone(0, self._host)]


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux has them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
