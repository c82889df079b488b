"""Reading plain sockets without asyncio's transports: what is dear there is everything around the read.

An epoll of our own holds the sockets of one client and is itself watched by the loop, so that any number of ready
sockets costs the loop one callback. That saves about a quarter of the CPU per chunk, half of the cost of a connection,
and gives kernel stamps under loops that read sockets themselves (uvloop). TLS, and systems without epoll, use
asyncio's transports.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys

from llmtop.endpoint.clock import READ_BYTES, StampingLoop


class Arrivals:
    """The sockets of one client that are read directly.

    Attributes:
        possible: whether this system can.
    """

    possible = sys.platform == "linux"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._transports: dict[int, DirectTransport] = {}
        self._selector = loop.selector if isinstance(loop, StampingLoop) else None
        loop.add_reader(self._epoll.fileno(), self._read)

    def watch(self, fd: int, transport: DirectTransport) -> None:
        self._transports[fd] = transport
        self._epoll.register(fd, select.EPOLLIN)
        self._tell(0)

    def forget(self, fd: int) -> None:
        del self._transports[fd]
        self._epoll.unregister(fd)

    def close(self) -> None:
        """To be called when all connections are closed."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _read(self) -> None:
        """Read every socket that is ready, once. One that is not read for an exception before it stays ready."""
        ready = self._epoll.poll(0)
        self._tell(len(ready))
        for fd, _ in ready:
            transport = self._transports.get(fd)
            if transport is not None:
                transport.read()

    def _tell(self, ready: int) -> None:
        if self._selector is not None:
            self._selector.note(ready, len(self._transports))


class DirectTransport:
    """As much of a transport as a `Connection` needs, over a connected non-blocking socket."""

    __slots__ = ("_arrivals", "_fd", "_loop", "_protocol", "_sock", "_unsent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol, arrivals: Arrivals
    ) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._arrivals = arrivals
        self._unsent = b""
        arrivals.watch(self._fd, self)

    def write(self, data: bytes) -> None:
        """Send now what the socket takes, and the rest as it takes more."""
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self._send()
        if self._unsent and self._sock is not None:
            self._loop.add_writer(self._fd, self._send_rest)

    def read(self) -> None:
        """Read once and tell the protocol."""
        sock = self._sock
        if sock is None:
            return
        try:
            data = sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._lose(None)
            return
        try:
            self._protocol.data_received(data)
        except Exception as mistake:  # a bug: the task that waits for this exchange gets it, and the loop reports it
            self._lose(mistake)
            raise

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def _send_rest(self) -> None:
        self._send()
        if not self._unsent and self._sock is not None:
            self._loop.remove_writer(self._fd)

    def _send(self) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        self._unsent = self._unsent[sent:]

    def _lose(self, error: Exception | None) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._arrivals.forget(self._fd)
        if self._unsent:
            self._loop.remove_writer(self._fd)
        sock.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
