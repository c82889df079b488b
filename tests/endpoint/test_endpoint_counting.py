"""Usage is believed only where it can be true: the count and the TPOT of streams whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.counting import ALIKE, AT_ONCE, INVISIBLE, SUMMARY, Counting
from llmtop.endpoint.event import OutputDetails, Usage

from .test_endpoint_reader import MS, Heard, Trace, chat, read

ROUND = 1e-9


def using(completion: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": completion, **more}


def reasoned(completion: int, reasoning: Any, **more: Any) -> dict[str, Any]:
    return using(completion, completion_tokens_details={"reasoning_tokens": reasoning}, **more)


def piece(usage: Any = None, content: Any = "word ", **delta: Any) -> dict[str, Any]:
    event = chat(content, **delta)
    return event if usage is None else {**event, "usage": usage}


def finish(usage: Any = None, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage}


def alone(usage: Any) -> dict[str, Any]:
    return {"choices": [], "usage": usage}


def streamed(events: list[Any]) -> tuple[Trace, Heard]:
    """Each event is a read of its own, a millisecond after the one before."""
    trace, heard, _ = read(*events, "[DONE]")
    assert trace.outcome is Outcome.OK, trace.error
    assert sum(n for n, _, _ in heard.arrivals) == trace.output_tokens, "the bins' tokens are the record's"
    return trace, heard


TEN = [piece()] * 10
THOUGHTS = [piece(content=None, reasoning_content="word ")] * 8 + [piece()] * 2
PARTS = [piece(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "word "}]}])] * 8 + [
    piece(content=[{"type": "text", "text": "word "}])
] * 2
CALLS = [piece(content=None, tool_calls=[{"index": 0, "function": {"arguments": "{"}}])] * 10
LONG = [piece(content="understand ")] * 10
TOLD, GUESSED = TokenSource.USAGE, TokenSource.CHUNKS


@pytest.mark.parametrize(
    ("events", "output", "hidden", "timed", "source"),
    [
        ([*TEN, finish(), alone(using(10))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(10))], 10, 0, 9, TOLD),
        ([*TEN, finish(using("10"))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(10.0)), alone(using(0))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(4)), alone(using(10))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(10)), alone(using(4))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(20))], 20, 0, 18, TOLD),
        ([*TEN, finish(using(40))], 40, 0, 36, TOLD),
        ([*TEN, finish(), alone(using(0))], 10, 0, 9, GUESSED),
        ([*TEN, finish(using(1))], 10, 0, 9, GUESSED),
        ([*TEN, finish(using(-10))], 10, 0, 9, GUESSED),
        ([*TEN, finish(using(None)), alone(None)], 10, 0, 9, GUESSED),
        ([*TEN, finish(using(9_000_000))], 10, 0, 9, GUESSED),
        ([*TEN, finish(using(None, total_tokens=15))], 10, 0, 9, TOLD),
        ([*TEN, finish(using(1, total_tokens=15))], 10, 0, 9, TOLD),
        ([*[piece(using(0))] * 10, finish(using(10))], 10, 0, 9, TOLD),
        ([*[piece(using(0))] * 10, finish(using(20))], 20, 0, 18, TOLD),
        ([*[piece(using(0))] * 10, finish(using(0))], 10, 0, 9, GUESSED),
        ([*[piece(using(1))] * 10, finish()], 10, 0, 9, GUESSED),
        ([*[piece(using(1))] * 10, finish(using(1))], 10, 0, 9, GUESSED),
        ([*[piece(using(4))] * 3, finish(using(4))], 4, 0, 2, GUESSED),
        ([*[piece(using(64))] * 10, finish(using(64))], 10, 0, 9, GUESSED),
        ([*[piece(using(n)) for n in range(1, 11)], finish()], 10, 0, 9, TOLD),
        ([*[piece(using(n)) for n in range(10)], finish(using(10))], 10, 0, 9, TOLD),
        ([*[piece(using(n)) for n in (2, 3, 7, 8, 10)], finish(using(10))], 10, 0, 8, TOLD),
        ([*[piece(using(n)) for n in (4, 4, 4, 4, 8, 8, 8, 8)], finish(using(8))], 8, 0, 7, TOLD),
        ([*[piece(using(n)) for n in (0, 0, 0, 4, 4, 4, 4, 8)], finish(using(8))], 8, 0, 7, TOLD),
        ([*[piece(using(n)) for n in range(91, 101)], finish(reasoned(100, 90))], 100, 90, 9, TOLD),
        ([*TEN, finish(), alone(reasoned(100, 90))], 100, 90, 9, TOLD),
        ([*TEN, finish(), alone(reasoned(100, "90", total_tokens=105))], 100, 90, 9, TOLD),
        ([*TEN, finish(), alone(reasoned(10, 90, total_tokens=105))], 100, 90, 9, TOLD),
        ([*TEN, finish(), alone(reasoned(10, 8))], 10, 0, 9, TOLD),
        ([*THOUGHTS, finish(), alone(reasoned(10, 8))], 10, 0, 9, TOLD),
        ([*THOUGHTS, finish(), alone(reasoned(10, 8, total_tokens=23))], 10, 0, 9, TOLD),
        ([*THOUGHTS, finish(), alone(reasoned(2, 8, total_tokens=15))], 10, 0, 9, TOLD),
        ([*THOUGHTS, finish(), alone(reasoned(20, 16, total_tokens=25))], 20, 0, 18, TOLD),
        ([*THOUGHTS, finish(), alone(using(2, total_tokens=15))], 10, 0, 9, TOLD),
        ([*THOUGHTS, finish(), alone(using(2))], 10, 0, 9, GUESSED),
        ([*THOUGHTS, finish(), alone(reasoned(42, 40))], 42, 32, 9, GUESSED),
        ([*PARTS, finish(), alone(using(10))], 10, 0, 9, TOLD),
        ([*CALLS, finish(), alone(using(10))], 10, 0, 9, TOLD),
        ([*CALLS, finish(), alone(using(20))], 20, 0, 18, TOLD),
        ([*TEN, {"choices": [{"delta": {}, "finish_reason": "stop", "usage": using(20)}]}], 20, 0, 18, TOLD),
        ([*TEN, finish(), {"choices": [], "x_groq": {"usage": using(20)}}], 20, 0, 18, TOLD),
        ([*TEN, finish(), {"usage": using(20)}], 20, 0, 18, TOLD),
        ([*TEN, finish(), {"choices": None, "usage": {"input_tokens": 5, "output_tokens": "20"}}], 20, 0, 18, TOLD),
        ([*LONG, finish(), alone(using(100, reasoning_tokens=90))], 100, 90, 9, TOLD),
        ([*LONG, finish(), alone(using(100, output_tokens_details={"reasoning_tokens": 90}))], 100, 90, 9, TOLD),
        ([*LONG, finish(), alone(using(20, reasoning_tokens=0, total_tokens=25))], 20, 0, 18, TOLD),
        ([*LONG, finish(), alone(using(100, total_tokens=15))], 10, 0, 9, TOLD),
        ([*TEN, finish(), alone(using(15, total_tokens=15))], 10, 0, 9, TOLD),
        ([*TEN, finish(), alone(using(25, total_tokens=25))], 20, 0, 18, GUESSED),
        ([*TEN, finish(), alone(using(20, total_tokens=9))], 20, 0, 18, TOLD),
        ([*TEN[1:], piece(using(10)), finish()], 10, 0, 9, TOLD),
        ([*TEN[1:], piece(using(20)), finish()], 20, 0, 18, TOLD),
        ([*TEN[1:], piece(using(1)), finish()], 10, 0, 9, GUESSED),
        ([piece(using(10)), *TEN[1:], finish()], 10, 0, 9, GUESSED),
        ([x for n in range(1, 11) for x in (piece(), alone(using(n)))] + [finish()], 10, 0, 9, TOLD),
        ([x for n in range(1, 11) for x in (piece(), alone(using(2 * n)))] + [finish()], 20, 0, 18, TOLD),
        ([x for _ in range(10) for x in (piece(), alone(using(1)))] + [finish()], 10, 0, 9, GUESSED),
        ([*TEN, finish(), alone(using(11))], 11, 0, 9, TOLD),
        ([*TEN, finish(using(11))], 11, 0, 9, TOLD),
        ([*TEN, finish(using(11), "length")], 11, 0, 9.9, TOLD),
        ([*TEN, finish(using(12))], 12, 0, 10.8, TOLD),
        ([*LONG, finish(), alone(reasoned(101, 90))], 101, 90, 9, TOLD),
    ],
)
def test_what_a_usage_says_is_weighed_by_what_came(
    events: list[Any], output: int, hidden: int, timed: float, source: TokenSource
) -> None:
    trace, _ = streamed(events)
    assert (trace.output_tokens, trace.hidden_tokens, trace.token_source) == (output, hidden, source)
    assert trace.timed_tokens == pytest.approx(timed, rel=ROUND)


def test_reasoning_in_a_list_of_parts_is_no_answer() -> None:
    trace, _ = streamed([*PARTS, finish(), alone(using(10))])
    assert trace.first_token_ns == 2 * MS
    assert trace.first_answer_ns == 10 * MS


@given(
    groups=st.lists(st.integers(1, 4), min_size=2, max_size=20),
    style=st.sampled_from(["end", "finish", "along", "lagging", "zeros", "ones", "never"]),
    hidden=st.sampled_from([0, 0, 30, 400]),
    unfinished=st.integers(0, 2),
)
@settings(max_examples=150, deadline=None)
def test_output_and_tpot_are_the_truth_or_said_to_be_estimated(
    groups: list[int], style: str, hidden: int, unfinished: int
) -> None:
    """Bound: exact where usage came along. Else the first event's tokens are not known, and its share of all stands
    for them, so that over all places of the same events TPOT has no bias."""
    shown = sum(groups) + unfinished
    events: list[Any] = []
    so_far = hidden
    for group in groups:
        before, so_far = so_far, so_far + group
        told = {"along": so_far, "lagging": before, "zeros": 0, "ones": 1}.get(style)
        events.append(piece(None if told is None else using(told), "word " * group))
    whole = reasoned(hidden + shown, hidden) if hidden else using(shown)
    events.append(finish(whole if style == "finish" else using(1) if style == "ones" else None, "length"))
    if style not in ("finish", "ones", "never"):
        events.append(alone(whole))
    trace, _ = streamed(events)
    if trace.token_source is not TokenSource.USAGE:
        if style in ("ones", "never"):
            assert trace.timed_tokens == len(groups) - 1
        else:  # the text has room for the reasoning too: it may have been in it
            assert hidden
            assert hidden + shown <= 5 * sum(groups)
        return
    if style == "ones":  # one token an event: the count of one event is that of the answer
        return
    assert (trace.output_tokens, trace.hidden_tokens) == (hidden + shown, hidden)
    if style == "along":
        assert trace.timed_tokens == sum(groups[1:])
    elif style != "lagging":
        assert trace.timed_tokens == pytest.approx(shown * (1 - 1 / len(groups)), rel=ROUND)


def test_more_tokens_than_bytes_were_never_streamed() -> None:
    """With no word of reasoning, nobody knows what the others are."""
    for beyond, source in ((INVISIBLE, TOLD), (INVISIBLE + 1, GUESSED)):
        counting = Counting()
        counting.events, counting.text = 4, 12
        counting.take_whole(Usage(completion_tokens=12 + beyond), payload=False)
        assert counting.settle(4).source is source


def test_what_was_generated_before_the_first_event_is_not_its_own() -> None:
    for ahead, counted in ((AT_ONCE, 1 + AT_ONCE), (AT_ONCE + 1, 1)):
        counting = Counting()
        counting.events = 1
        counting.take_along(Usage(completion_tokens=1 + ahead), payload=True)
        assert counting.counted == counted


@pytest.mark.parametrize(
    ("reasoning", "hidden", "source"),
    [(round(80 * ALIKE) - 1, 0, TOLD), (round(80 * ALIKE) + 1, 0, GUESSED), (round(80 * SUMMARY) + 1, 161, GUESSED)],
)
def test_reasoning_that_is_denser_than_the_answer_is_told_apart_from_its_summary(
    reasoning: int, hidden: int, source: TokenSource
) -> None:
    counting = Counting()
    counting.events, counting.thoughts, counting.text = 100, 80, 1000
    counting.take_whole(
        Usage(
            prompt_tokens=5,
            completion_tokens=20 + reasoning,
            total_tokens=25 + reasoning,
            completion_tokens_details=OutputDetails(reasoning),
        ),
        payload=False,
    )
    count = counting.settle(100)
    assert (count.output, count.hidden, count.source) == (20 + reasoning, hidden, source)
