"""Whether the processes of a run are still there, by a connection that ends with each of them.

A process that is killed says nothing, and NCCL waits for it for ten minutes. Its sockets are closed
by the system, at once and whatever its threads did; where a whole machine is lost, the system's own
keep-alive finds out. No process has to answer anything, so that none is taken for dead which only
has much to do.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
from typing import NamedTuple

import torch.distributed as dist

_KEY = 'presence'
_PATIENCE = 20.0  # seconds for what is small and takes no time: to connect, to say who one is
# Seconds of silence, seconds between questions after that, and how many remain unanswered.
_KEEP_ALIVE = {'TCP_KEEPIDLE': 10, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 4}


class Gone(NamedTuple):
    """A process whose connection has ended: its number and its machine."""

    rank: int
    host: str


class NobodyListensError(OSError):
    """The first process could not open its end, and has said so."""


class Roll:
    """The first process's end of the connections.

    Args:
        store: That all processes share: it says where to connect, and a word that a stranger who
            finds the port does not know.

    Raises:
        OSError: The system gives no port. The others are told not to wait for one.
    """

    def __init__(self, store: dist.Store) -> None:
        try:
            self._server = socket.create_server(('', 0), backlog=1024)
        except OSError:
            store.set(_KEY, json.dumps(None))
            raise
        self._server.setblocking(False)
        self._word = secrets.token_hex(16)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._known: dict[socket.socket, Gone | None] = {}
        store.set(_KEY, json.dumps([self._server.getsockname()[1], self._word]))

    def look(self, seconds: float) -> list[Gone]:
        """Wait so long at most, and return the processes that have gone."""
        gone = []
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._server:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                gone += self._hear(key.fileobj)
        return gone

    def _accept(self) -> None:
        try:
            other, _ = self._server.accept()
        except OSError:  # which has hung up
            return
        other.setblocking(False)
        _keep_alive(other)
        self._known[other] = None
        self._selector.register(other, selectors.EVENT_READ)

    def _hear(self, other: socket.socket) -> list[Gone]:
        """What one says: at first who it is, and then nothing but its end."""
        try:
            said = other.recv(4096)
        except BlockingIOError:
            return []
        except OSError:
            said = b''
        who = self._known[other]
        if said and who is None:
            try:
                word, rank, host = json.loads(said)
                if word == self._word:
                    self._known[other] = Gone(int(rank), str(host))
                    return []
            except (ValueError, TypeError):  # a stranger
                pass
        if said and who is not None:
            return []
        self._selector.unregister(other)
        del self._known[other]
        other.close()
        return [] if who is None else [who]


class Report:
    """Another process's end: kept for as long as that lives, it sees the first one's end.

    Args:
        store: The `Roll`'s.
        rank: The number of this process.

    Raises:
        NobodyListensError: The first process takes no connections.
        OSError: It cannot be reached.
        RuntimeError: The store is gone.
    """

    def __init__(self, store: dist.Store, rank: int) -> None:
        address = json.loads(store.get(_KEY))
        if address is None:
            raise NobodyListensError('the first process takes no connections')
        port, word = address
        self._host = os.environ.get('MASTER_ADDR', 'localhost')
        self._connection = socket.create_connection((self._host, port), timeout=_PATIENCE)
        _keep_alive(self._connection)
        said = json.dumps([word, rank, socket.gethostname()])
        self._connection.sendall(said.encode())

    @staticmethod
    def can_be_made(store: dist.Store) -> bool:
        """Whether the first process has said by now where it is, or that it is nowhere."""
        return bool(store.check([_KEY]))

    def look(self, seconds: float) -> list[Gone]:
        """Wait so long at most, and return the first process if it has gone."""
        self._connection.settimeout(seconds)
        try:
            if self._connection.recv(1):
                return []
        except TimeoutError:
            return []
        except OSError:
            pass
        return [Gone(0, self._host)]


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux has them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
