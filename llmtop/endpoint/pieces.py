"""The words of a piece of an answer under the less usual names: looked for only where the usual ones hold nothing.

Reasoning is called by many names (`thinking`, `reasoning_text`, `reasoning_details`, `thinking_blocks`, ...), and text
may come as a string, as a part or as a list of parts. What is no text (signatures, encrypted reasoning, identifiers) is
no token that anybody sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_REASONING = re.compile(r"reason|think|thought", re.IGNORECASE)
_NO_TEXT = re.compile(r"signature|encrypted|_id$|format|effort|tokens|finish|stop", re.IGNORECASE)
"""What is told about reasoning, and is none."""
_WORDS = ("text", "content", "summary", "output_text", "transcript")
"""Under which names a part has its text."""
_DEPTH = 4
"""Parts within parts."""


class Words(NamedTuple):
    """Of one piece. `calls`: it shows something else than text: a call of a tool, sound."""

    text: str = ""
    thought: str = ""
    calls: bool = False


NO_WORDS = Words()
_TELLING = (b'"text"', b"think", b"thought", b"call", b'"audio"')
"""One of these, or a `reason` that is none of the end, is in every event that has words by less usual names."""


def words_of(data: bytes) -> Words:
    """All words of an event that is a JSON object, of all its choices."""
    if not any(name in data for name in _TELLING) and data.count(b"reason") == data.count(b'_reason"'):
        return NO_WORDS
    answer = anything_in(data)
    text, thought, calls = "", "", False
    for choice in choices_of(answer):
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(value and name != "role" for name, value in delta.items()):
            own = _delta_words(delta)
            text, thought, calls = text + own.text, thought + own.thought, calls or own.calls
        if choice.get("text"):
            text += text_of(choice["text"])
    return Words(text, thought, calls)


def anything_in(data: bytes) -> Any:
    """A JSON value, whatever is odd about it: NaN, halves of characters; None: it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def choices_of(answer: object) -> Iterator[dict[str, Any]]:
    """The choices of an event, also where the only one is no list."""
    for choice in as_list(answer.get("choices") if isinstance(answer, dict) else None):
        if isinstance(choice, dict):
            yield choice


def _delta_words(delta: dict[str, Any]) -> Words:
    content = delta.get("content")
    text = text_of(content) + text_of(delta.get("refusal")) + text_of(delta.get("text"))
    thought = thought_of(content)
    for name, value in delta.items():
        if _REASONING.search(name) and not _NO_TEXT.search(name):
            thought += text_of(value) or thought_of(value)
    audio = delta.get("audio")
    sounds = isinstance(audio, dict) and bool(audio.get("data") or audio.get("transcript"))
    call = delta.get("function_call")
    called = calls_a_tool([{"function": call}, *as_list(delta.get("tool_calls"))])
    return Words(text, thought, sounds or called)


def calls_a_tool(calls: list[Any]) -> bool:
    """Whether one of these calls has a name or arguments, be it of a function or of another kind."""
    for call in calls:
        for kind in ("function", "custom"):
            called = call.get(kind) if isinstance(call, dict) else None
            if isinstance(called, dict) and (called.get("name") or called.get("arguments") or called.get("input")):
                return True
    return False


def text_of(value: object, depth: int = _DEPTH) -> str:
    """Text, also where a server sends it as a part or as a list of parts; reasoning among them is none."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(text_of(part, depth - 1) for part in value)
    if depth and isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and _NO_TEXT.search(kind):
            return ""
        return next(filter(None, (text_of(value.get(name), depth - 1) for name in _WORDS)), "")
    return ""


def thought_of(value: object) -> str:
    """Reasoning among the parts of a content: {"type": "thinking", "thinking": text or parts}."""
    found = ""
    for part in as_list(value):
        if isinstance(part, dict):
            for name, words in part.items():
                if _REASONING.search(name) and not _NO_TEXT.search(name):
                    found += text_of(words)
    return found


def as_list(value: object) -> list[Any]:
    """A list, also of the one thing that came without one."""
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []
