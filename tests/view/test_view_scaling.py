"""A deployment that scales, on the screen: marks on the time axis and a count beside the queue."""

from __future__ import annotations

import pytest

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, Replicas
from llmtop.domain.run import FactBatch, ScaleKind, ScaleStep
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.meter.frames import RECENT, FrameBuilder
from llmtop.view import charts, tables
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.panels import panels

STATUS = EndpointStatus(state=EndpointState.UP)


def step(t_s: float, kind: ScaleKind, replicas: int, since: bool = False) -> ScaleStep:
    return ScaleStep(
        t_s=t_s, kind=kind, replicas=replicas, name="" if kind == "desired" else f"pod-{replicas}", since=since
    )


FIRST = (step(0.5, "desired", 1, True), step(0.5, "created", 1, True), step(0.5, "ready", 1, True))


def frame_of(*steps: ScaleStep) -> Frame:
    builder = FrameBuilder()
    builder.consume(FactBatch(t_s=20.0, scaling=steps, server=(ServerSnapshot(t_s=20.0, running=8.0, waiting=2.0),)))
    return builder.frame(STATUS)


def test_a_frame_has_the_counts_and_the_steps_of_the_runs_own() -> None:
    assert frame_of().replicas is None
    assert (frame_of(*FIRST).replicas, frame_of(*FIRST).scaling) == (Replicas(1, 1), ())
    more = (step(8.0, "desired", 3), step(9.0, "created", 2), step(15.0, "ready", 2))
    assert frame_of(*FIRST, *more).replicas == Replicas(2, 3)
    assert frame_of(*FIRST, *more).scaling == more
    assert frame_of(*FIRST[1:]).replicas == Replicas(1, None)
    many = tuple(step(float(i), "desired", 1 + i % 2) for i in range(RECENT + 9))
    assert frame_of(*many).scaling == many[-RECENT:]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_on_the_axis_stand_what_was_wanted_what_served_and_what_is_gone(glyphs: Glyphs) -> None:
    steps = [step(5.0 + i, kind, 2) for i, kind in enumerate(("desired", "created", "ready", "serving", "gone"))]
    frame = frame_of(*FIRST, *steps)
    for view in panels(frame, Slo(), glyphs, Condition()):
        assert [(tick.t_s, tick.glyph) for tick in view.ticks] == list(
            zip((5.0, 8.0, 9.0), glyphs.scaling, strict=True)
        )


def test_the_count_stands_beside_the_queue_while_another_is_wanted() -> None:
    def note(width: int, *more: ScaleStep) -> str:
        view = panels(frame_of(*FIRST, *more), Slo(), UNICODE, Condition())[2]
        return "".join(text for text, _ in charts.figures(view, width, UNICODE))

    wanted = step(8.0, "desired", 3)
    assert "8 running  replicas 1/3 (ready/desired)" in note(80, wanted)
    assert "replicas 1/3 " in note(42, wanted)
    assert "1/3 ready " in note(39, wanted)
    assert "replicas" not in note(80)
    assert "replicas" not in note(80, wanted, step(9.0, "desired", 1))


def test_the_row_of_the_server_has_the_count_under_it() -> None:
    def rows(frame: Frame) -> str:
        return "\n".join(
            "".join(text for text, _ in row) for row in tables.percentiles(frame, None, False, UNICODE, 60, 20)
        )

    assert "replicas 1/1 (ready/desired)" in rows(frame_of(*FIRST))
    assert "replicas" not in rows(frame_of())
