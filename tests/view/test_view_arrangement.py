"""Every layout fits its terminal, and gives the room to what it is named after."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.view.arrangement import MIN_SIZE, PANEL_ROWS, STAGE_ROWS, Layout, arrange

FIXED = 5
"""Header, load and prompt slider, events and keys."""


@given(st.integers(MIN_SIZE[0], 400), st.integers(MIN_SIZE[1], 200), st.sampled_from(Layout))
def test_what_is_shown_has_its_room_and_no_more(width: int, height: int, layout: Layout) -> None:
    plan = arrange(width, height, layout=layout)
    body = height - plan.verdict_rows - FIXED - plan.output_slider - plan.settings
    charts = body - plan.lower_height - plan.log_height
    assert charts >= plan.panel_rows * PANEL_ROWS
    assert plan.panel_rows or plan.lower_height
    assert width - plan.log_width >= MIN_SIZE[0]
    assert plan.lower_height == 0 or plan.percentiles or plan.curve
    assert len(plan.charts) == 2 * plan.panel_rows
    assert set(plan.charts) <= set(range(1, 7))


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (120, 40), (180, 45), (250, 70)])
def test_a_layout_has_what_it_is_named_after(size: tuple[int, int]) -> None:
    all_, charts, latency, server, curve, tables, stage = (arrange(*size, layout=layout) for layout in Layout)
    assert charts.lower_height == charts.log_width == 0
    assert charts.panel_rows == 3
    assert curve.lower_height > max(all_.lower_height, 8)
    assert curve.log_width == 0
    assert (latency.charts, latency.percentiles, latency.curve) == ((1, 2), True, False)
    assert latency.lower_height >= 8
    assert (server.charts, server.lower_height) == ((3, 4, 5, 6), 0)
    assert (tables.charts, tables.percentiles, tables.curve) == ((), True, False)
    assert max(tables.log_width, tables.log_height) >= PANEL_ROWS
    assert (stage.charts, stage.stage_rows, stage.settings, stage.output_slider) == ((1, 3), STAGE_ROWS, False, False)


def test_more_rows_make_the_curve_higher_before_the_charts() -> None:
    low, high = arrange(180, 45), arrange(180, 70)
    grown = high.lower_height - low.lower_height
    assert grown >= 12
    assert arrange(120, 40).lower_height == 13
    assert arrange(180, 45).log_width <= 36


@given(st.integers(MIN_SIZE[0], 300), st.integers(MIN_SIZE[1], 100), st.integers(3, 12))
def test_knobs_take_of_the_panels_only_what_those_have_to_give(width: int, height: int, knobs: int) -> None:
    plan, without = arrange(width, height, knobs=knobs), arrange(width, height)
    assert 3 <= plan.bank_rows <= knobs
    assert plan.panel_rows == without.panel_rows or height < 22, "a row is missing there"
    assert height > 24 or plan.bank_rows <= 4, "no more than the rows of the sliders and of the settings"
