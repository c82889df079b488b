"""One event of a streamed answer: what of its JSON tells of tokens, usage, the end or an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from llmtop.endpoint.pieces import anything_in, as_list, choices_of, text_of, thought_of
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


def usage_in(data: bytes, *, always: bool = False) -> Usage | None:
    """The usage of an event by all names that it may have; None: it has none of the less usual ones.

    SGLang and Perplexity tell `reasoning_tokens` beside the other counts, Moonshot and DeepSeek what was cached, and
    gateways to other APIs call them `input_tokens` and `output_tokens`. `always`: also where it has none of those.
    """
    if not always and not any(name in data for name in _OTHERWISE):
        return None
    answer = anything_in(data)
    extra = answer.get("x_groq") if isinstance(answer, dict) else None
    for place in (answer, *choices_of(answer), extra):
        if isinstance(place, dict) and place.get("usage"):
            return _lenient_usage(place["usage"])
    return None


_OTHERWISE = (b"reasoning_tokens", b"cached_tokens", b"cache_hit_tokens", b"input_tokens", b"output_tokens")
_NAMES = {"prompt": ("prompt", "input"), "completion": ("completion", "output"), "total": ("total",)}


def _lenient_usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = (_first(usage.get(f"{name}_tokens") for name in names) for names in _NAMES.values())
    cached = _first(
        (*_details(usage, "prompt", "cached_tokens"), usage.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"))
    )
    reasoning = _first((*_details(usage, "completion", "reasoning_tokens"), usage.get("reasoning_tokens")))
    return Usage(prompt, completion, total, _PromptDetails(cached), OutputDetails(reasoning))


def _details(usage: dict[str, Any], of: str, name: str) -> Iterator[object]:
    for side in _NAMES[of]:
        found = usage.get(f"{side}_tokens_details")
        if isinstance(found, dict):
            yield found.get(name)


def _first(values: Iterable[object]) -> int | None:
    """The first that is a count."""
    return next((count for value in values if (count := _count(value)) is not None), None)


def _count(value: object) -> int | None:
    """A number of tokens, also where a server sends it as a float or as text."""
    if isinstance(value, str) and len(value) < 20 and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return int(value)
    return None
