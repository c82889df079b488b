"""Percentiles of a run, its stages and its levels: every request in one count, and no figure of too few samples."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess
from llmtop.analysis.percentiles import distribution, figures_of, stage_spans
from llmtop.analysis.stats import FEWEST
from llmtop.domain.frame import Distribution
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import ChangeReason, FactBatch, LoadChange
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.domain.slo import Slo
from llmtop.meter.binner import Binner
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

META = meta_of()
POINT = LoadPoint(concurrency=4)


def change(t_s: float, stage: str | None, reason: ChangeReason = "stage") -> LoadChange:
    return LoadChange(t_s, POINT, reason, stage)


def staged(changes: list[LoadChange], requests: list[RequestRecord]) -> Facts:
    """60 s with load; the client has told of the first 30 s."""
    client = tuple(ClientSample(t_s=float(s), state="green") for s in range(1, 31))
    batch = FactBatch(
        t_s=60.0,
        requests=tuple(requests),
        changes=tuple(changes),
        bins=tuple(bins_of(60.0, 4)),
        client=client,
    )
    return Facts.of([batch])


@given(st.integers(0, 700))
def test_a_statistic_needs_its_number_of_samples(n: int) -> None:
    values = np.linspace(0.1, 0.2, n)
    shown = distribution(np.append(values, np.nan))
    for stat in ("mean", "p50", "p90", "p95", "p99"):
        assert (getattr(shown, stat) is not None) == (n >= FEWEST[stat])
    assert (shown.n, shown.max is not None) == (n, n > 0)
    if n >= FEWEST["p99"]:
        told = (shown.mean, shown.p50, shown.p90, shown.p95, shown.p99, shown.max)
        assert told == pytest.approx((150, 150, 190, 195, 199, 200))


ends = st.tuples(
    st.floats(0, 59, allow_subnormal=False),
    st.sampled_from([Outcome.OK, Outcome.OK, Outcome.HTTP_ERROR, Outcome.CANCELLED]),
    st.sampled_from([True, False, None]),
)


@given(st.lists(ends, max_size=60), st.integers(0, 60))
def test_every_request_that_ended_is_in_one_count_of_the_run_and_of_its_stage(
    ended: list[tuple[float, Outcome, bool | None]], border: int
) -> None:
    requests = [replace(record(t, outcome=how), client_limited=limited) for t, how, limited in ended]
    facts = staged([change(0.0, "up"), change(float(border), "down")], requests)
    told = figures_of(facts, META)
    for part in (told.run, *told.stages):
        assert part.n == part.e2e_ms.n == part.ttft_ms.n
    for name in ("n", "errors", "cancelled", "client_limited", "unjudged"):
        assert getattr(told.run, name) == sum(getattr(stage, name) for stage in told.stages)
    run = told.run
    assert run.n + run.errors + sum(filter(None, (run.cancelled, run.client_limited, run.unjudged))) == len(requests)
    known_s = facts.client.column("t_s")[-1]
    kept_up = [limited is False or (limited is None and sent_s + 1.0 <= known_s) for sent_s, _, limited in ended]
    assert run.n == sum(how is Outcome.OK and well for (_, how, _), well in zip(ended, kept_up, strict=True))


def test_a_stage_has_the_requests_that_were_sent_in_it_and_what_arrived_meanwhile() -> None:
    early = [record(1.0 + i / 10, e2e_s=3.0) for i in range(20)]
    late = [record(5.0 + i / 10, e2e_s=0.5) for i in range(30)]
    facts = staged([change(1.0, "slow"), change(5.0, "fast"), change(9.0, None)], early + late)
    slow, fast = figures_of(facts, META).stages
    assert (slow.stage, slow.start_s, slow.end_s, slow.n) == ("slow", 1.0, 5.0, 20)
    assert (fast.stage, fast.start_s, fast.end_s, fast.n) == ("fast", 5.0, 9.0, 30)
    assert (slow.e2e_ms.p50, fast.e2e_ms.p50) == (pytest.approx(3000), pytest.approx(500))
    assert (slow.span_s, fast.span_s) == (4.0, 4.0)


@pytest.mark.parametrize(
    ("changes", "spans"),
    [
        ([], []),
        ([change(0.0, None, "hand")], []),
        ([change(0.0, "a"), change(1.0, "a"), change(2.0, "b")], [("a", 0.0, 2.0), ("b", 2.0, 9.0)]),
        ([change(0.0, "a"), change(3.0, None)], [("a", 0.0, 3.0)]),
        ([change(0.0, "a"), change(3.0, None, "brake")], [("a", 0.0, 3.0)]),
        ([change(0.0, "a"), change(3.0, "a", "hand"), change(4.0, "a")], [("a", 0.0, 3.0), ("a", 4.0, 9.0)]),
    ],
)
def test_a_hand_a_brake_or_the_next_stage_ends_a_stage(
    changes: list[LoadChange], spans: list[tuple[str, float, float]]
) -> None:
    assert stage_spans(changes, 9.0) == spans


def test_rates_are_of_the_seconds_with_load_in_which_the_client_kept_up() -> None:
    loaded = bins_of(8.0, 4, ok=1, output_tokens=50)
    idle = [replace(each, target=0, in_flight=0, ok=0, output_tokens=0) for each in loaded]
    idle = [replace(each, t_s=each.t_s + 8) for each in idle]
    client = [ClientSample(t_s=float(s), state="red" if 3 <= s <= 4 else "green") for s in range(1, 17)]
    run = figures_of(facts_of(bins=loaded + idle, client=client), META).run
    assert (run.span_s, run.requests_per_s, run.output_tokens_per_s) == (6.0, 4.0, 200.0)
    red = [replace(each, state="red") for each in client]
    run = figures_of(facts_of(bins=loaded, client=red), META).run
    assert (run.span_s, run.requests_per_s, run.output_tokens_per_s) == (0.0, None, None)
    run = figures_of(facts_of(bins=loaded, client=client[3:4]), META).run
    assert run.span_s == 7.0, "of the other seconds nothing is known"


gap_lists = st.lists(st.lists(st.floats(1e-3, 6e4), max_size=200), min_size=1, max_size=4)


def gap_bins(bins: list[list[float]]) -> list[LoadBin]:
    """One bin a second with these gaps, in milliseconds."""
    binner = Binner()
    closed = []
    for second, gaps in enumerate(bins, 1):
        for gap_ms in gaps:
            binner.tokens(1, round(gap_ms * 1e6))
        closed.append(binner.close(float(second), target=1, in_flight=1))
    return closed


@given(gap_lists)
def test_percentiles_of_gaps_are_within_2_per_cent_and_the_rest_is_exact(bins: list[list[float]]) -> None:
    told = figures_of(facts_of(bins=gap_bins(bins)), META).run.icl_ms
    everything = np.sort([gap_ms for gaps in bins for gap_ms in gaps])
    n = len(everything)
    assert told.n == n
    assert told.max == (pytest.approx(everything[-1]) if n else None)
    assert told.mean == (pytest.approx(everything.mean()) if n >= FEWEST["mean"] else None)
    for stat, share in (("p50", 0.50), ("p90", 0.90), ("p95", 0.95), ("p99", 0.99)):
        value = getattr(told, stat)
        assert (value is not None) == (n >= FEWEST[stat])
        if value is not None:
            assert value == pytest.approx(everything[int(share * (n - 1))], rel=0.0221, abs=1e-3)
            assert value <= told.max + 1e-9


def test_gaps_of_red_seconds_and_of_other_stages_are_out() -> None:
    bins = gap_bins([[10.0] * 20, [500.0] * 20, [30.0] * 20])
    client = [ClientSample(t_s=float(s), state="red" if s == 2 else "green") for s in (1, 2, 3)]
    facts = facts_of(bins=bins, client=client)
    facts.changes = [change(0.0, "a"), change(2.0, "b")]
    told = figures_of(facts, META)
    assert (told.run.icl_ms.n, told.run.icl_ms.max, told.run.icl_ms.mean) == (40, 30.0, 20.0)
    assert [stage.icl_ms.max for stage in told.stages] == [10.0, 30.0]
    assert told.stages[1].icl_ms.p50 == pytest.approx(30.0, rel=0.022)


def test_a_run_file_without_buckets_tells_the_number_of_gaps_and_the_longest() -> None:
    bins = [replace(each, gap_counts=(), gap_sum_ms=None) for each in gap_bins([[10.0] * 400, [20.0] * 5])]
    told = figures_of(facts_of(bins=bins), META).run.icl_ms
    assert told == Distribution(n=405, max=20.0)


def test_levels_are_those_of_the_curves_with_the_same_requests() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=4, prompt_tokens=192, output_tokens=64))
    for users in (4, 8, 16):
        session.command(LoadPoint(concurrency=users, prompt_tokens=192, output_tokens=64))
        session.run_until(session.now_s + 25.0)
    told = figures_of(session.facts, session.meta)
    curves = assess(session.facts, session.meta, Slo(), now_s=session.now_s).curves
    points = [(curve.label, curve.axis, point) for curve in curves for point in curve.points]
    assert len(points) >= 3
    for level, (label, axis, point) in zip(told.levels, points, strict=True):
        assert (level.curve, level.axis, level.load, level.n, level.errors) == (label, axis, point.load, point.n, 0)
        assert (level.requests_per_s, level.output_tokens_per_s) == (point.requests_per_s, point.output_tokens_per_s)
        assert level.ttft_ms.p50 == pytest.approx(point.ttft_p50_ms)
        assert (level.cancelled, level.client_limited, level.span_s, level.icl_ms.n) == (None, None, None, 0)


def test_a_run_without_a_request_has_no_figures() -> None:
    told = figures_of(Facts(), META)
    assert (told.stages, told.levels, told.run.n, told.run.ttft_ms) == ((), (), 0, Distribution())
    assert told.run.requests_per_s is None
