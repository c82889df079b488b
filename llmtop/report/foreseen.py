"""What the twin of the server foresees, in a report: a table of other settings, and one curve with its band."""

from __future__ import annotations

from html import escape

from llmtop.domain.foresight import Foresight, Interval
from llmtop.domain.load import Axis
from llmtop.report import prose
from llmtop.report.contents import ReportInput
from llmtop.report.plot import Plot
from llmtop.wording.figures import PAGE
from llmtop.wording.foresight import asked_text, legend_text, sure_text
from llmtop.wording.sentences import sentence

TITLE = "What the twin foresees"
HEADS = ("", "users at the SLO", "at least", "at most", "wall", "tok/s at most")
MORE = "llmtop predict --fit RUN --set max_num_seqs=N asks it about others."


def note(report: ReportInput) -> str:
    """That it was not measured, and how sure it is; empty: nothing is foreseen."""
    told = report.foreseen[0] if report.foreseen else None
    if told is None or told.off is None:
        return ""
    return f"Foreseen, not measured: {sure_text(told.off, told.levels, PAGE)}. {MORE}"


def rows(report: ReportInput) -> list[tuple[str, ...]]:
    """The server as it stands, then with other settings."""

    def load(interval: Interval | None, end: str, axis: Axis) -> str:
        return PAGE.load(None if interval is None else getattr(interval, end), axis)

    return [
        (
            sentence(asked_text(each.settings, PAGE)),
            *(load(each.users, end, each.axis) for end in ("value", "low", "high")),
            load(each.wall, "value", each.axis),
            PAGE.count(max((point.output_tokens_per_s.value for point in each.points), default=None)),
        )
        for each in report.foreseen
    ]


def drawn(report: ReportInput) -> Foresight | None:
    """The one that is drawn beside the curve: with the most slots, else with the largest cache."""
    told = report.foreseen[1:]
    if not told or told[0].axis != prose.current_curve(report).axis:
        return None
    return max(told, key=lambda each: (each.settings[0][0] == told[0].settings[0][0], each.settings[0][1]))


def draw(plot: Plot, report: ReportInput, field: str) -> str:
    """A dashed line in its band, as far as the chart goes; the key of it, empty where nothing is drawn."""
    told = drawn(report)
    found = [] if told is None else [(point.load, getattr(point, field, None)) for point in told.points]
    known = [
        (load, at)
        for load, at in found
        if isinstance(at, Interval) and plot.x.holds(load) and plot.y.holds(at.low) and plot.y.holds(at.high)
    ]
    if told is None or len(known) < 2:
        return ""
    plot.ribbon([(load, at.low, at.high) for load, at in known], "twin")
    plot.line([(load, at.value) for load, at in known], "twin")
    return f'<span class="key twin">{escape(legend_text(told, PAGE))}</span>'
