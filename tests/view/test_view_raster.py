"""Laws of the charts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.view.glyphs import ChartMode
from llmtop.view.raster import Layer, Picture, Tick, TimeAxis, columns, dot_row, paint

VALUES = st.lists(st.none() | st.floats(0, 100), min_size=0, max_size=60)
MODES = st.sampled_from(list(ChartMode))


def picture(values, mode=ChartMode.BRAILLE, end_s=200.0, span_s=40.0, **options):
    options.setdefault("top", 100.0)
    return Picture(
        axis=TimeAxis(end_s, 1.0, span_s), layers=(Layer(tuple(values), "line", "over"),), mode=mode, **options
    )


@given(VALUES, MODES, st.integers(1, 60), st.integers(1, 12))
def test_a_picture_has_its_size_and_nothing_where_nothing_is_known(values, mode, width, height):
    rows = paint(picture(values, mode), width, height)
    assert [len(row) for row in rows] == [width] * height
    assert all(len(glyph) == 1 for row in rows for glyph, _ in row)
    if not any(value is not None for value in values):
        assert all(glyph == " " for row in rows for glyph, _ in row)


@given(VALUES, st.integers(4, 40), st.integers(0, 9))
def test_time_moves_the_picture_by_whole_cells_and_changes_nothing_else(values, width, moved):
    """With one sample a dot, a cell holds two: after two seconds the same picture stands one cell further left."""
    span_s = 2.0 * width
    before = paint(picture(values, end_s=200.0, span_s=span_s), width, 4)
    later = paint(picture([*values, *[None] * (2 * moved)], end_s=200.0 + 2 * moved, span_s=span_s), width, 4)
    for old, new in zip(before, later, strict=True):
        assert old[moved:] == new[: max(0, width - moved)]


@given(VALUES, st.integers(2, 80), st.sampled_from([1, 2]))
def test_columns_lose_no_peak(values, dots, per_cell):
    axis = TimeAxis(float(len(values)), 1.0, max(1.0, float(len(values)) + 4.0))
    known = [value for value in values if value is not None]
    found = [value for value in columns(values, axis, dots * per_cell, per_cell) if value is not None]
    assert (max(found) if found else None) == (max(known) if known else None)
    assert set(found) <= set(known)


def test_a_gap_is_a_gap():
    rows = paint(picture([50.0] * 10 + [None] * 10 + [50.0] * 20), 20, 4)
    drawn = [any(row[x][0] != " " for row in rows) for x in range(20)]
    assert drawn == [True] * 5 + [False] * 5 + [True] * 10


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 1e4), st.integers(1, 60))
def test_higher_values_stand_higher(one, other, top, rows):
    low, high = sorted((one, other))
    assert 0 <= dot_row(low, top, rows) <= dot_row(high, top, rows) <= rows - 1


def test_what_stands_above_the_limit_is_marked():
    rows = paint(picture([10.0] * 20 + [90.0] * 20, limit=50.0), 20, 4)
    roles = {role for row in rows[:1] for _, role in row}
    assert "over" in roles
    assert all(role != "over" for row in rows[3:] for _, role in row)


def test_the_limit_is_dashed_only_in_free_cells():
    rows = paint(picture([None] * 40, limit=50.0), 20, 4)
    dashes = [x for row in rows for x, (_, role) in enumerate(row) if role == "limit"]
    assert dashes == list(range(0, 20, 2))
    full = paint(picture([50.0] * 40, limit=50.0), 20, 4)
    assert all(role != "limit" for row in full for _, role in row)


def test_a_limit_above_the_picture_is_not_drawn():
    rows = paint(picture([None] * 40, limit=500.0), 20, 4)
    assert all(role != "limit" for row in rows for _, role in row)


@pytest.mark.parametrize("mode", list(ChartMode))
def test_ticks_stand_at_their_time(mode):
    rows = paint(picture([None] * 40, mode, ticks=(Tick(200.0, "v", "mark"), Tick(161.0, "v", "mark"))), 20, 4)
    assert [x for x, (glyph, _) in enumerate(rows[0]) if glyph == "v"] == [0, 19]


def test_a_tick_before_the_picture_is_left_out():
    rows = paint(picture([None] * 40, ticks=(Tick(100.0, "v", "mark"),)), 20, 4)
    assert all(glyph == " " for row in rows for glyph, _ in row)


def test_an_area_reaches_the_ground():
    filled = Picture(axis=TimeAxis(200.0, 1.0, 40.0), layers=(Layer((100.0,) * 40, "area", None, True),), top=100.0)
    assert all(glyph == "⣿" for row in paint(filled, 20, 3) for glyph, _ in row)


def test_ascii_is_ascii():
    rows = paint(picture([None, 3.0, 80.0] * 13, ChartMode.ASCII, limit=50.0), 20, 5)
    assert "".join(glyph for row in rows for glyph, _ in row).isascii()


@given(st.lists(st.none() | st.floats(0, 100), min_size=40, max_size=40), MODES, st.integers(1, 12))
@settings(max_examples=20)
def test_each_lone_dot_stands_in_the_cell_of_its_value_over_all_else(values, mode, height):
    """With a sample a cell, so that none hides another."""
    dots = [None] * 10 + [0.0, 100.0, 250.0, 50.0] + [None] * 26
    rows = paint(picture(values, mode, span_s=40.0, dots=dots, dot=("o", "strong")), 40, height)
    found = {x: y for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == ("o", "strong")}
    assert len(found) == 4
    bottom, top, above, middle = (found[x] for x in sorted(found))
    assert (bottom, top, above) == (height - 1, 0, 0)
    assert abs(middle - (height - 1) / 2) <= 0.5


@given(VALUES, MODES, st.integers(1, 60), st.integers(1, 12))
def test_without_lone_dots_a_picture_is_what_it_is(values, mode, width, height):
    plain = paint(picture(values, mode), width, height)
    assert paint(picture(values, mode, dots=(None,) * 9), width, height) == plain
