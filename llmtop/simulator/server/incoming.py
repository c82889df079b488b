"""What a client sends, cut into requests (RFC 9112): in time linear in its bytes, however they come, and within bounds.

Strict where two readers could see different requests: one length, in digits, and not both a length and chunks.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

MAX_HEAD_BYTES = 64 * 1024
"""uvicorn's and so vLLM's limit (h11_max_incomplete_event_size)."""
MAX_BODY_BYTES = 8 * 1024 * 1024
"""A prompt of a million tokens, as ids or as text, has six; of a body of nothing but brackets Python makes 25 times as
much."""
MAX_LINE_BYTES = 1024
"""Of a chunk's size and its extensions."""

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)")
_TARGET = re.compile(rb"[!-~\x80-\xff]+")
_VERSION = re.compile(rb"HTTP/1\.[01]")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_LENGTH = re.compile(rb"[0-9]{1,16}")
_ONCE = {b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type"}


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


class MalformedRequest(Exception):
    """Bytes that are no HTTP request, or one too large; `status` says which."""

    def __init__(self, status: int = 400) -> None:
        self.status = status
        super().__init__(status)


class Phase(Enum):
    """How far the next request has come."""

    NOTHING = "nothing of it is there"
    HEAD = "a part of its head"
    BODY = "its head"


class RequestReader:
    """Bytes in, requests out."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._looked = 0
        """Bytes of the inbox in which the end of a head was looked for in vain."""
        self._head: Request | None = None
        self._length = 0
        self._chunks: _Chunks | None = None

    @property
    def held_bytes(self) -> int:
        return len(self._inbox) + (len(self._chunks.body) if self._chunks is not None else 0)

    @property
    def phase(self) -> Phase:
        if self._head is not None:
            return Phase.BODY
        return Phase.HEAD if self._inbox else Phase.NOTHING

    @property
    def awaits_continue(self) -> bool:
        """Whether the client has sent a head alone and waits for a word before it sends the body."""
        head = self._head
        return head is not None and not self._inbox and head.headers.get(b"expect", b"").lower() == b"100-continue"

    def feed(self, data: bytes) -> None:
        self._inbox += data

    def take(self) -> Request | None:
        """Cut off one whole request; None: more bytes are needed. Raises MalformedRequest."""
        if self._head is None and not self._take_head():
            return None
        assert self._head is not None
        if self._chunks is not None:
            if not self._chunks.take(self._inbox):
                return None
            body = bytes(self._chunks.body)
        elif len(self._inbox) >= self._length:
            body = bytes(self._inbox[: self._length])
            del self._inbox[: self._length]
        else:
            return None
        request, self._head, self._chunks = self._head._replace(body=body), None, None
        return request

    def _take_head(self) -> bool:
        inbox = self._inbox
        if not self._looked:
            while inbox.startswith(b"\r\n"):
                del inbox[:2]
            if inbox == b"\r":
                return False
            if inbox and not inbox[:1].isalpha():
                raise MalformedRequest  # such as a TLS hello, in which no end of a head would ever come
        end = inbox.find(b"\r\n\r\n", max(0, self._looked - 3))
        if end < 0:
            self._looked = len(inbox)
        if max(end, self._looked) > MAX_HEAD_BYTES:
            raise MalformedRequest(431)
        if end < 0:
            return False
        head = parse_head(bytes(inbox[:end]))
        del inbox[: end + 4]
        self._looked = 0
        self._length, self._chunks = _length(head), _Chunks() if b"transfer-encoding" in head.headers else None
        self._head = head
        return True


class _Chunks:
    """A chunked body as it comes (RFC 9112, 7.1)."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._left = 0
        """Bytes of the current chunk that are still to come."""
        self._closing = False
        """The chunk's bytes are there, the end of its line is not."""
        self._trailing = -1
        """Bytes of the trailers; below 0: the last chunk has not come."""
        self._looked = 0

    def take(self, inbox: bytearray) -> bool:
        """Take what is there out of `inbox`; whether the body is whole. Raises MalformedRequest."""
        at, whole = 0, False
        while not whole:
            if self._left:
                piece = inbox[at : at + self._left]
                self.body += piece
                self._left -= len(piece)
                at += len(piece)
                if self._left:
                    break
            if self._closing:
                if len(inbox) < at + 2:
                    break
                if inbox[at : at + 2] != b"\r\n":
                    raise MalformedRequest
                at += 2
                self._closing = False
            end = inbox.find(b"\r\n", max(at, self._looked - 1))
            if end < 0:
                self._looked = len(inbox)
                if self._looked - at > MAX_LINE_BYTES:
                    raise MalformedRequest
                break
            whole = self._line(bytes(inbox[at:end]))
            at = end + 2
            self._looked = 0
        del inbox[:at]
        self._looked = max(0, self._looked - at)
        return whole

    def _line(self, line: bytes) -> bool:
        """A chunk's size, or a trailer, of which nothing is kept; whether it ends the body."""
        if self._trailing >= 0:
            self._trailing += len(line)
            if self._trailing > MAX_HEAD_BYTES:
                raise MalformedRequest(431)
            return not line
        size = line.partition(b";")[0].strip(b" \t")
        if not _SIZE.fullmatch(size) or len(line) > MAX_LINE_BYTES:
            raise MalformedRequest
        self._left = int(size, 16)
        self._closing = self._left > 0
        if len(self.body) + self._left > MAX_BODY_BYTES:
            raise MalformedRequest(413)
        if not self._left:
            self._trailing = 0
        return False


def parse_head(head: bytes) -> Request:
    """Request line and header fields, without the empty line. Raises MalformedRequest."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[0].isalpha() or not _TARGET.fullmatch(words[1]) or not _VERSION.fullmatch(words[2]):
        raise MalformedRequest
    headers: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise MalformedRequest
        name, value = field[1].lower(), field[2].strip(b" \t")
        if name in headers:
            if name in _ONCE:
                raise MalformedRequest
            value = headers[name] + b", " + value
        headers[name] = value
    path, _, query = words[1].partition(b"?")
    return Request(words[0].decode(), path.decode("latin-1"), query.decode("latin-1"), headers, b"", words[2])


def _length(head: Request) -> int:
    """Of a body that is not chunked."""
    coding, text = head.headers.get(b"transfer-encoding"), head.headers.get(b"content-length")
    if coding is not None:
        if text is not None or head.version == b"HTTP/1.0":
            raise MalformedRequest
        if coding.lower() != b"chunked":
            raise MalformedRequest(501)
        return 0
    if text is None:
        return 0
    if not text.isdigit():
        raise MalformedRequest
    if not _LENGTH.fullmatch(text) or int(text) > MAX_BODY_BYTES:
        raise MalformedRequest(413)
    return int(text)
