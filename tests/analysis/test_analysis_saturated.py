"""What one replica was measured to carry: from which seconds, of which requests, and where that is not known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from facts_by_hand import facts_of, record

from llmtop.analysis.headroom import Fleet, fewest_kept
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.saturated import fleet_of, queue_for_each, reaction_s
from llmtop.domain.load import LoadPoint
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.scaling import Scaling
from llmtop.domain.slo import parse_slo
from llmtop.meter.facts import Facts
from llmtop.wording import scaled as words

UP_S = 100.0
TOLD = Scaling(from_s=UP_S, before=2, after=3, decided_s=20.0)


def facts_at(
    waiting: Callable[[float], float],
    *,
    ended: tuple[float, float, int] = (100.0, 140.0, 160),
    before: int = 20,
    ttft_s: Callable[[float], float] = lambda sent_s: 0.5,
) -> Facts:
    """A scrape a second until 150 s with 16 running, and requests that end evenly in a span.

    Args:
        ended: from when to when how many.
        before: requests that end before the load rises, one a second.
    """
    first_s, last_s, count = ended
    end_s = [UP_S - 2 - i for i in range(before)]
    end_s += [first_s + (i + 0.5) * (last_s - first_s) / count for i in range(count)]
    return facts_of(
        requests=[record(each - 2.0, ttft_s=ttft_s(each - 2.0), e2e_s=2.0) for each in end_s],
        server=[
            ServerSnapshot(t_s=float(t_s), running=16.0 if t_s >= UP_S else 6.0, waiting=waiting(t_s))
            for t_s in range(150)
        ],
        changes=[(0.0, LoadPoint(concurrency=6)), (UP_S, LoadPoint(concurrency=60))],
    )


def fleet(facts: Facts, slo: str = "ttft_p95<2s", told: Scaling = TOLD) -> Fleet | str:
    return fleet_of(facts, parse_slo(slo), finished_requests(facts), told, (20.0,), 150.0)


def grows(t_s: float) -> float:
    return max(0.0, t_s - UP_S)


def test_the_twin_is_what_was_measured() -> None:
    """160 in 40 s are 4/s of two replicas with 8 slots each."""
    found = fleet(facts_at(grows))
    assert isinstance(found, Fleet)
    assert (found.slots, found.rate, found.before, found.start) == (8.0, pytest.approx(2.0, abs=0.06), 2, 6.0)
    assert (found.slack_s, found.until_s, found.serve_s) == (pytest.approx(1.5), 50.0, (20.0,))
    assert [(t_s, point.value) for t_s, point in found.loads] == [(0.0, 60)]


def test_the_rate_is_told_until_the_new_ones_served_and_while_some_wait() -> None:
    late = fleet(facts_at(grows, ended=(140.0, 150.0, 100)))
    assert late == words.NOT_BUSY, "what ended after 140 s is of three replicas"
    for waiting, known in ((0.5, False), (0.6, True)):
        assert isinstance(fleet(facts_at(lambda t_s, some=waiting: some if t_s >= UP_S else 0.0)), Fleet) is known


def test_the_rate_rests_on_three_seconds_and_twenty_requests() -> None:
    for span, known in ((3, True), (2, False)):
        short = facts_at(lambda t_s, span=span: float(110 <= t_s <= 110 + span), ended=(110.0, 114.0, 100))
        assert isinstance(fleet(short), Fleet) is known
    for count, known in ((20, True), (19, False)):
        assert isinstance(fleet(facts_at(grows, ended=(102.0, 139.0, count))), Fleet) is known


def test_what_need_not_wait_is_told_by_the_last_minute_before_the_rise() -> None:
    """Each second a hundredth more: in the middle of the last minute 0.72 s."""
    found = fleet(facts_at(grows, before=95, ttft_s=lambda sent_s: sent_s / 100))
    assert isinstance(found, Fleet)
    assert found.slack_s == pytest.approx(2.0 - 0.72, abs=0.01)


def test_without_five_requests_before_the_rise_the_quickest_tenth_tells_it() -> None:
    def ttft_s(sent_s: float) -> float:
        return 0.25 if 98 <= sent_s < 105 else 1.0 if sent_s >= UP_S else 0.5

    for before, slack_s in ((5, 1.5), (4, 1.75)):
        found = fleet(facts_at(grows, before=before, ttft_s=ttft_s, ended=(102.0, 139.0, 160)))
        assert isinstance(found, Fleet)
        assert found.slack_s == pytest.approx(slack_s)


def test_the_nearest_limit_on_waiting_counts() -> None:
    for slo, slack_s in (("ttft_p95<2s,e2e_p95<3s", 1.0), ("ttft_p95<2s,e2e_p95<9s,tpot_p95<1ms", 1.5)):
        found = fleet(facts_at(grows), slo)
        assert isinstance(found, Fleet)
        assert found.slack_s == pytest.approx(slack_s)


def test_what_is_in_service_as_the_load_rises_is_of_the_five_seconds_before() -> None:
    def waiting(t_s: float) -> float:
        return grows(t_s) if t_s >= UP_S else 90.0 if t_s < UP_S - 5 else 0.0

    found = fleet(facts_at(waiting))
    assert isinstance(found, Fleet)
    assert found.start == 6.0


def test_the_queue_of_a_decision_is_the_last_that_was_seen_for_each_replica() -> None:
    facts = facts_at(grows)
    assert queue_for_each(facts, 120.0, 2) == 10.0
    assert queue_for_each(facts, 120.9, 1) == 20.0
    assert queue_for_each(facts, -1.0, 1) is None


def test_a_decision_is_as_late_as_its_queue_had_been_there() -> None:
    assert reaction_s(facts_at(grows), TOLD, 10.0) == 2.0, "nine tenths of it since 118 s"
    at_once = facts_at(lambda t_s: 20.0 if t_s >= UP_S else 0.0)
    assert reaction_s(at_once, TOLD, 10.0) == 20.0
    assert reaction_s(facts_at(lambda t_s: 0.0 if t_s >= UP_S else 20.0), TOLD, 10.0) == 0.0


def test_as_many_are_kept_at_most_as_four_times_those_that_came() -> None:
    huge = Fleet(((0.0, LoadPoint(rate_rps=47.0)),), 100.0, 8, 4.0, 1.0, 2)
    assert fewest_kept(huge, None, 0.0) == 12
    assert fewest_kept(Fleet(((0.0, LoadPoint(rate_rps=60.0)),), 100.0, 8, 4.0, 1.0, 2), None, 0.0) is None


def test_with_what_is_added_at_once_eight_fewer_are_tried() -> None:
    quick = Fleet(((0.0, LoadPoint(rate_rps=80.0)),), 100.0, 8, 4.0, 5.0, 1, serve_s=(1.0,) * 20)
    alone = fewest_kept(quick, None, 0.0)
    assert alone is not None
    assert fewest_kept(quick, 1.0, 0.0) == alone - 8
