"""The user's own files as workloads: ShareGPT conversations, JSONL prompts, Mooncake and Azure traces.

`read_*` open the file; `parse_*` are pure and tell the line of a fault.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
from msgspec import Struct

from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.profile import Workload
from llmtop.errors import FileError, UsageError
from llmtop.workload.tokens import count_tokens

MOST_ROWS = 5000
"""Texts are counted up to this many: 1-3 s of tokenizing. More prompts than this come round again with a new head."""
BLOCK_TOKENS = 512
"""Tokens of one hash id of a Mooncake trace (kvcache-ai/Mooncake, FAST25-release/traces)."""

_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d(?:\.\d+)?)(?:Z|\+00:00)?")
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
    rows = parse_csv_trace(path, text) if path.suffix.lower() == ".csv" else parse_mooncake(path, text)
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
        if entry.output_tokens is not None and entry.output_tokens < 1:
            raise FileError(path, "output_tokens must be 1 or more", f"line {line}")
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
        row = TraceRow(entry.timestamp / 1e3, entry.input_length, entry.output_length, entry.hash_ids)
        rows.append(_checked(path, line, row))
    return _from_zero(rows)


def parse_csv_trace(path: object, text: str) -> list[TraceRow]:
    """An Azure LLM inference trace, or arrival_s,input_tokens,output_tokens. Lines that begin with # are comments."""
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if not line.startswith("#")]
    reader = csv.DictReader(line for _, line in numbered)
    header = tuple(name.strip() for name in reader.fieldnames or ())
    reader.fieldnames = header
    columns = next((names for names in _CSV_COLUMNS if set(names) <= set(header)), None)
    if columns is None:
        found = ",".join(header) or "nothing"
        raise FileError(path, f"found the columns {found}; {CSV_HINT}", "line 1")
    rows = []
    for entry in reader:
        line = numbered[reader.line_num - 1][0]
        arrival, prompt, output = (entry[name] or "" for name in columns)
        try:
            seconds = _unix_s(arrival) if columns[0] == "TIMESTAMP" else float(arrival)
            row = TraceRow(seconds, int(prompt), int(output))
        except ValueError:
            raise FileError(path, f"{arrival},{prompt},{output} cannot be read; {CSV_HINT}", f"line {line}") from None
        rows.append(_checked(path, line, row))
    return _from_zero(rows)


def arrivals_replay(arrivals_s: Sequence[float], *, window_s: float = 10.0, times: float = 1.0) -> Replay:
    """A trace's arrivals as a load shape: its mean rate in each window, `times` as fast."""
    if not arrivals_s:
        return Replay(())
    counts = [0] * (int(arrivals_s[-1] // window_s) + 1)
    for arrival in arrivals_s:
        counts[int(arrival // window_s)] += 1
    points = []
    for place, count in enumerate(counts):
        points.append((place * window_s / times, LoadPoint(rate_rps=count / window_s * times)))
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
    return Path(workload.file).expanduser()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror or error}") from None
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
    except msgspec.DecodeError as error:
        raise FileError(path, f"{str(error).rstrip('.')}; {hint}", key) from None


def _checked(path: object, line: int, row: TraceRow) -> TraceRow:
    if row.prompt_tokens < 1 or row.output_tokens < 0 or not 0 <= row.arrival_s < float("inf"):
        raise FileError(path, "a request needs an arrival from 0 on and 1 or more prompt tokens", f"line {line}")
    return row if row.output_tokens else msgspec.structs.replace(row, output_tokens=1)


def _from_zero(rows: Iterable[TraceRow]) -> list[TraceRow]:
    ordered = sorted(rows, key=lambda row: row.arrival_s)
    first = ordered[0].arrival_s if ordered else 0.0
    return [msgspec.structs.replace(row, arrival_s=row.arrival_s - first) for row in ordered]


def _unix_s(text: str) -> float:
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    *whole, seconds = match.groups()
    year, month, day, hour, minute = map(int, whole)
    return calendar.timegm((year, month, day, hour, minute, 0)) + float(seconds)


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
