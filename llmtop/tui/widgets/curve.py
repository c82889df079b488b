"""The panel of the load-latency curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtop.domain.assessment import Assessment
from llmtop.domain.slo import Latency, Slo
from llmtop.domain.verdicts import CliffVerdict, Curve, Kind
from llmtop.tui.widgets.panel import Panel
from llmtop.view.ghosts import Ghosts, Twin, ghosts_of, legend, twin_of
from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Runs
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import knee_name, short_axis
from llmtop.wording.sentences import fails_from

LEGEND_FROM = 7
"""Rows of the panel: the least that leaves a chart under the names of the curves of before."""
MARGIN = " "
TITLE_CELLS = 30
"""Of the rule: number, title and what is between them."""


class CurvePanel(Panel):
    """Latency over load: where the cliff is seen. Drawn anew only when its points, its cliff or its size change."""

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(number, glyphs, **options)
        self._curves: Sequence[Curve] = ()
        self._cliff: CliffVerdict | None = None
        self._ghosts = Ghosts()
        self._twin: Twin | None = None
        self._slo = Slo()
        self._drawn: tuple[object, list[Runs]] | None = None

    def show(self, assessment: Assessment | None, slo: Slo) -> None:
        self._slo = slo
        self._curves = () if assessment is None else [each for each in assessment.curves if not each.ghost]
        self._cliff = None if assessment is None else assessment.cliff
        self._ghosts = ghosts_of(assessment, self._metric, self.glyphs)
        self._twin = twin_of(assessment, self._metric)
        self.redraw()

    @property
    def _metric(self) -> Latency:
        return self._cliff.metric if self._cliff is not None else "ttft"

    def draw(self, width: int, height: int) -> list[Runs]:
        shown = [*(ghost.curve for ghost in self._ghosts.drawn), *self._curves]
        axis = shown[-1].axis if shown else "concurrency"
        named = (self._ghosts or self._twin) and height >= LEGEND_FROM
        names = legend(self._ghosts, self.glyphs, width - len(MARGIN), self._twin) if named else []
        rows: list[Runs] = [self.rule(width, f"{self._metric.upper()} over {short_axis(axis)}", self._words(width))]
        if names:
            rows.append([(MARGIN, ""), *names])
        return [*rows, *self._picture(width, height - len(rows))]

    def _words(self, width: int) -> Runs:
        """Which line is which, how many levels there are, and the cliff, which is left out last."""
        lines: Runs = [(self.glyphs.knob, "line"), (" p95 ", "dim"), (self.glyphs.dots, "area"), (" p50", "dim")]
        levels = sum(len(curve.points) for curve in self._curves)
        count: Runs = [(f"  {levels} level{'' if levels == 1 else 's'}", "dim")]
        place: Runs = []
        cliff = self._cliff
        if cliff is not None and cliff.at is not None and cliff.kind in (Kind.CLIFF, Kind.GRADUAL):
            at, low, high = (TIGHT.load(end, cliff.axis) for end in (cliff.at, cliff.low, cliff.high))
            where = fails_from(cliff, TIGHT) if cliff.fails else f"{knee_name(cliff.kind)} {at}"
            place = [(f"  {self.glyphs.cliff} {where} ({low} to {high})", "over")]
        room = width - TITLE_CELLS
        wanted = (
            (*lines, *count, *place),
            (*lines, *place),
            (*place,),
        )
        return next((list(runs) for runs in wanted if sum(len(text) for text, _ in runs) <= room), list(place))

    def _picture(self, width: int, height: int) -> list[Runs]:
        key = (tuple(self._curves), self._ghosts, self._twin, self._cliff, width, height)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self._build(width, height))
        return self._drawn[1]

    def _build(self, width: int, height: int) -> list[Runs]:
        from llmtop.tui.loadcurve import draw_curve

        limit = self._slo.target(self._metric)
        rows = draw_curve(
            self._curves,
            self._ghosts.drawn,
            self._cliff,
            None if limit is None else limit.limit * 1e3,
            "" if limit is None else f"SLO {TIGHT.target(limit)} ",
            self._metric,
            width,
            height,
            plain=self.glyphs.ascii,
            dots=self.glyphs.ghost_line,
            twin=self._twin,
            twin_dots=self.glyphs.twin,
        )
        if rows:
            return rows
        hint = "each level that you hold for some seconds adds a point"
        return [[] for _ in range(height // 2 - 1)] + [[(hint.center(width), "dim")]]
