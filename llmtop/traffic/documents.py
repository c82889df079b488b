"""JSON in any of the forms that logs have, row by row: an object a line, a list of objects, or one document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import msgspec

from llmtop.domain.plain import plain
from llmtop.errors import FileError
from llmtop.traffic.columns import Columns
from llmtop.traffic.rows import MOST_BYTES, Odd, listed, parts_of_json, why_odd

LISTS = ("data", "logs", "items", "results", "rows", "response")
"""Under which an answer of an API has its rows."""
NO_JSON = "a log is a JSON list of objects, or an object a line"
SAMPLE = 20
"""Rows whose keys tell what a file is."""
_Raw = bytes | str | msgspec.Raw


class Taker(Protocol):
    """Reads rows of one source into columns."""

    kind: Any
    """The type of a row."""
    hint: str
    """How a row of it looks, for errors."""

    def take(self, row: Any) -> None:
        """Raises Odd."""


class Document:
    """A JSON file, its rows as they are written.

    Args:
        columns: whose `number` and `unit` say which row is read.
        lines: of the file, from its first that is not blank.

    Raises FileError: it is one document, and that is no JSON or larger than 1 GB.
    """

    def __init__(self, columns: Columns, lines: Iterator[bytes]) -> None:
        self._columns = columns
        head: list[_Raw] = []
        for line in lines:
            head.append(line)
            if len(head) >= SAMPLE:
                break
        self._rows: Iterator[_Raw] = chain(head, lines)
        if _is_whole(head):
            columns.unit = "entry"
            self._rows = self._elements()
            head = list(islice(self._rows, SAMPLE))
            self._rows = chain(head, self._rows)
        self.sample = [keys for row in head if (keys := keys_of(row)) is not None]
        """Of the first rows, what is under each key, unread."""

    def fill(self, taker: Taker) -> None:
        """Each row into the columns of `taker`; odd ones are left out."""
        columns, sieve, decode = self._columns, self._columns.sieve, msgspec.json.Decoder(taker.kind).decode
        take, path = taker.take, columns.path
        for number, raw in enumerate(self._rows, 1):
            try:
                row = decode(raw)
                columns.number = number
                take(row)
            except Odd as odd:
                sieve.leave_out(odd)
            except (msgspec.DecodeError, UnicodeError) as error:
                if not isinstance(raw, msgspec.Raw) and not raw.strip():
                    continue
                said = plain(str(error)).rstrip(".")
                sieve.leave_out(
                    Odd(why_odd(error), FileError(path, f"{said}; {taker.hint}", f"{columns.unit} {number}"))
                )
            except RecursionError:
                problem = FileError(path, f"is nested too deep; {taker.hint}", f"{columns.unit} {number}")
                sieve.leave_out(Odd("nested too deep", problem))

    def _elements(self) -> Iterator[_Raw]:
        """Of a list, of a list in an object, of objects one after the other, or of lines whose first cannot be read."""
        path, text = self._columns.path, _joined(self._columns.path, self._rows)
        if text.lstrip()[:1] == "[":
            if any(map(keys_of, text.split("\n", SAMPLE)[:SAMPLE])) and not _is_list(text):
                self._columns.unit = "line"
                return iter(text.split("\n"))
            return (raw for _, raw in listed(path, text, NO_JSON, self._columns.sieve))
        try:
            keys = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            parts, left = parts_of_json(text)
            if parts and not left:
                return iter(parts)
            self._columns.unit = "line"
            return iter(text.split("\n"))
        for key in LISTS:
            if key in keys and bytes(keys[key])[:1] == b"[":
                return (raw for _, raw in listed(path, bytes(keys[key]).decode(), NO_JSON, self._columns.sieve))
        return iter((text,))


def _is_whole(head: Sequence[_Raw]) -> bool:
    """Whether the file is one document and no object a line."""
    first = next((line.strip() for line in head if isinstance(line, bytes) and line.strip()), b"")
    if first[:1] == b"[":
        return True
    return keys_of(first) is None and not any(
        isinstance(line, bytes) and line[:1] == b"{" and keys_of(line) is not None for line in head
    )


def _is_list(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def keys_of(raw: _Raw) -> dict[str, msgspec.Raw] | None:
    """What is under each key of an object, unread; None: it is none."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _joined(path: object, rows: Iterator[_Raw]) -> str:
    parts, size = [], 0
    for row in rows:
        parts.append(row.encode() if isinstance(row, str) else bytes(row))
        size += len(parts[-1])
        if size > MOST_BYTES:
            most = f"{MOST_BYTES / 1e6:,.0f} MB"
            raise FileError(
                path, f"is one JSON document of more than {most}: write it as an object a line (jq -c '.[]')"
            )
    return b"\n".join(parts).decode("utf-8", "surrogateescape")
