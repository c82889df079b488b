"""Connections of our own to one origin: opened, kept, used again, given up.

A connection serves one exchange at a time and tells its receiver of it straight out of `data_received`, so that no
task is woken for a chunk: the task that waits for the exchange wakes once, at its end.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from time import perf_counter
from typing import Any, Protocol

from msgspec import Struct

from llmtop.domain.endpoint import host_and_port
from llmtop.endpoint.addresses import look_up, numeric
from llmtop.endpoint.clock import Stamper, open_socket
from llmtop.endpoint.direct import Arrivals, DirectTransport
from llmtop.endpoint.tls import tls_problem
from llmtop.endpoint.wire import ResponseParser, WireError

KEPT_S = 4.0
"""An idle connection is closed after this. Shorter than uvicorn's (and so vLLM's and SGLang's) 5 s."""

_ADDRESSES_S = 60.0
"""How long a resolved name is believed."""
GRACE_S = 0.02
"""That a receiver which has heard all is kept waiting for the end of the response: it is on its way right behind, and
then the connection serves the next request."""
_NEXT_ADDRESS_S = 1.0
"""An address that is silent for this long is passed over where there is another: a lost SYN is sent again then."""
LINGER_S = 2.0
"""A response that stays open for this long after its receiver has heard all is given up."""
_LEFT_OPEN = 2
"""After so many of them, nobody is kept waiting for the end of one."""
_EARLY_CLOSE_S = 1.0
"""A connection that is closed by its server this soon after an answer was never meant to be kept."""
_EARLY_CLOSES = 2
"""After so many of them in a row, connections are no longer used again."""


_CLOSED = "llmtop has closed this endpoint"

_Address = tuple[int, int, int, Any]
"""Family, type, protocol and socket address."""


class ConnectionLost(Exception):
    """The peer closed or reset before the response was complete.

    Attributes:
        answered: whether any byte of a response had come.
    """

    def __init__(self, text: str, answered: bool) -> None:
        super().__init__(text)
        self.answered = answered


class Over(Exception):
    """The receiver wants nothing more of this answer: it is told by what it has heard."""


class Receiver(Protocol):
    """Who hears of an exchange, synchronously, while bytes are read."""

    def sent(self, now_ns: int, connect_ns: int, connection: Connection) -> None: ...
    def head(self, response: ResponseParser, stamp_ns: int) -> None: ...
    def body(self, data: bytes, stamp_ns: int) -> None: ...


class Origin(Struct, frozen=True):
    """Where connections go."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    unix_path: str | None = None
    addresses: tuple[str, ...] = ()
    """Where the host is, whatever its name comes to mean; (): as it is looked up."""

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return host_and_port(self.host, self.port)


class Own:
    """The one connection of a user that shares none, kept as long as its server keeps it."""

    __slots__ = ("_closed", "_idle")

    def __init__(self) -> None:
        self._idle: Connection | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """The connection, if it is idle and its server has not closed it."""
        found, self._idle = self._idle, None
        return None if found is None or found.closed else found

    def keep(self, connection: Connection) -> None:
        """It can be used again; of two (the answer on the first had no end in time) one is enough."""
        if self._closed or (self._idle is not None and not self._idle.closed):
            connection.abort()
        else:
            connection.idle_since_s = perf_counter()
            self._idle = connection

    def close(self) -> None:
        self._closed = True
        if self._idle is not None:
            self._idle.abort()


class Connection(asyncio.Protocol):
    """One connection. `reused` tells whether it has served an exchange before."""

    def __init__(self, sock: socket.socket, stamper: Stamper, pool: ConnectionPool) -> None:
        self.reused = False
        self.closed = False
        self.owner: Own | None = None
        """Whose it is alone; None: the pool's."""
        self.idle_since_s = 0.0
        self.stale = False
        """It ends with its exchange."""
        self._sock = sock
        self._stamper = stamper
        self._pool = pool
        self._transport: asyncio.Transport | DirectTransport | None = None
        self._parser = ResponseParser()
        self._receiver: Receiver | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._answered = False
        self._floor_ns = 0

    async def exchange(self, request: bytes, receiver: Receiver, method: str, connect_ns: int) -> ResponseParser:
        """Send `request` and return its response when it is complete.

        `connect_ns` is what opening this connection has cost the request. Raises ConnectionLost, WireError, or
        whatever `fail` was given. A cancelled exchange aborts the connection.
        """
        if self._transport is None or self.closed:
            raise ConnectionLost("the connection was closed", answered=False)
        waiter = asyncio.get_running_loop().create_future()
        self._waiter, self._receiver, self._parser = waiter, receiver, ResponseParser(method)
        self._answered = False
        self._floor_ns = self._stamper.now_ns()
        receiver.sent(self._floor_ns, connect_ns, self)
        self._transport.write(request)
        try:
            await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        self._waiter = None
        if self._receiver is None:
            self._pool.take_back(self, self._parser)
        return self._parser

    def fail(self, error: Exception) -> None:
        """Give up the exchange under way: it raises `error`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    def release(self, after_s: float | None = None) -> None:
        """All that matters of the response has come, unless more does: the exchange ends well after this time (None: as
        soon as can be) at the latest. What is left of the response is read by nobody."""
        if self._parser.complete or self._waiter is None:
            return
        self._forget_lingering()
        wait_s = self._pool.grace_s if after_s is None else after_s
        self._lingering = asyncio.get_running_loop().call_later(wait_s, self._let_go)

    def hold(self) -> None:
        """More of the response matters than it seemed when it was released."""
        if self._waiter is not None and not self._waiter.done():
            self._forget_lingering()

    def _let_go(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._receiver = _Nobody()
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._leave)
            self._waiter.set_result(None)

    def _leave(self) -> None:
        self._pool.left_open += 1
        self.abort()

    def renew(self) -> None:
        """Make room for a new one: close now if nobody uses it, else once its exchange is over."""
        self.stale = True
        if self._waiter is None and self._receiver is None:
            self.abort()

    def abort(self) -> None:
        """Close at once; nobody hears of anything any more."""
        self._receiver = None
        self._forget_lingering()
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport | DirectTransport) -> None:
        assert isinstance(transport, asyncio.Transport | DirectTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        stamp = self._stamper.stamp_ns(self._sock)
        receiver = self._receiver
        if receiver is None:  # nobody has asked: a server that says good-bye in words (408), or is out of step
            self.abort()
            return
        self._answered = True
        if stamp < self._floor_ns:  # no byte of an answer comes before those before it, or before it is asked for
            stamp = self._floor_ns
        self._floor_ns = stamp
        parser = self._parser
        had_head = parser.head_done
        mistake = None
        try:
            body = parser.feed(data)
        except WireError as error:
            mistake, body = error, error.body
        if not had_head and parser.head_done:
            receiver.head(parser, stamp)
        if body:
            receiver.body(body, stamp)
        if mistake is not None:
            self.fail(mistake)
        elif parser.complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        by_us, self.closed = self.closed, True
        self._forget_lingering()
        self._pool.forget(self)
        waiter = self._waiter
        if waiter is None:
            if not by_us and self._receiver is None:
                self._pool.lost_while_idle(self)
            return
        if waiter.done():
            return
        self._parser.eof()
        if isinstance(exc, OSError) or exc is None:
            if self._parser.complete:
                self._finish()
                return
            waiter.set_exception(ConnectionLost(_how_lost(exc, self._answered), self._answered))
        else:  # a mistake in a receiver: asyncio hands it over after closing the connection
            waiter.set_exception(exc)

    def _finish(self) -> None:
        self._receiver = None
        self._forget_lingering()
        if self._waiter is None:  # whoever asked has been let go
            self._pool.take_back(self, self._parser)
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _forget_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None


class _Nobody:
    """Hears the rest of a response whose receiver has gone."""

    def sent(self, now_ns: int, connect_ns: int, connection: Connection) -> None:
        pass

    def head(self, response: ResponseParser, stamp_ns: int) -> None:
        pass

    def body(self, data: bytes, stamp_ns: int) -> None:
        pass


class ConnectionPool:
    """The connections to one origin. The one used last is used next, so that the others can grow old and be closed.

    Attributes:
        reuse: whether connections are used again. Learned off for servers that close after each answer while
            promising to keep the connection (llama.cpp): a request written into such a connection is lost.
        left_open: responses whose end did not come.
        arrivals: reads plain sockets; None: asyncio does.
    """

    def __init__(
        self, origin: Origin, stamper: Stamper, *, reuse: bool = True, arrivals: Arrivals | None = None
    ) -> None:
        self.origin = origin
        self.reuse = reuse
        self.left_open = 0
        self._arrivals = arrivals if origin.tls is None else None
        self._stamper = stamper
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._early_closes = 0
        self._closed = False
        self._addresses: list[_Address] = []
        self._failed: list[_Address] = []
        self._turn = 0
        self._addresses_until_s = 0.0
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def grace_s(self) -> float:
        """How long a receiver that has heard all waits for the end of its response."""
        return 0.0 if self.left_open >= _LEFT_OPEN else GRACE_S

    @property
    def idle(self) -> int:
        """How many connections wait for an exchange and are likely to be alive."""
        kept_since_s = perf_counter() - KEPT_S
        return sum(not connection.closed and connection.idle_since_s > kept_since_s for connection in self._idle)

    def pop(self) -> Connection | None:
        """An idle connection that is likely to be alive, or None. O(1): expired ones are all below the first."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and perf_counter() - connection.idle_since_s < KEPT_S:
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """Open a connection. Raises OSError (with what the system says), which ssl.SSLError is one of."""
        loop = asyncio.get_running_loop()
        self._stamper.attach(loop)
        if self.origin.unix_path is not None:
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.setblocking(False)
            return await self._open_on(unix, self.origin.unix_path)
        if self._closed:
            raise OSError(_CLOSED)
        first_error: OSError | None = None
        in_turn = await self._resolve()
        for place in in_turn:
            family, type_, protocol, address = place
            try:
                limit_s = None if place is in_turn[-1] else _NEXT_ADDRESS_S
                connection = await self._open_on(open_socket(family, type_, protocol), address, limit_s)
            except ssl.SSLError:
                raise
            except OSError as error:
                if first_error is None or isinstance(first_error, TimeoutError):
                    first_error = error
                if place in self._addresses:  # the last to be tried, until the name is looked up again
                    self._addresses.remove(place)
                    self._failed.append(place)
                continue
            if place in self._failed:
                self._failed.remove(place)
                self._addresses.append(place)
            return connection
        raise first_error or OSError(f"no address for {self.origin.host}")

    @property
    def in_turn(self) -> tuple[str, ...]:
        """The addresses that connections go to in turn: those that answer, of the family of the first."""
        return tuple(str(address[0]) for family, _, _, address in self._addresses if family == self._addresses[0][0])

    def keep(self, connection: Connection) -> None:
        """Put a connection that can be used among the idle ones."""
        connection.idle_since_s = perf_counter()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEPT_S, self._close_expired)

    def take_back(self, connection: Connection, response: ResponseParser) -> None:
        """Keep a connection whose response is complete, if it can be used again."""
        if connection.reused:
            self._early_closes = 0
        if not self.reuse or connection.stale or not response.keep_alive or response.excess:
            connection.abort()
            return
        connection.reused = True
        if connection.closed:
            self._count_early_close()
            return
        (connection.owner or self).keep(connection)

    def lost_while_idle(self, connection: Connection) -> None:
        """The server closed a connection that nobody was using."""
        if connection.reused and perf_counter() - connection.idle_since_s < _EARLY_CLOSE_S:
            self._count_early_close()

    def renew(self) -> int:
        """Have the next requests open connections, to where the name then leads; returns how many were kept so far."""
        kept = [connection for connection in self._open if not connection.closed]
        for connection in kept:
            connection.renew()
        self._addresses_until_s = 0.0
        return len(kept)

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._open.discard(connection)

    def close(self) -> None:
        """Close every connection, also those in use. No new ones are opened."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in tuple(self._open):
            connection.fail(ConnectionLost("closed by llmtop", answered=False))
        self._open.clear()

    def _count_early_close(self) -> None:
        self._early_closes += 1
        if self._early_closes >= _EARLY_CLOSES:
            self.reuse = False

    async def _resolve(self) -> list[_Address]:
        now, origin = perf_counter(), self.origin
        if now >= self._addresses_until_s:
            found = [found for address in origin.addresses for found in numeric(address, origin.port)]
            try:
                found = found or list(await look_up(origin.host, origin.port))
            except OSError:
                if not self._addresses:
                    raise
            if found:
                self._addresses = [(family, type_, protocol, address) for family, type_, protocol, _, address in found]
                self._failed = []
            self._addresses_until_s = now + _ADDRESSES_S
        # A host's other family is the same machines again, by another way: it is there for when the first fails.
        first = self._addresses[0][0] if self._addresses else None
        alike = [place for place in self._addresses if place[0] == first]
        others = [place for place in self._addresses if place[0] != first]
        at = self._turn % len(alike) if alike else 0
        self._turn += 1
        return [*alike[at:], *alike[:at], *others, *self._failed]

    async def _open_on(self, sock: socket.socket, address: Any, limit_s: float | None = None) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                await loop.sock_connect(sock, address)
            if self._closed:
                raise OSError(_CLOSED)
            connection = Connection(sock, self._stamper, self)
            if self._arrivals is not None:
                if sock.family != getattr(socket, "AF_UNIX", None):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.connection_made(DirectTransport(loop, sock, connection, self._arrivals))
            else:
                name = self.origin.host if self.origin.tls is not None else None
                await loop.create_connection(lambda: connection, sock=sock, ssl=self.origin.tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        self._open.add(connection)
        return connection

    def _close_expired(self) -> None:
        self._sweep = None
        now = perf_counter()
        kept = [c for c in self._idle if not c.closed and now - c.idle_since_s < KEPT_S]
        for connection in set(self._idle).difference(kept):
            connection.abort()
        self._idle = kept
        if kept:
            wait = KEPT_S - (now - kept[0].idle_since_s)
            self._sweep = asyncio.get_running_loop().call_later(max(wait, 0.05), self._close_expired)


def _how_lost(error: OSError | None, answered: bool) -> str:
    when = "in the middle of its answer" if answered else "without sending an answer"
    if error is None:
        return f"the server closed the connection {when}"
    if isinstance(error, ssl.SSLError):
        return tls_problem(error)
    if error.errno == errno.ECONNRESET:
        return f"the server reset the connection {when}"
    return f"connection lost {when}: {error.strerror or error}"
