"""Which requests count while a run goes on is what `Facts` says of them once all is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample
from llmtop.meter.facts import Facts
from llmtop.meter.voids import Voids

SECONDS = 8
TICKS = 4
"""Batches a second."""


@st.composite
def requests(draw: st.DrawFn) -> RequestRecord:
    """Within the run, on a grid of a tenth of a second, so that ends of seconds are hit."""
    times = sorted(draw(st.lists(st.integers(0, 10 * SECONDS), min_size=4, max_size=4)))
    sent, first, last, end = (time * 100_000_000 for time in times)
    silent = draw(st.booleans())
    return RequestRecord(
        scheduled_ns=sent,
        dispatched_ns=sent,
        sent_ns=sent,
        connect_ns=0,
        headers_ns=None,
        first_token_ns=None if silent else first,
        first_answer_ns=None,
        last_token_ns=None if silent else last,
        end_ns=end,
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=1,
        prompt_tokens=1,
        output_tokens=4,
        first_chunk_tokens=draw(st.integers(1, 2)),
        chunks=2,
        outcome=draw(st.sampled_from((Outcome.OK, Outcome.HTTP_ERROR, Outcome.CANCELLED))),
        worker=draw(st.integers(0, 1)),
    )


SAMPLES = st.builds(
    ClientSample,
    t_s=st.just(0.0),
    cpu=st.sampled_from((0.1, 0.95)),
    loop_lag_ms=st.sampled_from((0.0, 25.0, 400.0)),
    stamp_source=st.sampled_from((None, "kernel")),
)


def told(records: list[RequestRecord], seconds: list[tuple[ClientSample, ClientSample]]) -> list[FactBatch]:
    batches, before_s = [], -1.0
    for tick in range(SECONDS * TICKS + 1):
        t_s = tick / TICKS
        ended = tuple(each for each in records if before_s < each.end_ns / 1e9 <= t_s)
        pair = seconds[int(t_s) - 1] if t_s and t_s == int(t_s) and t_s <= len(seconds) else ()
        client = tuple(replace(sample, t_s=t_s, worker=worker) for worker, sample in enumerate(pair))
        batches.append(FactBatch(t_s=t_s, requests=ended, client=client))
        before_s = t_s
    return batches


@given(st.lists(requests(), max_size=30), st.lists(st.tuples(SAMPLES, SAMPLES), max_size=SECONDS))
def test_a_request_counts_as_the_facts_say_in_the_end(
    records: list[RequestRecord], seconds: list[tuple[ClientSample, ClientSample]]
) -> None:
    voids, facts, kept, inside = Voids(), Facts(), [], []
    for batch in told(records, seconds):
        facts.extend(batch)
        kept += voids.take(batch)
        inside += batch.requests
    kept += voids.last()
    counted = facts.requests.column("client_limited") == 0
    assert sorted(map(id, kept)) == sorted(id(each) for each, counts in zip(inside, counted, strict=True) if counts)
    assert voids.void == np.count_nonzero(~counted)


def test_nothing_counts_before_its_last_second_is_judged() -> None:
    record = RequestRecord(
        **dict.fromkeys(("scheduled_ns", "dispatched_ns", "sent_ns"), 0),
        **dict.fromkeys(("connect_ns", "headers_ns", "first_token_ns", "first_answer_ns", "last_token_ns")),
        **dict.fromkeys(("asked_prompt_tokens", "asked_output_tokens", "prompt_tokens", "output_tokens"), 1),
        end_ns=1_500_000_000,
        started_at=0.0,
        outcome=Outcome.OK,
    )
    voids = Voids()
    assert voids.take(FactBatch(t_s=1.5, client=(ClientSample(t_s=1.0),), requests=(record,))) == []
    assert voids.take(FactBatch(t_s=1.75)) == []
    assert voids.take(FactBatch(t_s=2.0, client=(ClientSample(t_s=2.0),))) == [record]
    assert voids.last() == []
