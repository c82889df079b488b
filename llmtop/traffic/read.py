"""The door to recorded requests: whatever a log is called, its content tells what it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from llmtop.errors import UsageError
from llmtop.inputs import expanded
from llmtop.traffic import mooncake, tables
from llmtop.traffic.columns import MOST_ROWS, Columns
from llmtop.traffic.documents import Document
from llmtop.traffic.lines import lines_of, lines_of_file
from llmtop.traffic.table import Traffic
from llmtop.traffic.times import Times

Unit = Literal["ms", "s"]
SOURCES = {
    "azure": "Azure trace (TIMESTAMP,ContextTokens,GeneratedTokens)",
    "burstgpt": "BurstGPT trace (Timestamp,Request tokens,Response tokens)",
    "csv": "list of requests (arrival_s,input_tokens,output_tokens)",
    "mooncake": "Mooncake trace (timestamp, input_length, output_length, hash_ids)",
}
"""What can be read, by the name that chooses it."""
KNOWN = "known are: " + "; ".join(SOURCES.values())


def read(path: str | Path, *, source: str | None = None, unit: Unit | None = None, most: int = MOST_ROWS) -> Traffic:
    """The requests of a log or trace, in order of arrival, the first at 0.

    Args:
        path: plain or compressed by gzip, in UTF-8 or UTF-16, with or without a byte order mark.
        source: one of `SOURCES`; None: told by the content.
        unit: of times that are plain numbers; None: guessed where the source does not tell, and said.
        most: requests; a longer file is refused.

    Raises:
        FileError: it cannot be read, is of no known kind, or no row of it can be used.
        UsageError: there is no such source.
    """
    place = expanded(path)
    return _read(place, lines_of_file(place), source, unit, most)


def parse(
    path: object, data: bytes, *, source: str | None = None, unit: Unit | None = None, most: int = MOST_ROWS
) -> Traffic:
    """As `read`, of the bytes of a file; `path` is for errors."""
    return _read(path, lines_of(path, (data,)), source, unit, most)


def _read(path: object, lines: Iterator[bytes], source: str | None, unit: Unit | None, most: int) -> Traffic:
    if source is not None and source not in SOURCES:
        raise UsageError(f"source {source!r} is not known; use {', '.join(SOURCES)}")
    head: list[bytes] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    columns = Columns(path, most=most)
    first = head[-1].lstrip() if head else b""
    lines = chain(head, lines)
    return (_documents if first[:1] in (b"{", b"[") else _tables)(columns, lines, source, unit)


def _tables(columns: Columns, lines: Iterator[bytes], source: str | None, unit: Unit | None) -> Traffic:
    table, times = tables.Table(columns, lines), Times()
    header = table.header
    scale_s = 1e-3 if unit == "ms" else 1.0
    if header.has(tables.AZURE) and source in (None, "azure"):
        tables.fill(columns, table, tables.azure(columns, header, times))
        return columns.table("Azure trace", NOTHING, wall=True)
    if header.has(tables.PLAIN) and source in (None, "csv"):
        tables.fill(columns, table, tables.plain_list(columns, header))
        return columns.table("list of requests", NOTHING, scale_s=scale_s)
    if header.has(tables.BURSTGPT) and source in (None, "burstgpt"):
        tables.fill(columns, table, tables.burstgpt(columns, header))
        return columns.table("BurstGPT trace", NOTHING, scale_s=scale_s)
    raise tables.no_such(columns.path, header, f"{tables.CSV_HINT}; {KNOWN}")


def _documents(columns: Columns, lines: Iterator[bytes], source: str | None, unit: Unit | None) -> Traffic:
    document = Document(columns, lines)
    taker = mooncake.Mooncake(columns, unit)
    document.fill(taker)
    columns.sieve.kept = len(columns.start)
    columns.sieve.check(f"{NOTHING}; {taker.hint}")
    return columns.table("Mooncake trace", NOTHING, scale_s=taker.done())


NOTHING = "no request in it"
