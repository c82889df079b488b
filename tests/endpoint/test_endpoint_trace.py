"""A trace keeps what a record tells, forgets an attempt that did not count, and makes the record itself."""

from __future__ import annotations

import time

import pytest

from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.endpoint.trace import Trace

ASKED = {"asked_prompt_tokens": 7, "asked_output_tokens": 9, "stage": "up", "worker": 2}


def filled() -> Trace:
    trace = Trace(1, 2)
    for number, name in enumerate(Trace.__slots__):
        if isinstance(getattr(trace, name), int | None) and name not in ("scheduled_ns", "dispatched_ns"):
            setattr(trace, name, 100 + number)
    trace.outcome, trace.error, trace.finish_reason = Outcome.OK, "e", "stop"
    trace.retry_after_s, trace.token_source = 1.5, TokenSource.USAGE
    return trace


def test_every_field_but_the_running_count_is_a_field_of_the_record() -> None:
    assert set(Trace.__slots__) - {"tokens_seen"} <= set(RequestRecord.__struct_fields__)
    trace = filled()
    record = trace.record(10**9, **ASKED)
    for name in set(Trace.__slots__) - {"tokens_seen"}:
        assert getattr(record, name) == getattr(trace, name), name
    assert {name: getattr(record, name) for name in ASKED} == ASKED
    assert record.client_limited is None, "the load judges nothing"
    assert record.started_at == pytest.approx(time.time() - 1, abs=5)


def test_an_attempt_that_did_not_count_leaves_nothing_but_when_it_was_due_and_how_long_it_was_held() -> None:
    trace, fresh = filled(), Trace(1, 2)
    trace.clear()
    for name in set(Trace.__slots__) - {"held_ns", "end_ns", "outcome", "error"}:
        assert getattr(trace, name) == getattr(fresh, name), name


def test_what_the_server_did_not_tell_is_what_was_asked_and_seen() -> None:
    trace = Trace(1, 2)
    trace.tokens_seen, trace.outcome = 5, Outcome.TRUNCATED
    record = trace.record(3, **ASKED)
    assert (record.prompt_tokens, record.output_tokens, record.end_ns) == (7, 5, 3)
    assert record.first_chunk_tokens == 1
    assert record.token_source is TokenSource.CHUNKS


def test_a_request_without_an_outcome_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="without an outcome"):
        Trace(1, 2).record(3, **ASKED)
