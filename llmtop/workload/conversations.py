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
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec

from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import Odd, Sieve, json_rows, path_of_workload, text_of
from llmtop.workload.entries import (
    ASKED,
    COLUMNS_HINT,
    JSONL_HINT,
    PROMPT_NAMES,
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
"""Texts are counted up to this many: 1-3 s of tokenizing. The rest of a file is left out where rows come again anyway;
else their tokens are estimated by their characters."""
MOST_CELL = 10_000_000
"""Characters of a cell of a CSV file."""
_MOST_SHOWN = 120
_HEAD = re.compile(r"[^\r\n]*")
_Row = TypeVar("_Row")


class Counter:
    """Tokens of texts, exact up to `MOST_ROWS` of them."""

    def __init__(self) -> None:
        self._texts = self._characters = self._tokens = 0

    def count(self, texts: Sequence[str]) -> list[int]:
        exact = texts[: max(0, MOST_ROWS - self._texts)]
        counts = count_tokens(exact)
        self._texts += len(texts)
        self._characters += sum(map(len, exact))
        self._tokens += sum(counts)
        per_character = self._tokens / max(1, self._characters)
        return counts + [max(1, round(len(text) * per_character)) if text else 0 for text in texts[len(exact) :]]


def read_conversations(
    workload: Workload, max_model_len: int | None = None
) -> tuple[tuple[Conversation, ...], tuple[str, ...], str]:
    """The prompts of a sharegpt or jsonl workload with their tokens, at most `MOST_ROWS` where they come again; what is
    odd of the file; and what was read.

    ShareGPT is shuffled by the workload's seed and filtered as `vllm bench serve` does (vllm/benchmarks/datasets.py):
    4 to 1024 prompt tokens, at least 4 answer tokens, 2048 in all. JSONL keeps its order. Rows longer than
    `max_model_len` are left out. Raises FileError.
    """
    path = path_of_workload(workload)
    columns = dict(workload.columns)
    text = text_of(path)
    sieve = Sieve(path)
    most = MOST_ROWS if workload.repeat else None
    if workload.source == "jsonl":
        kept, of = _counted_jsonl(sieve, text, columns, max_model_len, most)
    else:
        pairs = parse_sharegpt(path, text, sieve, columns)
        Random(workload.seed).shuffle(pairs)
        kept, of = _counted_sharegpt(sieve, pairs, max_model_len, most)
    return tuple(kept), sieve.said, _summary(path, kept, of, sieve.kept)


def _summary(path: Path, kept: Sequence[Conversation], of: int, there_are: int) -> str:
    """`4,213 prompts of sharegpt.json, p50 120 tokens, 787 of other lengths left out`.

    Args:
        of: rows that were looked at.
        there_are: rows that could have been.
    """
    tokens = sorted(conversation.tokens for conversation in kept)[len(kept) // 2]
    prompts = "1 prompt" if len(kept) == 1 else f"{len(kept):,} prompts"
    if of < there_are:
        prompts = f"{len(kept):,} of the {there_are:,} prompts"
    left_out = f", {of - len(kept):,} of other lengths left out" if of > len(kept) else ""
    return f"{prompts} of {plain(path.name, 60)}, p50 {tokens:,} tokens{left_out}"


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
    wanted = [columns[role] for role in ASKED if role in columns] or [*PROMPT_NAMES, "instruction", *TURN_NAMES]
    if not any(name in names or name in map(str.lower, names) for name in wanted):
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


def _counted_sharegpt(
    sieve: Sieve, pairs: Sequence[Exchange], max_model_len: int | None, most: int | None
) -> tuple[list[Conversation], int]:
    """Those of a length that is taken, and out of how many."""
    kept: list[Conversation] = []
    prompts, answers, looked_at = Counter(), Counter(), 0
    for some in _batches(pairs, 1000):
        asked_tokens = prompts.count([pair.asked.text for pair in some])
        answer_tokens = answers.count([pair.answer for pair in some])
        for pair, asked, answered in zip(some, asked_tokens, answer_tokens, strict=True):
            if len(kept) == most:
                return kept, looked_at
            looked_at += 1
            if 4 <= asked <= 1024 and answered >= 4 and asked + answered <= min(2048, max_model_len or 2048):
                kept.append(msgspec.structs.replace(pair.asked, tokens=asked, output_tokens=answered))
    if not kept:
        problem = "no conversation has 4 to 1024 prompt tokens and 4 or more answer tokens, 2048 in all"
        raise FileError(sieve.path, problem)
    return kept, looked_at


def _counted_jsonl(
    sieve: Sieve, text: str, columns: Columns, max_model_len: int | None, most: int | None
) -> tuple[list[Conversation], int]:
    """Those that the model takes, and out of how many."""
    rows = _asked(sieve.path, text, sieve, columns)[:most]
    counts = Counter().count([asked.text for asked, _ in rows])
    answers = Counter().count([answer or "" for _, answer in rows])
    counted = [
        msgspec.structs.replace(asked, tokens=count, output_tokens=asked.output_tokens or answered or None)
        for (asked, _), count, answered in zip(rows, counts, answers, strict=True)
    ]
    kept = [row for row in counted if max_model_len is None or row.tokens + (row.output_tokens or 1) <= max_model_len]
    if not kept:
        raise FileError(sieve.path, f"no prompt fits into the {max_model_len} tokens that the model takes")
    return kept, len(rows)


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
