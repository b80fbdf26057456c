"""The lane between processes of one host, server side.

One thread, the leader, serves all connections: it reads, runs short handlers itself, and writes the answers of a batch
together, so that a call costs no change of threads. When a handler keeps the leader busy for longer than a moment, a
watchman deposes it: a new leader goes on with everything else, and the old one only finishes its handler. The handler's
method is then known to be slow, and runs in the pool from there on.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque

from kourou.courier.lanes import local_socket
from kourou.courier.lanes.local_session import LocalConnection
from kourou.courier.lanes.spinning import Spinner
from kourou.courier.patrol import ROUND_S, Patrol
from kourou.courier.session import Dispatcher
from kourou.errors import ProtocolError, Unauthenticated

__all__ = ["LocalListener"]

_GREETING_S = 10.0  # how long a client may take to say who it is
_HOUSEKEEPING_S = 10.0  # how often connections are looked over


class LocalListener:
    """Listens on a UNIX socket.

    Args:
        dispatcher: runs the calls.
        token: what clients have to show.
        folder: where the socket is made.
    """

    def __init__(self, dispatcher: Dispatcher, token: str, folder: str) -> None:
        self._dispatcher = dispatcher
        self._token = token.encode()
        local_socket.sweep(folder)
        self._listener, self.path = local_socket.listen(folder)
        self._connections: dict[int, LocalConnection] = {}
        self._unserved: deque[LocalConnection] = deque()  # have frames that were read but not acted on
        self._epoll = select.epoll()
        self._spinner = Spinner(self._epoll.poll)
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._guard = threading.Lock()
        self._term = 0  # counts the leaders
        self._busy_since: float | None = None
        self._served = self._seen = 0
        self._stopped = False
        self._housekeeping_is_due = False
        self._kept_house = time.monotonic()
        self._watchman = Patrol(self._watch, "kourou-watchman")
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._install_leader()

    def stop(self) -> None:
        """Close everything."""
        with self._guard:
            if self._stopped:
                return
            self._stopped = True
            self._term += 1
            stuck = self._busy_since is not None  # then the leader will not look at the sockets again, whenever it ends
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - a string, as the kernel has it
        self._watchman.stop()
        os.eventfd_write(self._alarm, 1)
        if not stuck and self._leader is not threading.current_thread():
            self._leader.join()
        self._listener.close()
        for connection in list(self._connections.values()):
            connection.flush()
            self._drop(connection)
        self._epoll.close()
        os.close(self._alarm)

    # -- the leader -------------------------------------------------------------------------------------------

    def _install_leader(self) -> None:
        self._leader = threading.Thread(target=self._lead, args=(self._term,), name="kourou-local", daemon=True)
        self._leader.start()

    def _lead(self, term: int) -> None:
        """Serve until deposed."""
        ident = threading.get_ident()
        for connection in list(self._connections.values()):
            connection.leader = ident
            connection.flush()
        while True:
            while self._unserved:
                if not self._serve(self._unserved[0], term):
                    return
            if self._term != term:
                return
            events = self._spinner.spin() or self._epoll.poll(_HOUSEKEEPING_S if self._connections else -1)
            self._housekeeping_is_due |= not events
            if self._term != term:
                return
            for descriptor, mask in events:
                found = self._connections.get(descriptor)
                if found is None:
                    self._accept_or_wake(descriptor, ident)
                else:
                    self._event(found, mask)
            if self._housekeeping_is_due:
                self._housekeeping()

    def _serve(self, connection: LocalConnection, term: int) -> bool:
        """Act on the frames that a connection has sent. False when this thread is not the leader any more."""
        frames = connection.frames
        session = connection.session
        assert session is not None  # noqa: S101 - frames come after the greeting; for the type checker
        pool = self._dispatcher.pool
        connection.serving = True
        has_slot = pool.try_enter()  # one for the whole batch: it is over in a moment, or this thread is deposed
        try:
            while frames:
                call = session.accept(frames.popleft())
                if call is None:
                    continue
                if not has_slot or call.method.trust < 0:
                    call.enqueue()
                    continue
                with self._guard:
                    if self._term != term:
                        return False  # the server has stopped; the call ends with its connection
                    self._busy_since = time.monotonic()
                self._watchman.call()  # after the mark was made: a watchman who falls asleep looks once more
                call.run()
                with self._guard:
                    if self._term != term:  # deposed meanwhile: the mark is the next leader's
                        connection.flush()
                        return False
                    self._busy_since = None
        except ProtocolError:
            frames.clear()
            self._drop(connection)
        finally:
            self._served += 1
            if has_slot:
                pool.leave()
        self._unserved.popleft()
        connection.serving = False
        connection.flush()
        return True

    def _event(self, connection: LocalConnection, mask: int) -> None:
        """There is something to read, or room to write."""
        try:
            if mask & select.EPOLLOUT:
                connection.drain()
            if mask & ~select.EPOLLOUT:
                if connection.session is None:
                    connection.read_greeting(self._dispatcher, self._token)
                elif connection.read() and connection not in self._unserved:
                    self._unserved.append(connection)
        except (OSError, ProtocolError, Unauthenticated):
            self._drop(connection)

    def _accept_or_wake(self, descriptor: int, ident: int) -> None:
        """A client wants to connect, or another thread wants the leader to look at something."""
        if descriptor == self._alarm:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._alarm)
            return
        if descriptor != self._listener.fileno():
            return  # of a connection that was dropped a moment ago
        with contextlib.suppress(OSError):  # no descriptors left, or the client has gone: it may try again
            main, _ = self._listener.accept()
            if not local_socket.same_user(main):
                main.close()
                return
            connection = LocalConnection(main, self._epoll, ident)
            self._connections[main.fileno()] = connection
            self._epoll.register(main, select.EPOLLIN)

    def _drop(self, connection: LocalConnection) -> None:
        self._connections.pop(connection.descriptor, None)
        connection.close()

    def _housekeeping(self) -> None:
        """Send strangers away who do not greet, and give back shared memory that is not used."""
        self._housekeeping_is_due = False
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.session is not None:
                connection.trim()
            elif now - connection.since > _GREETING_S:
                self._drop(connection)

    # -- the watchman -----------------------------------------------------------------------------------------

    def _watch(self) -> float | None:
        """Depose a leader that is stuck in a handler."""
        for connection in list(self._connections.values()):
            if connection.memory is not None and connection.memory.returns and self._busy_since is None:
                connection.flush()
        now = time.monotonic()
        if now - self._kept_house > _HOUSEKEEPING_S:
            self._kept_house = now
            self._housekeeping_is_due = True
        active = self._served != self._seen
        self._seen = self._served
        since = self._busy_since
        if since is None:
            return ROUND_S if active else None
        if time.monotonic() - since >= ROUND_S:
            with self._guard:
                if self._busy_since == since and not self._stopped:
                    self._busy_since = None
                    self._term += 1
                    self._install_leader()
        return ROUND_S
