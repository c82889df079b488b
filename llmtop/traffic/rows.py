"""A user's file of requests, row by row: an odd row is left out and counted, and is never the end of the file."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError, UsageError
from llmtop.inputs import bytes_of, expanded

MOST_BYTES = 1_000_000_000
"""Of a file, unpacked: all of ShareGPT is two thirds of it."""
GZIP = b"\x1f\x8b"
MOST_STRAY = 100
"""Characters for each byte that is no UTF-8: with more such bytes it is no text, or that of another encoding."""
MOST_REASONS = 4
"""That are told of; the rest is counted as other."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_STRAY = re.compile("[\udc80-\udcff]")
_BETWEEN = re.compile(r"[ \t\r\n]*")
_HALVES = ("surrogate", "hex escape")
"""In what msgspec says of half a surrogate pair."""
_Row = TypeVar("_Row")


class Odd(Exception):
    """A row that cannot be used.

    Args:
        why: of what kind, as it stands behind a count: `without tokens`.
        error: what is said where no row of the file can be used.
    """

    def __init__(self, why: str, error: FileError) -> None:
        super().__init__(why)
        self.why = why
        self.error = error


class Sieve:
    """What of a file was left out, and why.

    Args:
        path: the file, for errors.
        noun: what a row of it is.
    """

    def __init__(self, path: object, noun: str = "rows") -> None:
        self.path = path
        self.kept = 0
        self.notes: list[str] = []
        """What was guessed of the file."""
        self.noun = noun
        self._out: Counter[str] = Counter()
        self._first: FileError | None = None

    def leave_out(self, odd: Odd) -> None:
        self._out[odd.why] += 1
        self._first = self._first or odd.error

    def set_aside(self, why: str, count: int) -> None:
        """As `leave_out`, of so many rows that would be usable alone."""
        self._out[why] += count

    def check(self, nothing: str) -> None:
        """Raises FileError when nothing was kept: what was wrong with the first row; `nothing`: there was none."""
        if not self.kept:
            raise self._first or FileError(self.path, nothing)

    @property
    def said(self) -> tuple[str, ...]:
        """Sentences: what was left out and what was guessed; none of an ordinary file."""
        if not self._out:
            return tuple(self.notes)
        out = self._out.total()
        most = self._out.most_common(MOST_REASONS)
        reasons = [f"{count:,} {why}" for why, count in most]
        if rest := out - sum(count for _, count in most):
            reasons.append(f"{rest:,} of other kinds")
        name = plain(Path(str(self.path)).name, 60)
        first = f"{name}: {out:,} of {out + self.kept:,} {self.noun} left out: {', '.join(reasons)}"
        return (first, *self.notes)


def path_of_workload(workload: Workload) -> Path:
    """Raises UsageError where it names none, FileError where no file can have that name."""
    if workload.file is None:
        raise UsageError(f"workload {workload.source} needs a file: [workload] file = ...")
    return expanded(workload.file)


def text_of(path: Path) -> str:
    """Of a file, unpacked where it is compressed by gzip; UTF-8 or UTF-16, any mark at its head left out.

    A byte that is no UTF-8 stands as half a character, so that the row that has it is left out.

    Raises FileError.
    """
    data = bytes_of(path, MOST_BYTES)
    if data[:2] == GZIP:
        unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            data = unpacking.decompress(data, MOST_BYTES)
        except zlib.error as error:
            raise FileError(path, f"cannot be unpacked: {error}") from None
        if not unpacking.eof:
            raise FileError(path, f"is cut off, or larger than {MOST_BYTES / 1e6:,.0f} MB when unpacked")
    try:
        return data.decode("utf-16" if data[:2] in _UTF16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("utf-8-sig", "surrogateescape")
        if b"\0" in data or MOST_STRAY * len(_STRAY.findall(text)) > len(text):
            raise FileError(path, f"is not UTF-8 text (byte {error.start})") from None
        return text


def json_rows(path: object, text: str, kind: type[_Row], hint: str, sieve: Sieve) -> Iterator[tuple[str, _Row]]:
    """Where each row stands and what it is: of a JSON list, or of a JSON object a line.

    Rows that are not of `kind` are left out. Raises FileError for a list that is no JSON.
    """
    decoder = msgspec.json.Decoder(kind)
    for where, raw in listed(path, text, hint) if text.lstrip("\ufeff \t\r\n")[:1] == "[" else _lines(text):
        try:
            yield where, decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            said = plain(str(error)).rstrip(".")
            sieve.leave_out(Odd(why_odd(error), FileError(path, f"{said}; {hint}", where)))
        except RecursionError:
            sieve.leave_out(Odd("nested too deep", FileError(path, f"is nested too deep; {hint}", where)))


def why_odd(error: Exception) -> str:
    """Why a row of JSON cannot be read, as it stands behind a count."""
    if isinstance(error, UnicodeError):
        return "with bytes that are no UTF-8"
    if any(word in str(error) for word in _HALVES):
        return "with half a character (a lone surrogate)"
    if isinstance(error, msgspec.ValidationError):
        return "with a field that is missing or of another type"
    return "that are no JSON"


def _lines(text: str) -> Iterator[tuple[str, msgspec.Raw | str]]:
    for number, line in enumerate(text.lstrip("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        if line.strip():
            yield f"line {number}", line


def listed(path: object, text: str, hint: str) -> Iterator[tuple[str, msgspec.Raw | str]]:
    """The elements of a JSON list and where each stands. Raises FileError: it is no JSON."""
    try:
        entries: Sequence[msgspec.Raw | str] = msgspec.json.decode(text.lstrip("\ufeff"), type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError) as error:
        half = isinstance(error, UnicodeError) or any(word in str(error) for word in _HALVES)
        if half and (parts := parts_of_json(text)):
            yield from ((f"entry {number}", part) for number, part in enumerate(parts, 1))
            return
        raise FileError(path, f"{plain(str(error)).rstrip('.')}; {hint}") from None
    except RecursionError:
        raise FileError(path, f"is nested too deep; {hint}") from None
    for number, raw in enumerate(entries, 1):
        yield f"entry {number}", raw


def parts_of_json(text: str) -> list[str]:
    """The elements of a JSON list that holds halves of characters, as they are written; none: it is no JSON.

    Commas between them may be missing.
    """
    scan = json.JSONDecoder(parse_int=float)
    parts: list[str] = []
    at = text.index("[") + 1
    try:
        while True:
            start = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
            if text[start : start + 1] == "]":
                return [] if text[start + 1 :].strip() else parts
            _, at = scan.raw_decode(text, start)
            parts.append(text[start:at])
            at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
            if text[at : at + 1] == ",":
                at += 1
    except (ValueError, RecursionError):
        return []
