"""Comparing: what is the same is said to be, what differs is found, and the other way round is the opposite."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from comparisons import SLO, measured
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.analysis import Level
from llmtop.analysis.comparing import ALIKE, KV_POINTS, compare
from llmtop.analysis.levels import Stated
from llmtop.analysis.paired import METRICS, student
from llmtop.analysis.sides import Side, side_of_levels
from llmtop.analysis.thresholds import NAMES, crossings, parse_changes
from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.domain.load import Axis, LoadPoint
from llmtop.errors import UsageError


def driven(seed: int, slower: float = 1.0) -> Side:
    return measured("laptop", seed, slower)


def level(
    load: float, ttft_s: float = 0.1, tpot_s: float = 0.02, n: int = 200, *, seed: int = 0, errors: int = 0
) -> Level:
    draw = np.random.default_rng([seed, int(load)])
    ttft = ttft_s * np.exp(draw.normal(0, 0.05, n))
    tpot = tpot_s * np.exp(draw.normal(0, 0.05, n))
    e2e = ttft + 63 * tpot
    return Level(
        load=load,
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_s=e2e,
        errors=errors,
        requests_per_s=load / float(e2e.mean()),
        output_tokens_per_s=load * 64 / float(e2e.mean()),
    )


def side(name: str, *levels: Level, **traits: str) -> Side:
    return side_of_levels(name, levels, SLO, traits=traits)


def delta(told: Compared, metric: str, load: float | None = None) -> Delta:
    deltas = told.over_all if load is None else next(each.deltas for each in told.levels if each.load == load)
    return next(each for each in deltas if each.metric == metric)


# -- what is the same, and what is not --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.faults)])
def test_two_runs_of_one_server_are_the_same(seed: int) -> None:
    told = compare(driven(seed), driven(seed + 1))
    assert told.verdict is Verdict.SAME
    assert told.sentence.startswith(f"`seed {seed + 1}` is the same as `seed {seed}` at 4 to 32 users: no difference")


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.faults)])
def test_steps_that_take_ten_percent_longer_are_found_in_a_minute_a_level(seed: int) -> None:
    told = compare(driven(seed), driven(seed + 1, 1.1))
    assert told.verdict is Verdict.WORSE
    assert delta(told, "tpot_p50").verdict is delta(told, "output_tokens_per_s").verdict is Verdict.WORSE
    assert delta(told, "tpot_p50").change == pytest.approx(0.1, abs=0.03)
    assert "is worse than `" in told.sentence
    assert "better" not in told.sentence


def test_a_run_beside_itself_differs_in_nothing() -> None:
    told = compare(driven(0), driven(0))
    assert told.verdict is Verdict.SAME
    assert all(each.change == 0 for level in told.levels for each in level.deltas if each.change is not None)


def test_a_median_that_is_not_known_is_named_where_two_are_said_to_be_the_same() -> None:
    wide = np.exp(np.random.default_rng(3).normal(0, 1.5, 200))
    one, other = (
        dataclasses.replace(level(8, seed=seed), ttft_s=0.1 * wide[::order]) for seed, order in ((0, 1), (1, -1))
    )
    told = compare(side("a", one), side("b", other))
    assert told.verdict is Verdict.SAME
    assert delta(told, "ttft_p50").verdict is Verdict.UNKNOWN
    assert told.sentence.endswith("two runs of one server differ by; TTFT p50 is not known")


def test_of_two_capacities_without_an_end_no_change_is_told() -> None:
    told = compare(side("a", level(8)), side("b", level(8), level(16)))
    assert (told.capacity.before, told.capacity.after) == (8, 16)
    assert told.capacity.change is None
    assert told.capacity.verdict is Verdict.UNKNOWN


def test_what_a_run_was_driven_without_is_known() -> None:
    run = driven(0)
    gated = dataclasses.replace(run, traits={**run.traits, "gate": "8", "start of users": "together"})
    told = {each.name: (each.before, each.after) for each in compare(run, gated).differs}
    assert told == {"start of users": ("staggered", "together"), "gate": ("none", "8")}


def test_the_other_way_round_is_the_opposite() -> None:
    there, back = compare(driven(0), driven(1, 1.1)), compare(driven(1, 1.1), driven(0))
    opposite = {Verdict.WORSE: Verdict.BETTER, Verdict.BETTER: Verdict.WORSE}
    for one, other in zip(there.levels, back.levels, strict=True):
        for a, b in zip(one.deltas, other.deltas, strict=True):
            assert b.verdict is opposite.get(a.verdict, a.verdict)
            if a.change is not None and b.change is not None and a.metric not in ("error_ratio", "kv_usage"):
                assert (1 + a.change) * (1 + b.change) == pytest.approx(1)
    assert back.verdict is Verdict.BETTER


@settings(max_examples=20)
@given(factor=st.floats(0.5, 2.0), n=st.integers(60, 400))
def test_an_interval_holds_its_change_and_a_verdict_agrees_with_it(factor: float, n: int) -> None:
    told = compare(side("a", level(8, n=n)), side("b", level(8, 0.1 * factor, n=n, seed=1)))
    found = delta(told, "ttft_p50", 8)
    assert found.change is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.change <= found.high
    if found.verdict is Verdict.WORSE:
        assert found.low > 0
    if found.verdict is Verdict.BETTER:
        assert found.high < 0
    if found.verdict is Verdict.SAME:
        assert found.high <= ALIKE + 1e-9


@pytest.mark.parametrize(("factor", "found"), [(1.055, False), (1.085, True)])
def test_what_the_next_run_would_not_find_again_is_no_difference_however_many_requests_say_so(
    factor: float, found: bool
) -> None:
    loads = (4, 8)
    before = side("a", *(level(load, n=9000) for load in loads))
    after = side("b", *(level(load, 0.1 * factor, 0.02 * factor, n=9000) for load in loads))
    told = delta(compare(before, after), "ttft_p50")
    assert told.change == pytest.approx(factor - 1)
    assert (told.verdict is Verdict.WORSE) == found


def test_too_few_requests_say_nothing() -> None:
    told = compare(side("a", level(8, n=19)), side("b", level(8, 0.3, n=19, seed=1)))
    assert told.verdict is Verdict.UNKNOWN
    assert "is not known" in told.sentence
    assert delta(told, "ttft_p50", 8).change == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(
    ("n", "median", "tail"), [(49, False, False), (50, True, False), (119, True, False), (120, True, True)]
)
def test_a_difference_is_proven_from_so_many_requests_on(n: int, median: bool, tail: bool) -> None:
    told = compare(side("a", level(8, n=n)), side("b", level(8, 0.4, n=n, seed=1)))
    assert (delta(told, "ttft_p50", 8).verdict is Verdict.WORSE) == median
    assert (delta(told, "output_tokens_per_s", 8).low is not None) == median
    assert (delta(told, "ttft_p95", 8).verdict is Verdict.WORSE) == tail


def test_a_level_that_alone_got_worse_is_named() -> None:
    before = side("a", *(level(load) for load in (4, 8, 16)))
    after = side("b", level(4, seed=1), level(8, seed=1), level(16, 1.5, seed=1))
    told = compare(before, after)
    assert told.verdict is Verdict.WORSE
    assert delta(told, "ttft_p50", 4).verdict is Verdict.SAME
    assert delta(told, "ttft_p50").change is None, "no one figure says it of all loads"
    assert "TTFT p95 x" in told.sentence
    assert "at 16 users" in told.sentence


def test_errors_are_told_in_points() -> None:
    told = compare(side("a", level(8, n=900)), side("b", level(8, n=900, seed=1, errors=100)))
    found = delta(told, "error_ratio", 8)
    assert found.change == pytest.approx(0.1)
    assert found.verdict is Verdict.WORSE


def cached(name: str, kv_usage: float, axis: Axis, thinking: float | None = None) -> Side:
    levels = [dataclasses.replace(level(8), kv_usage=kv_usage, thinking=thinking)]
    return side_of_levels(name, levels, SLO, axis=axis)


@pytest.mark.parametrize(
    ("axis", "thinking", "verdict"),
    [("concurrency", None, Verdict.WORSE), ("rate", None, Verdict.UNKNOWN), ("concurrency", 0.5, Verdict.UNKNOWN)],
)
def test_a_fuller_cache_is_a_difference_only_where_as_many_requests_are_there_by_plan(
    axis: Axis, thinking: float | None, verdict: Verdict
) -> None:
    told = compare(cached("a", 0.2, axis, thinking), cached("b", 0.2 + KV_POINTS + 0.001, axis, thinking))
    assert delta(told, "kv_usage", 8).verdict is verdict
    alike = compare(cached("a", 0.2, axis, thinking), cached("b", 0.2 + KV_POINTS - 0.001, axis, thinking))
    assert delta(alike, "kv_usage", 8).verdict is Verdict.SAME


def test_tokens_per_second_are_as_uncertain_as_the_arrivals_where_requests_come_by_themselves() -> None:
    def width(axis: Axis, burstiness: float = 1.0) -> float:
        point = LoadPoint(rate_rps=8, burstiness=burstiness) if axis == "rate" else LoadPoint(concurrency=8)
        sides = [side_of_levels(name, [level(8, n=400)], SLO, axis=axis, point=point) for name in "ab"]
        found = delta(compare(*sides), "output_tokens_per_s", 8)
        assert found.high is not None
        return found.high

    steady, poisson, bursts = width("rate", math.inf), width("rate"), width("rate", 0.25)
    assert width("concurrency") == pytest.approx(steady, rel=0.3)
    assert steady < 0.5 * poisson
    assert bursts == pytest.approx(2 * poisson, rel=0.35), "a quarter of the shape is twice the spread"


def test_a_run_that_held_the_slo_to_its_end_is_said_to_carry_at_least_so_many() -> None:
    told = compare(driven(0), driven(0))
    assert [note for note in told.notes if "at least" in note] == [
        "seed 0: held the SLO at all loads that it was driven to; it carries at least 32"
    ]


def test_a_run_whose_last_load_is_not_known_to_hold_the_slo_did_not_hold_it_to_its_end() -> None:
    told = compare(driven(0), side("short", level(4), level(16), level(32, n=10)))
    assert not [note for note in told.notes if note.startswith("short")]


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [(0.975, 18, 2.1009), (0.975, math.inf, 1.95996), (0.999, 18, 3.6105), (0.999, 54, 3.2481), (0.999, 9, 4.2968)],
)
def test_the_width_of_an_interval_is_students_by_how_well_the_spread_is_known(
    share: float, freedom: float, quantile: float
) -> None:
    assert student(share, freedom) == pytest.approx(quantile, rel=4e-3)


@pytest.mark.parametrize(("factor", "verdict"), [(1.25, Verdict.WORSE), (1.01, Verdict.SAME), (0.75, Verdict.BETTER)])
def test_levels_of_which_only_statistics_are_told_are_compared_by_these(factor: float, verdict: Verdict) -> None:
    def told(load: float, ttft_s: float) -> Level:
        figures = {"ttft_p50": ttft_s, "ttft_p95": 1.3 * ttft_s}
        return Level(load, stated=Stated(n=400, figures=figures))

    before, after = side("a", told(4, 0.1), told(8, 0.1)), side("b", told(4, 0.1 * factor), told(8, 0.1 * factor))
    assert delta(compare(before, after), "ttft_p50").verdict is verdict


def test_statistics_of_few_requests_tell_no_difference() -> None:
    before = side("a", Level(8, stated=Stated(n=19, figures={"ttft_p50": 0.1})))
    after = side("b", Level(8, stated=Stated(n=19, figures={"ttft_p50": 0.3})))
    assert delta(compare(before, after), "ttft_p50", 8).verdict is Verdict.UNKNOWN


# -- which loads ------------------------------------------------------------------------------------------------------


def test_a_load_that_one_side_lacks_lies_on_a_line_between_its_own_and_never_beyond_them() -> None:
    before = side("a", level(4, 0.1), level(16, 0.4))
    after = side("b", level(8, 0.2, seed=1), level(32, 0.8, seed=1))
    told = compare(before, after)
    assert [each.load for each in told.levels] == [8, 16]
    assert all(each.interpolated for each in told.levels)
    assert delta(told, "ttft_p50", 8).before == pytest.approx(100 * 4 ** (1 / 3), rel=0.05)
    assert any("straight line" in note for note in told.notes)


def test_between_two_loads_on_either_side_of_a_bend_nothing_is_proven() -> None:
    """Equal servers with eight slots more than the lower load: a straight line runs far above what was measured."""
    before = side("a", level(8, 0.1), level(48, 2.0))
    after = side("b", level(8, 0.1, seed=1), level(24, 0.12, seed=1), level(48, 2.0, seed=1))
    told = compare(before, after)
    assert delta(told, "ttft_p50", 24).verdict is Verdict.UNKNOWN
    assert told.verdict is Verdict.SAME


def test_the_same_is_said_of_loads_alone_at_which_both_were_measured() -> None:
    before = side("a", level(6), level(12))
    told = compare(before, side("b", level(4, seed=1), level(8, seed=1), level(12, seed=1)))
    assert told.sentence.startswith("`b` is the same as `a` at 12 users: no difference")


def test_what_surely_lies_beyond_both_ends_is_a_difference_between_them() -> None:
    told = compare(side("a", level(4, 0.1), level(8, 0.11)), side("b", level(6, 0.3, seed=1)))
    assert delta(told, "ttft_p50", 6).verdict is Verdict.WORSE


def test_no_load_in_common_is_refused_with_the_loads_of_both() -> None:
    with pytest.raises(UsageError, match="no load in common: a has 4, b has 8, 16 concurrent users"):
        compare(side("a", level(4)), side("b", level(8), level(16)))


# -- what else differs ------------------------------------------------------------------------------------------------


def test_what_else_differs_stands_there_and_another_workload_is_told_apart_from_another_server() -> None:
    told = compare(
        side("a", level(8), model="tiny", max_num_seqs="32"),
        side("b", level(8, seed=1), model="big", max_num_seqs="64"),
    )
    assert [each.name for each in told.differs] == ["model", "max_num_seqs"]
    assert [each.name for each in told.unequal] == ["model"]


def test_what_another_tools_file_does_not_say_is_no_difference() -> None:
    assert not compare(side("a", level(8), model="tiny"), side("b", level(8, seed=1))).differs


# -- thresholds -------------------------------------------------------------------------------------------------------


def test_a_threshold_is_reached_where_a_difference_is_proven_and_as_large() -> None:
    before, after = side("a", level(8), level(16)), side("b", level(8, seed=1), level(16, 0.15, seed=1))
    told = compare(before, after)
    (crossed,) = crossings(told, parse_changes("ttft_p50 +10%"))
    assert crossed.proven
    assert crossed.load == 16
    assert crossings(told, parse_changes("ttft_p50 +60%, tpot_p50 +10%, output_tokens_per_s -10%")) == ()


def test_a_threshold_that_chance_may_have_reached_is_not_known() -> None:
    told = compare(side("a", level(8, n=19)), side("b", level(8, 0.3, n=19, seed=1)))
    (crossed,) = crossings(told, parse_changes("ttft_p50 +10%"))
    assert not crossed.proven


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name what may not get worse"),
        ("ttft_p95", "is no figure with a change"),
        ("ttft_p500 +10%", "did you mean ttft_p50"),
        ("capacity +5%", "capacity gets worse by -, not by \\+"),
        ("tpot_p50 -5%", "tpot_p50 gets worse by \\+"),
        ("ttft_p95 +10", "is no figure with a change"),
    ],
)
def test_a_threshold_that_cannot_be_meant_is_refused_by_its_word(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"--fail-on.*{says}"):
        parse_changes(text)


def test_a_threshold_may_be_called_as_tables_and_limits_call_it() -> None:
    words = "ttft +10%, errors +1%, tok_s -5%, kv +10%"
    names = [threshold.metric for threshold in parse_changes(words)]
    assert names == ["ttft_p95", "error_ratio", "output_tokens_per_s", "kv_usage"]


def test_every_figure_that_is_compared_can_be_a_threshold() -> None:
    assert {*NAMES} == {"capacity", "cliff", *(metric.name for metric in METRICS)}
    for name in NAMES:
        sign = "-" if name in ("capacity", "cliff", "output_tokens_per_s") else "+"
        (threshold,) = parse_changes(f" {name} {sign} 7.5 % ")
        assert (threshold.metric, threshold.change) == (name, pytest.approx(0.075 * (1 if sign == "+" else -1)))
