"""Traces as tables: Azure, BurstGPT, and plain lists of requests.

Azure      TIMESTAMP,ContextTokens,GeneratedTokens; UTC (Azure/AzurePublicDataset, 2023 and 2024)
BurstGPT   Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,...; in seconds (HPMLL/BurstGPT)
plain      arrival_s,input_tokens,output_tokens

Names of columns are read in any case, blanks around them left out. Cells are parted by commas, or by the semicolons or
tabs that the line of names has. Lines that begin with # are comments.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llmtop.domain.bounds import TOKENS
from llmtop.domain.plain import plain
from llmtop.errors import FileError
from llmtop.traffic.columns import ARRIVAL_S, OUTPUT_TOKENS, WITHOUT_TIME, WITHOUT_TOKENS, Columns, hashed, shown, took
from llmtop.traffic.rows import Odd
from llmtop.traffic.times import Times, number_of

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
PLAIN = ("arrival_s", "input_tokens", "output_tokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
CSV_HINT = "a trace has TIMESTAMP,ContextTokens,GeneratedTokens (Azure) or arrival_s,input_tokens,output_tokens"
MOST_CELL = 16_000_000
"""Characters: of the longest prompts some millions."""
FAILED = "that failed"
_NOTHING = ("", "0", "null", "None", "NaN", "nan", "-")
_Take = Callable[[list[str]], None]


class Header:
    """The line of names of a table: what stands where."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.strip() for name in names]
        self._places = {name.lower(): place for place, name in reversed(list(enumerate(self.names)))}

    def has(self, names: Sequence[str]) -> bool:
        return all(name.lower() in self._places for name in names)

    def place(self, name: str) -> int:
        """-1: there is no such column."""
        return self._places.get(name.lower(), -1)


class Table:
    """A table's rows as cells, read line by line.

    Args:
        columns: whose `number` is set to the line that a row begins in.
        lines: of the file, from its first.

    Raises FileError: there is no line of names.
    """

    def __init__(self, columns: Columns, lines: Iterator[bytes]) -> None:
        self._columns = columns
        self._lines = lines
        self._back: deque[str] = deque()
        self._record: list[str] = []
        self._line = 0
        first = ""
        for first in self._feed():
            self._record.clear()
            if first.strip():
                break
        self._back.appendleft(first)
        self._line -= 1
        self._delimiter = max(",;\t", key=first.count)
        self._reader = self._begun()
        try:
            self.header = Header(next(self._reader, ()))
        except csv.Error as error:
            raise FileError(columns.path, f"{error}; {CSV_HINT}", f"line {self._line}") from None
        self._record.clear()

    def __iter__(self) -> Iterator[list[str]]:
        columns, record = self._columns, self._record
        while True:
            try:
                for cells in self._reader:
                    columns.number = self._line - len(record) + 1
                    yield cells
                    record.clear()
                return
            except csv.Error as error:
                self._line -= len(record) - 1
                columns.number = self._line
                self._back.extendleft(reversed(record[1:]))
                record.clear()
                self._reader = self._begun()
                columns.sieve.leave_out(columns.odd("that are no row of a table", f"{error}; {CSV_HINT}"))

    def _begun(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        record, back, lines = self._record, self._back, self._lines
        while True:
            if back:
                text = back.popleft()
            else:
                data = next(lines, None)
                if data is None:
                    return
                text = data.decode("utf-8", "surrogateescape")
            self._line += 1
            if text[:1] == "#" and not record:
                continue
            record.append(text)
            yield text


def fill(columns: Columns, table: Table, take: _Take) -> None:
    """Each row into the columns; odd ones are left out."""
    sieve, width = columns.sieve, len(table.header.names)
    for cells in table:
        if len(cells) < width:
            if not any(map(str.strip, cells)):
                continue
            cells.extend([""] * (width - len(cells)))
        try:
            take(cells)
        except Odd as odd:
            if any(map(str.strip, cells)):
                sieve.leave_out(odd)


@contextmanager
def long_cells() -> Iterator[None]:
    """Cells may hold whole prompts in it: those of a log that keeps them."""
    before = csv.field_size_limit(MOST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def azure(columns: Columns, header: Header, times: Times) -> _Take:
    at, prompt, output = map(header.place, AZURE)

    def take(cells: Sequence[str]) -> None:
        cell = cells[at]
        try:
            start_s = times.text_s(cell)
        except ValueError as error:
            raise _unread(columns, AZURE[0], cell, error) from None
        columns.add(start_s, _tokens(columns, AZURE[1], cells[prompt]), _answer(columns, AZURE[2], cells[output]))

    return take


def plain_list(columns: Columns, header: Header) -> _Take:
    at, prompt, output = map(header.place, PLAIN)

    def take(cells: Sequence[str]) -> None:
        start_s = _arrival(columns, PLAIN[0], cells[at])
        columns.add(start_s, _tokens(columns, PLAIN[1], cells[prompt]), _answer(columns, PLAIN[2], cells[output]))

    return take


def burstgpt(columns: Columns, header: Header) -> _Take:
    at, prompt, output = map(header.place, BURSTGPT)
    session, elapsed = header.place("Session ID"), header.place("Elapsed time")

    def take(cells: Sequence[str]) -> None:
        start_s = _arrival(columns, BURSTGPT[0], cells[at])
        asked = _tokens(columns, BURSTGPT[1], cells[prompt])
        if cells[output].strip() == "0":
            raise columns.odd(FAILED, f"a row without response tokens is a request that failed; {CSV_HINT}")
        columns.add(start_s, asked, _tokens(columns, BURSTGPT[2], cells[output]))
        if session >= 0:
            columns.sessions.append(hashed(cells[session]))
        if elapsed >= 0:
            columns.e2e.append(took(number_of(cells[elapsed].strip())))

    return take


def _arrival(columns: Columns, name: str, cell: str) -> float:
    try:
        return ARRIVAL_S.read(cell)
    except ValueError as error:
        raise _unread(columns, name, cell, error) from None


def _tokens(columns: Columns, name: str, cell: str) -> int:
    if len(cell) < 8 and cell.isdigit() and cell.isascii() and (tokens := int(cell)):
        return tokens
    try:
        return TOKENS.read_whole(cell)
    except ValueError as error:
        raise _unread(columns, name, cell, error) from None


def _answer(columns: Columns, name: str, cell: str) -> int:
    """0, of a request that was cut off, is read as 1."""
    if len(cell) < 8 and cell.isdigit() and cell.isascii():
        return int(cell) or 1
    try:
        return OUTPUT_TOKENS.read_whole(cell) or 1
    except ValueError as error:
        raise _unread(columns, name, cell, error) from None


def _unread(columns: Columns, name: str, cell: str, error: ValueError) -> Odd:
    why = f"with {name} that is no figure within bounds"
    if cell.strip() in _NOTHING:
        why = WITHOUT_TIME if name in (AZURE[0], BURSTGPT[0], PLAIN[0]) else WITHOUT_TOKENS
    return columns.odd(why, f"{shown(cell.strip())} {error}; {CSV_HINT}", f", column {name}")


def no_such(path: object, header: Header, hint: str) -> FileError:
    """A table of none of the known kinds."""
    if header.names and header.names[0].startswith("version https://git-lfs"):
        return FileError(path, "is a pointer of Git LFS and not the file: fetch it with `git lfs pull`")
    names = plain(",".join(header.names), 120)
    return FileError(path, f"{f'found the columns {names}' if names else 'has no names of columns'}; {hint}", "line 1")
