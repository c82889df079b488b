"""The words survive the trip between processes, and latencies are what their definitions say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.commands import AddMark, Command, Quit, SetLoad
from llmtop.domain.load import LoadPlan, LoadPoint, Ramp, Replay, Shape, Stage
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Event, FactBatch, Mark, joined

STAMPS = st.lists(st.integers(0, 10**12), min_size=7, max_size=7).map(sorted)


@given(STAMPS, st.integers(1, 500))
def test_latencies_are_differences_of_one_clock(stamps: list[int], tokens: int) -> None:
    scheduled, dispatched, sent, headers, first, last, end = stamps
    record = RequestRecord(
        scheduled_ns=scheduled,
        dispatched_ns=dispatched,
        sent_ns=sent,
        connect_ns=0,
        headers_ns=headers,
        first_token_ns=first,
        first_answer_ns=first,
        last_token_ns=last,
        end_ns=end,
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=tokens,
        prompt_tokens=1,
        output_tokens=tokens,
        chunks=tokens,
        outcome=Outcome.OK,
    )
    assert record.ttft_s is not None
    assert record.e2e_s is not None
    assert 0 <= record.ttft_s <= record.e2e_s
    if tokens > 1:
        assert record.tpot_s is not None
        assert record.ttft_s + record.tpot_s * (tokens - 1) == pytest.approx(record.e2e_s, abs=1e-6)
    else:
        assert record.tpot_s is None


def test_only_our_own_cancelling_and_an_answer_without_text_are_no_error() -> None:
    assert {each for each in Outcome if not each.is_error} == {Outcome.OK, Outcome.TEXTLESS, Outcome.CANCELLED}


@pytest.mark.parametrize("command", [SetLoad(LoadPoint(concurrency=3), "hand"), AddMark("64"), Quit()])
def test_commands_cross_a_pipe(command: Command) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command) == command


@pytest.mark.parametrize("shape", [Ramp(1, 9), Replay(((0.0, LoadPoint(rate_rps=2.0)),))])
def test_plans_cross_a_pipe(shape: Shape) -> None:
    plan = LoadPlan(stages=(Stage(name="a", duration_s=3.0, shape=shape), Stage(name="b", duration_s=4.0, shape=shape)))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=LoadPlan) == plan
    assert plan.duration_s == 7.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6))
def test_a_joined_batch_holds_every_fact_once_and_in_order(counts: list[tuple[int, int]]) -> None:
    batches = [
        FactBatch(
            t_s=float(number),
            marks=tuple(Mark(float(number), f"{number}.{place}") for place in range(marks)),
            events=tuple(Event(float(number), "load", f"{number}.{place}") for place in range(events)),
        )
        for number, (marks, events) in enumerate(counts)
    ]
    whole = joined(99.0, iter(batches))
    assert whole.t_s == 99.0
    assert list(whole.marks) == [mark for batch in batches for mark in batch.marks]
    assert list(whole.events) == [event for batch in batches for event in batch.events]
