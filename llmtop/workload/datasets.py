"""The user's own files as workloads: ShareGPT conversations, JSONL prompts, Mooncake and Azure traces.

`read_*` open the file, compressed by gzip or not; `parse_*` are pure and tell the line of a fault.

    sharegpt   JSON list of {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]}
    jsonl      {"prompt": ...} or {"messages": [{"role": ..., "content": ...}, ...]} a line, optional output_tokens
    trace      Mooncake JSONL: {"timestamp": ms, "input_length": ..., "output_length": ..., "hash_ids": [...]} a line
               Azure CSV: TIMESTAMP,ContextTokens,GeneratedTokens
               plain CSV: arrival_s,input_tokens,output_tokens
"""

from __future__ import annotations

import calendar
import csv
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
from msgspec import Struct

from llmtop.domain.bounds import TIME_S, TOKENS, Quantity
from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError, UsageError
from llmtop.inputs import bytes_of, expanded
from llmtop.workload.tokens import count_tokens

MOST_ROWS = 5000
"""Texts are counted up to this many: 1-3 s of tokenizing. More prompts than this come round again with a new head."""
MOST_BYTES = 1_000_000_000
"""Of a file, unpacked: all of ShareGPT is two thirds of it."""
MOST_REQUESTS = 1_000_000
"""Of a trace: a rate of ten for a day."""
ARRIVAL_S = Quantity("arrival", 0, 1e11, "seconds")
"""Of any clock; how far they lie apart is what counts."""
OUTPUT_TOKENS = Quantity("tokens", 0, TOKENS.most, TOKENS.unit, whole=True)
"""0, of a request that was cut off, is read as 1."""
GZIP = b"\x1f\x8b"
BLOCK_TOKENS = 512
"""Tokens of one hash id of a Mooncake trace (kvcache-ai/Mooncake, FAST25-release/traces)."""

_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,20})?)(?:Z|\+00:00)?"
)
_Row = TypeVar("_Row")


class Conversation(Struct, frozen=True):
    """One prompt of the user's."""

    text: str
    tokens: int = 0
    output_tokens: int | None = None
    messages: tuple[dict[str, str], ...] | None = None


class TraceRow(Struct, frozen=True):
    """One request of a trace. Rows that begin with the same `blocks` begin with the same text."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS


def read_conversations(workload: Workload, max_model_len: int | None = None) -> tuple[Conversation, ...]:
    """The prompts of a sharegpt or jsonl workload, at most `MOST_ROWS`, with their tokens counted.

    ShareGPT is shuffled by the workload's seed and filtered as `vllm bench serve` does (vllm/benchmarks/datasets.py):
    4 to 1024 prompt tokens, at least 4 answer tokens, 2048 in all. JSONL keeps its order. Rows longer than
    `max_model_len` are left out. Raises FileError.
    """
    path = _path(workload)
    text = _text(path)
    if workload.source == "jsonl":
        return _counted_jsonl(path, text, max_model_len)
    pairs = parse_sharegpt(path, text)
    Random(workload.seed).shuffle(pairs)
    kept: list[Conversation] = []
    for some in _batches(pairs, 1000):
        prompts, answers = (count_tokens(side) for side in zip(*some, strict=True))
        kept.extend(
            Conversation(prompt, asked, answered)
            for (prompt, _), asked, answered in zip(some, prompts, answers, strict=True)
            if 4 <= asked <= 1024 and answered >= 4 and asked + answered <= min(2048, max_model_len or 2048)
        )
        if len(kept) >= MOST_ROWS:
            break
    if not kept:
        raise FileError(path, "no conversation has 4 to 1024 prompt tokens and 4 or more answer tokens, 2048 in all")
    return tuple(kept[:MOST_ROWS])


def read_trace(workload: Workload, max_model_len: int | None = None) -> tuple[TraceRow, ...]:
    """The requests of a trace in order of arrival. Rows longer than `max_model_len` are left out. Raises FileError."""
    path = _path(workload)
    rows = read_rows(path)
    kept = [row for row in rows if max_model_len is None or row.prompt_tokens + row.output_tokens <= max_model_len]
    if not kept:
        raise FileError(path, f"no request fits into the {max_model_len} tokens that the model takes")
    return tuple(kept)


def read_rows(path: Path) -> list[TraceRow]:
    """All requests of a trace or request list in order of arrival, the first at 0. Raises FileError."""
    text = _text(path)
    is_table = path.name.lower().removesuffix(".gz").endswith(".csv")
    rows = parse_csv_trace(path, text) if is_table else parse_mooncake(path, text)
    if not rows:
        raise FileError(path, "no request in it")
    return rows


def parse_sharegpt(path: object, text: str) -> list[tuple[str, str]]:
    """(first human turn, first answer) of every conversation that begins with them."""
    listed = _convert(lambda: msgspec.json.decode(text, type=list[_ShareGpt]), path, None, SHAREGPT_HINT)
    pairs = []
    for entry in listed:
        turns = entry.conversations
        if len(turns) >= 2 and turns[0].speaker in ("human", "user") and turns[0].value and turns[1].value:
            pairs.append((turns[0].value, turns[1].value))
    if not pairs:
        raise FileError(path, f"no conversation in it; {SHAREGPT_HINT}")
    return pairs


def parse_jsonl(path: object, text: str) -> list[Conversation]:
    """Prompts or conversations, tokens not yet counted."""
    rows = []
    for line, entry in _lines(path, text, _JsonlRow, JSONL_HINT):
        if (entry.prompt is None) == (entry.messages is None):
            raise FileError(path, f"give prompt or messages, one of the two; {JSONL_HINT}", f"line {line}")
        if entry.output_tokens is not None and not TOKENS.holds(entry.output_tokens):
            raise FileError(path, f"output_tokens must be {TOKENS.allowed}", f"line {line}")
        messages = None
        if entry.messages is not None:
            messages = tuple({"role": message.role, "content": message.content} for message in entry.messages)
        body = entry.prompt if entry.prompt is not None else "\n".join(turn["content"] for turn in messages or ())
        if not body:
            raise FileError(path, "the prompt is empty", f"line {line}")
        rows.append(Conversation(body, 0, entry.output_tokens, messages))
    if not rows:
        raise FileError(path, f"no prompt in it; {JSONL_HINT}")
    return rows


def parse_mooncake(path: object, text: str) -> list[TraceRow]:
    """A Mooncake trace: arrivals in milliseconds, lengths, and the hash ids of its 512-token blocks."""
    rows = []
    for line, entry in _lines(path, text, _Mooncake, MOONCAKE_HINT):
        figures = (
            ("timestamp", ARRIVAL_S, entry.timestamp / 1e3),
            ("input_length", TOKENS, entry.input_length),
            ("output_length", OUTPUT_TOKENS, entry.output_length),
        )
        for name, quantity, value in figures:
            if not quantity.holds(value):
                raise FileError(path, f"must be {quantity.allowed}", f"line {line}, {name}")
        rows.append(TraceRow(entry.timestamp / 1e3, entry.input_length, entry.output_length or 1, entry.hash_ids))
        _check_size(path, rows)
    return _from_zero(path, rows)


def parse_csv_trace(path: object, text: str) -> list[TraceRow]:
    """An Azure LLM inference trace, or arrival_s,input_tokens,output_tokens. Lines that begin with # are comments.

    Names of columns are read in any case, blanks around them left out.
    """
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line[:1] != "#"]
    reader = csv.reader(line for _, line in numbered)
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
            rows.append(_csv_row(path, line, names, [cells[place] if place < len(cells) else "" for place in places]))
            _check_size(path, rows)
    except csv.Error as error:
        raise FileError(path, f"{error}; {CSV_HINT}", f"line {reader.line_num}") from None
    if places is None:
        raise FileError(path, f"found the columns nothing; {CSV_HINT}", "line 1")
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
    """One request of a CSV trace. Raises FileError with line and column."""
    column = names[0]
    try:
        arrival_s = _unix_s(cells[0]) if column == "TIMESTAMP" else ARRIVAL_S.read(cells[0])
        column = names[1]
        prompt_tokens = TOKENS.read_whole(cells[1])
        column = names[2]
        output_tokens = OUTPUT_TOKENS.read_whole(cells[2])
    except ValueError as error:
        cell = plain(cells[names.index(column)], 60)
        raise FileError(path, f"{cell!r} {error}; {CSV_HINT}", f"line {line}, column {column}") from None
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


SHAREGPT_HINT = (
    'ShareGPT is a JSON list of {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}'
)
JSONL_HINT = 'a line is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, optional output_tokens'
MOONCAKE_HINT = (
    'a Mooncake line is {"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1]}; '
    "traces as CSV end in .csv"
)
CSV_HINT = "a trace has TIMESTAMP,ContextTokens,GeneratedTokens (Azure) or arrival_s,input_tokens,output_tokens"

_CSV_COLUMNS = (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), ("arrival_s", "input_tokens", "output_tokens"))


class _Turn(Struct):
    value: str
    speaker: str = msgspec.field(name="from", default="human")


class _ShareGpt(Struct):
    conversations: list[_Turn] = []


class _Message(Struct):
    role: str
    content: str


class _JsonlRow(Struct):
    prompt: str | None = None
    messages: list[_Message] | None = None
    output_tokens: int | None = None


class _Mooncake(Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def _path(workload: Workload) -> Path:
    if workload.file is None:
        raise UsageError(f"workload {workload.source} needs a file: [workload] file = ...")
    return expanded(workload.file)


def _text(path: Path) -> str:
    """Of a file, unpacked where it is compressed by gzip. Raises FileError."""
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
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, f"is not UTF-8 text (byte {error.start})") from None


def _counted_jsonl(path: Path, text: str, max_model_len: int | None) -> tuple[Conversation, ...]:
    rows = parse_jsonl(path, text)[:MOST_ROWS]
    counts = count_tokens([row.text for row in rows])
    counted = (msgspec.structs.replace(row, tokens=count) for row, count in zip(rows, counts, strict=True))
    kept = [row for row in counted if max_model_len is None or row.tokens + (row.output_tokens or 1) <= max_model_len]
    if not kept:
        raise FileError(path, f"no prompt fits into the {max_model_len} tokens that the model takes")
    return tuple(kept)


def _lines(path: object, text: str, kind: type[_Row], hint: str) -> Iterator[tuple[int, _Row]]:
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _convert(lambda line=line: decoder.decode(line), path, f"line {number}", hint)  # type: ignore[misc]


def _convert(decode: Callable[[], _Row], path: object, key: str | None, hint: str) -> _Row:
    try:
        return decode()
    except (msgspec.DecodeError, UnicodeError) as error:
        raise FileError(path, f"{plain(str(error)).rstrip('.')}; {hint}", key) from None
    except RecursionError:
        raise FileError(path, f"is nested too deep; {hint}", key) from None


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
    year, month, day, hour, minute, second = map(float, match.groups()) if match else (0.0,) * 6
    if not (year and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise ValueError("must be a time such as 2023-11-16 18:15:46.68")
    return calendar.timegm((int(year), int(month), int(day), int(hour), int(minute), 0)) + second


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
