"""Bins count what happened, and merging loses nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import LoadBin
from llmtop.meter.binner import Binner, merge_bins

OUTCOMES = st.sampled_from(list(Outcome))


def record(outcome: Outcome, ttft_ms: int = 100, tokens: int = 11, tpot_ms: int = 20) -> RequestRecord:
    first = ttft_ms * 1_000_000
    last = first + (tokens - 1) * tpot_ms * 1_000_000
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=0,
        sent_ns=0,
        connect_ns=0,
        headers_ns=1,
        first_token_ns=first,
        first_answer_ns=first,
        last_token_ns=last,
        end_ns=last,
        started_at=0.0,
        asked_prompt_tokens=10,
        asked_output_tokens=tokens,
        prompt_tokens=10,
        output_tokens=tokens,
        chunks=tokens,
        outcome=outcome,
    )


@given(st.lists(OUTCOMES))
def test_every_ended_request_is_counted_once(outcomes: list[Outcome]) -> None:
    binner = Binner()
    for outcome in outcomes:
        binner.sent()
        binner.finished(record(outcome))
    closed = binner.close(0.25, target=1, in_flight=0)
    assert closed.sent == closed.ok + closed.errors + closed.cancelled == len(outcomes)
    assert len(closed.e2e_ms) == outcomes.count(Outcome.OK)
    empty = binner.close(0.5, target=1, in_flight=0)
    assert (empty.sent, empty.ok, empty.ttft_ms, empty.gap_ms) == (0, 0, (), None)
    assert empty.span_s == 0.25


def test_tpot_is_the_span_over_the_tokens_after_the_first() -> None:
    binner = Binner()
    binner.finished(record(Outcome.OK, tokens=11, tpot_ms=20))
    assert binner.close(1.0, target=1, in_flight=0).tpot_ms == (20.0,)


def test_a_first_token_counts_where_it_falls_before_its_request_ends() -> None:
    binner = Binner()
    binner.first_token(80_000_000, prompt_tokens=192)
    binner.tokens(1)
    binner.tokens(2, gap_ns=30_000_000)
    closed = binner.close(0.25, target=4, in_flight=1, prefilling=0)
    assert closed.ttft_ms == (80.0,)
    assert (closed.output_tokens, closed.prompt_tokens, closed.gaps, closed.gap_ms) == (3, 192, 1, (30.0, 30.0, 30.0))


BINS = st.builds(
    LoadBin,
    t_s=st.just(1.0),
    span_s=st.just(0.25),
    target=st.integers(0, 50),
    in_flight=st.integers(0, 50),
    sent=st.integers(0, 9),
    ok=st.integers(0, 9),
    errors=st.integers(0, 9),
    output_tokens=st.integers(0, 999),
    ttft_ms=st.lists(st.floats(0, 1e4)).map(tuple),
    gaps=st.just(3),
    gap_ms=st.tuples(st.floats(0, 10), st.floats(10, 20), st.floats(20, 30)),
)


@given(st.lists(BINS, min_size=1, max_size=4))
def test_merged_bins_hold_all_counts_and_samples(bins: list[LoadBin]) -> None:
    merged = merge_bins(bins)
    for name in ("target", "in_flight", "sent", "ok", "errors", "output_tokens", "gaps"):
        assert getattr(merged, name) == sum(getattr(b, name) for b in bins)
    assert sorted(merged.ttft_ms) == sorted(v for b in bins for v in b.ttft_ms)
    assert merged.gap_ms is not None
    assert merged.gap_ms[2] == max(b.gap_ms[2] for b in bins if b.gap_ms)
