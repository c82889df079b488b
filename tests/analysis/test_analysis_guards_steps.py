"""What a search carries from level to level: service time, tails, a burst still to be lived down, the price."""

from __future__ import annotations

import numpy as np
import pytest
from test_analysis_guards_search import Lab

from llmtop.analysis.bracket import Bracket
from llmtop.analysis.search import CapacitySearch
from llmtop.analysis.trial import Trial
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import JudgedLevel as Judged
from llmtop.domain.slo import parse_slo


def trial_of(lab: Lab) -> Trial:
    found = lab.search._trial
    assert found is not None
    return found


def test_a_level_knows_the_one_before_and_the_service_time_of_the_first() -> None:
    lab = Lab()
    assert (trial_of(lab).before, trial_of(lab).usual_s) == (0, None)
    lab.answer(0.2)
    assert (trial_of(lab).before, trial_of(lab).usual_s) == (4, pytest.approx(0.29))
    lab.answer(0.8)
    assert (trial_of(lab).before, trial_of(lab).usual_s) == (8, pytest.approx(0.29)), "that of low load"


@pytest.mark.parametrize(
    ("worth", "lived", "warm_up"), [(5000, 0.9, 50), (1000, 0.6, 50), (600, 0.6, 50), (480, 0.6, 48)]
)
def test_users_that_came_are_lived_down_before_a_level_is_confirmed(worth: int, lived: float, warm_up: int) -> None:
    """150 requests are to pass for a hundred users who came; the second level sees a hundred of them end."""
    lab = Lab(first=100, requests=worth, least_s=30.0)
    assert trial_of(lab).warm_up == 150
    lab.answer(0.2, n=200)
    assert (trial_of(lab).load, trial_of(lab).warm_up) == (200, 0), "an answer while doubling need not be exact"
    lab.answer(0.8, n=100, waiting=120)
    assert (trial_of(lab).warm_up, trial_of(lab).lived) == (warm_up, lived), "waiting costs what is in flight"


def test_levels_with_a_queue_lend_their_tpot_to_the_next() -> None:
    lab = Lab(first=100, requests=5000)
    lab.answer(0.2, n=200)
    assert trial_of(lab).pool == ()
    lab.answer(0.8, n=100, waiting=120)
    ((served, tpot_s),) = trial_of(lab).pool
    assert (served, len(tpot_s)) == (80.0, 100)
    edge = Lab(first=100, requests=5000)
    edge.answer(0.2, n=200, waiting=7)
    assert trial_of(edge).pool == (), "93 of 100 in service are no queue"


def test_the_tail_of_tpot_is_learned_from_fifteen_requests_on() -> None:
    """Four in service and 36 tokens a second: nine a second each, of which the ended ones took 20 ms."""
    lab = Lab(slo="tpot_p95<1s")
    lab.answer(n=14, tpot_s=0.02)
    assert lab.search._tail == 1.2
    known = Lab(slo="tpot_p95<1s")
    known.answer(n=32, tpot_s=0.02)
    assert known.search._tail == pytest.approx(0.02 / (4 / 40))
    assert dict(known.search.tested[0].worst) == {"tpot_p95": pytest.approx(0.02)}


@pytest.mark.parametrize(
    ("wanted", "ttft_mean_s", "price"), [(8, None, 19), (8, 0.5, 21), (8, 9.0, 23), (3, None, 15), (3, 0.5, 16.5)]
)
def test_a_level_costs_its_users_their_first_tokens_and_fifteen_requests(
    wanted: int, ttft_mean_s: float | None, price: float
) -> None:
    """At four requests/s; half of the level wait at most."""
    search = CapacitySearch(parse_slo("ttft_p95<2s"), LoadPoint(concurrency=0))
    now = Trial(load=4, before=0, start_s=0.0, ttft_mean_s=ttft_mean_s, requests_per_s=4.0)
    assert search._price_s(wanted, now) == price / 4.0
    now.requests_per_s = None
    assert search._price_s(wanted, now) == 0.0, "nothing is known yet, and nothing is held against it"


def test_a_level_that_is_tried_again_is_told_once() -> None:
    search = CapacitySearch(parse_slo("ttft_p95<2s"), LoadPoint(concurrency=0))
    for now_s, failed in ((1.0, ()), (2.0, ("ttft_p95",))):
        search._keep(Trial(load=8, before=4, start_s=0.0, ttft_s=np.full(20, 3.0)), failed, now_s)
    told = [(each.t_s, each.load, each.failed, dict(each.worst), each.n) for each in search.tested]
    assert told == [(2.0, 8, ("ttft_p95",), {"ttft_p95": 3.0}, 20)]


def test_a_quick_answer_is_proved_before_it_is_a_border() -> None:
    """8 fails while the load is being doubled; it is tried again once all below is known, and holds."""
    lab = Lab()
    for ttft_s, load in ((0.13, 8), (0.8, 6), (0.2, 7), (0.2, 8)):
        lab.answer(ttft_s)
        assert lab.load == load
    assert lab.progress.phase == "confirm"
    lab.answer(0.2)
    assert [(each.load, each.failed) for each in lab.search.tested] == [(4, ()), (6, ()), (7, ()), (8, ())]
    assert lab.search.capacity.fails_at is None


@pytest.mark.parametrize(("held", "wanted"), [(87, 100), (86, 93)])
def test_a_quick_failure_is_proved_as_soon_as_little_below_it_has_held(held: int, wanted: int) -> None:
    """100 over 87 is 1.149; with more room between them a level in the middle says more."""
    search = CapacitySearch(parse_slo("ttft_p95<200ms"), LoadPoint(concurrency=0))
    worst = {held: 0.1, 100: 0.4}
    search.tested = [
        Judged(t_s=1.0, load=load, slo="", failed=failed, n=60, worst=(("ttft_p95", worst[load]),))
        for load, failed in ((held, ()), (100, ("ttft_p95",)))
    ]
    search._unproved = {100}
    assert search._choose() == (wanted, "confirm")
    search._unproved = {100, held}
    assert search._choose() == (93, "confirm"), "what held is not proved either"


@pytest.mark.parametrize(("worst", "roomy"), [(0.5, True), (0.51, False), (None, False)])
def test_there_is_room_where_every_limit_is_four_times_as_high(worst: float | None, roomy: bool) -> None:
    slo = parse_slo("ttft_p95<2s,e2e_p95<9s")
    known = (("e2e_p95", 1.0), *(() if worst is None else (("ttft_p95", worst),)))
    level = Judged(t_s=1.0, load=4, slo=str(slo), worst=known)
    assert Bracket([level], slo).choose(1024) == (16 if roomy else 8, "double")


def test_a_search_says_what_it_does() -> None:
    lab = Lab()
    assert lab.progress.text == "testing 4 in flight: waiting until it is steady · at most 10 min left"
    lab.answer(0.2)
    left = "at most 1 min 40 s left"
    assert lab.progress.text == f"testing 8 in flight: waiting until it is steady · {left} · 4 held"
    lab.answer(0.8)
    left = "at most 1 min 32 s left"
    assert lab.progress.text == f"testing 6 in flight: waiting until it is steady · {left} · 4 held, 8 did not"
    lab.search.stop()
    lab.search.stop("budget")
    told = lab.search.next(lab.facts, lab.now_s).text
    limits = "run it at 4, soak it at 3"
    assert told.endswith(f"pass 4, fail 8; {limits}; ended before it knew"), "the first reason stays"
    assert told.startswith("supports 4 (3 to 9) concurrent users (")


def test_the_base_of_the_load_is_kept() -> None:
    base = LoadPoint(rate_rps=3.0, prompt_tokens=77, output_tokens=5)
    point = CapacitySearch(parse_slo("ttft_p95<2s"), base, first=6).next(Lab().facts, 0.0).point
    assert point == LoadPoint(concurrency=6, prompt_tokens=77, output_tokens=5)
