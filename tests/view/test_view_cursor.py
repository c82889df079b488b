"""Laws of reading charts at one moment."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo, parse_slo
from llmtop.view import cursor
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, ChartMode
from llmtop.view.panels import panels
from llmtop.view.raster import Layer, Picture, TimeAxis, paint
from llmtop.wording.figures import TIGHT, UNKNOWN, clock

SCENES = sorted((Path(__file__).parent.parent / "tui" / "data").glob("*.msgpack"))


class Scene(msgspec.Struct):
    frame: Frame


def frame_of(path: Path) -> Frame:
    return msgspec.msgpack.decode(path.read_bytes(), type=Scene).frame


@given(st.integers(1, 500), st.sampled_from([0.5, 1.0]), st.sampled_from([30.0, 120.0]), st.floats(-100, 700))
def test_a_moment_is_that_of_a_sample_that_is_shown(steps: int, step_s: float, span_s: float, t_s: float) -> None:
    axis = TimeAxis(steps * step_s, step_s, span_s)
    at_s = cursor.reached(t_s, axis)
    assert cursor.reached(at_s, axis) == at_s
    assert max(0.0, axis.end_s - span_s) < at_s <= axis.end_s
    assert at_s / step_s == round(at_s / step_s)


@given(st.lists(st.none() | st.floats(0, 9), min_size=1, max_size=30), st.data())
def test_each_sample_is_read_at_its_own_time(values: list[float | None], data: st.DataObject) -> None:
    axis = TimeAxis(50.0, 0.5, 30.0)
    place = data.draw(st.integers(0, len(values) - 1))
    assert cursor.sample_at(values, axis, 50.0 - (len(values) - 1 - place) * 0.5) == values[place]
    assert cursor.sample_at(values, axis, 50.0 - len(values) * 0.5) is None


@pytest.mark.parametrize("path", SCENES, ids=[path.stem for path in SCENES])
def test_what_is_read_is_what_is_drawn(path: Path) -> None:
    frame = replace(frame_of(path), token_source="chunks")
    views = panels(frame, Slo(), UNICODE, Condition())
    end_s, timeline = frame.timeline.end_s, frame.timeline
    read = [cursor.read(view, end_s) for view in views]
    last = [column[-1] if column else None for column in (timeline.ttft_p95_ms, timeline.waiting, timeline.kv_usage)]
    for view, value, write in zip(
        (read[0], read[2], read[3]), last, (TIGHT.latency, TIGHT.count, TIGHT.percent), strict=True
    ):
        assert view.absent is not None or view.figure == (UNKNOWN if value is None else write(value))
    for column, view in ((timeline.tpot_p95_ms, read[1]), (timeline.output_tokens_per_s, read[4])):
        assert view.figure.startswith(UNICODE.about) == bool(column and column[-1] is not None)
    line = cursor.told(frame, read, end_s, ASCII)
    assert line.startswith(f"at {clock(end_s)}: load ")
    assert all(f"{view.title} {view.figure}" in line for view in read if view.absent is None)


def test_the_figure_of_a_percentile_that_no_line_is_of_is_not_named_after_it() -> None:
    frame = frame_of(SCENES[0])
    now = panels(frame, parse_slo("ttft_p99<2s"), UNICODE, Condition())[0]
    view = cursor.read(now, frame.timeline.end_s)
    assert (now.title, now.limit) == ("TTFT p99", "2s")
    assert (view.title, view.limit) == ("TTFT p95", "")


@pytest.mark.parametrize(("at_s", "cell"), [(100.0, 19), (80.0, 9), (61.0, 0), (60.0, 0)])
@pytest.mark.parametrize("mode", list(ChartMode))
def test_a_line_stands_in_every_row_of_the_moment(mode: ChartMode, at_s: float, cell: int) -> None:
    axis = TimeAxis(100.0, 1.0, 40.0)
    bare = Picture(axis=axis, layers=(Layer((5.0,) * 100, "line"),), top=10.0, mode=mode)
    with_line = msgspec.structs.replace(bare, cursor_s=at_s)
    rows = [
        [(x, cell) for x, (cell, before) in enumerate(zip(row, old, strict=True)) if cell != before]
        for row, old in zip(paint(with_line, 20, 5), paint(bare, 20, 5), strict=True)
    ]
    assert {x for row in rows for x, _ in row} == {cell}
    assert [row[0][1] for row in rows] == [("|" if mode is ChartMode.ASCII else "│", "focus")] * 5
