"""The panels and their arrangement: a grid of charts, the curve and the percentiles under it, the log beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Grid, Horizontal, Vertical

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.tui.widgets.curve import CurvePanel
from llmtop.tui.widgets.panel import ChartPanel, Panel
from llmtop.tui.widgets.tables import EventPanel, PercentilePanel
from llmtop.view import cursor
from llmtop.view.arrangement import Arrangement
from llmtop.view.condition import Condition, is_stale
from llmtop.view.ghosts import ghosts_of, readings
from llmtop.view.glyphs import ChartMode, Glyphs
from llmtop.view.lines import entries
from llmtop.view.panels import panels
from llmtop.view.raster import TimeAxis


class Body(Horizontal):
    """Nine panels by number. Those that have no room are hidden, and maximised when asked for."""

    def __init__(self, glyphs: Glyphs, slo: Slo, **options: Any) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.slo = slo
        self.mode = glyphs.modes[0]
        self.maximised: Panel | None = None
        self.cursor_s: float | None = None
        """The moment of the run that all charts are read at; None: now."""
        self.reading = ""
        """That moment in one line."""
        self._axis: TimeAxis | None = None
        self._plan = Arrangement(True)
        self._charts = [ChartPanel(number, glyphs, id=f"panel{number}") for number in range(1, 7)]
        self._curve = CurvePanel(7, glyphs, id="panel7")
        self._percentiles = PercentilePanel(8, glyphs, id="panel8")
        self._log = EventPanel(9, glyphs, id="panel9")
        self._grid = Grid(*self._charts, id="charts")
        self._lower = Horizontal(self._curve, self._percentiles, id="lower")
        self._main = Vertical(self._grid, self._lower, id="main")

    def compose(self) -> ComposeResult:
        yield self._main
        yield self._log

    @property
    def panels(self) -> Sequence[Panel]:
        return (*self._charts, self._curve, self._percentiles, self._log)

    @property
    def shows_log(self) -> bool:
        return self._log.display

    def show(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        """Draw what is new; hidden panels keep it for when they are shown."""
        path = "" if assessment is None else assessment.path
        views = panels(frame, self.slo, self.glyphs, condition, path)
        self._axis = views[0].axis
        if self.cursor_s is not None:
            at_s = self.cursor_s = cursor.reached(self.cursor_s, self._axis)
            views = tuple(cursor.read(view, at_s) for view in views)
            metric = "ttft" if assessment is None else assessment.cliff.metric
            ghosts = ghosts_of(assessment, metric, self.glyphs)
            self.reading = cursor.told(
                frame, views, at_s, self.glyphs, lambda load: readings(ghosts, metric, load, self.glyphs)
            )
        for panel, view in zip(self._charts, views, strict=True):
            panel.show(view, self.mode)
        self._percentiles.show(frame, assessment, is_stale(frame, condition), condition.late)
        self._curve.show(assessment, self.slo)
        self._log.show(entries(frame, self.glyphs))

    def move_cursor(self, seconds: float) -> None:
        """The moment that is read, from where it is or from now; what is shown next is of it."""
        if self._axis is not None:
            from_s = self._axis.end_s if self.cursor_s is None else self.cursor_s
            self.cursor_s = cursor.reached(from_s + seconds, self._axis)

    def give_room(self, plan: Arrangement) -> None:
        """Give each panel the room that the terminal has for it, or all of it to the maximised one."""
        self._plan = plan
        alone = self.maximised
        for panel in self._charts:
            panel.display = panel is alone if alone is not None else panel.number in plan.charts
            panel.with_axis = panel is alone or panel.number in plan.charts[-2:]
        self._grid.display = plan.panel_rows > 0 if alone is None else alone in self._charts
        self._grid.styles.grid_size_columns = 1 if alone is not None else 2
        self._grid.styles.grid_size_rows = 1 if alone is not None else max(1, plan.panel_rows)
        beneath: tuple[Panel, ...] = (self._curve, self._percentiles)
        for lower in beneath:
            beside = plan.curve if lower is self._curve else plan.percentiles
            lower.display = lower is alone if alone is not None else beside
        self._lower.display = alone in beneath or (alone is None and plan.lower_height > 0)
        self._lower.styles.height = "1fr" if alone in beneath else plan.lower_height
        self._main.display = alone is not self._log
        self._log.display = alone is self._log or (alone is None and plan.log_width + plan.log_height > 0)
        under = alone is None and plan.log_height > 0
        self.styles.layout = "vertical" if under else "horizontal"
        self._log.styles.width = "1fr" if under or alone is self._log else max(plan.log_width, 1)
        self._log.styles.height = plan.log_height if under else "1fr"
        self._log.styles.margin = (0, 0, 0, 0 if under or alone is self._log else 2)

    def focus_panel(self, number: int) -> None:
        """Focus a panel by its number; one that has no room here is maximised."""
        panel = self.panels[number - 1]
        if self.maximised is not None or not self._has_room(panel):
            self.maximised = panel
            self.give_room(self._plan)
        self.screen.set_focus(panel)

    def _has_room(self, panel: Panel) -> bool:
        plan = self._plan
        if panel is self._log:
            return plan.log_width + plan.log_height > 0
        if panel.number > len(self._charts):
            return plan.lower_height > 0 and (plan.curve if panel is self._curve else plan.percentiles)
        return panel.number in plan.charts

    @on(Panel.Maximised)
    def _maximise(self, message: Panel.Maximised) -> None:
        message.stop()
        self.toggle_maximised(message.panel)

    @property
    def alone(self) -> int | None:
        """The number of the panel that fills the body; None: none does."""
        return None if self.maximised is None else self.maximised.number

    def begin(self, alone: int | None) -> None:
        """As the last screen was left: with one panel alone, where there is one of that number."""
        self.maximised = next((panel for panel in self.panels if panel.number == alone), None)

    def toggle_maximised(self, panel: Panel | None) -> None:
        """Let `panel` fill the body, or give the room back."""
        self.maximised = None if self.maximised is not None else panel
        self.give_room(self._plan)
        if panel is not None and panel.display:
            self.screen.set_focus(panel)

    def cycle_mode(self) -> ChartMode:
        """Other dots for all charts."""
        modes = self.glyphs.modes
        self.mode = modes[(modes.index(self.mode) + 1) % len(modes)]
        for panel in self._charts:
            if panel.view is not None:
                panel.show(panel.view, self.mode)
        return self.mode
