"""Scales that hold still, tracks of sliders, tones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.view.glyphs import ASCII, UNICODE
from llmtop.view.scale import HeldTop, LogScale
from llmtop.view.tone import Tone, judge
from llmtop.view.track import track


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


def drawn(glyphs=UNICODE, **marks) -> str:
    scale = LogScale(low=1, high=128)
    return "".join(glyph for glyph, _ in track(scale, 8, 16.0, None, None, glyphs, "", False, **marks))


def test_what_is_asked_is_hollow_and_what_stands_stays_in_its_place():
    assert drawn() == "━━━━●───"
    assert drawn(asked=64.0) == "━━━━●─○─"
    assert drawn(asked=64.0, glyphs=ASCII) == "====O-o-"


def test_where_nothing_can_be_set_the_track_is_broken():
    assert drawn(applies=(1.0, 32.0)) == "━━━━●─╌╌"


def test_a_cliff_that_is_foreseen_beyond_the_track_stands_at_its_end():
    assert drawn(foreseen=64.0) == "━━━━●─△─"
    assert drawn(foreseen=500.0) == "━━━━●──△"
