"""All charts read at one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from llmtop.domain.frame import Frame
from llmtop.view.glyphs import Glyphs
from llmtop.view.panels import PanelView
from llmtop.view.raster import TimeAxis, Values
from llmtop.view.tone import Tone
from llmtop.wording.figures import TIGHT, UNKNOWN, clock


def reached(t_s: float, axis: TimeAxis) -> float:
    """The sample next to `t_s` of those that are shown; run time in seconds."""
    most = round(min(axis.span_s, axis.end_s) / axis.step_s) - 1
    back = min(max(round((axis.end_s - t_s) / axis.step_s), 0), max(most, 0))
    return axis.end_s - back * axis.step_s


def sample_at(values: Values, axis: TimeAxis, t_s: float) -> float | None:
    """The sample that ends at `t_s`; None where there is none."""
    place = len(values) - 1 - round((axis.end_s - t_s) / axis.step_s)
    return values[place] if 0 <= place < len(values) else None


def read(view: PanelView, t_s: float) -> PanelView:
    """`view` with the figures of that moment. What is judged is the window up to now: a moment is not."""
    if view.absent is not None or not view.layers:
        return view
    first, last = (sample_at(layer.values, view.axis, t_s) for layer in (view.layers[0], view.layers[-1]))
    title = view.drawn or view.title
    return replace(
        view,
        title=title,
        notes=(f"p50 {view.write(first)}",) if view.drawn else (),
        figure=UNKNOWN if last is None else view.about + view.write(last),
        limit=view.limit if title == view.title else "",
        tone=Tone.UNKNOWN if last is None else Tone.GOOD,
        cursor_s=t_s,
    )


def told(
    frame: Frame,
    views: Sequence[PanelView],
    t_s: float,
    glyphs: Glyphs,
    before: Callable[[float | None], Sequence[str]] = lambda _: (),
) -> str:
    """The moment in one line: the load, what curves of before say at it (`before`), and the figure of each of `views`,
    as `read` made them.
    """
    timeline, axis = frame.timeline, views[0].axis
    load, live = (sample_at(column, axis, t_s) for column in (timeline.target, timeline.in_flight))
    parts = [f"at {clock(t_s)}: load {TIGHT.exact(load)}", *before(load), f"{TIGHT.whole(live)} in flight"]
    parts += [f"{view.title} {view.figure}" for view in views if view.absent is None]
    return f" {glyphs.sep} ".join(parts)
