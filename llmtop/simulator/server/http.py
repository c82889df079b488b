"""HTTP/1.1 on the server's side (RFC 9112), as one `asyncio.Protocol` without any dependency.

Keep-alive; pipelined requests are answered one after another; bodies by content-length or chunked; streams are chunked
to HTTP/1.1 clients and close-delimited to HTTP/1.0 clients. Every write goes straight to the socket (asyncio sets
TCP_NODELAY), so that one write is one segment on the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_UNREAD_BYTES = 1024 * 1024
"""What a client may send ahead while its first request is being answered, before we stop reading."""
KEEP_ALIVE_S = 5.0
"""How long an idle connection is kept: uvicorn's and so vLLM's (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request(NamedTuple):
    """One request, whole. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    version: bytes = b"HTTP/1.1"

    @property
    def keeps_alive(self) -> bool:
        """HTTP/1.0 connections are closed after each answer, whatever the client asks for."""
        return self.version == b"HTTP/1.1" and self.headers.get(b"connection", b"").lower() != b"close"


Application = Callable[["ServerConnection", Request], None]
"""Answers one request, at once or later, through the connection's `respond` or `begin_stream` ... `finish`."""


class MalformedRequest(Exception):
    """Bytes that are no HTTP request."""


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
        connections: set[ServerConnection],
        keep_alive_s: float = KEEP_ALIVE_S,
        server: bytes = b"llmtop",
    ) -> None:
        self._application = application
        self._connections = connections
        self._keep_alive_s = keep_alive_s
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._inbox = bytearray()
        self._waiting: tuple[Request, int] | None = None
        self._current: Request | None = None
        self._advancing = False
        self._reading_paused = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self.chunked = True
        """Whether the stream that is being written is chunked."""
        self.on_disconnect: Callable[[], None] | None = None
        """Called when the client goes away before its answer is finished."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._watch_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self._stop_watching()
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
        self._stop_watching()
        self._inbox += data
        if self._current is None:
            self._advance()
        elif len(self._inbox) > MAX_UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True

    def _advance(self) -> None:
        """Hand over requests while there are whole ones and each is answered at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._current is None and self.is_open:
                request = self._take_request()
                if request is None:
                    break
                self._current = request
                self._application(self, request)
        except MalformedRequest:
            self._current = Request("", "", "", {b"connection": b"close"}, b"")
            self.respond(400, b"Invalid HTTP request received.", b"text/plain; charset=utf-8")
        finally:
            self._advancing = False

    def _take_request(self) -> Request | None:
        """Cut one whole request off the inbox; None: more bytes are needed."""
        if self._waiting is None:
            while self._inbox.startswith(b"\r\n"):
                del self._inbox[:2]
            end = self._inbox.find(b"\r\n\r\n")
            if end < 0:
                if len(self._inbox) > MAX_HEAD_BYTES:
                    raise MalformedRequest
                return None
            head = parse_head(bytes(self._inbox[:end]))
            self._waiting = head, end + 4
            if head.headers.get(b"expect", b"").lower() == b"100-continue" and len(self._inbox) == end + 4:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, start = self._waiting
        if b"chunked" in head.headers.get(b"transfer-encoding", b"").lower():
            body, stop = _take_chunked(self._inbox, start)
        else:
            stop = start + _content_length(head.headers)
            body = bytes(self._inbox[start:stop]) if len(self._inbox) >= stop else None
        if body is None:
            return None
        del self._inbox[:stop]
        self._waiting = None
        return head._replace(body=body)

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
        self._end(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))

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
            return
        if self._reading_paused and self._transport is not None:
            self._transport.resume_reading()
            self._reading_paused = False
        self._watch_idle()
        self._advance()

    # Idle connections

    def _watch_idle(self) -> None:
        self._stop_watching()
        self._idle_timer = asyncio.get_running_loop().call_later(self._keep_alive_s, self.close)

    def _stop_watching(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


def parse_head(head: bytes) -> Request:
    """Request line and header fields, without the empty line. Raises MalformedRequest."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[0].isalpha():
        raise MalformedRequest
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise MalformedRequest
        headers[name.lower()] = value.strip()
    path, _, query = words[1].partition(b"?")
    return Request(words[0].decode(), path.decode("latin-1"), query.decode("latin-1"), headers, b"", words[2])


def _content_length(headers: dict[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    if not text.isdigit() or int(text) > MAX_BODY_BYTES:
        raise MalformedRequest
    return int(text)


def _take_chunked(inbox: bytearray, start: int) -> tuple[bytes | None, int]:
    """Read a chunked body from `start`: (body, where it ends), or (None, start) while it is not whole."""
    pieces: list[bytes] = []
    length = 0
    while True:
        end = inbox.find(b"\r\n", start)
        if end < 0:
            return None, start
        text = bytes(inbox[start:end]).partition(b";")[0].strip()
        try:
            size = int(text, 16)
        except ValueError as error:
            raise MalformedRequest from error
        length += size
        if size < 0 or length > MAX_BODY_BYTES:
            raise MalformedRequest
        start = end + 2
        if size == 0:
            return _skip_trailers(inbox, start, b"".join(pieces))
        if len(inbox) < start + size + 2:
            return None, start
        pieces.append(bytes(inbox[start : start + size]))
        start += size + 2


def _skip_trailers(inbox: bytearray, start: int, body: bytes) -> tuple[bytes | None, int]:
    while True:
        end = inbox.find(b"\r\n", start)
        if end < 0:
            return None, start
        if end == start:
            return body, end + 2
        start = end + 2


_date: tuple[int, bytes] = (0, b"")


def http_date() -> bytes:
    """The Date header's value (RFC 9110, IMF-fixdate), made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
    return _date[1]
