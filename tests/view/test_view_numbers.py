"""Figures: width, digits, units; tones; scales."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.view.numbers import clock, count, digits, latency, percent, span, whole
from llmtop.view.scale import HeldTop, LogScale, nice_above
from llmtop.view.tone import Tone, judge


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0421, "0.042"), (0.999, "0.999"), (1.416, "1.42"), (9.999, "10.0"), (38, "38.0"), (99.96, "100"),
        (2409, "2 410"),
    ],
)  # fmt: skip
def test_three_digits(value, text):
    assert digits(value) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "--"),
        (0.403, "0.40ms"),
        (38.04, "38.0ms"),
        (999.4, "999ms"),
        (999.7, "1.00s"),
        (1416, "1.42s"),
        (123456, "123s"),
        (1.2e6, "20.0min"),
    ],
)
def test_latency_takes_the_unit_that_fits(ms, text):
    assert latency(ms) == text


@given(st.floats(0.001, 5e6))
def test_a_latency_is_never_wider_than_its_field(ms):
    assert len(latency(ms)) <= 7


@given(st.floats(0, 9e8))
def test_a_count_is_never_wider_than_its_field(value):
    assert len(count(value)) <= 6


def test_none_is_not_zero():
    assert (count(None), percent(None), whole(None)) == ("--", "--", "--")
    assert (count(0), percent(0)) == ("0", "0.00%")
    assert percent(0.0014) == "0.14%"
    assert percent(0.71) == "71.0%"
    assert percent(1) == "100%"


def test_times():
    assert clock(192.9) == "03:12"
    assert clock(3792) == "1:03:12"
    assert span(10) == "10s"
    assert span(120) == "2min"


@given(st.floats(1e-6, 1e9))
def test_nice_is_the_next_of_1_2_5(value):
    nice = nice_above(value)
    lead = nice / 10 ** math.floor(math.log10(nice) + 1e-9)
    assert min(abs(lead - good) for good in (1, 2, 5, 10)) < 1e-6
    assert value <= nice * (1 + 1e-6)
    assert nice <= value * 2.5 * (1 + 1e-6)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=80))
def test_a_held_top_is_never_below_the_data_and_seldom_moves_down(peaks):
    held = HeldTop(patience=5)
    falls = 0
    before = 0.0
    for peak in peaks:
        top = held.follow(peak, 1.0)
        assert top >= peak
        falls += top < before
        before = top
    assert falls <= len(peaks) // 6


SCALES = st.builds(
    LogScale,
    low=st.sampled_from([1, 8]),
    high=st.integers(16, 100_000),
    quantum=st.just(1),
    zero=st.booleans(),
) | st.builds(LogScale, low=st.just(0.1), high=st.integers(1, 2000), quantum=st.just(0.1), zero=st.booleans())


@given(SCALES, st.floats(0, 2e5), st.floats(0, 2e5), st.integers(10, 200))
def test_a_track_is_monotone(scale, one, other, cells):
    low, high = sorted((one, other))
    assert 0 <= scale.cell(low, cells) <= scale.cell(high, cells) <= cells - 1


@given(SCALES, st.integers(10, 200), st.data())
def test_a_cell_comes_back_to_itself(scale, cells, data):
    """Wherever the quantum is finer than a cell: low values of an integer slider share no cells with others."""
    cell = data.draw(st.integers(0, cells - 1))
    value = scale.at_cell(cell, cells)
    assert scale.floor <= value <= scale.high
    exact = scale.low * (scale.high / scale.low) ** ((cell - 1) / max(1, cells - 2))
    if exact * math.log(scale.high / scale.low) / cells > 2 * scale.quantum:
        assert scale.cell(value, cells) == cell


@given(SCALES)
def test_ends_of_the_track(scale):
    assert scale.cell(scale.high, 50) == 49
    assert scale.cell(scale.floor, 50) == 0
    assert scale.at_cell(49, 50) == pytest.approx(scale.snap(scale.high))


@given(SCALES, st.floats(0, 2e5))
def test_a_step_moves_one_way_by_at_most_an_eighth(scale, start):
    value = scale.snap(start)
    up, down = scale.step(value, 1), scale.step(value, -1)
    assert up > value or value == pytest.approx(scale.snap(scale.high))
    assert down < value or value == scale.floor
    if value >= 16 * scale.quantum and up < scale.snap(scale.high):
        assert up / value <= 1.1251


@given(st.integers(1, 1000))
def test_steps_go_back_the_way_they_came(value):
    scale = LogScale(low=1, high=1024, zero=True)
    on_ladder = scale.step(scale.step(value, 1), -1)
    assert scale.step(scale.step(on_ladder, 1), -1) == on_ladder


def test_steps_land_on_powers_of_two():
    scale = LogScale(low=1, high=1024, zero=True)
    seen, value = [], 0.0
    while value < 1024:
        value = scale.step(value, 1)
        seen.append(value)
    assert {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} <= set(seen)
    assert len(seen) == 64


def test_doubling_from_nothing_starts_at_one():
    scale = LogScale(low=1, high=1024, zero=True)
    assert scale.times(0, 2) == 1
    assert scale.times(1, 0.5) == 0
    assert scale.times(600, 2) == 1024


def test_red_needs_three_bad_windows():
    assert judge(2.1, 1.6, 2.0, [0.1, 0.1, 2.1]) is Tone.WARN
    assert judge(2.1, 1.6, 2.0, [0.1, 2.1, 2.1, None, 2.1]) is Tone.BAD
    assert judge(1.7, 1.6, 2.0, []) is Tone.WARN
    assert judge(1.0, 1.6, 2.0, [3, 3, 3]) is Tone.GOOD
    assert judge(None, 1.6, 2.0, [3, 3, 3]) is Tone.UNKNOWN
    assert judge(5.0, None, None, []) is Tone.GOOD
