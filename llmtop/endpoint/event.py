"""One event of a streamed answer: what of its JSON tells of tokens, usage, the end or an error."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Struct

from llmtop.endpoint.pieces import as_list, choices_of, text_of, thought_of
from llmtop.endpoint.refusals import message_of

MOST_TOKENS = 100_000_000
"""That a server's count of one request is believed up to: the longest contexts have 10 million."""


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _PromptDetails(Struct, gc=False):
    cached_tokens: _Count | None = None


class OutputDetails(Struct, gc=False):
    reasoning_tokens: _Count | None = None


class Usage(Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None


class _Extra(Struct, gc=False):
    usage: Usage | None = None


class Timings(Struct, gc=False):
    """llama.cpp's own account, sent even where usage is not asked for."""

    cache_n: _Count = 0
    prompt_n: _Count = 0
    predicted_n: _Count = 0


class Event(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    x_groq: _Extra | None = None
    error: str | dict[str, Any] | None = None
    object: str | None = None


decode = msgspec.json.Decoder(Event).decode


def usage_of(event: Event) -> Usage | None:
    """Of the answer so far or in all: beside its choices, in one of them, or in a vendor's own field."""
    if event.usage is not None:
        return event.usage
    found = next((choice.usage for choice in event.choices or () if choice.usage is not None), None)
    return found or (event.x_groq.usage if event.x_groq is not None else None)


def lenient(answer: dict[str, Any]) -> Event:
    """An event whatever the types of its fields: those that cannot be used are left out."""
    choices = []
    for choice in choices_of(answer):
        delta = choice.get("delta")
        reason = choice.get("finish_reason")
        if isinstance(reason, dict):
            reason = reason.get("type")
        choices.append(
            _Choice(
                _lenient_delta(delta) if isinstance(delta, dict) else None,
                text_of(choice.get("text")),
                reason if isinstance(reason, str) else str(reason) if reason else None,
                _lenient_usage(choice.get("usage")),
            )
        )
    extra = answer.get("x_groq")
    return Event(
        choices=choices,
        usage=_lenient_usage(answer.get("usage")),
        x_groq=_Extra(_lenient_usage(extra.get("usage"))) if isinstance(extra, dict) else None,
        error=message_of(answer) if answer.get("error") else None,
        object=text_of(answer.get("object")),
    )


def _lenient_delta(delta: dict[str, Any]) -> _Delta:
    content = delta.get("content")
    return _Delta(
        content=text_of(content),
        reasoning=text_of(delta.get("reasoning")) or thought_of(content),
        reasoning_content=text_of(delta.get("reasoning_content")),
        refusal=text_of(delta.get("refusal")),
        tool_calls=as_list(delta.get("tool_calls")),
    )


def _lenient_usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details, output = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    reasoning = _count(output.get("reasoning_tokens")) if isinstance(output, dict) else None
    prompt, completion, total = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    return Usage(prompt, completion, total, _PromptDetails(cached), OutputDetails(reasoning))


def _count(value: object) -> int | None:
    """A number of tokens, also where a server sends it as a float or as text."""
    if isinstance(value, str) and len(value) < 20 and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return int(value)
    return None
