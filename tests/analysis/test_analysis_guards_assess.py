"""Guards of an assessment as a whole: which curves, points, notes and verdicts it shows."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from test_analysis_cliff_laws import LOADS, capped
from test_analysis_guards import FOUR, steady
from virtual import meta_of

from llmtop.analysis import Level, assess, assess_levels
from llmtop.analysis.levels import Statistic
from llmtop.analysis.measured import measured_curves
from llmtop.analysis.readings import commanded, finished_requests, flight, waiting_ages
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import LoadChange
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.meter.facts import Facts


def seen(facts: Facts, now_s: float, slo: str = "ttft_p95<2s", **more: object) -> Assessment:
    return assess(facts, meta_of(), parse_slo(slo), now_s=now_s, **more)  # type: ignore[arg-type]


# -- facts of one configuration ---------------------------------------------------------------------------------------


def test_in_flight_is_that_of_the_bins_or_of_the_requests_themselves() -> None:
    bins = [LoadBin(t_s=t, span_s=1.0, target=4.0, in_flight=n) for t, n in ((1.0, 2), (2.0, 4), (3.0, 4))]
    known = flight(facts_of(bins=bins), finished_requests(Facts()))
    assert known is not None
    assert known.at(np.array([0.5, 1.5, 2.5, 9.0])).tolist() == [1.0, 3.0, 4.0, 4.0]
    requests = finished_requests(facts_of(requests=[record(0.0), record(0.5)]))
    alone = flight(Facts(), requests)
    assert alone is not None
    assert alone.at(np.array([0.2, 0.7, 1.2])).tolist() == [1.0, 2.0, 1.0]
    assert flight(Facts(), finished_requests(Facts())) is None


def test_what_was_commanded_is_told_by_the_bins() -> None:
    assert commanded(Facts()) is None
    bins = [LoadBin(t_s=t, span_s=1.0, target=n, in_flight=0) for t, n in ((1.0, 2.0), (2.0, 8.0))]
    steps = commanded(facts_of(bins=bins))
    assert steps is not None
    assert steps.at(np.array([0.5, 1.5, 5.0])).tolist() == [2.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("prefilling", "oldest_s", "ages_s"),
    [(4, 2.0, [0.5, 1.0, 1.5, 2.0]), (0, 2.0, []), (4, None, []), (1, 2.0, [2.0])],
)
def test_those_who_wait_are_spread_up_to_the_oldest(
    prefilling: int, oldest_s: float | None, ages_s: list[float]
) -> None:
    bins = bins_of(1, 4, prefilling=prefilling, oldest_prefill_s=oldest_s)
    assert waiting_ages(facts_of(bins=bins)).tolist() == ages_s
    assert waiting_ages(Facts()).tolist() == []
    grown = [*bins_of(1, 4, prefilling=9, oldest_prefill_s=9.0), *bins]
    assert waiting_ages(facts_of(bins=grown)).tolist() == ages_s, "of the last bin"


def two_loads(point: LoadPoint) -> Facts:
    """A minute of four users, half a minute of eight, and half a minute of `point`."""
    facts = steady(120)
    t_s = facts.bins.column("t_s")
    for name in ("in_flight", "target"):
        facts.bins.column(name)[(t_s > 60) & (t_s <= 90)] = 8
    facts.changes += [LoadChange(60.0, LoadPoint(concurrency=8)), LoadChange(90.0, point)]
    return facts


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"prompt_tokens": 200}, ["192/64 tok", "200/64 tok"]),
        ({"prompt_tokens": 400}, ["192/64 tok", "192/64 tok (400 asked)"]),
        ({"output_tokens": 99}, ["192/64 tok", "192/99 tok"]),
        ({"shared_prefix": 0.5}, ["192/64 tok", "192/64 tok · 50 % shared"]),
        ({"concurrency": 4}, ["192/64 tok"]),
        ({"burstiness": 3.0}, ["192/64 tok"]),
        ({"think_time_s": 1.0}, ["192/64 tok"]),
        ({"concurrency": None, "rate_rps": 4.0}, ["192/64 tok", "192/64 tok"]),
    ],
)
def test_other_lengths_or_another_loop_are_another_curve(change: dict[str, float], labels: list[str]) -> None:
    """Think time moves only what four users send; burstiness is of open loops."""
    facts = two_loads(msgspec.structs.replace(FOUR, **change))
    curves = measured_curves(facts, meta_of(), finished_requests(facts), 120.0)
    assert [curve.label for curve in curves] == labels


def test_settings_that_come_to_be_known_are_those_of_before() -> None:
    facts = steady(60, server=[ServerSnapshot(t_s=float(t), max_num_seqs=32 if t > 20 else None) for t in range(60)])
    assert len(measured_curves(facts, meta_of(), finished_requests(facts), 60.0)) == 1
    curve = measured_curves(facts, meta_of(), finished_requests(facts), 60.0)[0]
    assert curve.label == "192/64 tok"
    assert len(curve.requests.sent_s) > 200


def test_a_setting_that_changed_is_in_the_label() -> None:
    facts = two_loads(LoadPoint(concurrency=4))
    later = [ServerSnapshot(t_s=float(t), max_num_seqs=32 if t < 90 else 64) for t in range(120)]
    told = facts_of(server=later)
    facts.server = told.server
    labels = [curve.label for curve in measured_curves(facts, meta_of(), finished_requests(facts), 120.0)]
    assert labels == ["192/64 tok · max_num_seqs 32", "192/64 tok · max_num_seqs 64"]


def test_three_earlier_curves_are_kept() -> None:
    facts = steady(300)
    t_s = facts.bins.column("t_s")
    facts.changes.clear()
    for i in range(10):
        for name in ("in_flight", "target"):
            facts.bins.column(name)[(t_s > 30 * i) & (t_s <= 30 * i + 15)] = 8
        facts.changes += [
            LoadChange(30.0 * i, LoadPoint(concurrency=8, prompt_tokens=100 + i)),
            LoadChange(30.0 * i + 15, LoadPoint(concurrency=4, prompt_tokens=100 + i)),
        ]
    curves = measured_curves(facts, meta_of(), finished_requests(facts), 300.0)
    assert [curve.point.prompt_tokens for curve in curves] == [106, 107, 108, 109]


# -- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "points", "faint", "p95"),
    [(4, 0, True, False), (5, 1, True, False), (19, 1, True, False), (20, 1, False, True)],
)
def test_a_point_is_shown_from_five_requests_and_is_faint_below_twenty(
    n: int, points: int, faint: bool, p95: bool
) -> None:
    first = [record(1.0 + i / 4) for i in range(4)]
    facts = facts_of(requests=first + [record(2.0 + i / 4) for i in range(n)], bins=bins_of(20, 4))
    shown = seen(facts, 20.0).curves[-1].points
    assert len(shown) == points
    for point in shown:
        assert (point.n, point.faint, point.ttft_p95_ms is not None) == (n, faint, p95)
        assert point.ttft_p50_ms == pytest.approx(100.0)


def test_failures_and_requests_left_out_are_told() -> None:
    requests = [record(2.0 + i / 4) for i in range(40)]
    requests += [record(3.0, outcome=Outcome.TIMEOUT), record(3.0, client_limited=True)]
    found = seen(facts_of(requests=requests, bins=bins_of(20, 4), changes=[(0.0, FOUR)]), 20.0)
    assert found.notes == ("timeout ×1, at 00:04", "1 request left out: the client was the bottleneck")
    assert found.judged_requests == sum(point.n + point.errors for point in found.curves[-1].points)
    assert [point.errors for point in found.curves[-1].points] == [1]
    assert found.curves[-1].points[0].attainment == pytest.approx(1 - 1 / found.judged_requests)
    assert seen(steady(20), 20.0).notes == ()


def test_drift_is_told_of_five_minutes_and_only_in_full() -> None:
    assert seen(steady(310), 310.0).drifts
    assert not seen(steady(310), 299.0).drifts
    assert not seen(steady(310), 310.0, full=False).drifts


def test_a_verdict_is_computed_again_after_ten_new_requests() -> None:
    stale = CliffVerdict(kind=Kind.GRADUAL, at=99.0)
    facts = steady(20)
    now = seen(facts, 20.0)
    for older, kept in ((9, True), (10, False)):
        before = msgspec.structs.replace(now, cliff=stale, cliffs=(stale,), judged_requests=now.judged_requests - older)
        found = seen(facts, 20.0, previous=before)
        assert (found.cliffs == (stale,)) is kept
        assert found.judged_requests == now.judged_requests - (older if kept else 0)
    other = msgspec.structs.replace(
        now, cliff=stale, cliffs=(stale,), curves=(msgspec.structs.replace(now.curves[-1], label="another"),)
    )
    assert seen(facts, 20.0, previous=other).cliffs != (stale,), "the verdict of another curve"


def test_before_any_load_levels_up_to_the_limit_are_suggested() -> None:
    meta = meta_of()
    caps = msgspec.structs.replace(meta.profile.caps, max_concurrency=4)
    small = msgspec.structs.replace(meta, profile=msgspec.structs.replace(meta.profile, caps=caps))
    assert assess(Facts(), small, Slo(), now_s=0.0).cliff.next_levels == (4,)


def kinds_of(levels: tuple[Level, ...]) -> list[tuple[str, str]]:
    return [(each.metric, each.stat) for each in assess_levels(levels).cliffs]


def test_a_table_of_samples_is_judged_by_every_latency_and_one_of_figures_by_its_own() -> None:
    levels = capped(30, LOADS[:4])
    assert kinds_of(levels) == [("ttft", "p50"), ("tpot", "p50"), ("e2e", "p50")]
    given = tuple(dataclasses.replace(level, given=Statistic(1.0, 0.1, 9)) for level in levels)
    assert kinds_of(given) == [("ttft", "p50")]
    assert assess_levels(given).curves[0].points[0].attainment is None
    assert assess_levels(levels).judged_requests == 4 * 40
    backwards = assess_levels(levels[::-1])
    assert [point.load for point in backwards.curves[0].points] == LOADS[:4]
