"""HTTP/1.1 responses out of arriving bytes: head, framing, body. Pure: no socket, no clock.

Chunked (extensions, trailers, lines split anywhere, upper-case hex), content-length and close-delimited bodies; 1xx
answers are skipped. However the bytes are cut, the response is the same, what is held of them is bounded, and reading
takes a time in proportion to them. Source: RFC 9112 sections 2 to 7.
"""

from __future__ import annotations

import re
from enum import Enum, auto

HEAD_LIMIT = 64 * 1024
"""Of a head in bytes, with all 1xx answers and blank lines before it; and of all trailers. Servers and proxies send
below 16 KiB; to read 64 KiB of the smallest headers takes the loop 20 ms."""
LINE_LIMIT = 8 * 1024
"""Of a chunk-size line with its extensions, or of one trailer."""

_HEX = frozenset(b"0123456789abcdefABCDEF")
_MOST_DIGITS = 15
"""Of a length: 10^15 bytes are more than any answer has."""
_CACHED_LINE = 16
"""Size lines up to this length are remembered: those without extensions."""
_OWS = " \t"
"""Blanks that may stand around a value; others belong to it."""
_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: (.*))?[ \t]*")


_COMPRESSIONS = frozenset(("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"))


def is_compressed(coding: str) -> bool:
    """Whether a Content-Encoding is a compression. Servers also name what is none (`none`, `identity`, `utf-8`), to
    keep a proxy from compressing a stream, or by mistake. Source: IANA's registry of HTTP content codings."""
    return not _COMPRESSIONS.isdisjoint(name.strip().lower() for name in coding.split(","))


class WireError(Exception):
    """The bytes are no HTTP/1.1 response.

    Attributes:
        body: body bytes that came before the mistake, in the same read.
    """

    body = b""


class _State(Enum):
    HEAD = auto()
    SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    LENGTH = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()


class ResponseParser:
    """Reads one response. `feed` gives back the body bytes that the fed bytes held.

    Attributes:
        status, reason, headers: of the final head, valid once `head_done`. Header names are lower case.
        complete: the response has ended by its own framing.
        keep_alive: the connection may be used again, as far as the response says.
        excess: bytes came after the end: the connection is out of step and must not be used again.
    """

    __slots__ = (
        "_held",
        "_is_old",
        "_left",
        "_looked",
        "_no_body",
        "_pending",
        "_sizes",
        "_start",
        "_state",
        "complete",
        "excess",
        "head_done",
        "headers",
        "keep_alive",
        "reason",
        "status",
    )

    def __init__(self, method: str = "GET") -> None:
        self._state = _State.HEAD
        self._held = bytearray()
        self._start = self._looked = 0
        """In `held`: where the head begins, and up to where there is no end of it."""
        self._is_old = False
        self._pending = b""
        self._left = 0
        self._no_body = method == "HEAD"
        self._sizes: dict[bytes, int] = {}
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.head_done = False
        self.complete = False
        self.keep_alive = False
        self.excess = False

    def header(self, name: str) -> str | None:
        """The first value of the header `name` (lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    def feed(self, data: bytes) -> bytes:
        """Take bytes in and return the body bytes among them. Raises WireError."""
        state = self._state
        if state is _State.SIZE and not self._pending:
            # Most reads are one whole chunk whose size was seen before: one comparison of lengths tells.
            end = data.find(b"\r\n", 0, 16)
            size = self._sizes.get(data[:end])
            if size and len(data) == end + size + 4 and data.endswith(b"\r\n"):
                return data[end + 2 : -2]
            return self._chunked(data)
        if state is _State.HEAD:
            return self._head(data)
        if state is _State.LENGTH:
            return self._length(data)
        if state is _State.UNTIL_CLOSE:
            return data
        if state is _State.DONE:
            self.excess = self.excess or bool(data)
            return b""
        return self._chunked(data)

    def eof(self) -> None:
        """The peer closed: the end of a close-delimited body; elsewhere `complete` stays as it is."""
        if self._state is _State.UNTIL_CLOSE:
            self._end()
        self.keep_alive = False

    def _end(self) -> None:
        self._state = _State.DONE
        self.complete = True

    # Head

    def _head(self, data: bytes) -> bytes:
        held = self._held
        held += data
        while True:
            while held.startswith(b"\r\n", self._start):  # empty lines before a status line: RFC 9112 section 2.2
                self._start += 2
            self._refuse_what_is_no_head()
            found = _BLANK_LINE.search(held, max(self._start, self._looked - 2))
            if (len(held) if found is None else found.end()) > HEAD_LIMIT:
                raise WireError(f"a response head of more than {HEAD_LIMIT // 1024} KiB")
            if found is None:
                self._looked = len(held)
                return b""
            self._parse_head(bytes(held[self._start : found.start()]))
            self._start = self._looked = found.end()
            if self.status == 101 or self.status >= 200:
                break
        rest = bytes(held[self._start :])
        self._held = bytearray()
        self.head_done = True
        self._choose_framing()
        return self.feed(rest) if rest else b""

    def _refuse_what_is_no_head(self) -> None:
        """Raise as early as it is certain, so that a TLS alert or a banner does not wait for a blank line."""
        begin = bytes(self._held[self._start : self._start + 5])
        if not b"HTTP/".startswith(begin) and begin != b"\r":
            raise WireError(f"no HTTP answer: {bytes(self._held[self._start : self._start + 40])!r}")

    def _parse_head(self, head: bytes) -> None:
        text = head.decode("latin-1")
        first, *lines = (line.rstrip("\r") for line in text.split("\n"))
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise WireError(f"no HTTP/1.1 status line: {first[:60]!r}")
        if "\0" in text or "\r" in "".join((first, *lines)):
            raise WireError("a NUL or a bare CR in the response head")
        version, self.status, self.reason = status[1], int(status[2]), (status[3] or "").strip(_OWS)
        headers: list[tuple[str, str]] = []
        folded: list[str] = []
        for line in [*lines, ":"]:
            if line[:1] in (" ", "\t"):  # folded line: RFC 9112 section 5.2
                if not headers:
                    raise WireError(f"a blank before the first header: {line[:60]!r}")
                folded.append(line.strip(_OWS))
                continue
            if folded:
                name, value = headers[-1]
                headers[-1] = (name, " ".join((value, *folded)).strip(_OWS))
                folded = []
            name, colon, value = line.partition(":")
            if not colon:
                raise WireError(f"no header line: {line[:60]!r}")
            headers.append((name.strip(_OWS).lower(), value.strip(_OWS)))
        self.headers = headers[:-1]
        connection = self._listed("connection")
        self._is_old = version == "0"
        self.keep_alive = "close" not in connection and (not self._is_old or "keep-alive" in connection)

    def _listed(self, name: str) -> list[str]:
        """All members of a header that is a list, in lower case, wherever it stands."""
        values = ",".join(value for key, value in self.headers if key == name)
        return [member for part in values.lower().split(",") if (member := part.strip(_OWS))]

    def _choose_framing(self) -> None:
        if self._no_body or self.status in (204, 304):
            self._end()
            return
        codings, lengths = self._listed("transfer-encoding"), self._listed("content-length")
        if codings:
            if set(codings) != {"chunked"}:  # two proxies that each name it are known to have coded once
                raise WireError(f"transfer-encoding {', '.join(codings)[:60]!r}; only chunked can be read")
            if lengths or self._is_old:  # may have been meant otherwise by somebody on the way: RFC 9112 section 6.1
                self.keep_alive = False
            self._state = _State.SIZE
        elif lengths:
            self._left = _content_length(lengths)
            if self._left:
                self._state = _State.LENGTH
            else:
                self._end()
        else:
            self._state = _State.UNTIL_CLOSE
            self.keep_alive = False

    # Body

    def _length(self, data: bytes) -> bytes:
        if len(data) < self._left:
            self._left -= len(data)
            return data
        body, self.excess = data[: self._left], len(data) > self._left
        self._end()
        return body

    def _chunked(self, data: bytes) -> bytes:
        if self._pending:
            data, self._pending = self._pending + data, b""
        pieces: list[bytes] = []
        try:
            self._cut_chunks(data, pieces)
        except WireError as error:
            error.body = b"".join(pieces)
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _cut_chunks(self, data: bytes, pieces: list[bytes]) -> None:
        state, position, stop = self._state, 0, len(data)
        while position < stop:
            if state is _State.CHUNK:
                end = position + self._left
                if end > stop:
                    pieces.append(data[position:])
                    self._left = end - stop
                    break
                pieces.append(data[position:end])
                position = end
                if data[end : end + 2] == b"\r\n":
                    position += 2
                    state = _State.SIZE
                else:
                    state = _State.CHUNK_END
            elif state is _State.DONE:
                self.excess = True
                break
            else:
                end = data.find(b"\n", position)
                if (stop if end < 0 else end) - position > LINE_LIMIT:
                    raise WireError(f"a line of more than {LINE_LIMIT // 1024} KiB between chunks")
                if end < 0:
                    self._pending = data[position:]
                    break
                line = data[position:end].rstrip(b"\r")
                position = end + 1
                state = self._line(state, line)
        self._state = state

    def _line(self, state: _State, line: bytes) -> _State:
        """Take one whole line of the framing; returns the state after it."""
        if state is _State.SIZE:
            size = self._sizes.get(line)
            if size is None:
                size = _chunk_size(line)
                if len(line) <= _CACHED_LINE and len(self._sizes) < 512:
                    self._sizes[line] = size
            self._left = size or HEAD_LIMIT
            return _State.CHUNK if size else _State.TRAILER
        if state is _State.CHUNK_END:
            if line:
                raise WireError(f"a chunk longer than its size says: {line[:40]!r}")
            return _State.SIZE
        if not line:
            self._end()
            return _State.DONE
        self._left -= len(line) + 1
        if self._left < 0:
            raise WireError(f"trailers of more than {HEAD_LIMIT // 1024} KiB")
        return _State.TRAILER


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not 0 < len(digits) <= _MOST_DIGITS or not _HEX.issuperset(digits):
        raise WireError(f"no chunk size: {line[:40]!r}")
    return int(digits, 16)


def _content_length(lengths: list[str]) -> int:
    """One length, however often it is told. Source: RFC 9112 section 6.3."""
    length = lengths[0]
    if any(other != length for other in lengths):
        raise WireError(f"content-lengths that differ: {', '.join(lengths)[:60]!r}")
    if not (length.isascii() and length.isdecimal() and len(length) <= _MOST_DIGITS):
        raise WireError(f"content-length {length[:60]!r}")
    return int(length)
