"""Each number of the detector protects from something: moved noticeably, one of these fails."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from llmtop.analysis import Level, Limits
from llmtop.analysis.cliff import (
    TPOT_GATES,
    Gates,
    Sweep,
    _mean_se,
    find,
    is_hinge,
    is_power,
    is_step,
    locate,
    prepare,
    resampled,
)
from llmtop.analysis.fits import Shape
from llmtop.analysis.judge import suggest
from llmtop.analysis.levels import Statistic
from llmtop.domain.verdicts import Kind

NINE = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def series(
    x: list[float], y: list[float], *, se: float = 0.0, axis: str = "concurrency", metric: str = "ttft", **more: object
) -> Sweep:
    """A curve of statistics without samples. `more` are fields of its levels, one value a level."""
    rows = [dict(zip(more, values, strict=True)) for values in zip(*more.values(), strict=True)] or [{}] * len(x)
    levels = [
        Level(load, given=Statistic(each, se, 100), ttft_mean_s=each, **row)
        for load, each, row in zip(x, y, rows, strict=True)
    ]
    return prepare(levels, axis=axis, metric=metric, stat="p50")


def kind(y: list[float], x: list[float] | None = None, **more: object) -> Kind:
    return find(series(NINE[: len(y)] if x is None else x, y, **more), replicates=0).kind


# -- a step -----------------------------------------------------------------------------------------------------------

JUMP = [1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]
FITS = {
    "line": Shape(chi2=40.0, base=1.0, slope=0.0),
    "hinge": Shape(chi2=20.0, base=1.0, slope=0.0),
    "power": Shape(chi2=20.0, base=1.0, slope=0.0),
    "step": Shape(chi2=5.0, base=1.0, slope=0.0, extra=2.0, index=4),
}


def step_with(y: list[float] = JUMP, x: list[float] = NINE, **changed: dict[str, float]) -> bool:
    shapes = {name: dataclasses.replace(shape, **changed.get(name, {})) for name, shape in FITS.items()}
    return is_step(series(x, y), **shapes)


def test_a_jump_that_passes_every_gate_is_a_step() -> None:
    assert step_with()


@pytest.mark.parametrize(
    ("just", "short"),
    [
        ({"line": {"chi2": 25.5}}, {"line": {"chi2": 24.5}}),
        ({"step": {"extra": 1.55}}, {"step": {"extra": 1.45}}),
        ({"step": {"slope": 0.5}}, {"step": {"slope": 0.7}}),
        ({"y": [*JUMP[:5], 1.85, *JUMP[6:]]}, {"y": [*JUMP[:5], 1.75, *JUMP[6:]]}),
        ({"y": [1.0, 1.0, 1.6, *JUMP[3:]]}, {"y": [1.0, 1.0, 1.7, *JUMP[3:]]}),
        ({"y": [*JUMP[:4], 1.6, *JUMP[5:]]}, {"y": [*JUMP[:4], 1.7, *JUMP[5:]]}),
        ({"x": [*NINE[:5], 12.0, 13.0, 14.0, 15.0]}, {"x": [*NINE[:5], 13.0, 14.0, 15.0, 16.0]}),
        ({"hinge": {"chi2": 11.1}}, {"hinge": {"chi2": 10.9}}),
        ({"power": {"chi2": 11.1}}, {"power": {"chi2": 10.9}}),
    ],
    ids=[
        "gain",
        "height",
        "below",
        "overlap above",
        "overlap below",
        "overlap at the jump",
        "steepness",
        "hinge",
        "power",
    ],
)
def test_a_jump_that_falls_short_of_one_gate_is_none(just: dict, short: dict) -> None:
    assert step_with(**just)
    assert not step_with(**short)


def test_a_crossed_batch_cap_is_a_step_between_its_levels() -> None:
    found = find(series([1, 2, 4, 8, 16, 20, 24, 28, 32], [1, 1, 1, 1, 1, 9, 9, 9, 9]), replicates=0)
    assert (found.kind, found.form, found.low, found.high) == (Kind.CLIFF, "step", 16.0, 20.0)
    assert found.at == pytest.approx(math.sqrt(16 * 20))


def test_a_step_from_which_throughput_falls_lies_at_its_lower_level() -> None:
    x, y = [1, 2, 4, 8, 16, 20, 24, 28, 32], [1, 1, 1, 1, 1, 9, 9, 9, 9]
    rate = [10.0, 20, 40, 80, 160, 150, 150, 150, 150]
    found = find(series(x, y, output_tokens_per_s=rate), replicates=0)
    assert (found.at, found.low, found.high) == (16.0, 8.0, 20.0)
    rate[5] = 161.0
    assert find(series(x, y, output_tokens_per_s=rate), replicates=0).low == 16.0


# -- a hinge, a power, a contradiction --------------------------------------------------------------------------------


def bent(**changed: float) -> Shape:
    return dataclasses.replace(Shape(chi2=5.0, base=1.0, slope=1.0, extra=4.0, at=5.0), **changed)


@pytest.mark.parametrize(
    ("gates", "line", "just", "short"),
    [
        (Gates(), 25.1, {}, {"chi2": 5.2}),
        (TPOT_GATES, 17.1, {}, {"chi2": 5.2}),
        (Gates(), 131.0, {"chi2": 50.0}, {"chi2": 51.0}),
        (Gates(), 99.0, {"at": 8.0, "extra": 4.7, "slope": 0.01}, {"at": 8.0, "extra": 4.4, "slope": 0.01}),
        (Gates(), 99.0, {"base": 1.7}, {"base": 1.8}),
    ],
    ids=["gain", "gain of TPOT", "ratio", "growth", "elasticity"],
)
def test_a_bend_must_pass_every_gate(gates: Gates, line: float, just: dict, short: dict) -> None:
    x = np.array(NINE)
    assert is_hinge(x, Shape(line, 1.0, 1.0), bent(**just), gates)
    assert not is_hinge(x, Shape(line, 1.0, 1.0), bent(**short), gates)


def test_a_power_must_explain_as_much_more_than_a_line_as_a_hinge() -> None:
    assert is_power(9, Shape(25.0, 1, 1), Shape(5.0, 1, 1, at=2.0))
    assert not is_power(9, Shape(24.9, 1, 1), Shape(5.0, 1, 1, at=2.0))
    assert is_power(9, Shape(85.0, 1, 1), Shape(36.0, 1, 1, at=2.0))
    assert not is_power(9, Shape(83.0, 1, 1), Shape(36.0, 1, 1, at=2.0))


def test_the_steepest_power_is_no_rival_of_a_hinge() -> None:
    x = [1, 2, 4, 8, 16, 24, 32, 40, 48]
    assert kind([0.1 + 3 * (n / 48) ** 3 for n in x], x) is Kind.CLIFF
    assert kind([0.1 + 3 * (n / 48) ** 2.5 for n in x], x) is Kind.GRADUAL


@pytest.mark.parametrize(
    ("bend", "share", "expected"),
    [(16, 0.75, Kind.CLIFF), (20, 0.45, Kind.GRADUAL)],
    ids=["by 4.4 better than a power", "by 1.9 better"],
)
def test_a_hinge_must_beat_a_power_by_more_than_chance(bend: float, share: float, expected: Kind) -> None:
    x = [1, 2, 4, 8, 16, 24, 32, 40, 48]
    y = [0.1 + (1 - share) * 0.1 * max(0, n - bend) + share * 3 * (n / 48) ** 2 for n in x]
    assert kind(y, x) is expected


@pytest.mark.parametrize(("scatter", "expected"), [(0.25, Kind.NONE), (0.28, Kind.UNSTABLE)])
def test_levels_that_go_up_and_down_past_any_noise_contradict_each_other(scatter: float, expected: Kind) -> None:
    """Ten of the twelve lie so far from the best curve that never falls: chi2 is 10.6 and 13.3 a level."""
    assert kind([math.exp(-scatter * (-1) ** i) for i in range(12)], list(range(1, 13))) is expected


def test_the_interval_of_a_power_rests_on_forty_draws_at_most() -> None:
    x = [1, 2, 4, 8, 16, 24, 32, 40, 48]
    curve = series(x, [0.1 + 30 * (n / 48) ** 2 for n in x], se=0.12)
    ends = [find(curve, replicates=draws).low for draws in (20, 40, 41)]
    assert ends[1] == ends[2] != ends[0]


# -- where it lies ----------------------------------------------------------------------------------------------------


def place(curve: Sweep, k: float) -> float:
    return float(locate(curve, np.array([k]), curve.ttft_mean[:, None], curve.e2e_mean[:, None])[0])


def at_rate(delivered: list[float], k: float = 10.0, **more: object) -> float:
    offered = [2.0, 4.0, 8.0, 12.0, 16.0]
    return place(series(offered, [1.0] * 5, axis="rate", requests_per_s=delivered, **more), k)


def test_an_open_loop_bends_at_what_it_delivers_past_the_bend() -> None:
    assert at_rate([2, 4, 8, 11, 11]) == pytest.approx(11.0)
    assert at_rate([2, 4, 8, 11.0, 9.0]) == pytest.approx(10.0), "the mean of both"
    assert at_rate([2, 4, 8, 11.0, 15.0]) == pytest.approx(11.0), "94 % of the offered rate is no capacity"
    assert at_rate([2, 4, 8, 12, 16]) == 10.0, "nothing saturated"


def test_tokens_tell_no_capacity_of_an_open_loop() -> None:
    offered = [2.0, 4.0, 8.0, 12.0, 16.0]
    assert place(series(offered, [1.0] * 5, axis="rate", output_tokens_per_s=[2, 4, 8, 11, 11]), 10.0) == 10.0


def test_a_load_generator_that_is_slow_below_the_bend_tells_no_capacity() -> None:
    assert at_rate([1.92, 3.84, 7.68, 11, 11]) == pytest.approx(11.0), "96 %"
    assert at_rate([1.88, 3.76, 7.52, 11, 11]) == 10.0, "94 %"
    assert at_rate([2, 4, 8, 11, 11], k=1.0) == 1.0, "no level below"


def test_a_capacity_far_from_the_bend_is_not_believed() -> None:
    assert at_rate([2, 4, 8, 11, 11], k=7.5) == pytest.approx(11.0)
    assert at_rate([2, 4, 8, 11, 11], k=7.2) == 7.2, "1.53 times apart"
    assert at_rate([2, 4, 8, 6.0, 6.0], k=8.5) == pytest.approx(6.0)
    assert at_rate([2, 4, 8, 5.5, 5.5], k=8.5) == 8.5, "1.55 times apart"


def by_little(served: float, k: float = 25.0, ttft_s: float = 0.1) -> float:
    """A closed loop that serves so many at once, each for 3 s, at levels up to 64."""
    loads = [4.0, 8.0, 16.0, 24.0, 48.0, 64.0]
    waits = [max(0.0, load / served - 1) * (3 + ttft_s) for load in loads]
    ttft = [ttft_s + wait for wait in waits]
    e2e = [each + 3 for each in ttft]
    return place(series(loads, ttft, e2e_mean_s=e2e), k)


def test_littles_law_tells_the_place_within_a_factor() -> None:
    assert by_little(32.0) == pytest.approx(32.0, rel=0.01)
    assert by_little(32.0, k=19.5) == pytest.approx(32.0, rel=0.01)
    assert by_little(32.0, k=18.0) == 18.0
    assert by_little(32.0, k=47.0) == pytest.approx(32.0, rel=0.01)
    assert by_little(26.0, k=47.0) == 47.0


def test_a_single_level_below_the_bend_is_its_base() -> None:
    """1.5 are served at once: what is waited at 2 is no part of the base."""
    loads = [1.0, 2.0, 4.0, 8.0]
    ttft = [0.1 + max(0.0, load / 1.5 - 1) * 3.1 for load in loads]
    assert place(series(loads, ttft, e2e_mean_s=[each + 3 for each in ttft]), 1.6) == pytest.approx(1.5, rel=0.01)


def test_draws_of_a_level_of_figures_scatter_as_its_error_says() -> None:
    rng = np.random.default_rng(0)
    curve = series(NINE, [1.0] * 9, se=0.3)
    y, ttft, _ = resampled(curve, 400, rng)
    for drawn in (y, ttft):
        assert np.log(drawn).std(axis=1) == pytest.approx(np.full(9, math.hypot(0.3, 0.05)), rel=0.15)
    one = Level(1.0, np.ones(1), ttft_mean_s=1.0)
    assert _mean_se(one, "ttft", 0.3) == 0.3, "a single request has no scatter"
    assert _mean_se(Level(1.0, np.array([1.0, 3.0])), "ttft", 0.3) == pytest.approx(0.5 / math.sqrt(2))


@pytest.mark.parametrize(("metric", "stat"), [("e2e", "p50"), ("tpot", "p50"), ("ttft", "p95")])
def test_littles_law_is_of_the_usual_first_token_only(metric: str, stat: str) -> None:
    loads = [4.0, 8.0, 16.0, 24.0, 48.0, 64.0]
    ttft = [0.1 + max(0.0, load / 32 - 1) * 3.1 for load in loads]
    curve = series(loads, ttft, e2e_mean_s=[each + 3 for each in ttft])
    assert place(dataclasses.replace(curve, metric=metric, stat=stat), 25.0) == 25.0


# -- what to try next -------------------------------------------------------------------------------------------------


def tried(loads: list[float], served: float = 32.0, *, n: int = 40, kv: float | None = None, top: int = 999) -> tuple:
    levels = []
    for load in loads:
        ttft_s = 0.1 + max(0.0, load / served - 1) * 3.1
        given = Statistic(ttft_s, 0.05, n)
        levels.append(Level(load, given=given, ttft_mean_s=ttft_s, e2e_mean_s=ttft_s + 3, kv_usage=kv))
    return suggest(prepare(levels, axis="concurrency", metric="ttft", stat="p50"), Limits(max_concurrency=top))


def test_the_next_level_is_twice_the_last_or_less_while_memory_fills() -> None:
    assert tried([4, 8, 10]) == (20,)
    assert tried([4, 8, 10], kv=0.55) == (20,)
    assert tried([4, 8, 10], kv=0.65) == (14,)
    assert tried([10]) == (20, 40)
    assert tried([10], top=20) == (20,)


def test_levels_close_in_on_a_knee_from_both_sides() -> None:
    assert tried([4, 8, 64, 96]) == (27, 37, 19)
    assert tried([4, 8, 27, 37, 64]) == (19, 46)
    assert tried([4, 19, 27, 37, 46, 64]) == ()
    assert tried([4, 8, 39]) == (45, 27, 19), "39 hardly queues, and tells the same as 37"
    assert tried([4, 8, 41]) == (27, 37, 19)


def test_thin_levels_near_the_knee_are_visited_again() -> None:
    loads = [4.0, 19, 27, 37, 46, 64]
    assert tried(loads, n=29) == (19, 27)
    assert tried(loads, n=30) == ()
