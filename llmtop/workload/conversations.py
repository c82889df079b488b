"""The user's own prompts as a workload: ShareGPT conversations and JSONL. `parse_*` are pure.

sharegpt   {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]}, in a JSON list
           or one a line; `role` and `content` for `from` and `value`; system turns may come first
jsonl      {"prompt": ...} or {"messages": [{"role": ..., "content": ...}, ...]} a line, optional output_tokens;
           or a line of an OpenAI batch, {"body": {"messages": ..., "max_tokens": ...}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from llmtop.domain.bounds import TOKENS
from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import Odd, Sieve, json_rows, path_of_workload, text_of
from llmtop.workload.tokens import count_tokens

MOST_ROWS = 5000
"""Texts are counted up to this many: 1-3 s of tokenizing. More prompts than this come round again with a new head."""
PROMPT_NAMES = ("prompt", "question", "text_input", "text", "query", "input")
"""What the prompt is called: by vLLM and llmtop, evalscope, genai-perf, aiperf, and others. The first that is there."""
OUTPUT_NAMES = ("output_tokens", "max_completion_tokens", "max_tokens")
SHAREGPT_HINT = (
    'ShareGPT is a JSON list of {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}'
)
JSONL_HINT = 'a line is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, optional output_tokens'
_ASKING = ("human", "user")
_SYSTEM = ("system", "developer")
_Row = TypeVar("_Row")
Message = dict[str, Any]


class Conversation(Struct, frozen=True):
    """One prompt of the user's."""

    text: str
    tokens: int = 0
    output_tokens: int | None = None
    messages: tuple[Message, ...] | None = None


class Exchange(Struct, frozen=True):
    """The head of a conversation: what is asked first, and what was answered."""

    asked: Conversation
    answer: str


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
    text = text_of(path)
    sieve = Sieve(path)
    if workload.source == "jsonl":
        return _counted_jsonl(sieve, text, max_model_len), sieve.said
    pairs = parse_sharegpt(path, text, sieve)
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


def parse_sharegpt(path: object, text: str, sieve: Sieve | None = None) -> list[Exchange]:
    """First human turn and first answer of every conversation that begins with them, system turns before them."""
    return _usable(
        path, text, sieve or Sieve(path), _exchange, f"no conversation in it; {SHAREGPT_HINT}", SHAREGPT_HINT
    )


def _exchange(path: object, where: str, entry: Message) -> Exchange:
    """Raises Odd."""
    listed = next((entry[name] for name in ("conversations", "conversation", "messages") if name in entry), None)
    if not isinstance(listed, list):
        raise Odd("without conversations", FileError(path, f"no conversations in it; {SHAREGPT_HINT}", where))
    turns = [_turn(turn) for turn in listed]
    start = next((place for place, (speaker, _) in enumerate(turns) if speaker not in _SYSTEM), len(turns))
    head = turns[start : start + 2]
    if len(head) < 2 or head[0][0] not in _ASKING:
        error = FileError(path, f"no conversation that begins with a question and its answer; {SHAREGPT_HINT}", where)
        raise Odd("that do not begin with a question and its answer", error)
    used = [text for _, text in turns[: start + 2]]
    if not all(used):
        raise Odd(
            "with a turn that is empty or no text", FileError(path, f"a turn has no text; {SHAREGPT_HINT}", where)
        )
    texts = [text for text in used if text]
    if start == 0:
        return Exchange(Conversation(texts[0]), texts[1])
    roles = ["system"] * start + ["user"]
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=False))
    return Exchange(Conversation("\n".join(texts[:-1]), messages=messages), texts[-1])


def _turn(turn: object) -> tuple[str, str | None]:
    """Who speaks, and what; None: no text."""
    if not isinstance(turn, dict):
        return "", None
    value = next((turn[name] for name in ("value", "content", "text") if name in turn), None)
    speaker = turn.get("from", turn.get("role", "human"))
    return str(speaker).lower(), _text_of_content(value)


def _text_of_content(content: object) -> str | None:
    """Of a message: its text, or that of its parts; None: it has parts that are no text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else None


def parse_jsonl(path: object, text: str, sieve: Sieve | None = None) -> list[Conversation]:
    """Prompts or conversations, tokens not yet counted."""
    return _usable(path, text, sieve or Sieve(path), _conversation, "no prompt", JSONL_HINT)


def _usable(
    path: object, text: str, sieve: Sieve, read: Callable[[object, str, Message], _Row], nothing: str, hint: str
) -> list[_Row]:
    """Every row that `read` takes; those that it calls Odd are left out. Raises FileError."""
    rows: list[_Row] = []
    for where, entry in json_rows(path, text, dict[str, Any], hint, sieve):
        try:
            rows.append(read(path, where, entry))
        except Odd as odd:
            sieve.leave_out(odd)
    sieve.kept = len(rows)
    sieve.check(f"{nothing} in it; {hint}")
    return rows


def _conversation(path: object, where: str, entry: Message) -> Conversation:
    """Raises Odd."""
    body = entry.get("body")
    fields = body if isinstance(body, dict) else entry
    name = next((name for name in PROMPT_NAMES if fields.get(name) is not None), None)
    listed = fields.get("messages")
    if isinstance(fields.get("input"), list) and name == "input":
        name, listed = None, fields["input"]
    if (listed is None) == (name is None):
        found = plain(", ".join(fields), 120)
        error = FileError(path, f"give prompt or messages, one of the two (found: {found}); {JSONL_HINT}", where)
        raise Odd("without a prompt" if listed is None else "with a prompt and messages", error)
    output_tokens = next((fields[key] for key in OUTPUT_NAMES if fields.get(key) is not None), None)
    if output_tokens is not None and not (type(output_tokens) is int and TOKENS.holds(output_tokens)):
        error = FileError(path, f"output_tokens must be {TOKENS.allowed}", where)
        raise Odd("with an output length that cannot be asked for", error)
    if name is not None:
        text = fields[name]
        if not isinstance(text, str):
            raise Odd("with a prompt that is no text", FileError(path, f"{name} must be text; {JSONL_HINT}", where))
        messages = None
    else:
        messages = _messages(path, where, listed)
        text = "\n".join(filter(None, (_text_of_content(message.get("content")) for message in messages)))
    if not text:
        raise Odd("with an empty prompt", FileError(path, "the prompt is empty", where))
    return Conversation(text, 0, output_tokens, messages)


def _messages(path: object, where: str, listed: object) -> tuple[Message, ...]:
    """A conversation, which is sent as it stands. Raises Odd."""
    if not isinstance(listed, list) or not all(isinstance(turn, dict) and "role" in turn for turn in listed):
        error = FileError(path, f"messages must be a list of turns with a role; {JSONL_HINT}", where)
        raise Odd("with messages that are no turns", error)
    for turn in listed:
        if turn.get("content") is not None and _text_of_content(turn["content"]) is None:
            error = FileError(path, f"a message has a part that is no text; {JSONL_HINT}", where)
            raise Odd("with a part that is no text", error)
    return tuple(listed)


def _counted_jsonl(sieve: Sieve, text: str, max_model_len: int | None) -> tuple[Conversation, ...]:
    rows = parse_jsonl(sieve.path, text, sieve)[:MOST_ROWS]
    counts = count_tokens([row.text for row in rows])
    counted = (msgspec.structs.replace(row, tokens=count) for row, count in zip(rows, counts, strict=True))
    kept = [row for row in counted if max_model_len is None or row.tokens + (row.output_tokens or 1) <= max_model_len]
    if not kept:
        raise FileError(sieve.path, f"no prompt fits into the {max_model_len} tokens that the model takes")
    return tuple(kept)


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
