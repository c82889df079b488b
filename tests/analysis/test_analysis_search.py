"""The capacity search against simulated servers of known capacity (a share of what the bench runs)."""

from __future__ import annotations

import pytest
from capacities import CAPACITIES, CAUSES, carries, cause_run, noted_search, preset_of, search_run
from msgspec.structs import replace
from virtual import VirtualSession, meta_of

from llmtop.analysis import CapacitySearch, assess
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Kind
from llmtop.simulator.engine import load_preset

IDLE = LoadPoint(concurrency=0)


@pytest.mark.parametrize("name", CAPACITIES)
def test_search_finds_the_capacity_within_two_minutes(name: str) -> None:
    truth = CAPACITIES[name]
    runs = [search_run(name, seed) for seed in range(2)]
    assert all(abs(found - truth) <= 0.1 * truth + 1 for found, _ in runs), (truth, runs)
    assert all(took_s <= 120 for _, took_s in runs), runs


@pytest.mark.parametrize("name", CAPACITIES)
def test_the_capacity_told_holds_and_one_percent_more_does_not(name: str) -> None:
    truth = CAPACITIES[name]
    assert carries(name, truth, 600)
    assert not carries(name, truth + max(1, truth // 100), 600)


def test_search_can_be_stopped_and_keeps_what_it_learned():
    session = VirtualSession(preset_of("slots16"), IDLE, seed=1)
    search = CapacitySearch(Slo(), IDLE)
    progress = search.next(session.facts, 0.0)
    assert progress.point.concurrency == 4
    assert progress.phase == "double"
    assert progress.left_s == 600.0
    while progress.done_levels < 2:
        session.command(progress.point)
        session.run_until(session.now_s + 0.5)
        progress = search.next(session.facts, session.now_s)
    search.stop()
    progress = search.next(session.facts, session.now_s)
    assert progress.point is None
    assert progress.phase == "done"
    assert search.capacity.at_slo == max(tested.load for tested in search.tested)
    assert "at least" in progress.text
    assert "ended before it knew" in progress.text


def test_search_ends_at_the_highest_load_allowed():
    session = VirtualSession(preset_of("compute"), IDLE, seed=0)
    search = CapacitySearch(parse_slo("ttft_p95<30s"), IDLE, max_concurrency=12)
    progress = search.next(session.facts, 0.0)
    while progress.point is not None:
        assert progress.point.concurrency <= 12
        session.command(progress.point)
        session.run_until(session.now_s + 0.5)
        progress = search.next(session.facts, session.now_s)
    assert search.capacity.at_slo == 12
    assert search.capacity.fails_at is None


def test_search_says_so_when_the_lowest_load_is_too_much():
    session = VirtualSession(preset_of("compute"), IDLE, seed=0)
    search = CapacitySearch(parse_slo("tpot_p95<1ms"), IDLE)
    progress = search.next(session.facts, 0.0)
    while progress.point is not None:
        session.command(progress.point)
        session.run_until(session.now_s + 0.5)
        progress = search.next(session.facts, session.now_s)
    assert search.capacity.at_slo is None
    assert search.capacity.fails_at == 1
    assert "does not meet" in progress.text
    assert session.sent_total < 300


@pytest.mark.parametrize("name", ["slots16", "kv300"])
def test_a_ramp_by_hand_tells_the_cause(name: str) -> None:
    found, slots = cause_run(name, 1)
    assert found.kind is Kind.CLIFF
    assert found.cause is CAUSES[name]
    if found.cause is Bound.QUEUE:
        assert found.at == pytest.approx(slots, rel=0.15)


@pytest.mark.parametrize(
    ("preset", "knobs", "tokens", "levels", "dwell_s"),
    [
        ("laptop", {}, (192, 64), (8, 16, 32, 40, 46, 52, 58), 20.0),
        pytest.param(
            *("h100-llama-3.1-8b", {"max_num_seqs": 64}, (512, 128), (32, 64, 96, 108, 120, 132), 12.0),
            marks=pytest.mark.faults,
        ),
    ],
)
def test_a_search_and_a_ramp_agree_on_the_capacity(
    preset: str, knobs: dict[str, int], tokens: tuple[int, int], levels: tuple[int, ...], dwell_s: float
) -> None:
    base = LoadPoint(concurrency=0, prompt_tokens=tokens[0], output_tokens=tokens[1])
    slo, server = parse_slo("ttft_p95<2s,tpot_p95<50ms"), load_preset(preset).with_knobs(knobs)
    ramp = VirtualSession(server, base, seed=0, prompt_cv=0.0)
    for users in levels:
        ramp.command(base.at("concurrency", users))
        ramp.run_until(ramp.now_s + dwell_s)
    ramp.command(base)
    climbed = assess(ramp.facts, replace(meta_of(), ended_s=ramp.now_s), slo, now_s=ramp.now_s).capacity
    searched = noted_search(VirtualSession(server, base, seed=0, prompt_cv=0.0), slo, base).capacity
    bounds = (climbed.at_slo, climbed.fails_at, searched.low, searched.high)
    assert all(bound is not None for bound in bounds), bounds
    at_slo, fails_at, low, high = (bound or 0.0 for bound in bounds)
    assert at_slo <= high, bounds
    assert low <= fails_at, bounds
