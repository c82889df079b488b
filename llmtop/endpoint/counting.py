"""How many tokens an answer had, who says so, and over how many of them its TPOT is timed.

A server's usage is believed only where it can be true of the stream that came with it:

* A token event holds at least one token: usage that tells of fewer tokens than events is not the answer's (zeros, the
  count of one event, content without its reasoning).
* A token that is shown has at least one byte: usage that tells of far more tokens than the text has bytes tells of
  tokens that were never streamed, or of nothing.
* Usage in every event that falls, or stands still while tokens come, counts events one by one.

Where the model ended by itself, in an event without text, one token more than there are events is the one that ends
the answer: it is output, and came after the last that is timed. Where `total_tokens - prompt_tokens` is enough for the
events and less than what is told, the prompt is in what is told.

Other tokens beyond the events are one of three things:

* **Hidden**: reasoning that `reasoning_tokens` tells of, while no reasoning was streamed and the rest of the tokens is
  enough for the events. If it is not enough, the reasoning is in the content (no parser for it) and nothing is hidden.
  They were generated before the first token of the stream: they count as output and in no TPOT.
* **Several in one event** (speculation, stream intervals) or **unfinished characters** (bytes that no event shows): all
  of them were streamed. Where usage grows with every token event, it tells how many came after the first read;
  elsewhere the first read has its share by events, so that TPOT has no bias whatever the first one held.
* A **summary** of reasoning: far more reasoning tokens for each event of reasoning than content tokens for each event
  of content. How many were streamed is not known: estimated, never said to be the server's.

Reasoning is counted in `completion_tokens` by most and beside it by some; of the two the one is taken that
`total_tokens - prompt_tokens` allows and by which an event of reasoning holds as many tokens as one of content.
Where nothing told can be true, events are counted; where two different figures can, the source says that it is a guess.

Bounds: where usage grew with every event, output and TPOT are the server's own. Elsewhere TPOT is off by what the first
read held more or less than its share. Reasoning that was never streamed and that no detail tells of is found only where
the text has no room for it; choices of one request that come side by side are one stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import NamedTuple

from llmtop.domain.request import TokenSource
from llmtop.endpoint.event import Usage
from llmtop.endpoint.pieces import Words

INVISIBLE = 8
"""Tokens of a streamed answer without any text: ends, marks of channels, bytes of a character that was cut off."""
AT_ONCE = 8
"""Tokens more than events at the first usage of a stream: more than one step of speculation drafts, and fewer than any
reasoning worth the name."""
ALIKE = 1.5
"""Between the tokens of an event of one kind and of the other: acceptance of drafts differs less."""
SUMMARY = 3.0
"""From this ratio on, events of reasoning are not its tokens but a summary of them."""


CLAIMS = 4
"""The last of them are weighed: a server may send its usage twice, or after each token."""


class Count(NamedTuple):
    """Of one answer that has ended."""

    output: int
    hidden: int = 0
    timed: float = 0.0
    """Streamed after the first read that held a token."""
    source: TokenSource = TokenSource.USAGE


class Counting:
    """What was seen and told of the tokens of one answer.

    Attributes:
        events: token events so far.
        thoughts: of these, events with nothing but reasoning.
        text: bytes of their text at most.
        textless: an event showed something else than text (a tool call): bytes say nothing.
        counted: tokens so far, as far as they can be told while they come.
        along: usage was told in an event of the answer itself, before its last.
        ended_apart: the model ended by itself, in an event without text.
    """

    __slots__ = (
        "_along_at",
        "_claims",
        "_fell",
        "_first_along",
        "_first_events",
        "_grown",
        "_highest",
        "_lasting",
        "_latest",
        "_offset",
        "_shown",
        "along",
        "counted",
        "ended_apart",
        "events",
        "text",
        "textless",
        "thoughts",
    )

    def __init__(self) -> None:
        self.events = self.thoughts = self.text = self.counted = 0
        self.textless = self.along = self.ended_apart = False
        self._claims: list[Usage] = []
        self._lasting: Usage | None = None
        """The last that was told along."""
        self._latest = self._highest = self._offset = self._shown = 0
        self._grown = 0
        """Token events with which usage grew."""
        self._fell = False
        self._first_events = self._first_along = 0
        self._along_at = 0
        """The token events before and with the first usage that was told along."""

    def take_other_words(self, words: Words) -> bool:
        """A token event by less usual names. Returns whether it is of the answer."""
        self.textless = self.textless or words.calls
        self.text += 4 * len(words.text or words.thought)
        self.ended_apart = False
        answers = bool(words.text or words.calls)
        self.thoughts += not answers
        return answers

    def take_along(self, usage: Usage, payload: bool) -> None:
        """Usage beside a piece of the answer. `payload`: of a token event, which is in `events` already."""
        tokens = usage.completion_tokens
        if tokens is None:
            return
        if not self.along:
            self.along = True
            self._along_at = self.events
            self._offset = tokens - self.events if tokens - self.events > AT_ONCE else 0
        if tokens > self._latest:
            self._grown += payload
        elif tokens < self._latest:
            self._fell = True
        self._latest = tokens
        if payload:
            self._shown = tokens
        self._highest = max(self._highest, tokens)
        self._lasting = usage
        self.counted = max(self.counted, tokens - self._offset)

    def take_whole(self, usage: Usage, payload: bool) -> None:
        """Usage of the whole answer, with its last event or after it."""
        self._claims = [*self._claims[-CLAIMS + 1 :], usage]
        if payload and self.along:
            self.take_along(usage, payload)

    def begin(self) -> None:
        """All taken so far came with the first read that held a token."""
        self._first_events, self._first_along = self.events, self._latest

    @property
    def is_exact(self) -> bool:
        """Usage grew with every token event: it tells how many each of them held."""
        return not self._fell and self._along_at < 2 <= self.events <= self._grown + 1

    def settle(self, seen: int) -> Count:
        """The count of an answer that has ended, of which `seen` tokens were told while they came."""
        for usage in self._told():
            for count in self._readings(usage):
                if self._can_be(count, seen):
                    return count
        return Count(max(seen, self.events), 0, float(self.events - self._first_events), TokenSource.CHUNKS)

    def _told(self) -> Iterator[Usage]:
        """The last word first."""
        stale = self.events > 1 and (self._fell or (self.along and self._grown < 2))
        for usage in reversed(self._claims):
            if not (stale and self._highest and (usage.completion_tokens or 0) <= self._highest):
                yield usage
        once = self._along_at == self.events  # with the last token, and never before
        if self._lasting is not None and (once or not stale):
            yield self._lasting

    def _can_be(self, count: Count, seen: int) -> bool:
        if count.output < max(seen, 1):
            return False
        shown = count.output - count.hidden
        if not self.events:
            return True
        return shown >= self.events and (self.textless or self.is_exact or shown <= self.text + INVISIBLE)

    def _readings(self, usage: Usage) -> Iterator[Count]:
        """What a usage can mean, the likeliest first."""
        told = usage.completion_tokens or 0
        details = usage.completion_tokens_details
        reasoning = (details.reasoning_tokens if details is not None else None) or 0
        in_all = None
        if usage.total_tokens and usage.prompt_tokens is not None:
            in_all = usage.total_tokens - usage.prompt_tokens
        if not self.events and 0 < reasoning <= told:
            yield Count(told, reasoning)
        if reasoning and self.events and reasoning >= self.thoughts:
            yield from self._with_reasoning(told, reasoning, in_all)
        fewer = in_all is not None and in_all < told and in_all >= self.events > 0
        if fewer and in_all is not None:  # the prompt is in what was told
            yield self._count(in_all, unsure=in_all > self.events)
        if told:
            yield self._count(told)
        if in_all is not None and in_all > told:
            yield self._count(in_all)

    def _with_reasoning(self, told: int, reasoning: int, in_all: int | None) -> Iterator[Count]:
        """Reasoning as a part of what was told, and beside it: the better of the two that can be."""
        answers = self.events - self.thoughts
        ways: list[tuple[float, int]] = []
        for output in (told, told + reasoning):
            content = output - reasoning
            beside = output > told
            if content < answers or (beside and in_all is not None and in_all < output):
                continue
            if beside and in_all is None and told >= self.events:
                continue
            likeness = _likeness(content, answers, reasoning, self.thoughts)
            ways.append((likeness, output))
        if not ways:
            return
        ways.sort()
        likeness, output = ways[0]
        unsure = len(ways) > 1 and likeness > log(ALIKE)
        content = output - reasoning
        if not self.thoughts:
            unsure = unsure or (likeness > log(ALIKE) and output <= self.text)  # it may be in the content
            yield self._count(output, reasoning, unsure=unsure)
        elif answers and reasoning / self.thoughts > SUMMARY * content / answers and not self.is_exact:
            yield self._count(output, reasoning - round(self.thoughts * content / answers), unsure=True)
        else:
            yield self._count(output, unsure=unsure or likeness > log(ALIKE))

    def _count(self, output: int, hidden: int = 0, *, unsure: bool = False) -> Count:
        if not self.events:
            return Count(output, hidden)
        if self.is_exact:
            return Count(output, hidden, float(self._shown - self._first_along))
        shown = output - hidden
        if self.ended_apart and shown == self.events + 1:
            shown -= 1
        timed = shown * (self.events - self._first_events) / self.events
        return Count(output, hidden, timed, TokenSource.CHUNKS if unsure else TokenSource.USAGE)


def _likeness(content: int, answers: int, reasoning: int, thoughts: int) -> float:
    """How far apart the tokens of an event of either kind are, as the logarithm of a ratio; 0: alike."""
    of_answer = max(content / answers, 1.0) if answers else 1.0
    of_thought = max(reasoning / thoughts, 1.0) if thoughts else 1.0
    return abs(log(of_answer / of_thought))
