"""The time under a chart is that of its cells, and a ramp is one move of the load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.frame import Frame
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LoadChange
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import CliffVerdict, Curve, Kind, LevelPoint
from llmtop.meter.frames import RECENT
from llmtop.tui.loadcurve import draw_curve
from llmtop.view.charts import CLOCK_CELLS, GUTTER_CELLS, time_axis
from llmtop.view.condition import Condition
from llmtop.view.ghosts import Twin
from llmtop.view.glyphs import UNICODE, ChartMode
from llmtop.view.panels import ONE_MOVE_S, moves, panels
from llmtop.view.raster import DOTS_X, TimeAxis, column_of


def changes(times: Iterable[float], stage: str | None = None) -> list[LoadChange]:
    return [LoadChange(float(t_s), LoadPoint(concurrency=1), "stage" if stage else "hand", stage) for t_s in times]


def text_of(axis: TimeAxis, width: int, mode: ChartMode = ChartMode.BRAILLE) -> str:
    return "".join(text for text, _ in time_axis(axis, mode, width))


@pytest.mark.parametrize(
    ("end_s", "span_s", "width", "shown"),
    [
        (146.0, 120.0, 60, ["01:00", "01:30", "02:00"]),
        (146.0, 120.0, 40, ["01:00", "02:00"]),
        (30.0, 30.0, 60, ["00:10", "00:20"]),
        (3700.0, 120.0, 60, ["00:00", "00:30", "01:00", "01:30"]),
    ],
)
def test_round_moments_are_named(end_s: float, span_s: float, width: int, shown: list[str]) -> None:
    assert [word for word in text_of(TimeAxis(end_s, 0.25, span_s), width).split() if word in shown] == shown


@given(
    end=st.integers(0, 40_000),
    span_s=st.sampled_from([30.0, 60.0, 120.0]),
    width=st.integers(GUTTER_CELLS + 6, 200),
    mode=st.sampled_from(ChartMode),
)
def test_each_moment_stands_under_the_cell_of_its_samples(end: int, span_s: float, width: int, mode: ChartMode) -> None:
    axis = TimeAxis(end * 0.25, 0.25, span_s)
    row = text_of(axis, width, mode)
    assert len(row) == width
    dots = DOTS_X[mode]
    for begin in (at for at in range(len(row) - CLOCK_CELLS + 1) if row[at + 2] == ":" and row[at] != " "):
        minutes, seconds = map(int, row[begin : begin + CLOCK_CELLS].split(":"))
        hours = range(0, 4)
        places = [
            column_of(h * 3600 + minutes * 60 + seconds, axis, (width - GUTTER_CELLS) * dots, dots) for h in hours
        ]
        cells = [GUTTER_CELLS + place // dots for place in places if place is not None]
        assert begin + CLOCK_CELLS // 2 in cells


def test_a_ramp_is_one_move_and_moves_of_a_hand_are_their_own() -> None:
    ramp = [10 + 0.5 * i for i in range(100)]
    assert moves(changes([3.0, *ramp, 90.0, 100.0])) == [3.0, 10.0, 90.0, 100.0]
    assert moves(changes([1.0, 1.0 + ONE_MOVE_S])) == [1.0, 3.5]
    assert moves([]) == []


def test_a_stage_begins_a_move_inside_a_ramp_and_many_short_ones_are_no_comb() -> None:
    up, down = changes([1.0, 2.0, 3.0, 4.0], "up"), changes([5.0, 6.0, 7.0], "down")
    assert moves([*up, *down]) == [1.0, 5.0]
    short = [change for i in range(100) for change in changes([i * 0.5], f"{i}")]
    assert moves(short) == [i * ONE_MOVE_S for i in range(20)]


def test_no_tick_wanders_with_the_oldest_change_that_a_frame_has_room_for() -> None:
    scene = Path(__file__).parent.parent / "tui" / "data" / "past.msgpack"
    frame = msgspec.msgpack.decode(scene.read_bytes())["frame"]
    shown = msgspec.structs.replace(msgspec.convert(frame, Frame), marks=())
    ramp = tuple(changes([80 + i for i in range(RECENT)], "up"))
    for known, ticks in ((ramp[:-1], [80.0]), (ramp, [])):
        views = panels(msgspec.structs.replace(shown, changes=known), Slo(), UNICODE, Condition())
        assert [tick.t_s for tick in views[0].ticks] == ticks


def test_levels_lie_over_the_cliff_and_axes_have_round_values() -> None:
    points = tuple(
        LevelPoint(load=load, n=99, errors=0, ttft_p50_ms=p50, ttft_p95_ms=2 * p50)
        for load, p50 in ((1, 90.0), (10, 100.0), (32, 900.0), (60, 2000.0))
    )
    cliff = CliffVerdict(kind=Kind.CLIFF, at=32.0, low=30.0, high=34.0)
    rows = draw_curve([Curve(label="", axis="concurrency", points=points)], (), cliff, 2000.0, "SLO 2s", "ttft", 80, 16)
    text = ["".join(word for word, _ in row) for row in rows]
    assert sum(row.count("●") for row in text) == len(points), "that under the cliff, too"
    assert text[-1].split() == ["1", "2", "5", "10", "20", "50"]
    assert any("SLO 2s" in row for row in text)
    named = [row.partition("┤")[0].strip() for row in text if "┤" in row]
    assert named == ["5s", "2s", "1s", "500ms", "200ms", "100ms", "50ms"]


def test_what_is_foreseen_is_a_line_of_its_own_sign_between_faint_ones_and_hides_no_level() -> None:
    points = tuple(LevelPoint(load=load, n=99, ttft_p50_ms=90.0, ttft_p95_ms=100.0) for load in (1, 4, 16))
    curve = Curve(label="", axis="concurrency", points=points)
    loads = (1.0, 4.0, 16.0, 64.0)
    foreseen = Twin(
        name="twin",
        line=tuple((load, 200.0) for load in loads),
        low=tuple((load, 140.0) for load in loads),
        high=tuple((load, 280.0) for load in loads),
    )
    plain, drawn = (draw_curve([curve], (), None, None, "", "ttft", 80, 16, twin=each) for each in (None, foreseen))
    signs = [text for row in drawn for text, role in row if role == "ghost"]
    assert signs
    assert set("".join(signs)) == {"◦"}
    assert sum(text.count("●") for row in plain for text, _ in row) == 3
    assert sum(text.count("●") for row in drawn for text, _ in row) == 3
    assert any("·" in text for row in drawn for text, role in row if role == "faint")
