"""Server-sent events out of arriving bytes. Pure: no socket, no clock.

Source: the event stream format of the HTML standard, section 9.2.6. An event belongs to the bytes that complete it
(its blank line), so that it can be stamped with their arrival.
"""

from __future__ import annotations

EVENT_LIMIT = 1024 * 1024
"""Of one event in bytes, comments included: what is longer is no event stream. Chunks of an answer have some hundred
bytes, 10 KB with the most log-probabilities; and 200 streams that withhold the end of an event hold 200 MB."""

_BOM = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """More than EVENT_LIMIT bytes without a blank line.

    Attributes:
        events: those before it that the same piece completes.
    """

    def __init__(self, events: list[tuple[bytes, bytes]]) -> None:
        super().__init__()
        self.events = events


class EventSplitter:
    """Splits a byte stream into events, however it is cut into pieces, in a time in proportion to its length.

    Line ends may be LF, CRLF or CR, also mixed. A CR ends its line at once; a LF that follows in the next piece
    belongs to it. Comments, ids and retry fields are dropped; an event without data is none, unless it is an error:
    that has its comments for data.
    """

    __slots__ = ("_at_start", "_skip_lf", "bare", "rest")

    def __init__(self) -> None:
        self.rest = bytearray()
        """Bytes of an event that is not complete yet."""
        self.bare = b""
        """The first block of lines that is JSON or a page in the place of an event: dropped, as the format has it."""
        self._skip_lf = False
        self._at_start = True

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take bytes in; returns the events they complete as (event name, data), the name empty where none is given.

        Raises EventTooLong.
        """
        if (  # most pieces are one whole event of one line
            not self.rest
            and EVENT_LIMIT >= data.find(b"\n") == len(data) - 2 > 6
            and data[-1] == 10
            and data[:6] == b"data: "
            and b"\r" not in data
        ):
            self._skip_lf = self._at_start = False
            return [(b"", data[6:-2])]
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data[-1] == 13
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest = self.rest
        if rest:
            # Only the new bytes, and the one before them, can hold the blank line.
            found = data.rfind(b"\n\n")
            end = found + len(rest) if found >= 0 else len(rest) - 1 if rest[-1] == 10 and data[:1] == b"\n" else -1
            rest += data
            if end < 0:
                self._hold([])
                return []
            data = bytes(rest)
            rest.clear()
        else:
            end = data.rfind(b"\n\n")
            if end < 0:
                rest += data
                self._hold([])
                return []
        rest += data[end + 2 :]
        blocks = data[:end].split(b"\n\n")
        whole = len(blocks) if len(data) <= EVENT_LIMIT else _before_a_long_one(blocks)
        events: list[tuple[bytes, bytes]] = []
        for block in blocks if whole == len(blocks) else blocks[:whole]:
            if block.startswith(b"data: ") and b"\n" not in block and len(block) > 6:
                events.append((b"", block[6:]))
                self._at_start = False
            elif block:
                event = self._parse(block)
                if event is not None:
                    events.append(event)
            else:
                self._at_start = False
        if whole < len(blocks):
            raise EventTooLong(events)
        if rest:
            self._hold(events)
        return events

    def _hold(self, events: list[tuple[bytes, bytes]]) -> None:
        """Look at what is held of an event: blank lines before it are none of it."""
        rest = self.rest
        if rest[:1] == b"\n":
            self._at_start = False
            del rest[: len(rest) - len(rest.lstrip(b"\n"))]
        if len(rest) - rest.endswith(b"\n") > EVENT_LIMIT:
            raise EventTooLong(events)

    def _parse(self, block: bytes) -> tuple[bytes, bytes] | None:
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        name = b""
        lines: list[bytes] = []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if value[:1] == b" ":
                value = value[1:]
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
        if not lines and not self.bare and is_bare(block):
            self.bare = block
        data = b"\n".join(lines)
        if not data and name == b"error":  # some say what went wrong in a comment alone
            data = b" ".join(line[1:].strip() for line in block.split(b"\n") if line.startswith(b":"))
        return (name, data) if data or name == b"error" else None


def is_bare(block: bytes) -> bool:
    """Whether a block of lines is JSON or a web page without `data:`."""
    return block[:1] in (b"{", b"<")


def _before_a_long_one(blocks: list[bytes]) -> int:
    """How many blocks there are before the first that is too long for an event."""
    return next((n for n, block in enumerate(blocks) if len(block.strip(b"\n")) > EVENT_LIMIT), len(blocks))
