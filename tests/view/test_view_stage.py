"""The stage: figures that a room can read, each with its limit and a sign beside its colour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Distribution, Frame, Timeline, Window
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.view.arrangement import CURVE_SIZE, MIN_SIZE, PANEL_ROWS, STAGE_ROWS, Layout, arrange
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.stage import DIGIT_ROWS, digits, stage


def frame(in_flight: int, ttft_ms: float | None, tpot_ms: float | None) -> Frame:
    steps = 6
    timeline = Timeline(end_s=6.0, ttft_p95_ms=(ttft_ms,) * steps, tpot_p95_ms=(tpot_ms,) * steps)
    window = Window(ttft=Distribution(n=50, p95=ttft_ms), tpot=Distribution(n=50, p95=tpot_ms))
    status = EndpointStatus(state=EndpointState.UP, label="gpu:8000")
    return Frame(
        seq=1,
        t_s=6.0,
        endpoint=status,
        target=LoadPoint(concurrency=max(in_flight, 1)),
        in_flight=in_flight,
        window=window,
        timeline=timeline,
    )


FIGURES = st.none() | st.floats(0.1, 500_000)


@given(st.integers(0, 4096), FIGURES, FIGURES, st.integers(MIN_SIZE[0], 300), st.sampled_from([UNICODE, ASCII]))
def test_five_rows_of_one_width_whatever_the_figures(
    users: int, ttft: float | None, tpot: float | None, width: int, glyphs: Glyphs
) -> None:
    rows = stage(frame(users, ttft, tpot), None, Condition(), Slo(), glyphs, width)
    texts = ["".join(text for text, _ in row) for row in rows]
    assert len(rows) == STAGE_ROWS
    assert len({len(text) for text in texts}) == 1
    assert all(len(text) <= width for text in texts)
    assert not glyphs.ascii or all(text.isascii() for text in texts)


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize(
    ("ttft", "sign", "role"), [(100.0, "ok", "good"), (1900.0, "warn", "warn"), (9e3, "bad", "bad")]
)
def test_how_a_figure_stands_is_told_by_sign_and_colour(glyphs: Glyphs, ttft: float, sign: str, role: str) -> None:
    rows = stage(frame(8, ttft, 10.0), None, Condition(), Slo(), glyphs, 80)
    assert (f" {getattr(glyphs, sign)}", role) in rows[1]
    assert "limit 2s" in "".join(text for text, _ in rows[-1])


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("wide", [1, 2])
def test_each_digit_has_a_form_of_its_own(glyphs: Glyphs, wide: int) -> None:
    forms = {tuple(digits(sign, glyphs, wide)) for sign in "0123456789"}
    assert len(forms) == 10
    assert all(len(form) == DIGIT_ROWS for form in forms)


@given(st.integers(MIN_SIZE[0], 400), st.integers(MIN_SIZE[1], 200), st.integers(0, 12), st.integers(0, 2))
def test_all_of_it_fits_with_two_charts(width: int, height: int, knobs: int, told: int) -> None:
    plan = arrange(width, height, knobs=knobs, layout=Layout.STAGE, told=told)
    fixed = 3 + plan.stage_rows + plan.verdict_rows + max(plan.bank_rows, 1) + plan.told_rows
    assert height - fixed >= PANEL_ROWS
    assert len(plan.charts) == 2
    assert not plan.log_width + plan.log_height + plan.lower_height + plan.card_rows
    shared = max(0, told - plan.told_rows)
    assert shared <= (height < CURVE_SIZE[1]), "one line at most shares the row of the events, and none with room"


@given(st.integers(MIN_SIZE[0], 400), st.integers(MIN_SIZE[1], 200), st.sampled_from(Layout), st.integers(0, 2))
def test_caption_and_coach_take_their_rows_from_what_has_them(
    width: int, height: int, layout: Layout, told: int
) -> None:
    plan, without = arrange(width, height, layout=layout, told=told), arrange(width, height, layout=layout)
    assert 0 <= plan.told_rows <= told
    assert plan.panel_rows == without.panel_rows or plan.lower_height or height < 40
