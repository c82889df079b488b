"""Recorded traces as workloads: Mooncake, Azure, BurstGPT, and plain tables. `parse_*` are pure.

Mooncake JSONL   {"timestamp": ms, "input_length": ..., "output_length": ..., "hash_ids": [...]} a line
Azure CSV        TIMESTAMP,ContextTokens,GeneratedTokens
BurstGPT CSV     Timestamp,Request tokens,Response tokens, in seconds
plain CSV        arrival_s,input_tokens,output_tokens
"""

from __future__ import annotations

import calendar
import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from llmtop.domain.bounds import TIME_S, TOKENS, Quantity
from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import Odd, Sieve, json_rows, path_of_workload, text_of

MOST_REQUESTS = 1_000_000
"""Of a trace: a rate of ten for a day."""
ARRIVAL_S = Quantity("arrival", 0, 1e11, "seconds")
"""Of any clock; how far they lie apart is what counts."""
OUTPUT_TOKENS = Quantity("tokens", 0, TOKENS.most, TOKENS.unit, whole=True)
"""0, of a request that was cut off, is read as 1."""
BLOCK_TOKENS = 512
"""Tokens of one hash id of a Mooncake trace (kvcache-ai/Mooncake, FAST25-release/traces)."""
BLOCKS = (BLOCK_TOKENS, 256, 128, 64, 32, 16)
"""Sizes that a block may have; 16 in Alibaba's traces (alibaba-edu/qwen-bailian-usagetraces-anon)."""
LEAST_GAP_MS = 10.0
"""Timestamps that lie closer on average, those of bursts counted once, are seconds: a hundred moments a second at which
requests came are more than a recorded service has had, and one in ten seconds would still be a trace."""
BRIEF_GAP_MS, BRIEF_MS = 100.0, 10_000.0
"""And those that lie closer than the first in a trace shorter than the second: nobody records so short a time, and what
is guessed wrong goes too slowly, never a thousand times too fast."""

_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,20})?)"
    r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?"
)


class TraceRow(Struct, frozen=True):
    """One request of a trace. Rows that begin with the same `blocks` begin with the same text."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS


def read_trace(workload: Workload, max_model_len: int | None = None) -> tuple[tuple[TraceRow, ...], tuple[str, ...]]:
    """The requests of a trace in order of arrival, and what is to be said of the file.

    Rows longer than `max_model_len` are left out. Raises FileError.
    """
    path = path_of_workload(workload)
    rows, said = read_rows(path)
    kept = [row for row in rows if max_model_len is None or row.prompt_tokens + row.output_tokens <= max_model_len]
    if not kept:
        raise FileError(path, f"no request fits into the {max_model_len} tokens that the model takes")
    if longer := len(rows) - len(kept):
        said = (
            *said,
            f"{longer:,} of {len(rows):,} requests left out: longer than the {max_model_len:,} tokens of the model",
        )
    return tuple(kept), said


def read_rows(path: Path) -> tuple[list[TraceRow], tuple[str, ...]]:
    """All requests of a trace or request list in order of arrival, the first at 0, and what is to be said of the file.

    Raises FileError.
    """
    text = text_of(path)
    sieve = Sieve(path)
    is_table = path.name.lower().removesuffix(".gz").endswith(".csv")
    rows = (parse_csv_trace if is_table else parse_mooncake)(path, text, sieve)
    return rows, sieve.said


def parse_mooncake(path: object, text: str, sieve: Sieve | None = None) -> list[TraceRow]:
    """A Mooncake trace: arrivals in milliseconds, lengths, and the hash ids of its 512-token blocks.

    Arrivals that lie too close for milliseconds are taken as seconds, and blocks as of the size that fits the lengths.
    """
    sieve = sieve or Sieve(path)
    entries: list[_Mooncake] = []
    for where, entry in json_rows(path, text, _Mooncake, MOONCAKE_HINT, sieve):
        try:
            _check_entry(path, where, entry)
        except Odd as odd:
            sieve.leave_out(odd)
            continue
        entries.append(entry)
        _check_size(path, entries)
    sieve.kept = len(entries)
    sieve.check(f"no request in it; {MOONCAKE_HINT}")
    unit_s = _unit_s([entry.timestamp or 0.0 for entry in entries], sieve)
    size = _block_tokens(entries, sieve)
    rows = [
        TraceRow(
            (entry.timestamp or 0.0) * unit_s,
            entry.input_length or 1,
            entry.output_length or 1,
            entry.hash_ids or (),
            size,
        )
        for entry in entries
    ]
    return _from_zero(path, rows)


def _check_entry(path: object, where: str, entry: _Mooncake) -> None:
    """Raises Odd."""
    figures = (
        ("timestamp", ARRIVAL_MS, entry.timestamp, "without a time"),
        ("input_length", TOKENS, entry.input_length, "without tokens"),
        ("output_length", OUTPUT_TOKENS, entry.output_length, "without tokens"),
    )
    for name, quantity, value, missing in figures:
        if value is None or not quantity.holds(value):
            why = missing if not value else f"with {name} out of bounds"
            raise Odd(why, FileError(path, f"must be {quantity.allowed}", f"{where}, {name}"))


def _unit_s(timestamps: Sequence[float], sieve: Sieve) -> float:
    """Seconds of one unit of a Mooncake-like trace's timestamps."""
    moments = set(timestamps)
    first, last = min(moments), max(moments)
    gap = (last - first) / max(1, len(moments) - 1)
    if len(moments) == 1 or gap >= (BRIEF_GAP_MS if last - first < BRIEF_MS else LEAST_GAP_MS):
        return 1e-3
    lasts = f"the trace lasts {last - first:,.0f} s"
    sieve.notes.append(f"timestamps taken as seconds: as milliseconds they would lie {gap:.3g} ms apart ({lasts})")
    return 1.0


def _block_tokens(entries: Sequence[_Mooncake], sieve: Sieve) -> int:
    """Tokens of one hash id: the size that fits the lengths of most rows."""
    asked = [(entry.input_length or 1, len(entry.hash_ids)) for entry in entries if entry.hash_ids]
    fits = {size: sum(-(-length // size) == count for length, count in asked) for size in BLOCKS}
    best = max(BLOCKS, key=lambda size: fits[size])
    if best == BLOCK_TOKENS or 2 * fits[best] < len(asked):
        return BLOCK_TOKENS
    sieve.notes.append(f"hash_ids taken as blocks of {best} tokens, which fits the lengths")
    return best


def parse_csv_trace(path: object, text: str, sieve: Sieve | None = None) -> list[TraceRow]:
    """An Azure or BurstGPT trace, or arrival_s,input_tokens,output_tokens. Lines that begin with # are comments.

    Names of columns are read in any case, blanks around them left out. Cells are parted by commas, or by the semicolons
    or tabs that the line of names has.
    """
    sieve = sieve or Sieve(path)
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line[:1] != "#"]
    header = next((line for _, line in numbered if line.strip()), "")
    reader = csv.reader((line for _, line in numbered), delimiter=max(",;\t", key=header.count))
    rows: list[TraceRow] = []
    places: list[int] | None = None
    names: tuple[str, ...] = ()
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            line = numbered[reader.line_num - 1][0]
            if places is None:
                names, places = _columns(path, cells)
                continue
            used = [cells[place] if place < len(cells) else "" for place in places]
            try:
                rows.append(_csv_row(path, line, names, used))
            except Odd as odd:
                sieve.leave_out(odd)
            _check_size(path, rows)
    except csv.Error as error:
        raise FileError(path, f"{error}; {CSV_HINT}", f"line {reader.line_num}") from None
    if places is None:
        raise FileError(path, f"found the columns nothing; {CSV_HINT}", "line 1")
    sieve.kept = len(rows)
    sieve.check("no request in it")
    return _from_zero(path, rows)


def _columns(path: object, header: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """The names of arrival, prompt and answer, and where they stand."""
    found = [name.strip() for name in header]
    lower = [name.lower() for name in found]
    for names in _CSV_COLUMNS:
        if {name.lower() for name in names} <= set(lower):
            return names, [lower.index(name.lower()) for name in names]
    raise FileError(path, f"found the columns {plain(','.join(found), 120)}; {CSV_HINT}", "line 1")


def _csv_row(path: object, line: int, names: Sequence[str], cells: Sequence[str]) -> TraceRow:
    """One request of a CSV trace. Raises Odd with line and column."""
    column = names[0]
    answers = TOKENS if column == _BURSTGPT[0] else OUTPUT_TOKENS
    try:
        arrival_s = _unix_s(cells[0]) if column == "TIMESTAMP" else ARRIVAL_S.read(cells[0])
        column = names[1]
        prompt_tokens = TOKENS.read_whole(cells[1])
        column = names[2]
        output_tokens = answers.read_whole(cells[2])
    except ValueError as error:
        cell = cells[names.index(column)].strip()
        why = f"with {column} that is no figure within bounds"
        if cell in _NOTHING:
            why = "without a time" if column == names[0] else "without tokens"
        said = FileError(path, f"{plain(cell, 60)!r} {error}; {CSV_HINT}", f"line {line}, column {column}")
        raise Odd(why, said) from None
    return TraceRow(arrival_s, prompt_tokens, output_tokens or 1)


def arrivals_replay(arrivals_s: Sequence[float], *, window_s: float = 10.0, times: float = 1.0) -> Replay:
    """A trace's arrivals, in their order, as a load shape: its mean rate in each window, `times` as fast.

    Has no more points than two for each arrival, however long nothing comes.
    """
    points: list[tuple[float, LoadPoint]] = []
    counts = Counter(int(arrival // window_s) for arrival in arrivals_s)
    if arrivals_s and 0 not in counts:
        points.append((0.0, LoadPoint(rate_rps=0.0)))
    for place, count in counts.items():
        points.append((place * window_s / times, LoadPoint(rate_rps=count / window_s * times)))
        if place + 1 not in counts and place != int(arrivals_s[-1] // window_s):
            points.append(((place + 1) * window_s / times, LoadPoint(rate_rps=0.0)))
    return Replay(tuple(points))


MOONCAKE_HINT = (
    'a Mooncake line is {"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1]}; '
    "traces as CSV end in .csv"
)
CSV_HINT = "a trace has TIMESTAMP,ContextTokens,GeneratedTokens (Azure) or arrival_s,input_tokens,output_tokens"
ARRIVAL_MS = Quantity("timestamp", 0, 1e14, "milliseconds")

_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
"""Failed requests are its rows without response tokens (HPMLL/BurstGPT, README)."""
_CSV_COLUMNS = (
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("arrival_s", "input_tokens", "output_tokens"),
    _BURSTGPT,
)
_NOTHING = ("", "0", "null", "None", "NaN", "nan", "-")


class _Mooncake(Struct):
    timestamp: float | None
    input_length: int | None
    output_length: int | None
    hash_ids: tuple[int, ...] | None = ()


def _check_size(path: object, rows: Sequence[object]) -> None:
    if len(rows) > MOST_REQUESTS:
        raise FileError(path, f"has more than {MOST_REQUESTS:,} requests: cut it")


def _from_zero(path: object, rows: Sequence[TraceRow]) -> list[TraceRow]:
    ordered = sorted(rows, key=lambda row: row.arrival_s)
    first = ordered[0].arrival_s if ordered else 0.0
    if ordered and not TIME_S.holds(ordered[-1].arrival_s - first):
        days = (ordered[-1].arrival_s - first) / 86_400
        raise FileError(path, f"its requests lie {days:,.0f} days apart; a plan lasts {TIME_S.most / 86_400:g} at most")
    return [msgspec.structs.replace(row, arrival_s=row.arrival_s - first) for row in ordered]


def _unix_s(text: str) -> float:
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a time such as 2023-11-16 18:15:46.68")
    year, month, day, hour, minute = map(int, match.groups()[:5])
    second, sign = float(match[6]), match[7]
    if not (year and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise ValueError("must be a time such as 2023-11-16 18:15:46.68")
    east_s = int(match[8]) * 3600 + int(match[9]) * 60 if sign else 0
    return calendar.timegm((year, month, day, hour, minute, 0)) + second - (east_s if sign == "+" else -east_s)
