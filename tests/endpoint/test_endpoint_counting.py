"""Tokens of an answer: a server's claim is believed only where it can be true."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from llmtop.domain.request import RequestRecord, TokenSource
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.counting import AT_ONCE, LETTERS, SLACK, STOOD, SUMMARY, Streamed, Told, first_share, settle
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import ResponseParser

GAP_NS = 20_000_000
WORD = "word "


class Quiet:
    def __init__(self) -> None:
        self.total = 0

    def first_token(self, trace: Trace) -> None:
        pass

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.total += n


def answered(events: list[dict[str, Any]], after: list[int]) -> tuple[RequestRecord, Quiet]:
    """The record of a stream; `after[n]`: tokens that were made between event n and the one before it."""
    trace, heard = Trace(), Quiet()
    reader = StreamReader(trace, heard, Stamper(0), 1000)
    reader.sent(0, 0)
    parser = ResponseParser("POST")
    parser.status, parser.headers = 200, [("content-type", "text/event-stream")]
    reader.head(parser, 1)
    stamp = GAP_NS
    for event, tokens in zip(events, after, strict=True):
        stamp += tokens * GAP_NS
        reader.body(f"data: {json.dumps(event)}\n\n".encode(), stamp)
    reader.close(stamp)
    record = trace.record(stamp, asked_prompt_tokens=5, asked_output_tokens=100, stage=None, worker=0)
    return record, heard


def usage(completion: object, total: object = None, reasoning: object = None, prompt: object = 5) -> dict[str, Any]:
    found = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return found if reasoning is None else {**found, "completion_tokens_details": {"reasoning_tokens": reasoning}}


STYLES = ("end", "along", "zeros, then end", "none", "zeros", "ones", "text", "total alone")


def stream(groups: list[int], style: str, thinking: int, hidden: int) -> tuple[list[dict[str, Any]], list[int]]:
    """A whole answer: `groups[n]` tokens in event n, the first `thinking` events reasoning, `hidden` tokens before."""
    events, made = [], hidden
    whole = sum(groups) + hidden
    reasoned = hidden + sum(groups[:thinking])
    for n, tokens in enumerate(groups):
        made += tokens
        delta = {"reasoning_content" if n < thinking else "content": WORD * tokens}
        event: dict[str, Any] = {"choices": [{"delta": delta}]}
        beside = {"along": made, "zeros, then end": 0, "zeros": 0, "ones": 1}.get(style)
        if beside is not None:
            event["usage"] = usage(beside, prompt=5 if style != "zeros" else 0)
        events.append(event)
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    last = {
        "end": usage(whole, whole + 5, reasoned),
        "along": usage(whole, whole + 5, reasoned),
        "zeros, then end": usage(whole, whole + 5, reasoned),
        "zeros": usage(0, 0, prompt=0),
        "text": usage(str(whole), f"{whole + 5}"),
        "total alone": usage(None, whole + 5),
    }.get(style)
    events.append({"choices": [], **({"usage": last} if last else {})})
    return events, [*groups, 0, 0]


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=40),
    st.sampled_from(STYLES),
    st.integers(0, 40),
    st.sampled_from((0, 0, 90, 400)),
)
@example([2] * 5, "end", 0, 0)
@example([1] * 10, "end", 0, 90)
@example([1] * 10, "text", 0, 90)
@example([1] * 10, "ones", 0, 0)
@example([1] * 10, "along", 0, 90)
def test_a_count_is_the_servers_and_right_or_an_estimate(
    groups: list[int], style: str, thinking: int, hidden: int
) -> None:
    assume(not (thinking and hidden))  # reasoning is streamed, or it is kept
    thinking = min(thinking, len(groups) - 1)
    record, heard = answered(*stream(groups, style, thinking, hidden))
    streamed = sum(groups)
    if record.token_source is TokenSource.CHUNKS:
        assert style in ("none", "zeros", "ones")
        assert record.output_tokens == len(groups)
        return
    if style == "ones":  # a usage of one token beside two events or less can be true
        assert len(groups) <= 2
        return
    assert record.output_tokens == streamed + hidden
    assert heard.total == record.output_tokens
    has_word = style not in ("text", "total alone")
    if hidden and not has_word and len(WORD) * streamed >= LETTERS * record.output_tokens:
        return  # nobody told of reasoning, and there is text enough for all
    assert record.tpot_s is not None
    if style == "along" or set(groups) == {1} or (hidden == 0 and len(set(groups)) == 1):
        assert record.tpot_s == pytest.approx(GAP_NS / 1e9, rel=0.06)
    elif hidden == 0 or has_word:
        share = streamed / len(groups)  # what the first event is taken to hold; it held groups[0]
        rest = streamed - groups[0]
        assert record.tpot_s == pytest.approx(GAP_NS / 1e9 * rest / (streamed - round(share)), rel=0.06)


@pytest.mark.parametrize(
    ("came", "told", "output", "hidden"),
    [
        (Streamed(10, 8, 50), Told(5, 2, 15, 8), 10, 0),  # reasoning beside the completion, streamed
        (Streamed(10, 8, 50), Told(5, 2, 15), 10, 0),  # and not told of
        (Streamed(2, 0, 10), Told(5, 2, 307, 300), 302, 300),  # beside, and kept
        (Streamed(10, 8, 50), Told(5, 10, 15, 8), 10, 0),  # within the completion, streamed
        (Streamed(10, 0, 50), Told(5, 10, 15, 8), 10, 0),  # left inside the text
        (Streamed(105, 5, 900), Told(5, 600, 605, 500), 600, 495),  # told in a summary
        (Streamed(489, 0, 4000), Told(5, 500, 505), 500, 0),  # unfinished characters have no text
        (Streamed(10, 0, 20), Told(5, 100, 105), 100, 90),  # kept, without a word
        (Streamed(21, 0, 99), Told(5, 20, 25), 20, 0),  # a call whose name and arguments came apart
        (Streamed(0, 0, 0), Told(5, 7, 12), 7, 0),  # nothing but signs that are not shown
    ],
)
def test_where_reasoning_is_counted(came: Streamed, told: Told, output: int, hidden: int) -> None:
    counts = settle(came, told)
    assert (counts.output_tokens, counts.hidden_tokens, counts.source) == (output, hidden, TokenSource.USAGE)


@pytest.mark.parametrize(
    ("came", "told"),
    [
        (Streamed(10, 0, 50), Told()),
        (Streamed(10, 0, 50), Told(5, 0, 5)),
        (Streamed(10, 0, 50), Told(5, 8, 13)),
        (Streamed(10, 0, 50), Told(0, 1, 1)),
        (Streamed(10, 0, 50), Told(5, 500, 505, beside=STOOD, last_beside=500)),
    ],
)
def test_a_claim_that_cannot_be_true_is_not_believed(came: Streamed, told: Told) -> None:
    counts = settle(came, told)
    assert (counts.output_tokens, counts.hidden_tokens, counts.source) == (came.events, 0, TokenSource.CHUNKS)


def test_a_constant_beside_every_event_floods_no_figure() -> None:
    event = {"choices": [{"delta": {"content": WORD}}], "usage": usage(AT_ONCE + 500)}
    record, heard = answered([event] * 10, [1] * 10)
    assert (record.output_tokens, record.token_source) == (10, TokenSource.CHUNKS)
    assert heard.total == 10


def test_parts_of_a_content_that_are_thinking_are_tokens_but_no_answer() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}
    events: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": [thinking]}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "yes"}]}, "finish_reason": "stop"}]},
    ]
    record, _ = answered(events, [1, 1])
    assert record.output_tokens == 2
    assert record.first_token_ns is not None
    assert record.first_answer_ns is not None
    assert record.first_answer_ns - record.first_token_ns == GAP_NS


def test_the_bounds_of_belief() -> None:
    assert settle(Streamed(SLACK * 2, 0, 999), Told(5, SLACK * 2 - 2)).source is TokenSource.USAGE
    assert settle(Streamed(SLACK * 2, 0, 999), Told(5, SLACK * 2 - 3)).source is TokenSource.CHUNKS
    assert settle(Streamed(10, 0, 50), Told(5, 100)).hidden_tokens == 0
    assert settle(Streamed(10, 0, 49), Told(5, 100)).hidden_tokens == 90
    few, many = 20, 21  # reasoning tokens for five events of it, where the answer has one token an event
    assert settle(Streamed(10, 5, 500), Told(5, few + 5, None, few)).hidden_tokens == 0
    assert settle(Streamed(10, 5, 500), Told(5, many + 5, None, many)).hidden_tokens == many - 5
    assert (SLACK, LETTERS, SUMMARY, STOOD, AT_ONCE) == (20, 0.5, 4.0, 3, 32)
    assert first_share(10, 5, 1) == 2
    assert first_share(10, 10, 3) == 3
