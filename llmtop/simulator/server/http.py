"""HTTP/1.1 on the server's side (RFC 9112), as one `asyncio.Protocol` without any dependency.

Keep-alive; pipelined requests are answered one after another; bodies by content-length or chunked; streams are chunked
to HTTP/1.1 clients and close-delimited to HTTP/1.0 clients. Every write goes straight to the socket (asyncio sets
TCP_NODELAY), so that one write is one segment on the line.

No client holds more than its share: a request has a time to come whole in, what is sent ahead waits in the socket, and
who does not read what was written is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from llmtop.simulator.server.incoming import MalformedRequest, Phase, Request, RequestReader

MAX_UNREAD_BYTES = 1024 * 1024
"""What a client may send ahead while its first request is being answered, before we stop reading."""
MAX_UNSENT_BYTES = 1024 * 1024
"""Of a stream, what its client may leave unread, beside what the socket holds: some 4 000 tokens."""
MAX_HELD_BYTES = 256 * 1024 * 1024
"""Of what all clients together have sent and is not answered; beyond, who holds more than its share is dropped."""
KEEP_ALIVE_S = 5.0
"""How long an idle connection is kept: uvicorn's and so vLLM's (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""
ARRIVAL_S = {Phase.HEAD: 10.0, Phase.BODY: 70.0}
"""How long the rest of a head, and then the body, may take to come: 8 MB over a line of 1 Mbit/s."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_REFUSALS = {
    400: b"Invalid HTTP request received.",  # uvicorn's words
    408: b"The request did not come whole in time.",
    413: b"The request's body is too large.",
    431: b"The request's head is too large.",
    500: b"Internal Server Error",
    501: b"The transfer encoding is not known.",
}

Application = Callable[["ServerConnection", Request], None]
"""Answers one request, at once or later, through the connection's `respond` or `begin_stream` ... `finish`."""


class Connections(set["ServerConnection"]):
    """The open connections of one server."""

    held_bytes = 0
    """What they have sent and is not answered."""


class ServerConnection(asyncio.Protocol):
    """One client. The application answers each request before it sees the next one.

    Args:
        application: called with each request.
        connections: every open connection puts itself in here and takes itself out.
        keep_alive_s: idle time after which the connection is closed.
        server: value of the Server header.
    """

    def __init__(
        self,
        application: Application,
        connections: Connections,
        keep_alive_s: float = KEEP_ALIVE_S,
        server: bytes = b"llmtop",
    ) -> None:
        self._application = application
        self._connections = connections
        self._keep_alive_s = keep_alive_s
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader()
        self._held_bytes = 0
        self._current: Request | None = None
        """The request that is being answered, without its body."""
        self._reading_paused = False
        self._choked = False
        """The client does not read what was written."""
        self._awaited = Phase.NOTHING
        """What the timer waits for."""
        self._timer: asyncio.TimerHandle | None = None
        self.chunked = True
        """Whether the stream that is being written is chunked."""
        self.on_disconnect: Callable[[], None] | None = None
        """Called when the client goes away before its answer is finished."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._watch()

    @property
    def address(self) -> tuple[str, int]:
        """Where the client has found us."""
        name = None if self._transport is None else self._transport.get_extra_info("sockname")
        return (str(name[0]), int(name[1])) if name else ("", 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self._stop_watching()
        self._account(0)
        gone, self.on_disconnect = self.on_disconnect, None
        if gone is not None:
            gone()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Drop the connection without a farewell."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what is written has been sent."""
        if self._transport is not None:
            self._transport.close()

    # Reading

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._current is None and not self._choked:
            self._advance()
        elif self._reader.held_bytes > MAX_UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True
        self._account(self._reader.held_bytes)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._current is None and self.is_open:
            self._read_on()
            self._advance()

    def _account(self, held: int) -> None:
        """What this client has sent, `held` bytes of it, is a part of what all have."""
        everybody = self._connections
        everybody.held_bytes += held - self._held_bytes
        self._held_bytes = held
        if everybody.held_bytes > MAX_HELD_BYTES < held * len(everybody):
            self.abort()

    def _read_on(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._transport.resume_reading()
            self._reading_paused = False

    def _advance(self) -> None:
        """Hand over the next request, if it is whole and its client has read what came before."""
        if self._current is not None or self._choked or not self.is_open:
            return
        try:
            request = self._reader.take()
            if request is not None:
                self._stop_watching()
                self._current = request._replace(body=b"")
                self._application(self, request)
            elif self._reader.awaits_continue and self._awaited is not Phase.BODY:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except MalformedRequest as malformed:
            self._refuse(malformed.status)
        except (RecursionError, MemoryError):  # of what a client asks for, nothing may end the server
            self._refuse(500)
        if self._current is None and self.is_open:
            self._watch()

    def _refuse(self, status: int) -> None:
        """Answer what came instead of a request, and hear no more of this client."""
        self._current = Request("", "", "", {b"connection": b"close"}, b"")
        self.respond(status, _REFUSALS[status], b"text/plain; charset=utf-8")

    # Writing

    def respond(
        self,
        status: int,
        body: bytes = b"",
        content_type: bytes | None = b"application/json",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Answer the current request with a whole body."""
        head = self._head(status, content_type, headers)
        assert self._current is not None
        shown = b"" if self._current.method == "HEAD" else body
        self._end(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), shown))

    def begin_stream(self) -> None:
        """Answer the current request with a stream of events; `frame` and `write` them, then `finish`."""
        assert self._current is not None
        self.chunked = self._current.version == b"HTTP/1.1"
        head = self._head(200, b"text/event-stream; charset=utf-8", ())
        self.write(head + (b"transfer-encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"))

    def frame(self, payload: bytes) -> bytes:
        """One piece of a stream as it goes over the line."""
        return b"%x\r\n%b\r\n" % (len(payload), payload) if self.chunked else payload

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if self._choked and self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()
            else:
                self._transport.write(data)

    def finish(self, data: bytes = b"") -> None:
        """End the stream with `data` (framed already) in one write."""
        self._end(data + b"0\r\n\r\n" if self.chunked else data)

    @property
    def unsent_bytes(self) -> int:
        """What the socket did not take yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _head(self, status: int, content_type: bytes | None, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        assert self._current is not None
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS[status]), b"date: " + http_date(), b"server: " + self._server]
        if content_type is not None:
            lines.append(b"content-type: " + content_type)
        lines += [b"%b: %b" % header for header in headers]
        if not self._current.keeps_alive:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n"

    def _end(self, data: bytes) -> None:
        request, self._current = self._current, None
        assert request is not None, "an answer without a request"
        self.on_disconnect = None
        self.write(data)
        if not self.is_open:
            return
        if not request.keeps_alive:
            self.close()
            self._watch_leaving(self.unsent_bytes)
            return
        if not self._choked:
            self._read_on()
        self._watch()
        if self._reader.phase is not Phase.NOTHING:
            asyncio.get_running_loop().call_soon(self._advance)  # what is sent ahead waits for the others' turn

    # Time

    def _watch(self) -> None:
        """Give the next request its time; bytes that drip do not prolong it."""
        phase = Phase.NOTHING if self._choked else self._reader.phase
        if self._timer is not None:
            if phase is self._awaited:
                return
            self._timer.cancel()
        self._awaited = phase
        wait_s = ARRIVAL_S.get(phase, self._keep_alive_s)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._time_is_over)

    def _stop_watching(self) -> None:
        self._awaited = Phase.NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_over(self) -> None:
        self._timer = None
        if self.unsent_bytes:
            self._watch_leaving(self.unsent_bytes)
        elif self._awaited is Phase.NOTHING:
            self.close()
        else:
            self._refuse(408)

    def _watch_leaving(self, unsent: int) -> None:
        """Drop a client that has read nothing of the `unsent` bytes for as long as an idle one is kept."""
        if not unsent:
            return

        def look() -> None:
            left = self.unsent_bytes
            if left >= unsent:
                self.abort()
            elif self.is_open and self._current is None:
                self._watch()
            else:
                self._watch_leaving(left)

        self._stop_watching()
        self._timer = asyncio.get_running_loop().call_later(self._keep_alive_s, look)


_date: tuple[int, bytes] = (0, b"")


def http_date() -> bytes:
    """The Date header's value (RFC 9110, IMF-fixdate), made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
    return _date[1]
