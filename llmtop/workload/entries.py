"""One entry of a data set: what is asked, and what was answered. Pure.

prompt      {"prompt": ...}, by any of `PROMPT_NAMES`; {"instruction": ..., "input": ...}; a text alone
messages    {"messages": [{"role": ..., "content": ...}, ...]}, a list of turns alone
ShareGPT    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]}
OpenAI      a line of a batch file, {"url": ..., "body": {"messages": ..., "max_tokens": ...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from llmtop.domain.bounds import TOKENS
from llmtop.domain.plain import plain
from llmtop.errors import FileError
from llmtop.traffic.rows import Odd

PROMPT_NAMES = ("prompt", "question", "text_input", "text", "query", "input", "inputs", "user_prompt", "content")
"""What the prompt is called: by vLLM and llmtop, evalscope, genai-perf, aiperf, and others. The first that is there."""
INPUT_NAMES = ("input", "context")
"""What stands beside an `instruction`, in Alpaca and Dolly, and is part of the prompt."""
OUTPUT_NAMES = (
    "output_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "output_length",
    "output_len",
    "expected_output_len",
)
TURN_NAMES = ("conversations", "conversation", "messages", "turns", "data")
ASKED = ("prompt", "messages")
"""Columns of which a row has one."""
SHAREGPT_HINT = (
    'ShareGPT is a JSON list of {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}'
)
JSONL_HINT = 'a line is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, optional output_tokens'
COLUMNS_HINT = '[workload] columns = { prompt = "NAME" }, or --columns prompt=NAME, tells which field is the prompt'
_ASKING = ("human", "user")
_SYSTEM = ("system", "developer")
_ANSWERING = ("gpt", "assistant", "chatgpt", "bing", "bard", "model")
_OF_RESPONSES = ("input_text", "output_text")
_MOST_SHOWN = 120
Message = dict[str, Any]
Columns = Mapping[str, str]


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


def exchange_of(path: object, where: str, entry: object) -> Exchange:
    """First human turn and its answer; system turns stay before them, and an answer to nothing is passed over.

    Raises Odd.
    """
    named = entry if isinstance(entry, dict) else {"messages": entry}
    listed = next((named[name] for name in TURN_NAMES if name in named), None)
    if not isinstance(listed, list):
        raise Odd("without conversations", FileError(path, f"no conversations in it; {SHAREGPT_HINT}", where))
    turns = [_turn(turn) for turn in listed]
    system = [turn for turn in turns[: _start(turns, _SYSTEM)] if turn[0] in _SYSTEM]
    begun = turns[len(system) :]
    head = begun[_start(begun, _ANSWERING) :][:2]
    if len(head) < 2 or head[0][0] not in _ASKING:
        error = FileError(path, f"no conversation that begins with a question and its answer; {SHAREGPT_HINT}", where)
        raise Odd("that do not begin with a question and its answer", error)
    texts = [text for _, text in (*system, *head) if text]
    if len(texts) < len(system) + 2:
        error = FileError(path, f"a turn has no text; {SHAREGPT_HINT}", where)
        raise Odd("with a turn that is empty or no text", error)
    if not system:
        return Exchange(Conversation(texts[0]), texts[1])
    roles = ["system"] * len(system) + ["user"]
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=False))
    return Exchange(Conversation("\n".join(texts[:-1]), messages=messages), texts[-1])


def _start(turns: list[tuple[str, str | None]], passed: tuple[str, ...]) -> int:
    return next((place for place, (speaker, _) in enumerate(turns) if speaker not in passed), len(turns))


def _turn(turn: object) -> tuple[str, str | None]:
    """Who speaks, and what; None: no text."""
    if not isinstance(turn, dict):
        return "", None
    value = next((turn[name] for name in ("value", "content", "text") if name in turn), None)
    speaker = turn.get("from", turn.get("role", "human"))
    return str(speaker).lower(), text_of_content(value)


def text_of_content(content: object) -> str | None:
    """Of a message: its text, or that of its parts; None: it has parts that are no text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else None


def conversation_of(path: object, where: str, entry: object, columns: Columns) -> tuple[Conversation, str | None]:
    """What is asked, and a text that is as long as the answer that is asked for. Raises Odd.

    Args:
        columns: of `llmtop.domain.profile.COLUMNS`, the field that each is; a dot leads into a table.
    """
    fields = _fields(entry)
    output_tokens = _output_tokens(path, where, fields, columns)
    answer = _named(fields, columns["answer"]) if "answer" in columns else None
    prompt, listed = _said(fields, columns)
    if (prompt is None) == (listed is None):
        found = plain(", ".join(map(str, fields)), _MOST_SHOWN)
        want = f"give prompt or messages, one of the two (found: {found}); {COLUMNS_HINT if found else JSONL_HINT}"
        raise Odd("without a prompt" if listed is None else "with a prompt and messages", FileError(path, want, where))
    messages = None
    if listed is not None:
        if _is_sharegpt(listed):
            exchange = exchange_of(path, where, listed)
            return msgspec.structs.replace(exchange.asked, output_tokens=output_tokens), exchange.answer
        messages = _messages(path, where, listed)
        text = "\n".join(filter(None, (text_of_content(message.get("content")) for message in messages)))
    elif isinstance(prompt, str):
        text = prompt
    else:
        raise Odd("with a prompt that is no text", FileError(path, f"the prompt must be text; {JSONL_HINT}", where))
    if not text.strip():
        raise Odd("with an empty prompt", FileError(path, "the prompt is empty", where))
    return Conversation(text, 0, output_tokens, messages), answer if isinstance(answer, str) else None


def _fields(entry: object) -> dict[str, Any]:
    """Of an entry as other tools wrap it; a text alone is a prompt, a list alone is a conversation."""
    if isinstance(entry, str):
        return {"prompt": entry}
    if isinstance(entry, list):
        return {"messages": entry}
    if not isinstance(entry, dict):
        return {}
    fields = next((entry[name] for name in ("body", "row", "request") if isinstance(entry.get(name), dict)), entry)
    known = {
        name: name.lower() for name in fields if not name.islower() and name.lower() in (*PROMPT_NAMES, *TURN_NAMES)
    }
    return {known.get(name, name): value for name, value in fields.items()} if known else fields


def _named(fields: Mapping[str, Any], name: str) -> Any:
    """The field of that name, or the one that its dots lead to; None: there is none."""
    if name in fields:
        return fields[name]
    head, dot, rest = name.partition(".")
    inner = fields.get(head)
    return _named(inner, rest) if dot and isinstance(inner, dict) else None


def named(entry: object, name: str) -> Any:
    """The field of an entry, also of one that other tools wrap; None: there is none."""
    return _named(_fields(entry), name)


def _said(fields: Mapping[str, Any], columns: Columns) -> tuple[Any, Any]:
    """(prompt, turns): the one that is there."""
    if "prompt" in columns or "messages" in columns:
        prompt, listed = (_named(fields, columns[role]) if role in columns else None for role in ASKED)
    else:
        prompt = next((fields[name] for name in PROMPT_NAMES if fields.get(name) is not None), None)
        listed = next((fields[name] for name in TURN_NAMES if fields.get(name) is not None), None)
        if isinstance(told := fields.get("instruction"), str) and told and "prompt" not in fields:
            more = (fields.get(name) for name in INPUT_NAMES)
            prompt = "\n\n".join([told, *(text for text in more if isinstance(text, str) and text)])
        if (
            isinstance(told := fields.get("instructions"), str) and told and listed is None
        ):  # of a request for a response
            asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
            prompt, listed = None, [{"role": "system", "content": told}, *asked]
    if isinstance(listed, str) and listed.lstrip()[:1] == "[":
        listed = _decoded(listed)
    if isinstance(prompt, list):
        if len(prompt) == 1 and isinstance(prompt[0], str):
            return prompt[0], listed
        if prompt and listed is None and all(isinstance(turn, dict) for turn in prompt):
            return None, prompt
    return prompt, listed


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _is_sharegpt(listed: object) -> bool:
    """Turns of from and value, or texts and tables of a text that users say one after the other."""
    return isinstance(listed, list) and bool(listed) and isinstance(listed[0], dict) and "from" in listed[0]


def _output_tokens(path: object, where: str, fields: Mapping[str, Any], columns: Columns) -> int | None:
    names = (columns["output_tokens"],) if "output_tokens" in columns else OUTPUT_NAMES
    name, told = next(
        ((name, value) for name in names if (value := _named(fields, name)) not in (None, "")), ("", None)
    )
    if told is None:
        return None
    try:
        number = int(told) if isinstance(told, str) else told
    except ValueError:
        number = None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if type(number) is not int or not TOKENS.holds(number):
        error = FileError(path, f"{plain(name)} must be {TOKENS.allowed}", where)
        raise Odd("with an output length that cannot be asked for", error)
    return number


def _messages(path: object, where: str, listed: object) -> tuple[Message, ...]:
    """A conversation, which is sent as it stands. Raises Odd."""
    if isinstance(listed, list) and listed and not any(isinstance(turn, dict) and "role" in turn for turn in listed):
        first = listed[0]
        said = _turn(first)[1] if isinstance(first, dict) else first
        if isinstance(said, str) and all(isinstance(turn, str | dict) for turn in listed):
            return ({"role": "user", "content": said},)  # what a user says turn by turn: MT-Bench, AIPerf
    if not isinstance(listed, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in listed
    ):
        error = FileError(path, f"messages must be a list of turns with a role; {JSONL_HINT}", where)
        raise Odd("with messages that are no turns", error)
    for turn in listed:
        if turn.get("content") is not None and text_of_content(turn["content"]) is None:
            error = FileError(path, f"a message has a part that is no text; {JSONL_HINT}", where)
            raise Odd("with a part that is no text", error)
    return tuple(map(_of_chat, listed))


def _of_chat(turn: Message) -> Message:
    """A turn as every API takes it: parts that only `/v1/responses` knows as one text."""
    parts = turn.get("content")
    if not isinstance(parts, list) or not any(
        isinstance(part, dict) and part.get("type") in _OF_RESPONSES for part in parts
    ):
        return turn
    return {**turn, "content": text_of_content(parts)}
