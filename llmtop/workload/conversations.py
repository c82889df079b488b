"""The user's own prompts as a workload: ShareGPT conversations, JSONL and CSV. `parse_*` are pure.

sharegpt   conversations with their answers, in a JSON list or one a line; system turns may come first
jsonl      prompts or conversations, one a line or in a JSON list, in all forms of `llmtop.workload.entries`;
           or a CSV file with a column of prompts
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeVar

import msgspec

from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import Odd, Sieve, json_rows, path_of_workload, text_of
from llmtop.workload.entries import (
    COLUMNS_HINT,
    JSONL_HINT,
    PROMPT_NAMES,
    ROLES,
    SHAREGPT_HINT,
    TURN_NAMES,
    Columns,
    Conversation,
    Exchange,
    conversation_of,
    exchange_of,
    named,
)
from llmtop.workload.tokens import count_tokens

MOST_ROWS = 5000
"""Texts are counted up to this many: 1-3 s of tokenizing. More prompts than this come round again with a new head."""
MOST_CELL = 10_000_000
"""Characters of a cell of a CSV file."""
_MOST_SHOWN = 120
_HEAD = re.compile(r"[^\r\n]*")
_Row = TypeVar("_Row")


def read_conversations(
    workload: Workload, max_model_len: int | None = None
) -> tuple[tuple[Conversation, ...], tuple[str, ...]]:
    """The prompts of a sharegpt or jsonl workload, at most `MOST_ROWS`, with their tokens counted, and what is to be
    said of the file.

    ShareGPT is shuffled by the workload's seed and filtered as `vllm bench serve` does (vllm/benchmarks/datasets.py):
    4 to 1024 prompt tokens, at least 4 answer tokens, 2048 in all. JSONL keeps its order. Rows longer than
    `max_model_len` are left out. Raises FileError.
    """
    path = path_of_workload(workload)
    columns = columns_of(path, workload)
    text = text_of(path)
    sieve = Sieve(path)
    if workload.source == "jsonl":
        return _counted_jsonl(sieve, text, columns, max_model_len), sieve.said
    pairs = parse_sharegpt(path, text, sieve, columns)
    Random(workload.seed).shuffle(pairs)
    kept: list[Conversation] = []
    for some in _batches(pairs, 1000):
        prompts = count_tokens([pair.asked.text for pair in some])
        answers = count_tokens([pair.answer for pair in some])
        kept.extend(
            msgspec.structs.replace(pair.asked, tokens=asked, output_tokens=answered)
            for pair, asked, answered in zip(some, prompts, answers, strict=True)
            if 4 <= asked <= 1024 and answered >= 4 and asked + answered <= min(2048, max_model_len or 2048)
        )
        if len(kept) >= MOST_ROWS:
            break
    if not kept:
        raise FileError(path, "no conversation has 4 to 1024 prompt tokens and 4 or more answer tokens, 2048 in all")
    return tuple(kept[:MOST_ROWS]), sieve.said


def columns_of(path: object, workload: Workload) -> Columns:
    """Which field of a row is what. Raises FileError for what a field cannot be."""
    columns = dict(workload.columns)
    roles = ("messages",) if workload.source == "sharegpt" else ROLES
    for role in columns:
        if role not in roles:
            raise FileError(path, f"is nothing that a row has; allowed: {', '.join(roles)}", f"columns.{plain(role)}")
    if "prompt" in columns and "messages" in columns:
        raise FileError(path, "a row is a prompt or messages: name one of the two", "columns.messages")
    return columns


def parse_sharegpt(
    path: object, text: str, sieve: Sieve | None = None, columns: Columns | None = None
) -> list[Exchange]:
    """First question and first answer of every conversation, system turns before them."""
    sieve = sieve or Sieve(path)
    name = (columns or {}).get("messages")
    rows: list[Exchange] = []
    seen: list[object] = []
    for where, entry in json_rows(path, text, Any, SHAREGPT_HINT, sieve):
        _see(seen, entry)
        try:
            rows.append(exchange_of(path, where, entry if name is None else named(entry, name)))
        except Odd as odd:
            sieve.leave_out(odd)
    return _checked(rows, sieve, f"no conversation in it; {SHAREGPT_HINT}", seen, columns or {})


def parse_jsonl(
    path: object, text: str, sieve: Sieve | None = None, columns: Columns | None = None
) -> list[Conversation]:
    """Prompts or conversations, tokens not yet counted."""
    return [asked for asked, _ in _asked(path, text, sieve or Sieve(path), columns or {})]


def _asked(path: object, text: str, sieve: Sieve, columns: Columns) -> list[tuple[Conversation, str | None]]:
    """Each with the text, if any, that its answer is to be as long as."""
    rows: list[tuple[Conversation, str | None]] = []
    seen: list[object] = []
    table = _table(path, text, sieve, columns)
    for where, entry in table if table is not None else json_rows(path, text, Any, JSONL_HINT, sieve):
        _see(seen, entry)
        try:
            rows.append(conversation_of(path, where, entry, columns))
        except Odd as odd:
            sieve.leave_out(odd)
    return _checked(rows, sieve, f"no prompt in it; {JSONL_HINT}", seen, columns)


def _see(seen: list[object], entry: object) -> None:
    if len(seen) < MOST_ROWS:
        seen.append(entry)


def _checked(rows: list[_Row], sieve: Sieve, nothing: str, seen: Sequence[object], columns: Columns) -> list[_Row]:
    """The rows. Raises FileError: there are none, or a column that was named is in no row."""
    for role, name in columns.items():
        if seen and all(named(entry, name) is None for entry in seen):
            found = dict.fromkeys(str(key) for entry in seen[:10] if isinstance(entry, dict) for key in entry)
            problem = f"no row has {plain(name)!r}; rows have {plain(', '.join(found), _MOST_SHOWN) or 'no names'}"
            raise FileError(sieve.path, problem, f"columns.{role}")
    sieve.kept = len(rows)
    sieve.check(nothing)
    return rows


def _table(path: object, text: str, sieve: Sieve, columns: Columns) -> Iterator[tuple[str, object]] | None:
    """The rows of a CSV file whose header names a prompt; None: it is no CSV file. Raises FileError."""
    head = _HEAD.match(text.lstrip("\ufeff \r\n"))[0]  # type: ignore[index]
    if not head or head[0] in "[{" or head.startswith(("#", "//")) or '{"' in head:
        return None
    split = max(",;\t", key=head.count)
    try:
        names = next(csv.reader([head], delimiter=split))
    except csv.Error:
        return None
    wanted = [columns[role] for role in ROLES[:2] if role in columns] or [*PROMPT_NAMES, "instruction", *TURN_NAMES]
    if not any(name in names for name in wanted):
        if len(names) > 1 and all(name and len(name) <= 40 for name in names):
            found = plain(", ".join(names), _MOST_SHOWN)
            raise FileError(path, f"no column is the prompt (found: {found}); {COLUMNS_HINT}", "line 1")
        return None
    return _cells(path, text, split, sieve)


def _cells(path: object, text: str, split: str, sieve: Sieve) -> Iterator[tuple[str, object]]:
    usual = csv.field_size_limit(MOST_CELL)
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff \r\n"), newline=""), delimiter=split, restkey="")
    try:
        for row in reader:
            where, cells = f"line {reader.line_num}", {name: value for name, value in row.items() if name and value}
            try:
                "".join(map(str, cells.values())).encode()
            except UnicodeEncodeError:
                error = FileError(path, "has bytes that are no UTF-8", where)
                sieve.leave_out(Odd("with bytes that are no UTF-8", error))
                continue
            yield where, cells
    except csv.Error as error:
        raise FileError(path, f"is no CSV: {plain(str(error))}", f"line {reader.line_num}") from None
    finally:
        csv.field_size_limit(usual)


def _counted_jsonl(sieve: Sieve, text: str, columns: Columns, max_model_len: int | None) -> tuple[Conversation, ...]:
    rows = _asked(sieve.path, text, sieve, columns)[:MOST_ROWS]
    counts = count_tokens([asked.text for asked, _ in rows])
    answers = count_tokens([answer or "" for _, answer in rows])
    counted = [
        msgspec.structs.replace(asked, tokens=count, output_tokens=asked.output_tokens or answered or None)
        for (asked, _), count, answered in zip(rows, counts, answers, strict=True)
    ]
    kept = [row for row in counted if max_model_len is None or row.tokens + (row.output_tokens or 1) <= max_model_len]
    if not kept:
        raise FileError(sieve.path, f"no prompt fits into the {max_model_len} tokens that the model takes")
    return tuple(kept)


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
