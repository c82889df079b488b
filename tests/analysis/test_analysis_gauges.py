"""What the server's gauges say of a cliff: its place, a queue that latencies hide, budgets, and what holds requests."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_analysis_cliff_laws import LOADS, capped
from test_analysis_guards_cliff import NINE, series
from test_analysis_guards_judge import AT_FIVE, FLAT, cause

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.cliff import Bend
from llmtop.analysis.judge import by_gauges, cause_of
from llmtop.analysis.sessions import Gauges, with_gauges
from llmtop.domain.verdicts import Bound, Confidence, Kind

NONE = Bend(Kind.NONE)
LITTLE = Bend(Kind.CLIFF, 7.5, 5.0, 9.0, "little")


def shown(running: list[float | None], waiting: list[float | None], found: Bend = NONE, **limits: float) -> Bend:
    """The finding over the loads 1 to 9 with these gauges."""
    curve = series(NINE, FLAT, running=running, waiting=waiting)
    return by_gauges(found, curve, Limits(**limits))  # type: ignore[arg-type]


RUNNING: list[float | None] = [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]
WAITING: list[float | None] = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_queue_behind_a_constant_number_running_is_told_though_latency_hides_it() -> None:
    found = shown(RUNNING, WAITING)
    assert (found.kind, found.at, found.low, found.high) == (Kind.GRADUAL, 5.0, 4.0, 6.0)
    assert "queue from 5" in found.notes
    lone = shown(RUNNING[:6] + [None] * 3, WAITING)
    assert lone.kind is Kind.NONE, "one level is no plateau"
    assert shown(RUNNING, [0.0] * 5 + [0.9] * 4).kind is Kind.NONE, "nothing waits"


def test_the_place_of_a_cliff_is_the_number_that_runs_while_others_wait() -> None:
    found = shown(RUNNING, WAITING, LITTLE)
    assert (found.kind, found.at, found.low, found.high, found.form) == (Kind.CLIFF, 5.0, 4.0, 6.0, "gauge")
    assert shown(RUNNING, WAITING, LITTLE, max_num_seqs=5.4).at == 5.4, "the server's own limit"
    assert shown(RUNNING, WAITING, LITTLE, max_num_seqs=5.6).at == 5.0


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (Bend(Kind.CLIFF, 5.4, 4.9, 5.8, "hinge"), True),
        (Bend(Kind.CLIFF, 5.6, 4.9, 5.8, "hinge"), False),
        (Bend(Kind.CLIFF, 5.4, 5.1, 5.8, "hinge"), False),
        (Bend(Kind.CLIFF, 5.4, 4.9, 5.8, "step"), False),
    ],
)
def test_a_hinge_stands_where_the_gauge_is_in_its_interval_and_within_a_tenth(found: Bend, kept: bool) -> None:
    assert (shown(RUNNING, WAITING, found) is found) is kept


def test_a_number_running_that_moves_is_no_limit() -> None:
    assert shown([*RUNNING[:8], 4.3], [*WAITING[:8], 4.0]).kind is Kind.GRADUAL, "86 %"
    assert shown([*RUNNING[:8], 4.2], [*WAITING[:8], 4.0]).kind is Kind.NONE, "84 %"


def test_requests_of_somebody_else_place_no_cliff_of_ours() -> None:
    """Nine in flight: running and waiting must add up to them within a quarter."""
    strangers: list[float | None] = [*WAITING[:7], 5.1, 6.3]
    assert shown([*RUNNING[:5], None, None, 5.0, 5.0], strangers).kind is Kind.NONE
    own: list[float | None] = [*WAITING[:7], 4.9, 6.2]
    assert shown([*RUNNING[:5], None, None, 5.0, 5.0], own).kind is Kind.GRADUAL


def test_long_prompts_whose_latency_climbs_anyway_show_their_queue() -> None:
    """TTFT grows by half a second a user before the slots: the queue adds a gentle bend."""
    levels = [dataclasses.replace(each, ttft_s=each.ttft_s + 0.5 * each.load) for each in capped(34, LOADS)]
    found = judge(levels, replicates=0)
    assert found.kind in (Kind.GRADUAL, Kind.CLIFF)
    assert found.at == pytest.approx(34, rel=0.1)
    assert found.cause is Bound.QUEUE


def test_a_place_told_by_two_levels_of_gauges_is_firm() -> None:
    assert judge(capped(30, LOADS)).confidence is Confidence.FIRM
    assert judge(capped(30, [8.0, 16.0, 64.0])).confidence is Confidence.PROVISIONAL


# ── Causes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_token_budget_binds_where_slots_are_free_and_steps_are_full() -> None:
    seen = {"waiting": 9.0, "running": 7.0, "iteration_tokens": 409.7, "kv_usage": 0.3}
    room = Limits(max_num_seqs=8.5, max_num_batched_tokens=512.0)
    bound, text = cause(dataclasses.replace(room, max_num_seqs=64.0), **seen)
    assert bound is Bound.TOKEN_BUDGET
    assert "410 of 512 tokens a step are used" in text
    assert cause(dataclasses.replace(room, max_num_seqs=7.7), **seen)[0] is Bound.QUEUE, "nine slots of ten are taken"
    assert cause(dataclasses.replace(room, max_num_seqs=64.0), **{**seen, "iteration_tokens": 409.5})[0] is Bound.NONE
    assert cause(Limits(max_num_seqs=64.0), **seen)[0] is Bound.NONE, "slots are free, the budget is not known"
    assert cause(Limits(max_num_batched_tokens=512.0), **seen)[0] is Bound.QUEUE, "slots may bind"


def test_tokens_a_step_of_a_level_are_those_of_most_of_its_scrapes() -> None:
    level = with_gauges(Level(4.0), Gauges(np.arange(3.0), *[np.zeros(3)] * 4, np.array([9.0, 400.0, 500.0])))
    assert level.iteration_tokens == 400.0
    assert with_gauges(Level(4.0), Gauges(np.arange(3.0), *[np.zeros(3)] * 4)).iteration_tokens is None


def test_requests_that_the_server_does_not_show_are_held_on_the_way() -> None:
    """20, 40 and 80 in flight, 15 on the server: the next 5 are less than a quarter of 20 and more than that of 40."""
    curve = series(
        [5.0, 10.0, 20.0, 40.0, 80.0],
        [1.0, 1.0, 1.0, 3.0, 9.0],
        running=[5.0, 10.0, 15.0, 15.0, 15.0],
        waiting=[0.0] * 5,
    )
    late = cause_of(dataclasses.replace(AT_FIVE, at=20.0), curve, curve.levels, Limits())
    assert late[0] is Bound.NETWORK
    assert late[1] == ("80 in flight here, 15 on the server, where nothing waits: requests are held on the way",)
    assert cause_of(dataclasses.replace(AT_FIVE, at=10.0), curve, curve.levels, Limits())[0] is Bound.COMPUTE
