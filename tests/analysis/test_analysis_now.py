"""Laws of the figures of now: they are of the present load, and what is not ours is told only where it stays."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record, requests_of
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.recent import last_held_s, recent_of, sample_between, slo_sample
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import Canary, Chapter, Ending, Event, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.simulator.engine import load_preset


def users(count: int) -> LoadPoint:
    return LoadPoint(concurrency=count)


def laptop(count: int, **more: object) -> VirtualSession:
    return VirtualSession(load_preset("laptop"), users(count), **more)  # type: ignore[arg-type]


def foreign_notes(session: VirtualSession, *, ended: bool = False) -> list[str]:
    meta = session.end() if ended else session.meta
    notes = assess(session.facts, meta, Slo(), now_s=session.facts.t_s, full=False).notes
    return [note for note in notes if "foreign" in note]


@pytest.mark.parametrize("lower", [24, 28])
def test_after_the_load_was_lowered_the_slo_of_now_is_not_that_of_before(lower: int) -> None:
    session = laptop(60)
    session.run_until(25)
    assert assess(session.facts, session.meta, Slo(), now_s=session.now_s, full=False).slo.ok is False
    session.command(users(lower))
    answers = []
    for _ in range(16):
        session.run_until(session.now_s + 1)
        answers.append(assess(session.facts, session.meta, Slo(), now_s=session.now_s, full=False).slo.ok)
    assert set(answers) == {None, True}
    assert answers[0] is None, "nothing that was sent since has ended"
    assert answers[-1] is True
    assert answers == sorted(answers, key=lambda each: each is True), "once known it stays"


def test_while_no_load_is_commanded_the_slo_is_that_of_the_last_one() -> None:
    session = laptop(16)
    session.run_until(20)
    before = slo_sample(session.facts, session.meta, finished_requests(session.facts), session.now_s)
    session.command(users(0))
    for _ in range(3):
        session.run_until(session.now_s + 40)
        sample = slo_sample(session.facts, session.meta, finished_requests(session.facts), session.now_s)
        assert len(before.ttft_s) <= len(sample.ttft_s) <= len(before.ttft_s) + 20
        assert sample.span_s == pytest.approx(20, abs=0.5)


def test_what_binds_and_by_what_stays_as_it_was_when_the_load_was_stopped() -> None:
    session = laptop(16)
    for count in (32, 60):
        session.run_until(session.now_s + 14)
        session.command(users(count))
    session.run_until(session.now_s + 14)
    said = assess(session.facts, session.meta, Slo(), now_s=session.now_s, full=False)
    session.command(users(0))
    told = set()
    for _ in range(12):
        session.run_until(session.now_s + 2)
        said = assess(session.facts, session.meta, Slo(), now_s=session.now_s, previous=said, full=False)
        told.add((said.diagnosis.bound, said.diagnosis.evidence))
    assert len(told) == 1, told
    assert said.diagnosis.bound is Bound.QUEUE


def test_at_rest_what_binds_and_what_to_turn_are_those_of_the_last_line_of_the_run() -> None:
    session = laptop(32)
    session.run_until(14)
    session.turn(max_num_seqs=48)
    for count in (60, 48):
        session.command(users(count))
        session.run_until(session.now_s + 14)
    said = assess(session.facts, session.meta, Slo(), now_s=session.now_s, full=False)
    said = msgspec.structs.replace(said, diagnosis=Diagnosis(bound=Bound.COMPUTE))
    session.command(users(0))
    session.run_until(session.now_s + 3)
    resting = assess(session.facts, session.meta, Slo(), now_s=session.now_s, previous=said).diagnosis
    ended = assess(session.facts, session.end(), Slo(), now_s=session.now_s).diagnosis
    assert (resting.bound, resting.evidence, resting.advice) == (ended.bound, ended.evidence, ended.advice)


def test_another_configuration_makes_the_slo_of_now_unknown() -> None:
    facts = facts_of(requests=[record(float(t)) for t in range(60)], changes=[(0.0, users(4))])
    for turned_s, first_s in ((None, 0), (30.0, 31), (58.0, None)):
        facts.chapters = [] if turned_s is None else [Chapter(turned_s, "rtt 0 -> 5", "a")]
        sample = slo_sample(facts, meta_of(), finished_requests(facts), 60.0)
        assert len(sample.ttft_s) == (60 - first_s if first_s is not None else 1)


def test_a_load_that_grows_by_steps_of_a_twelfth_is_one_load_and_a_tenth_is_another() -> None:
    facts = facts_of(requests=[record(float(t)) for t in range(60)], changes=[(0.0, users(50)), (30.0, users(54))])
    assert len(slo_sample(facts, meta_of(), finished_requests(facts), 60.0).ttft_s) == 60
    facts.changes[1] = LoadChange(30.0, users(56))
    assert len(slo_sample(facts, meta_of(), finished_requests(facts), 60.0).ttft_s) == 29


def test_on_a_slow_server_the_slo_of_now_looks_back_three_answers() -> None:
    """Answers of 40 s: a minute would hold those of 20 s alone."""
    facts = facts_of(requests=[record(float(t), e2e_s=40.0) for t in range(160)], changes=[(0.0, users(4))])
    assert len(slo_sample(facts, meta_of(), finished_requests(facts), 200.0).ttft_s) == 80


def test_a_span_holds_what_was_sent_in_it_its_errors_and_the_gauges_of_its_time() -> None:
    requests = [record(float(t), ttft_s=0.01 * t, e2e_s=5.0) for t in range(20)] + [
        record(t, outcome=Outcome.HTTP_ERROR) for t in (3.0, 8.0, 12.0)
    ]
    server = [ServerSnapshot(t_s=float(t), waiting=float(t), kv_usage=0.1) for t in range(30)]
    facts = facts_of(requests=requests, server=server)
    sample = sample_between(facts, finished_requests(facts), 5.0, 10.0)
    assert sample.ttft_s == pytest.approx(np.arange(5, 11) / 100)
    assert (sample.errors, sample.span_s, sample.waiting) == (1, 5.0, 8.0)


@pytest.mark.parametrize("seed", range(2))
def test_foreign_traffic_is_told_where_it_is_and_not_where_we_come_and_go(seed: int) -> None:
    ours = laptop(24, seed=seed)
    told = []
    for count in (24, 60, 8, 0):
        ours.command(users(count))
        for _ in range(6):
            ours.run_until(ours.now_s + 0.7)
            told += foreign_notes(ours)
    assert told == []
    assert foreign_notes(ours, ended=True) == []
    shared = laptop(16, seed=seed, foreign=8)
    shared.run_until(15)
    notes = [f"foreign traffic: about {count} requests on the server are not ours" for count in (7, 8)]
    assert foreign_notes(shared)[0] in notes
    shared.command(users(0))
    shared.run_until(19)
    assert foreign_notes(shared, ended=True)[0] in notes, "of the load, and not of what is left of it"


def beyond(*shown: float, ours: int = 10, moved_s: float | None = None) -> float | None:
    """So many running at the last scrapes, one a second until second 20, while `ours` were in flight."""
    server = [ServerSnapshot(t_s=21.0 - len(shown) + i, running=n, waiting=0.0) for i, n in enumerate(shown)]
    facts = facts_of(bins=bins_of(22, ours), server=server, changes=[(0.0, users(ours))])
    if moved_s is not None:
        facts.bins.column("target")[facts.bins.column("t_s") > moved_s] = 99
    return recent_of(facts, requests_of([]), users(ours), 20.0).foreign


def test_a_canary_that_was_there_at_the_scrape_is_not_foreign() -> None:
    server = [ServerSnapshot(t_s=18.0 + i, running=13.0, waiting=0.0) for i in range(3)]
    facts = facts_of(bins=bins_of(22, 10), server=server, changes=[(0.0, users(10))])
    assert recent_of(facts, requests_of([]), users(10), 20.0).foreign == 3.0
    facts.canaries += [Canary(14.0, 1.0), Canary(17.0, 3.4)]
    assert recent_of(facts, requests_of([]), users(10), 20.0).foreign is None
    facts.canaries[-1] = Canary(17.0, 0.2)
    assert recent_of(facts, requests_of([]), users(10), 20.0).foreign == 3.0


def test_three_scrapes_in_a_row_tell_of_foreign_requests() -> None:
    assert beyond(18, 18, 17) == 8.0
    assert beyond(18, 18) is None
    assert beyond(18, 10, 18, 18) is None
    assert beyond(10, 18, 18, 18) == 8.0
    assert beyond(12.1, 12.1, 12.1) == pytest.approx(2.1)
    assert beyond(12, 12, 12) is None
    assert beyond(24, 24, 24, ours=20) is None, "a fifth of ours may be on their way"
    assert beyond(24.1, 24.1, 24.1, ours=20) == pytest.approx(4.1)


def test_scrapes_near_a_change_of_the_load_tell_nothing_of_others() -> None:
    assert beyond(18, 18, 18, 18, 18, moved_s=18.4) is None, "only two before it"
    assert beyond(18, 18, 18, 18, 18, moved_s=18.6) == 8.0
    assert beyond(18, 18, 18, moved_s=15.9) == 8.0, "two seconds before the first"
    assert beyond(18, 18, 18, moved_s=16.1) is None


def test_our_own_requests_at_a_scrape_are_the_most_of_half_a_second_around_it() -> None:
    for off_s, told in ((0.45, None), (0.8, 8.0)):
        facts = facts_of(bins=bins_of(22, 10), server=[ServerSnapshot(t_s=t, running=18.0) for t in (18.0, 19.0, 20.0)])
        bins_s = facts.bins.column("t_s")
        facts.bins.column("in_flight")[np.abs(bins_s - 20.0 - off_s) < 0.1] = 18
        assert recent_of(facts, requests_of([]), users(10), 20.0).foreign == told


def test_a_run_that_has_ended_is_told_by_the_last_seconds_of_its_load() -> None:
    facts = facts_of(
        bins=bins_of(40, 4),
        server=[ServerSnapshot(t_s=float(t), running=4.0 if t <= 30 else 0.0, waiting=0.0) for t in range(1, 41)],
        changes=[(0.0, users(4)), (30.0, users(0))],
    )
    facts.bins.column("target")[facts.bins.column("t_s") > 30] = 0
    assert recent_of(facts, requests_of([]), users(4), 40.0).running == 0.0
    assert recent_of(facts, requests_of([]), users(4), last_held_s(facts, 40.0)).running == 4.0
    meta = msgspec.structs.replace(meta_of(), ended_s=40.0)
    assert assess(facts, meta, Slo(), now_s=40.0).notes == ()


@pytest.mark.parametrize("ending", [Ending.HAND, Ending.BRAKE, Ending.PLAN])
@pytest.mark.parametrize("down_s", [None, 20.0, 40.0])
def test_a_run_that_was_left_because_its_server_went_away_is_not_judged_by_what_failed_then(
    ending: Ending, down_s: float | None
) -> None:
    """The load is taken back at second 30: what goes away later has failed nobody."""
    facts = facts_of(
        requests=[record(float(t), outcome=Outcome.OK if t < 18 else Outcome.TRUNCATED) for t in range(20)],
        changes=[(0.0, users(4)), (30.0, users(0))],
    )
    facts.events = [Event(0.0, "endpoint", "endpoint up", "info", EndpointState.UP)]
    if down_s is not None:
        facts.events.append(Event(down_s, "endpoint", "endpoint down", "warning", EndpointState.DOWN))
    meta = msgspec.structs.replace(meta_of(), ended_s=60.0, ending=ending)
    found = assess(facts, meta, Slo(), now_s=60.0)
    gone = ending is not Ending.PLAN and down_s == 20.0
    assert (found.judgement.ending is Ending.GONE) is gone
    assert (found.judgement.ok is None) or not gone
    assert ("SLO not known" in found.headline) is gone


@pytest.mark.parametrize(
    ("load", "over", "told"),
    [
        (0, False, "no request has finished yet: try 4"),
        (4, False, "no request has finished yet"),
        (4, True, "no request has finished"),
    ],
)
def test_who_has_a_load_already_is_not_told_to_try_one(load: int, over: bool, told: str) -> None:
    facts = facts_of(changes=[(0.0, users(load))])
    meta = msgspec.structs.replace(meta_of(), ended_s=60.0 if over else None)
    assert assess(facts, meta, Slo(), now_s=5.0).headline == told
