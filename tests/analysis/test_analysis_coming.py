"""Advice while more replicas are on their way: none on an engine before they serve, or are clearly not coming."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from deployments import Deployment, between, rates
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.analysis.coming import COMES_S, coming, with_coming
from llmtop.domain.replicas import IDLE_S
from llmtop.domain.run import FactBatch, ScaleKind, ScaleStep
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, Diagnosis, Forecast
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.wording.advice import LEAK
from llmtop.wording.replicas import SHARE_OUT, waits

RAISE = "raise --max-num-seqs to about 110: about 50 concurrent users at the SLO"
QUEUED = Diagnosis(bound=Bound.QUEUE, advice=RAISE, prediction=Forecast(capacity_now=8.0, capacity_then=50.0))
WAIT = "wait for 2 replicas coming since 01:30: 1 of 3 serves, no flag before they do"


def step(t_s: float, kind: ScaleKind, count: int, *, since: bool = False) -> ScaleStep:
    return ScaleStep(t_s=t_s, kind=kind, replicas=count, name=f"pod-{count}", since=since)


ONE = tuple(step(0.0, kind, 1, since=True) for kind in ("desired", "created", "ready"))
WANTED = (*ONE, step(5.0, "serving", 1), step(90.0, "desired", 3))


def facts_of(*steps: ScaleStep) -> Facts:
    return Facts.of([FactBatch(t_s=1e4, scaling=steps)])


def advice(*steps: ScaleStep, at_s: float, of: Diagnosis = QUEUED) -> str | None:
    return with_coming(of, facts_of(*steps), at_s).advice


def test_what_is_on_its_way_is_waited_for_and_no_flag_is_advised_until_it_serves() -> None:
    assert advice(*WANTED, at_s=89.0) == RAISE
    told = with_coming(QUEUED, facts_of(*WANTED), 90.0)
    assert (told.advice, told.prediction, told.bound) == (WAIT, None, Bound.QUEUE)
    second = (step(120.0, "created", 3), step(150.0, "ready", 2), step(150.0, "ready", 3), step(160.0, "serving", 2))
    assert advice(*WANTED, *second, at_s=161.0) == (
        "wait for a replica coming since 01:30: 2 of 3 serve, no flag before it does"
    )
    third = step(170.0, "serving", 3)
    assert advice(*WANTED, *second, third, at_s=170.0) == RAISE
    assert advice(*WANTED, *second, third, at_s=161.0) == RAISE, "they have come meanwhile"


def test_a_replica_that_comes_no_step_nearer_is_not_coming_and_that_is_said_beside_the_advice() -> None:
    assert (COMES_S, IDLE_S) == (600.0, 15.0)
    assert advice(*WANTED, at_s=90.0 + COMES_S) == WAIT
    assert advice(*WANTED, at_s=91.0 + COMES_S) == f"{RAISE}; 2 replicas wanted since 01:30 do not come"
    created = (*WANTED, step(400.0, "created", 2))
    assert advice(*created, at_s=400.0 + COMES_S) == WAIT, "one has been begun meanwhile"
    assert not waits(advice(*created, at_s=401.0 + COMES_S))
    ready = (*WANTED, step(200.0, "ready", 2), step(210.0, "ready", 3))
    assert advice(*ready, at_s=210.0 + IDLE_S) == WAIT
    assert advice(*ready, at_s=211.0 + IDLE_S) == f"{RAISE}; 2 replicas wanted since 01:30 do not come"
    assert advice(*ready[:-1], at_s=211.0 + IDLE_S) == WAIT, "the last is not even ready"


def test_one_that_was_lost_is_waited_for_from_then_on() -> None:
    lost = (*WANTED, *(step(100.0, kind, n) for kind in ("ready", "serving") for n in (2, 3)), step(130.0, "gone", 2))
    assert advice(*lost, at_s=129.0) == RAISE
    assert (advice(*lost, at_s=131.0) or "").startswith("wait for a replica coming since 02:10: 2 of 3 serve")
    crashed = (*lost[:-1], ScaleStep(130.0, "ready", 2, "pod-2"))
    assert (advice(*crashed, at_s=131.0) or "").startswith("wait for a replica coming since 02:10: 2 of 3 serve")


def test_those_that_were_there_when_the_run_began_serve_and_so_do_all_that_are_ready_where_nobody_tells() -> None:
    assert advice(*ONE, at_s=1.0) == RAISE
    assert advice(*ONE, step(5.0, "serving", 1), at_s=1.0) == RAISE
    silent = (*ONE, step(90.0, "desired", 2), step(150.0, "ready", 2))
    assert waits(advice(*silent[:-1], at_s=140.0))
    assert advice(*silent, at_s=150.0) == RAISE
    pages = (step(0.0, "created", 1, since=True), step(0.0, "ready", 1, since=True), step(30.0, "created", 2))
    assert waits(advice(*pages, at_s=31.0)), "where nobody tells what is wanted, it is what was begun"


def test_fewer_that_are_wanted_are_none_that_come() -> None:
    fewer = (*(step(0.0, kind, 3, since=True) for kind in ("desired", "created", "ready")), step(9.0, "desired", 1))
    names = tuple(ScaleStep(0.0, "ready", n, f"pod-{n}", since=True) for n in (1, 2))
    assert advice(*names, *fewer, at_s=10.0) == RAISE
    taken_back = (*WANTED, step(200.0, "desired", 1))
    assert advice(*taken_back, at_s=150.0) == WAIT, "they were on their way then, and never came"
    assert advice(*taken_back, at_s=201.0) == RAISE


@pytest.mark.parametrize("bound", [bound for bound in Bound if bound not in (Bound.QUEUE, Bound.KV)])
def test_what_no_replica_relieves_is_advised_as_before(bound: Bound) -> None:
    told = with_coming(structs.replace(QUEUED, bound=bound), facts_of(*WANTED), 100.0)
    assert waits(told.advice) is (bound in (Bound.TOKEN_BUDGET, Bound.COMPUTE, Bound.MEMORY))
    assert advice(*WANTED, at_s=100.0, of=structs.replace(QUEUED, bound=Bound.KV, advice=LEAK)) == LEAK
    assert advice(*WANTED, at_s=100.0, of=structs.replace(QUEUED, advice=SHARE_OUT)) == SHARE_OUT
    assert advice(*WANTED, at_s=100.0, of=structs.replace(QUEUED, advice=None)) is None


@given(st.lists(st.sampled_from(("desired+", "desired-", "created", "ready", "serving", "gone")), max_size=24))
def test_whoever_is_waited_for_is_wanted_and_does_not_serve(moves: Sequence[str]) -> None:
    """Whatever a deployment does: as many are said to come as are wanted and do not serve, since a step of its own."""
    desired, ranks, steps = 1, {"pod-1": 2}, [*ONE, step(0.5, "serving", 1)]
    for i, move in enumerate(moves):
        t_s = float(i + 1)
        if move.startswith("desired"):
            desired = max(1, desired + (1 if move.endswith("+") else -1))
            steps.append(ScaleStep(t_s, "desired", desired))
        elif move == "created":
            ranks[f"new-{i}"] = 0
            steps.append(ScaleStep(t_s, "created", len(ranks), f"new-{i}"))
        elif move == "gone" and len(ranks) > 1:
            name = min(ranks, key=lambda each: -ranks[each])
            del ranks[name]
            steps.append(ScaleStep(t_s, "gone", len(ranks), name))
        elif move in ("ready", "serving"):
            rank = 0 if move == "ready" else 1
            name = next((each for each, own in ranks.items() if own == rank), "")
            if name:
                ranks[name] += 1
                steps.append(ScaleStep(t_s, move, sum(own > rank for own in ranks.values()), name))  # type: ignore
    serving = sum(own == 2 for own in ranks.values()) if len(moves) else 1
    serving = max(serving, min(1, sum(own > 0 for own in ranks.values())))
    found = coming(facts_of(*steps), float(len(moves) + 1))
    assert (found is None) is (serving >= desired)
    if found is not None:
        assert found.missing == desired - serving
        assert found.since_s in {each.t_s for each in steps}
        assert found.step_s >= found.since_s


def test_screen_file_and_line_say_the_same_while_replicas_start() -> None:
    """A run that is judged live, and one that ends while they start: the advice and the headline wait."""
    deployment = Deployment(rates((0, 1.0), (60, 3.08)), 150.0, threshold=31.5, shared=False)
    facts, slo = deployment.run(), parse_slo("ttft_p95<10s")
    for ended_s in (None, 150.0):
        found = assess(facts, structs.replace(meta_of(), ended_s=ended_s), slo, now_s=150.0)
        assert found.diagnosis.bound is Bound.QUEUE
        assert found.diagnosis.advice == WAIT
        assert "queue-bound: wait for 2 replicas coming since 01:30" in found.headline
        assert "--max-num-seqs" not in found.headline
    came = structs.replace(deployment.batches[0], scaling=())
    untold = assess(Facts.of([came]), structs.replace(meta_of(), ended_s=150.0), slo, now_s=150.0)
    assert (untold.diagnosis.advice or "").startswith("raise --max-num-seqs")


def test_that_replicas_come_is_on_the_screen_at_once() -> None:
    """Other words of the same finding wait for half a minute; these are a decision."""
    deployment = Deployment(rates((0, 1.0), (60, 3.08)), 120.0, threshold=31.5, shared=False)
    deployment.run()
    (whole,) = deployment.batches
    judge, facts, meta = Judge(parse_slo("ttft_p95<57s"), foresees=False), Facts(), structs.replace(meta_of())
    headlines = []
    for at_s in (88.0, 92.0):
        facts.extend(between(whole, facts.t_s, at_s))
        headlines.append(judge(facts, meta).headline)
    assert "queue-bound: raise --max-num-seqs" in headlines[0]
    assert "queue-bound: wait for 2 replicas coming since 01:30" in headlines[1]
