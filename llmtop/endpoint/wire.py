"""HTTP/1.1 responses out of arriving bytes: head, framing, body. Pure: no socket, no clock.

Chunked (extensions, trailers, lines split anywhere, upper-case hex), content-length and close-delimited bodies; 1xx
answers are skipped. Source: RFC 9112 sections 2 to 7.
"""

from __future__ import annotations

from enum import Enum, auto

HEAD_LIMIT = 256 * 1024
LINE_LIMIT = 8 * 1024
"""Of a chunk-size line with its extensions, or of one trailer."""

_HEX = frozenset(b"0123456789abcdefABCDEF")


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
        "_left",
        "_no_body",
        "_pending",
        "_sizes",
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
        data = self._pending + data
        while True:
            start = 0
            while data.startswith(b"\r\n", start):  # empty lines before a status line: RFC 9112 section 2.2
                start += 2
            end, skip = data.find(b"\r\n\r\n", start), 4
            bare = data.find(b"\n\n", start, end if end >= 0 else len(data))
            if bare >= 0:
                end, skip = bare, 2
            if end < 0:
                self._pending = data
                self._refuse_what_is_no_head(data[start:])
                return b""
            self._parse_head(data[start:end])
            data = data[end + skip :]
            if self.status == 101 or not 100 <= self.status < 200:
                break
        self._pending = b""
        self.head_done = True
        self._choose_framing()
        return self.feed(data) if data else b""

    @staticmethod
    def _refuse_what_is_no_head(data: bytes) -> None:
        """Raise as early as it is certain, so that a TLS alert or a banner does not wait for a blank line."""
        if not b"HTTP/".startswith(data[:5]):
            raise WireError(f"no HTTP answer: {data[:40]!r}")
        if len(data) > HEAD_LIMIT:
            raise WireError(f"a response head of more than {HEAD_LIMIT // 1024} KiB")

    def _parse_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\n")
        parts = lines[0].strip().split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not (parts[1].isdecimal() and len(parts[1]) == 3):
            raise WireError(f"no HTTP/1.1 status line: {lines[0][:60]!r}")
        self.status = int(parts[1])
        self.reason = parts[2] if len(parts) > 2 else ""
        headers: list[tuple[str, str]] = []
        for line in lines[1:]:
            if line[:1] in (" ", "\t") and headers:  # folded line: RFC 9112 section 5.2
                name, value = headers[-1]
                headers[-1] = (name, f"{value} {line.strip()}")
                continue
            name, colon, value = line.partition(":")
            if not colon:
                raise WireError(f"no header line: {line[:60]!r}")
            headers.append((name.strip().lower(), value.strip()))
        self.headers = headers
        connection = (self.header("connection") or "").lower()
        self.keep_alive = "close" not in connection and (parts[0] != "HTTP/1.0" or "keep-alive" in connection)

    def _choose_framing(self) -> None:
        if self._no_body or self.status in (204, 304):
            self._end()
            return
        coding = (self.header("transfer-encoding") or "").lower()
        length = self.header("content-length")
        if coding:
            if coding.split(",")[-1].strip() != "chunked":
                raise WireError(f"transfer-encoding {coding!r}")
            self._state = _State.SIZE
        elif length is not None:
            if not (length.isascii() and length.isdecimal()):
                raise WireError(f"content-length {length!r}")
            self._left = int(length)
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
                if end < 0:
                    if stop - position > LINE_LIMIT:
                        raise WireError("a chunk-size line without an end")
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
                size = self._sizes[line] = _chunk_size(line)
                if len(self._sizes) > 512:
                    self._sizes.clear()
            if size:
                self._left = size
                return _State.CHUNK
            return _State.TRAILER
        if state is _State.CHUNK_END:
            if line:
                raise WireError(f"a chunk longer than its size says: {line[:40]!r}")
            return _State.SIZE
        if not line:
            self._end()
            return _State.DONE
        return _State.TRAILER


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not 0 < len(digits) <= 15 or not _HEX.issuperset(digits):
        raise WireError(f"no chunk size: {line[:40]!r}")
    return int(digits, 16)
