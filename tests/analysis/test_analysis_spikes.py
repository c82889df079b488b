"""Spikes: which jumps of the load are some, when all is as before, and what they cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from facts_by_hand import facts_of, record, requests_of
from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.analysis.debt import Debt, debt_of, sent_left_out_s
from llmtop.analysis.sessions import Requests
from llmtop.analysis.spikes import LoadSpike, recovered_within, recovery, spikes_of
from llmtop.domain.load import LoadPlan, LoadPoint, Replay, Spike, Stage, Steps
from llmtop.domain.over_time import Recovery
from llmtop.domain.request import Outcome
from llmtop.domain.run import ChangeReason, LoadChange
from llmtop.domain.slo import Slo, parse_slo
from llmtop.simulator.engine import load_preset

BY_HAND = LoadPlan(stages=())
NONE = (np.empty(0), np.empty(0))
SLO = parse_slo("ttft_p95<2s")


def plan_of(name: str, shape: Spike | Steps | Replay) -> LoadPlan:
    return LoadPlan(stages=(Stage(name=name, duration_s=60.0, shape=shape),))


def changes(
    *loads: int, every_s: float = 30.0, reason: ChangeReason = "hand", stage: str | None = None
) -> list[LoadChange]:
    return [LoadChange(i * every_s, LoadPoint(concurrency=load), reason, stage) for i, load in enumerate(loads)]


# -- which jumps are spikes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loads", "count"),
    [
        ((10, 15, 10), 1),
        ((10, 14, 10), 0),
        ((100, 300, 115), 1),
        ((100, 300, 116), 0),
        ((100, 300, 85), 1),
        ((100, 300, 84), 0),
        ((10, 30), 0),
        ((0, 30, 0), 0),
        ((10, 30, 10, 30, 10), 2),
        ((10, 20, 40, 10), 1),
        ((10, 30, 10, 10, 10), 1),
        ((10,), 0),
        ((), 0),
    ],
)
def test_by_hand_a_spike_rises_by_half_and_comes_back_to_where_it_was(loads: tuple[int, ...], count: int) -> None:
    found = spikes_of(changes(*loads), BY_HAND)
    assert len(found) == count
    assert all(each.peak == max(loads) for each in found)
    assert all((each.up_s, each.base) == (30.0, loads[0]) for each in found[:1])


def test_a_spike_ends_where_the_load_came_back_and_is_seen_until_it_moves_again() -> None:
    (found,) = spikes_of(changes(10, 30, 20, 11, 12), BY_HAND)
    assert found == LoadSpike(30.0, 90.0, 10.0, 30.0, 0.0, 120.0)
    (last,) = spikes_of(changes(10, 30, 10), BY_HAND)
    assert last.until_s == math.inf


def test_by_hand_a_load_held_longer_than_five_minutes_is_a_level() -> None:
    assert spikes_of(changes(10, 30, 10, every_s=300.0), BY_HAND)
    assert not spikes_of(changes(10, 30, 10, every_s=301.0), BY_HAND)


def test_the_levels_of_a_plan_are_no_spikes_but_a_spike_stage_is_however_small() -> None:
    steps = plan_of("levels", Steps(levels=(8, 48, 8)))
    assert spikes_of(changes(8, 48, 8, reason="stage", stage="levels"), steps) == ()
    spike = plan_of("spike", Spike(base=10, peak=12))
    assert len(spikes_of(changes(10, 12, 10, reason="stage", stage="spike"), spike)) == 1
    assert len(spikes_of(changes(10, 12, 10, every_s=900.0, reason="stage", stage="spike"), spike)) == 1
    again = plan_of("again", Replay(points=()))
    assert len(spikes_of(changes(8, 48, 8, reason="stage", stage="again"), again)) == 1, "what a hand did"
    for reason in ("search", "brake", "stop"):
        assert spikes_of(changes(8, 48, 8, reason=reason), BY_HAND) == ()  # type: ignore[arg-type]


def test_the_way_into_a_spike_stage_is_not_its_spike() -> None:
    plan = LoadPlan(stages=(*plan_of("warm-up", Steps(levels=(5,))).stages, *plan_of("spike", Spike(10, 40)).stages))
    told = changes(5, reason="stage", stage="warm-up")
    told += [
        LoadChange(t_s, LoadPoint(concurrency=load), "stage", "spike")
        for t_s, load in ((30.0, 10), (60.0, 40), (90.0, 10))
    ]
    (found,) = spikes_of([*told, LoadChange(120.0, LoadPoint(concurrency=0), "stop")], plan)
    assert found == LoadSpike(60.0, 90.0, 10.0, 40.0, 30.0, 120.0)
    same = [LoadChange(0.0, LoadPoint(concurrency=10), "stage", "warm-up"), *told[1:]]
    (found,) = spikes_of(same, plan)
    assert (found.base, found.since_s) == (10.0, 0.0), "held before the stage, too"


def test_a_spike_that_a_brake_ended_is_none() -> None:
    told = changes(8, 48, 8)
    told[2] = LoadChange(60.0, LoadPoint(concurrency=8), "brake")
    assert spikes_of(told, BY_HAND) == ()


# -- recovery ---------------------------------------------------------------------------------------------------------

SPIKE = LoadSpike(up_s=20.0, down_s=40.0, base=10.0, peak=30.0)


def latencies(after_s: np.ndarray, before: int = 20, wide: float = 0.0) -> Requests:
    """One request a second: `before` of them of 1 s each until the spike, 9 s within it, then as given."""
    sent_s = np.arange(20.0 - before, 40 + len(after_s))
    usual = 1.0 + wide * (np.arange(before) % 5 - 2) / 2
    ttft_s = np.concatenate([usual, np.full(20, 9.0), after_s])
    return requests_of(sent_s, ttft_s=ttft_s, e2e_s=ttft_s + 1)


def recovered(
    after_s: np.ndarray, *, before: int = 20, wide: float = 0.0, waiting: object = NONE, kv: object = NONE
) -> Recovery:
    requests = latencies(after_s, before, wide)
    return recovery(SPIKE, SLO, requests, waiting, kv, 40.0 + len(after_s))  # type: ignore[arg-type]


def test_recovery_is_when_eight_requests_in_a_row_take_as_long_as_before() -> None:
    """From the first of them on that does."""
    found = recovered(np.where(np.arange(30) < 10, 5.0, 1.0))
    assert found.took_s == 10.0
    assert found.text == "spike 10 to 30: recovered 10 s after it; SLO missed for 30 s, 30 of 30 requests"
    assert recovered(np.full(30, 1.0)).took_s == 0.0


def test_as_before_is_what_the_time_before_would_have_shown_not_a_bare_tenth() -> None:
    assert recovered(np.full(30, 1.02)).took_s is not None
    assert recovered(np.full(30, 1.04)).took_s is None, "before, every one took a second"
    assert recovered(np.full(30, 1.04), wide=0.4).took_s is not None, "before, they took 0.6 to 1.4 s"
    assert recovered(np.full(30, 1.45), wide=0.4).took_s is None


def test_what_is_usual_is_a_band_of_medians_and_not_the_slowest_of_them() -> None:
    """With one slow one in eight, half of eight are slow once in a hundred times."""
    sent_s = np.arange(0.0, 140.0)
    ttft_s = np.full(140, 1.0)
    ttft_s[[23, 31, 36, 43, 50]] = 3.0
    ttft_s[60:100], ttft_s[100:] = 9.0, 1.5
    spike = LoadSpike(up_s=60.0, down_s=100.0, base=10.0, peak=30.0)
    assert recovery(spike, SLO, requests_of(sent_s, ttft_s=ttft_s), NONE, NONE, 140.0).took_s is None


def test_as_long_before_as_the_spike_lasted_and_ten_seconds_at_least_are_compared() -> None:
    for slow_until_s, recovers in ((9.9, False), (16.0, True)):
        sent_s = np.arange(0.0, 60.0, 0.1)
        ttft_s = np.where(sent_s < slow_until_s, 2.0, 1.0)
        ttft_s[sent_s >= 20] = 2.0
        spike = LoadSpike(up_s=20.0, down_s=25.0, base=10.0, peak=30.0)
        found = recovery(spike, SLO, requests_of(sent_s, ttft_s=ttft_s), NONE, NONE, 60.0)
        assert (found.took_s is not None) is recovers


def test_the_first_requests_of_a_run_all_come_at_once_and_are_not_what_is_usual() -> None:
    alone_s, step_s = np.arange(0.5, 20.0, 0.5), np.arange(40.0, 70.0, 1.4)
    sent_s = np.concatenate([[0.0, 0.0, 0.0], alone_s, np.sort(np.concatenate([step_s, step_s + 0.01, step_s + 0.7]))])
    ttft_s = np.concatenate([np.full(42, 0.1), np.tile([0.2, 0.2, 0.1], 22)])
    spike = LoadSpike(up_s=20.0, down_s=40.0, base=10.0, peak=30.0)
    assert recovery(spike, SLO, requests_of(sent_s, ttft_s=ttft_s), NONE, NONE, 71.0).took_s is not None


def test_users_who_are_left_in_step_are_no_slow_server() -> None:
    """After the spike two of three prompts are sent together and take twice as long; the third takes what all did."""
    alone_s = np.arange(0.0, 20.0, 0.5)
    spike_s = np.arange(20.0, 40.0, 0.5)
    step_s = np.concatenate([[t, t + 0.01, t + 0.7] for t in np.arange(40.0, 70.0, 1.4)])
    ttft_s = np.concatenate([np.full(80, 0.1), np.tile([0.2, 0.2, 0.1], 22)])
    ttft_s[40:80] = 5.0
    sent_s = np.concatenate([alone_s, spike_s, step_s])
    assert recovery(SPIKE, SLO, requests_of(sent_s, ttft_s=ttft_s), NONE, NONE, 71.0).took_s == pytest.approx(0.7)
    ttft_s[80:] = 0.2
    assert recovery(SPIKE, SLO, requests_of(sent_s, ttft_s=ttft_s), NONE, NONE, 71.0).took_s is None


def test_not_recovered_is_said_of_what_was_seen_and_otherwise_it_is_not_known() -> None:
    slow = recovered(np.full(30, 5.0))
    assert (slow.took_s, slow.seen_s) == (None, 30.0)
    assert slow.text.startswith("spike 10 to 30: not recovered in the 30 s that were seen after it (TTFT)")
    for short in (recovered(np.full(7, 5.0)), recovered(np.full(30, 1.0), before=7)):
        assert (short.took_s, short.seen_s) == (None, 0.0)
        assert "recovery not known, too few requests before or after it" in short.text
    assert recovered(np.full(8, 5.0)).seen_s == 8.0


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ([], None),
        ([(30.0, 60.0)], True),
        ([(30.1, 60.0)], False),
        ([(None, 30.0)], False),
        ([(None, 29.9)], None),
        ([(None, 0.0)], None),
        ([(5.0, 60.0), (None, 0.0)], None),
        ([(40.0, 60.0), (None, 0.0)], False),
    ],
)
def test_in_time_is_yes_no_or_not_seen_for_so_long(told: list[tuple[float | None, float]], answer: bool | None) -> None:
    found = [
        Recovery(up_s=0.0, down_s=60.0, base=8.0, peak=64.0, took_s=took_s, seen_s=seen_s) for took_s, seen_s in told
    ]
    assert recovered_within(found, 30.0) is answer


def test_a_failed_request_took_for_ever() -> None:
    requests = latencies(np.full(30, 1.0))
    failed = Requests(*(getattr(requests, name) for name in requests.__slots__))
    failed.ok[-30:], failed.error[-30:] = False, True
    failed.ttft_s[-30:] = failed.tpot_s[-30:] = math.nan
    found = recovery(SPIKE, SLO, failed, NONE, NONE, 70.0)
    assert (found.took_s, found.seen_s) == (None, 30.0)


def test_recovery_waits_for_the_queue_and_the_cache() -> None:
    t_s = np.arange(0.0, 70.0)
    queue = np.where((t_s >= 20) & (t_s < 52), 5.0, 0.0)
    cache = np.where((t_s >= 20) & (t_s < 55), 0.9, 0.5)
    calm = np.full(30, 1.0)
    assert recovered(calm, waiting=(t_s, queue)).took_s == 12.0
    assert recovered(calm, waiting=(t_s, queue), kv=(t_s, cache)).took_s == 15.0
    assert recovered(calm, waiting=(t_s, np.where(t_s >= 20, 1.0, 0.0))).text.count("(queue)") == 1
    assert recovered(calm, waiting=(t_s, np.where(t_s >= 20, 1.0, 2.0))).took_s is not None, "it waited before, too"
    assert recovered(calm, kv=(t_s, np.where(t_s >= 20, 0.519, 0.5))).took_s is not None
    assert recovered(calm, kv=(t_s, np.where(t_s >= 20, 0.521, 0.5))).text.count("(KV cache)") == 1


# -- SLO debt ---------------------------------------------------------------------------------------------------------


def debt_s(requests: Requests, slo: Slo, from_s: float, until_s: float) -> float | None:
    found = debt_of(requests, slo, from_s, until_s)
    return None if found is None else found.seconds


def test_debt_is_the_seconds_whose_requests_broke_a_limit() -> None:
    sent_s = np.arange(0, 60, 0.1)
    slow = (sent_s >= 20) & (sent_s < 33)
    requests = requests_of(sent_s, ttft_s=np.where(slow, 3.0, 0.2))
    assert debt_s(requests, SLO, 10.0, 60.0) == 13.0
    assert debt_s(requests, SLO, 25.0, 30.0) == 5.0
    assert debt_s(requests, SLO, 40.0, 60.0) == 0.0
    assert debt_s(requests, parse_slo("ttft_p95<2s,error_ratio<1%"), 10.0, 60.0) == 13.0


def test_one_slow_request_in_twenty_is_no_debt() -> None:
    sent_s = np.arange(0, 60, 0.05)
    assert debt_s(requests_of(sent_s, ttft_s=np.where(np.arange(1200) % 20 == 7, 3.0, 0.2)), SLO, 0.0, 60.0) == 0.0


def test_debt_of_a_slow_trickle_and_of_failures_counts_too() -> None:
    """One request a second: five seconds are judged together."""
    sent_s = np.arange(0.0, 60.0)
    assert debt_s(requests_of(sent_s, ttft_s=np.where(sent_s < 20, 3.0, 0.2)), SLO, 0.0, 60.0) == 20.0
    assert debt_s(requests_of(sent_s, failed=True), parse_slo("ttft_p95<2s,error_ratio<1%"), 0.0, 60.0) == 60.0


def test_debt_in_requests_is_each_that_failed_or_took_longer_than_a_limit() -> None:
    """Also where they are too few to break the limit of a second."""
    sent_s = np.arange(0, 60, 0.05)
    few = requests_of(sent_s, ttft_s=np.where(np.arange(1200) % 40 == 7, 3.0, 0.2))
    assert debt_of(few, SLO, 10.0, 60.0) == Debt(0.0, 25, 1000)
    assert debt_of(requests_of(sent_s, failed=True), SLO, 10.0, 60.0) == Debt(0.0, 1000, 1000), "no limit on errors"
    slow = requests_of(sent_s, ttft_s=np.where(sent_s < 20, 2.0, 2.1), tpot_s=np.where(sent_s < 10, 0.2, 0.01))
    assert debt_of(slow, parse_slo("ttft_p95<2s,tpot_p95<50ms"), 0.0, 30.0) == Debt(20.0, 400, 600)


@pytest.mark.parametrize(("left_out", "told"), [(2, False), (3, True)])
def test_where_the_client_held_up_many_a_debt_is_the_least_that_it_can_be(left_out: int, told: bool) -> None:
    sent_s = np.arange(0.0, 80.0, 0.5)
    requests = requests_of(sent_s, ttft_s=np.where((sent_s >= 20) & (sent_s < 40), 9.0, 1.0))
    held_up_s = np.concatenate([[3.0, 79.0], 20.0 + np.arange(left_out)])
    spike = LoadSpike(up_s=20.0, down_s=70.0, base=10.0, peak=30.0)
    found = recovery(spike, SLO, requests, NONE, NONE, 80.0, held_up_s)
    assert found.n == 100
    assert found.left_out == left_out
    assert ("SLO missed for at least 21 s, 40 of 100 requests" in found.text) is told
    assert found.text.endswith(f"({left_out} more left out: the client was the bottleneck)") is told


def test_what_the_client_held_up_is_what_it_is_left_out_of() -> None:
    sent = [record(t_s, client_limited=t_s >= 20) for t_s in range(30)]
    cancelled = record(40.0, client_limited=True, outcome=Outcome.CANCELLED)
    assert sent_left_out_s(facts_of(requests=[*sent, cancelled])).tolist() == list(range(20, 30))


def test_without_a_limit_or_a_request_the_debt_is_not_known() -> None:
    assert debt_s(requests_of([]), SLO, 0.0, 60.0) is None
    assert debt_s(requests_of(np.arange(60.0)), parse_slo("queue<10"), 0.0, 60.0) is None


# -- a server ---------------------------------------------------------------------------------------------------------


def test_a_spike_past_the_slots_is_recovered_from_and_is_no_note() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=8), seed=2)
    for load, until_s in ((8, 30.0), (64, 50.0), (8, 90.0)):
        session.command(LoadPoint(concurrency=load))
        session.run_until(until_s)
    found = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    (spike,) = found.recoveries
    assert (spike.base, spike.peak) == (8.0, 64.0)
    assert spike.took_s is not None
    assert 1.0 <= spike.took_s <= 8.0
    assert spike.debt_s is not None
    assert 10.0 <= spike.debt_s <= 25.0
    assert not any("spike" in note for note in found.notes)
    early = assess(session.facts, session.meta, Slo(), now_s=40.0, full=False)
    assert early.recoveries == ()
