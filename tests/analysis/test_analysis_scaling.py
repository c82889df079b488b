"""Scaling of a deployment: when it did what about which rise, what was missed, and what would have been enough."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from deployments import Deployment, rates
from facts_by_hand import facts_of, record
from msgspec import structs
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.scaling import Move, moves_of, scalings_of
from llmtop.analysis.spikes import recoveries_of
from llmtop.domain.load import LoadPlan, LoadPoint, Spike, Stage
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch, LoadChange, RunMeta, ScaleKind, ScaleStep
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Scaling
from llmtop.meter.facts import Facts
from llmtop.wording import scaled as words
from llmtop.wording.scaled import scaled

PLAN = LoadPlan(stages=(Stage(name="s", duration_s=500.0, shape=Spike(1, 3.08, 0.12, 0.72, "rate_rps")),))
SPIKE = rates((0, 1.0), (60, 3.08), (360, 1.0))
"""Half of what one replica carries, then half more than that for five minutes."""


def spiked() -> Deployment:
    return Deployment(SPIKE, 500.0, threshold=31.5, shared=False, stage="s")


def judged(facts: Facts, slo: str = "ttft_p95<57s", now_s: float = 500.0) -> tuple[Scaling, ...]:
    requests, limits = finished_requests(facts), parse_slo(slo)
    recoveries = recoveries_of(facts, PLAN, limits, requests, now_s)
    return scalings_of(facts, limits, requests, recoveries, now_s)


def only(found: Sequence[Scaling]) -> Scaling:
    (one,) = found
    return one


@pytest.fixture(scope="module")
def facts() -> Facts:
    return spiked().run()


# -- the verdict ------------------------------------------------------------------------------------------------------


def test_the_verdict_of_a_spike_with_an_autoscaler(facts: Facts) -> None:
    found = only(judged(facts))
    assert found.text == (
        "replicas 1 → 3 after 128 s (decided 31, ready 112, serving 128); SLO missed for 22 s, 65 of 924 requests; "
        "scale at queue > 4 instead of 30, or keep 2"
    )
    assert (found.from_s, found.before, found.after, found.late_s) == (60.0, 1, 3, None)
    times = (found.decided_s, found.created_s, found.ready_s, found.serving_s)
    assert times == pytest.approx((30.55, 32.55, 111.55, 127.55))
    assert (found.queue, found.threshold, found.keep) == (30.0, 4, 2)


def test_the_sentence_is_one_of_all_figures() -> None:
    found = Scaling(
        from_s=60.0, before=1, after=3, decided_s=31.2, created_s=40.0, ready_s=111.9, serving_s=128.4,
        debt_s=97.0, missed=412, n=1930, queue=30.0, threshold=4, keep=2,
    )  # fmt: skip
    assert scaled(found, advice=words.enough(found, 97.2)).text == (
        "replicas 1 → 3 after 128 s (decided 31, ready 112, serving 128); SLO missed for 97 s, 412 of 1 930 requests; "
        "scale at queue > 4 instead of 30, or keep 2"
    )
    more = structs.replace(found, before=2, after=4, keep=None)
    assert words.enough(more, 97.2) == "scale at queue > 4 a replica instead of 30"
    late = structs.replace(found, threshold=None)
    assert words.enough(late, 97.2) == "no threshold is early enough: 97 s to serve; keep 2"
    assert words.enough(structs.replace(late, keep=None), 97.2) == "no threshold is early enough: 97 s to serve"
    assert words.enough(late, None) == "keep 2"


def test_the_answer_of_a_spike_says_what_the_deployment_did(facts: Facts) -> None:
    meta = _meta(recover_within_s=30.0)
    found = assess(facts, meta, parse_slo("ttft_p95<57s"), now_s=500.0)
    assert found.judgement.ok is True
    assert only(found.scalings).text in found.judgement.sentence
    assert found.judgement.sentence.count("SLO missed for") == 1
    alone = spiked().run()
    alone.scaling.clear()
    told = assess(alone, meta, parse_slo("ttft_p95<57s"), now_s=500.0)
    assert told.scalings == ()
    assert told.judgement.sentence.endswith("; SLO missed for 22 s, 65 of 924 requests")
    assert (told.judgement.ok, told.judgement.reasons) == (found.judgement.ok, found.judgement.reasons)


def test_a_live_run_says_what_its_file_says(facts: Facts) -> None:
    deployment = spiked()
    deployment.run()
    (whole,) = deployment.batches
    live, meta = Facts(), _meta(recover_within_s=30.0)
    previous, slo = None, parse_slo("ttft_p95<57s")
    for at_s in (80.0, 120.0, 200.0, 400.0, 500.0):
        live.extend(_between(whole, live.t_s, at_s))
        previous = assess(live, structs.replace(meta, ended_s=None), slo, now_s=at_s, previous=previous)
        if at_s == 120.0:
            assert "decided at 31 s, created at 33 s, not ready after 60 s" in only(previous.scalings).text
    again = assess(facts, meta, slo, now_s=500.0)
    assert previous is not None
    assert previous.scalings == again.scalings
    quick = assess(live, structs.replace(meta, ended_s=None), slo, now_s=500.0, previous=previous, full=False)
    assert quick.scalings == again.scalings


def _meta(**more: float) -> RunMeta:
    return structs.replace(meta_of(), profile=Profile(name="p", plan=PLAN, **more), ended_s=500.0)  # type: ignore


def _between(batch: FactBatch, from_s: float, until_s: float) -> FactBatch:
    def told(values: Sequence, at: str = "t_s", scale: float = 1.0) -> tuple:  # type: ignore[type-arg]
        first = -1.0 if from_s == 0 else from_s
        return tuple(each for each in values if first < getattr(each, at) / scale <= until_s)

    return FactBatch(
        t_s=until_s,
        requests=told(batch.requests, "end_ns", 1e9),
        server=told(batch.server),
        changes=told(batch.changes),
        scaling=told(batch.scaling),
    )


# -- what was done about what -----------------------------------------------------------------------------------------


def step(t_s: float, kind: ScaleKind, count: int, *, since: bool = False) -> ScaleStep:
    return ScaleStep(t_s=t_s, kind=kind, replicas=count, name=f"pod-{count}", since=since)


FIRST = tuple(step(0.0, kind, 1, since=True) for kind in ("desired", "created", "ready", "serving"))
UP_DOWN = ((0.0, 4), (60.0, 24), (160.0, 4))


def facts_by_hand(
    *steps: ScaleStep, loads: Sequence[tuple[float, int]] = UP_DOWN, slow: tuple[float, float] = (0.0, 0.0)
) -> Facts:
    """Two requests a second until 300 s, those sent within `slow` of 5 s to the first token."""
    sent = [i / 2 for i in range(600)]
    requests = [record(t_s, ttft_s=5.0 if slow[0] <= t_s < slow[1] else 0.1, e2e_s=6.0) for t_s in sent]
    changes = [(t_s, LoadPoint(concurrency=load)) for t_s, load in loads]
    facts = facts_of(requests=requests, changes=changes)
    facts.scaling.extend(sorted(steps, key=lambda each: each.t_s))
    return facts


def texts(*steps: ScaleStep, now_s: float = 300.0, **more: object) -> list[str]:
    found = judged(facts_by_hand(*steps, **more), "ttft_p95<2s", now_s)  # type: ignore[arg-type]
    return [each.text for each in found]


def scaled_up(
    *counts: int, ready_s: float = 112.0, serving_s: float = 128.0, decided_s: float = 31.0
) -> list[ScaleStep]:
    """From one to the last of `counts`, 60 s being when the load rises."""
    steps = [step(60 + decided_s, "desired", counts[-1])]
    for count in counts:
        steps += [step(60 + decided_s + 2, "created", count)]
        steps += [step(60 + ready_s, "ready", count), step(60 + serving_s, "serving", count)]
    return steps


def test_without_steps_or_with_none_of_the_runs_own_nothing_is_said() -> None:
    assert texts() == []
    assert texts(*FIRST) == []
    assert texts(*scaled_up(2), loads=()) == [], "nothing rose"


def test_all_in_time_and_nothing_missed_needs_no_advice() -> None:
    assert texts(*FIRST, *scaled_up(2, 3, ready_s=20, serving_s=30, decided_s=5)) == [
        "replicas 1 → 3 after 30 s (decided 5, ready 20, serving 30); the SLO held all the while"
    ]


def test_times_are_those_of_the_last_replica() -> None:
    early = scaled_up(2, ready_s=40, serving_s=50)[1:]
    found = only(judged(facts_by_hand(*FIRST, *early, *scaled_up(3)), "ttft_p95<2s", 300.0))
    assert (found.created_s, found.ready_s, found.serving_s) == (33.0, 112.0, 128.0)


def test_several_decisions_about_one_rise_are_one_and_the_first_is_when_it_was_decided() -> None:
    more = [step(100.0, "desired", 2), step(130.0, "desired", 3), step(150.0, "ready", 3), step(155.0, "serving", 3)]
    assert texts(*FIRST, *more)[0].startswith("replicas 1 → 3 after 95 s (decided 40, ready 90, serving 95)")


def test_two_rises_are_two_scalings() -> None:
    loads = ((0.0, 4), (60.0, 24), (160.0, 48))
    more = [step(170.0, "desired", 3), step(190.0, "ready", 3), step(195.0, "serving", 3)]
    quick = scaled_up(2, ready_s=20, serving_s=30, decided_s=5)
    assert [text.partition(" (")[0] for text in texts(*FIRST, *quick, *more, loads=loads)] == [
        "replicas 1 → 2 after 30 s",
        "replicas 2 → 3 after 35 s",
    ]


def test_without_anybody_who_tells_what_is_wanted_what_came_is_told() -> None:
    steps = [step(0.0, "ready", 1, since=True), step(172.0, "ready", 2), step(188.0, "serving", 2)]
    assert texts(*steps, loads=((0.0, 4), (60.0, 24))) == [
        "replicas 1 → 2 after 128 s (ready 112, serving 128); the SLO held all the while"
    ]
    assert texts(step(172.0, "ready", 2), loads=((0.0, 4), (60.0, 24))) == [
        "replicas 1 → 2 after 112 s; the SLO held all the while"
    ]


def test_a_replica_that_came_after_the_spike_came_too_late() -> None:
    assert texts(*FIRST, *scaled_up(2, serving_s=140.0)) == [
        "replicas 1 → 2 after 140 s (decided 31, ready 112, serving 140), 40 s too late to help; "
        "the SLO held all the while"
    ]
    assert "too late" not in texts(*FIRST, *scaled_up(2, ready_s=80, serving_s=100.0))[0]


def test_what_never_came_is_said_and_what_nobody_tells_is_not_missing() -> None:
    decided, created = step(91.0, "desired", 3), step(95.0, "created", 3)
    assert texts(*FIRST, decided, now_s=240.0)[0].startswith(
        "replicas 1 → 3 decided at 31 s, none created after 180 s (no GPU left?)"
    )
    assert texts(*FIRST, decided, created, now_s=240.0)[0].startswith(
        "replicas 1 → 3 decided at 31 s, created at 35 s, not ready after 180 s"
    )
    assert texts(*FIRST, decided, created, step(120.0, "ready", 2), now_s=240.0)[0].startswith(
        "replicas 1 → 3 decided at 31 s, created at 35 s, only 2 ready after 180 s"
    )
    ready = step(172.0, "ready", 3)
    assert texts(*FIRST, decided, created, ready, now_s=240.0)[0].startswith(
        "replicas 1 → 3 decided at 31 s, ready at 112 s, but no token of the last in 68 s since: connections stay with "
        "the old ones, or there is nothing left to do"
    )
    silent = [each for each in FIRST if each.kind in ("desired", "ready")]
    assert texts(*silent, decided, ready, now_s=240.0)[0].startswith(
        "replicas 1 → 3 after 112 s (decided 31, ready 112)"
    )
    assert texts(*silent[:1], decided, now_s=240.0)[0].startswith("replicas 1 → 3 decided at 31 s;")


def test_fewer_replicas_are_told_with_what_was_missed_by_it() -> None:
    down = [step(205.0, "desired", 1), step(220.0, "gone", 1)]
    quick = scaled_up(2, ready_s=20, serving_s=30, decided_s=5)
    assert texts(*FIRST, *quick, *down)[1] == (
        "replicas 2 → 1 after 60 s (decided 45, gone 60); the SLO held all the while"
    )
    missed = texts(*FIRST, *quick, *down, slow=(230.0, 240.0))[1]
    assert missed == "replicas 2 → 1 after 60 s (decided 45, gone 60); SLO missed for 12 s, 20 of 190 requests"
    before = texts(*FIRST, *quick, *down, slow=(190.0, 200.0))[1]
    assert before.endswith("the SLO held all the while"), "that was before it was decided"
    assert texts(*FIRST, *quick, down[0])[1].startswith("replicas 2 → 1 decided at 45 s, none gone after 140 s")
    untold = [step(0.0, "ready", 1, since=True), step(80.0, "ready", 2), step(220.0, "gone", 1)]
    assert texts(*untold)[1].startswith("replicas 2 → 1 after 60 s; ")


def test_fewer_replicas_without_a_fall_of_the_load_count_from_the_decision() -> None:
    found = judged(facts_by_hand(*FIRST, step(30.0, "desired", 0), step(42.0, "gone", 0)), "ttft_p95<2s", 300.0)
    assert (only(found).from_s, only(found).decided_s, only(found).gone_s) == (30.0, 0.0, 12.0)


# -- rises ------------------------------------------------------------------------------------------------------------


def moved(*loads: tuple[float, float], spikes: tuple[float, ...] = ()) -> list[tuple[float, float, float]]:
    changes = [LoadChange(t_s, LoadPoint(concurrency=int(load))) for t_s, load in loads]
    return [(each.at_s, each.base, each.to) for each in moves_of(changes, spikes)]


def test_a_rise_is_half_more_and_a_ramp_is_one() -> None:
    assert moved((0, 10), (60, 15)) == [(0, 0, 10), (60, 10, 15)]
    assert moved((0, 10), (60, 14)) == [(0, 0, 10)]
    assert moved((0, 10), (60, 14), spikes=(60,)) == [(0, 0, 10), (60, 10, 14)]
    assert moved((0, 100), *((60 + 9 * i, 100 + 10 * i) for i in range(1, 8))) == [(0, 0, 100), (69, 100, 170)]
    assert moved((0, 100), *((60 + 10 * i, 100 + 10 * i) for i in range(1, 8))) == [(0, 0, 100)]
    assert moved((0, 30), (60, 20), (120, 20), (180, 14)) == [(0, 0, 30), (60, 30, 20)]


def test_a_rise_lasts_until_the_load_moves_again_and_is_over_where_it_is_back() -> None:
    changes = [LoadChange(t_s, LoadPoint(concurrency=load)) for t_s, load in ((0, 20), (60, 60), (90, 24), (120, 23))]
    rise = moves_of(changes)[1]
    assert rise == Move(60, 20.0, 60.0, until_s=90, back_s=120)
    other = [LoadChange(0, LoadPoint(concurrency=20)), LoadChange(60, LoadPoint(rate_rps=8.0))]
    assert [each.base for each in moves_of(other)] == [0.0, 0.0], "users are no requests/s"
