"""A file of any size as lines of UTF-8: unpacked, its mark left out, never whole in memory."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmtop.errors import FileError
from llmtop.inputs import parts_of
from llmtop.traffic.rows import GZIP

MOST_FILE = 100_000_000_000
"""Bytes of a file as it lies on the disk: more than the longest log that one machine reads in an hour."""
MOST_LINE = 256_000_000
"""Bytes of one line: a batch of spans is a megabyte or two."""
_PIECE = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines_of_file(path: Path) -> Iterator[bytes]:
    """Without their ends. Raises FileError where the file cannot be read or is no text, there and not before."""
    return lines_of(path, parts_of(path, MOST_FILE))


def lines_of(path: object, parts: Iterable[bytes]) -> Iterator[bytes]:
    """As `lines_of_file`, of a file's bytes in parts of any size; `path` is for errors."""
    return _split(path, _as_utf8(path, _unpacked(path, _grouped(parts))))


def _grouped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Without empty parts; the first is long enough to tell of what kind the file is."""
    head = b""
    for part in parts:
        if len(head) < 4:
            head += part
            if len(head) >= 4:
                yield head
        elif part:
            yield part
    if 0 < len(head) < 4:
        yield head


def _unpacked(path: object, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Gzip of one member or several: logs that are turned over are often put together."""
    head = next(parts, b"")
    if head[:2] != GZIP:
        yield head
        yield from parts
        return
    unpacking, begun, left = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), True, head
    try:
        while True:
            if unpacking.eof:
                left = unpacking.unused_data
                if not left.strip(b"\0"):
                    left = next(parts, b"")
                if not left:
                    return
                unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            if piece := unpacking.decompress(left, _PIECE):
                yield piece
            left = unpacking.unconsumed_tail
            if not left and not unpacking.eof:
                left = next(parts, b"")
                begun = bool(left)
            if not begun:
                break
    except zlib.error as error:
        raise FileError(path, f"cannot be unpacked: {error}") from None
    raise FileError(path, "is cut off: its end cannot be unpacked (`gzip -t` says so, too)")


def _as_utf8(path: object, parts: Iterator[bytes]) -> Iterator[bytes]:
    head = next(parts, b"")
    while len(head) < 4 and (part := next(parts, b"")):
        head += part
    if head[:2] in _UTF16:
        decoder = codecs.getincrementaldecoder("utf-16")()
        try:
            yield decoder.decode(head).encode("utf-8", "surrogatepass")
            for part in parts:
                yield decoder.decode(part).encode("utf-8", "surrogatepass")
            yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
        except UnicodeError:
            raise FileError(path, "is not UTF-8 text, and no UTF-16 either") from None
        return
    if b"\0" in head:
        raise FileError(path, f"is not UTF-8 text (byte {head.index(0)})")
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from parts


def _split(path: object, parts: Iterator[bytes]) -> Iterator[bytes]:
    """At each newline, with what stands before it; at carriage returns where the file begins with them alone."""
    kept: list[bytes] = []
    size = 0
    old_mac: bool | None = None
    for part in parts:
        if old_mac is None and part.strip():
            old_mac = b"\r" in part[:-1] and b"\n" not in part
        whole = (part.replace(b"\r", b"\n") if old_mac else part).split(b"\n")
        if len(whole) > 1:
            yield b"".join([*kept, whole[0]])
            yield from whole[1:-1]
            kept, size = [], 0
        kept.append(whole[-1])
        size += len(whole[-1])
        if size > MOST_LINE:
            raise FileError(path, f"has a line of more than {MOST_LINE / 1e6:,.0f} MB: no log that is known")
    if rest := b"".join(kept):
        yield rest
