"""Whatever a run holds, it can be judged: no exception, no warning, no figure that is not a number."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import meta_of

from llmtop.analysis import CapacitySearch, assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.meter.facts import Facts

GAUGES = ("running", "waiting", "kv_usage", "preemptions_total", "requests_total", "max_num_seqs", "ttft_mean_s")


def facts_of(seed: int, *, requests: int, bins: int, scrapes: int, errors: float, gaps: float, rate: bool) -> Facts:
    """Facts that no server would make: any outcome, stamps missing at random, counters that jump."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(requests):
        sent_ns = int(rng.uniform(0, 60e9))
        outcome = Outcome(str(rng.choice(list(Outcome)))) if rng.random() < errors else Outcome.OK
        first_ns = sent_ns + int(rng.uniform(1e6, 3e9))
        last_ns = first_ns + int(rng.uniform(0, 5e9))
        started = outcome is Outcome.OK or rng.random() < 0.5
        records.append(
            RequestRecord(
                scheduled_ns=sent_ns,
                dispatched_ns=sent_ns,
                sent_ns=sent_ns if started else None,
                connect_ns=None,
                headers_ns=None,
                first_token_ns=first_ns if started else None,
                first_answer_ns=None,
                last_token_ns=last_ns if started else None,
                end_ns=last_ns,
                started_at=0.0,
                asked_prompt_tokens=10,
                asked_output_tokens=10,
                prompt_tokens=10,
                output_tokens=int(rng.integers(1, 20)),
                chunks=int(rng.integers(0, 20)),
                outcome=outcome,
                client_limited=bool(rng.random() < 0.1 * errors),
            )
        )
    points = [
        LoadPoint(rate_rps=float(rng.uniform(0.5, 20)))
        if rate
        else LoadPoint(concurrency=int(rng.integers(0, 40)), prompt_tokens=int(rng.choice([64, 192])))
        for _ in range(4)
    ]
    changes = tuple(LoadChange(15.0 * i, point) for i, point in enumerate(points))
    loads = tuple(
        LoadBin(
            t_s=0.25 * (i + 1),
            span_s=0.25,
            target=float(points[min(3, i // 60)].concurrency or points[min(3, i // 60)].rate_rps or 0),
            in_flight=int(rng.integers(0, 40)),
            prefilling=int(rng.integers(0, 5)),
            oldest_prefill_s=float(rng.uniform(0, 9)) if rng.random() < 0.5 else None,
            sent=int(rng.integers(0, 9)),
            ok=int(rng.integers(0, 9)),
            output_tokens=int(rng.integers(0, 99)),
        )
        for i in range(bins)
    )
    server = tuple(
        ServerSnapshot(t_s=float(i), **{name: float(rng.integers(0, 50)) for name in GAUGES if rng.random() > gaps})
        for i in range(scrapes)
    )
    client = tuple(ClientSample(t_s=float(i), state=str(rng.choice(["green", "amber", "red"]))) for i in range(scrapes))
    batch = FactBatch(
        t_s=60.0, requests=tuple(records), bins=loads, server=server, client=client, changes=changes[:requests]
    )
    return Facts.of([batch])


def numbers(value: object) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    return [number for each in value for number in numbers(each)] if isinstance(value, list | tuple) else []


@given(
    seed=st.integers(0, 1000),
    requests=st.sampled_from([0, 1, 5, 60, 300]),
    bins=st.sampled_from([0, 1, 40, 240]),
    scrapes=st.sampled_from([0, 1, 60]),
    errors=st.sampled_from([0.0, 0.1, 1.0]),
    gaps=st.sampled_from([0.0, 0.5, 1.0]),
    rate=st.booleans(),
)
@settings(max_examples=30)
def test_any_facts_can_be_judged(seed, requests, bins, scrapes, errors, gaps, rate):
    facts = facts_of(seed, requests=requests, bins=bins, scrapes=scrapes, errors=errors, gaps=gaps, rate=rate)
    first = assess(facts, meta_of(), Slo(), now_s=60.0)
    again = assess(facts, meta_of(), Slo(), now_s=61.0, previous=first, full=False)
    ended = msgspec.structs.replace(meta_of(), ended_s=60.0)
    whole = assess(facts, ended, parse_slo("e2e_mean<3s,ttft_p99<1s,kv<50%"), now_s=400.0)
    for found in (first, again, whole):
        assert isinstance(found, Assessment)
        assert found.headline
        assert not any(math.isnan(number) for number in numbers(msgspec.to_builtins(found)))


@pytest.mark.parametrize("seed", range(6))
def test_a_search_survives_any_facts(seed):
    search = CapacitySearch(Slo(), LoadPoint(concurrency=1))
    for requests in (0, 1, 60, 300):
        facts = facts_of(seed, requests=requests, bins=min(240, requests), scrapes=0, errors=0.1, gaps=1.0, rate=False)
        progress = search.next(facts, 0.2 * requests)
        assert progress.point is None or 1 <= progress.point.concurrency <= 1024
    search.stop()
    assert search.next(Facts(), 99.0).point is None
