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
TO_JSONL = (
    "write it as JSON first: python -c \"import pandas; pandas.{read}('IN').to_json('OUT.jsonl', 'records', lines=1)\""
)
MOST_STRAY = 100
"""Characters for each byte that is no UTF-8: with more such bytes it is no text, or that of another encoding."""
MOST_REASONS = 4
"""That are told of; the rest is counted as other."""
LISTS = ("data", "rows", "requests", "prompts", "conversations", "examples", "items", "samples", "instances", "train")
"""Under which a file that is one JSON object has its rows, as `{"data": [...]}`."""
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive: unpack it, and name a file of it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard: zstd -d unpacks it"),
    (b"BZh", "compressed by bzip2: bunzip2 unpacks it"),
    (b"\xfd7zXZ", "compressed by xz: unxz unpacks it"),
    (b"PAR1", f"Parquet: {TO_JSONL.format(read='read_parquet')}"),
    (b"ARROW1", f"Arrow: {TO_JSONL.format(read='read_feather')}"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file: git lfs pull fetches it"),
)
"""How files begin that hold no text of rows, and what to do."""
_COMMENTS = ("#", "//")
_STRAY = re.compile("[\udc80-\udcff]")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_NAN = re.compile(r"\bNaN\b|\bInfinity\b")
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
    """Of a file, unpacked where it is compressed by gzip; UTF-8, UTF-16 or UTF-32, any mark at its head left out.

    A byte that is no UTF-8 stands as half a character, so that the row that has it is left out.

    Raises FileError.
    """
    data = bytes_of(path, MOST_BYTES)
    if data[:2] == GZIP:
        data = _unpacked(path, data)
    for mark, what in _FOREIGN:
        if data.startswith(mark):
            raise FileError(path, f"is {what}")
    try:
        return data.decode(_encoding(data)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        text = data.decode("utf-8-sig", "surrogateescape")
        if b"\0" in data or MOST_STRAY * len(_STRAY.findall(text)) > len(text):
            raise FileError(path, f"is not UTF-8 text (byte {error.start})") from None
        return text


def _unpacked(path: Path, data: bytes) -> bytes:
    """Of all members: `cat a.gz b.gz` has two, and so have the files of some loggers."""
    parts: list[bytes] = []
    room = MOST_BYTES
    while data[:2] == GZIP:
        unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(unpacking.decompress(data, max(1, room)))
        except zlib.error as error:
            raise FileError(path, f"cannot be unpacked: {error}") from None
        room -= len(parts[-1])
        if not unpacking.eof or room < 0:
            raise FileError(path, f"is cut off, or larger than {MOST_BYTES / 1e6:,.0f} MB when unpacked")
        data = unpacking.unused_data
    return b"".join(parts)


def _encoding(data: bytes) -> str:
    """By its mark, or, as JSON and CSV begin with an ASCII character, by where the first has its zero."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    first = data[:2]
    if len(first) == 2 and 0 in first and any(first):
        return "utf-16-be" if first[0] == 0 else "utf-16-le"
    return "utf-8-sig"


def json_rows(path: object, text: str, kind: type[_Row], hint: str, sieve: Sieve) -> Iterator[tuple[str, _Row]]:
    """Where each row stands and what it is: of a JSON list, of one inside of a JSON object (`LISTS`), or of JSON values
    one after the other, as a rule one a line. Lines that begin with # or // are no rows.

    Rows that are not of `kind` are left out. Raises FileError for a list that is no JSON.
    """
    decoder = msgspec.json.Decoder(kind)
    for where, raw in _raw_rows(path, text, hint, sieve):
        try:
            try:
                row = decoder.decode(raw)
            except msgspec.DecodeError as error:
                row = _with_nan(raw, kind, error)
            yield where, row
        except (msgspec.DecodeError, UnicodeError) as error:
            said = plain(str(error)).rstrip(".")
            sieve.leave_out(Odd(why_odd(error), FileError(path, f"{said}; {hint}", where)))
        except RecursionError:
            sieve.leave_out(Odd("nested too deep", FileError(path, f"is nested too deep; {hint}", where)))


def _with_nan(raw: msgspec.Raw | str, kind: type[_Row], error: msgspec.DecodeError) -> _Row:
    """As Python writes JSON: a NaN or an Infinity in it is no value. Raises `error` where it is another fault."""
    text = raw if isinstance(raw, str) else bytes(raw).decode()
    if isinstance(error, msgspec.ValidationError) or not _NAN.search(text):
        raise error
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        json.dumps(value, ensure_ascii=False).encode()
        return msgspec.convert(value, kind)
    except json.JSONDecodeError:
        raise error from None


def why_odd(error: Exception) -> str:
    """Why a row of JSON cannot be read, as it stands behind a count."""
    if isinstance(error, UnicodeError):
        return "with bytes that are no UTF-8"
    if any(word in str(error) for word in _HALVES):
        return "with half a character (a lone surrogate)"
    if isinstance(error, msgspec.ValidationError):
        return "with a field that is missing or of another type"
    return "that are no JSON"


def _raw_rows(path: object, text: str, hint: str, sieve: Sieve) -> Iterator[tuple[str, msgspec.Raw | str]]:
    text = text.lstrip("\ufeff")
    start = _BETWEEN.match(text).end()  # type: ignore[union-attr]
    begins = text[start : start + 1]
    if begins == "[":
        return listed(path, text, hint, sieve)
    if begins == "{" and (inner := _wrapped(text)) is not None:
        return iter(inner)
    return _lines(text)


def _wrapped(text: str) -> list[tuple[str, msgspec.Raw | str]] | None:
    """The rows of a file that is one JSON object; None: it is none, or is itself a row."""
    try:
        whole = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _values(text)
    for name in LISTS:
        if bytes(whole.get(name, b"")).lstrip()[:1] == b"[":
            rows = msgspec.json.decode(whole[name], type=list[msgspec.Raw])
            if name != "conversations" or any(_is_conversation(bytes(row)) for row in rows):
                return [(f"{name}[{number}]", row) for number, row in enumerate(rows, 1)]
    return [("entry 1", text)] if "\n" in text.strip() else None


def _is_conversation(row: bytes) -> bool:
    """And not a turn of one."""
    return row.lstrip()[:1] == b"[" or b'"conversations"' in row or b'"messages"' in row


def _values(text: str) -> list[tuple[str, msgspec.Raw | str]] | None:
    """Of JSON values that are spread over lines; None: there is one a line, or no JSON."""
    first = text.lstrip().partition("\n")[0]
    try:
        msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        parts, left = parts_of_json(text)
        return [(f"entry {number}", part) for number, part in enumerate(parts, 1)] if parts and not left else None
    return None


def _lines(text: str) -> Iterator[tuple[str, msgspec.Raw | str]]:
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        row = line.strip("\x1e \t")  # RFC 7464 begins each row with a record separator
        if row and not row.startswith(_COMMENTS):
            yield f"line {number}", row


def listed(path: object, text: str, hint: str, sieve: Sieve) -> Iterator[tuple[str, msgspec.Raw | str]]:
    """The elements of a JSON list and where each stands; what is behind a fault of the list itself is left out.

    Lists one a line are each an element. Raises FileError: it is no JSON.
    """
    try:
        entries: Sequence[msgspec.Raw | str] = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError) as error:
        said = plain(str(error)).rstrip(".")
        if "trailing characters" in said and _one_a_line(text):
            yield from _lines(text)
            return
        entries, left = parts_of_json(text, text.index("[") + 1)
        if not entries:
            raise FileError(path, f"{said}; {hint}") from None
        if left:
            what = "cut off in the middle" if "truncated" in said else "that are no JSON, and all behind it"
            sieve.leave_out(Odd(what, FileError(path, f"{said}; {hint}")))
    except RecursionError:
        raise FileError(path, f"is nested too deep; {hint}") from None
    for number, raw in enumerate(entries, 1):
        yield f"entry {number}", raw


def _one_a_line(text: str) -> bool:
    try:
        msgspec.json.decode(text.lstrip().partition("\n")[0])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def parts_of_json(text: str, at: int = 0) -> tuple[list[str], bool]:
    """The JSON values from `at` on, with or without commas between them, as they are written, until a list's end; and
    whether something is left behind that is none. Takes halves of characters, NaN and a comma too many."""
    scan = json.JSONDecoder(parse_int=float)
    parts: list[str] = []
    try:
        while True:
            at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
            if text[at : at + 1] in ("", "]"):
                return parts, bool(text[at + 1 :].strip())
            start = at
            _, at = scan.raw_decode(text, start)
            parts.append(text[start:at])
    except (ValueError, RecursionError):
        return parts, True
