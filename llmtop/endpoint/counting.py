"""How many tokens an answer had, and how many of them were streamed: what a server claims against what came. Pure.

A claim is believed only where it can be true:

1. The output is `completion_tokens`; or `total_tokens - prompt_tokens` where that is missing or cannot be, or where the
   difference of both is `reasoning_tokens`: some (xAI) count reasoning beside the completion.
2. An event with text holds one token at least. A claim clearly below the events (zeros, the count of one chunk), or one
   that stood still while events came, is not believed: the events are counted, and the count is an estimate.
3. Tokens that were never streamed (hidden reasoning) are output, but belong to no gap. `reasoning_tokens` are hidden
   where no event had reasoning in it and what is left is enough for the events that came: servers that leave their
   thinking inside the text fail that. Where reasoning came as a summary, it is what the summary has not. Without any
   word on reasoning, a claim of more than two tokens for each letter that came is known to be of tokens that did not
   come.
4. Several tokens in one event (speculation, stream intervals): each event has an equal share of what was streamed, so
   that TPOT, the span over the tokens after the first read, has no bias.
"""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.request import TokenSource

SLACK = 20
"""One event in so many may hold no token of its own: parsers of tool calls send a name and its arguments apart."""
SUMMARY = 4.0
"""Reasoning that has so many times the tokens for each event that the answer has was told in a summary."""
LETTERS = 0.5
"""Letters of text for each token, below which not all tokens came: only bytes of unfinished characters, and signs that
are not shown, have none, and they are few."""
AT_ONCE = 32
"""Tokens of one event that a count beside it is believed for at once. Speculation and stream intervals stay below; a
larger one may be a constant, and has to grow first."""
STOOD = 3
"""So many counts beside events with text, all the same, are a constant."""


class Told(Struct):
    """What a server has told of one answer; None: nothing."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    reasoning: int | None = None
    beside: int = 0
    """Counts that came beside events with text."""
    grew: bool = False
    """Whether one of them was another than that before it."""
    last_beside: int = 0


class Streamed(Struct):
    """What came of one answer."""

    events: int = 0
    """Those with text, reasoning or a tool call."""
    reasoning_events: int = 0
    letters: int = 0


class Counts(Struct, frozen=True):
    """What is taken as true. `streamed_tokens` + `hidden_tokens` = `output_tokens`."""

    output_tokens: int
    hidden_tokens: int
    source: TokenSource

    @property
    def streamed_tokens(self) -> int:
        return self.output_tokens - self.hidden_tokens


def settle(came: Streamed, told: Told) -> Counts:
    """The counts of an answer that has ended."""
    output = _output(came, told)
    if output is None:
        return Counts(came.events, 0, TokenSource.CHUNKS)
    return Counts(output, _hidden(came, output, told.reasoning or 0), TokenSource.USAGE)


def first_share(streamed_tokens: int, events: int, first_events: int) -> int:
    """Tokens of the first read, by the share of its events."""
    if events < 1:
        return first_events
    return max(first_events, round(streamed_tokens * first_events / events))


def count_beside(told: Told, completion: int, counted: int, came: int) -> int:
    """Tokens counted after an event with a usage of its own and `came` (0 or 1) token events; `counted` before it.

    A count that grows with the events is the server counting along; any other counts for nothing here.
    """
    if told.beside and completion != told.last_beside:
        told.grew = True
    told.beside += came
    told.last_beside = completion
    reached = counted + came
    believed = told.grew or completion - counted <= AT_ONCE
    return completion if believed and completion > reached else reached


def _least(events: int) -> int:
    """Tokens that so many events have at least."""
    return events - max(1, events // SLACK) if events > 1 else events


def _output(came: Streamed, told: Told) -> int | None:
    least = max(_least(came.events), 1)
    beyond = None if told.total is None or told.prompt is None else told.total - told.prompt
    completion = told.completion
    if told.beside >= STOOD and not told.grew and completion == told.last_beside and completion != came.events:
        completion = beyond = None
    if beyond is not None and beyond >= least:
        is_beside = completion is not None and told.reasoning and beyond - completion == told.reasoning
        if is_beside or completion is None or completion < least:
            return beyond
    return completion if completion is not None and completion >= least else None


def _hidden(came: Streamed, output: int, reasoning: int) -> int:
    left = output - reasoning
    if not came.events:
        return 0
    if reasoning > 0 and not came.reasoning_events and left >= _least(came.events):
        return reasoning
    answers = came.events - came.reasoning_events
    if reasoning > 0 and came.reasoning_events and answers > 0:
        summary = max(left / answers, 1.0) * came.reasoning_events
        if reasoning > SUMMARY * summary:
            return reasoning - round(summary)
    if came.letters < LETTERS * output and output > came.events:
        return output - came.events
    return 0
