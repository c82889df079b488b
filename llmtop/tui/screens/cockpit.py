"""The main screen: attributes down to its widgets, their messages up to the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Grid, Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Input

from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment, Kind
from llmtop.tui import lines
from llmtop.tui.arrangement import MIN_SIZE, arrange
from llmtop.tui.glyphs import ChartMode, Glyphs
from llmtop.tui.palette import Runs
from llmtop.tui.scale import LogScale
from llmtop.tui.view import Condition, is_stale, panels
from llmtop.tui.widgets.curve import CurvePanel
from llmtop.tui.widgets.knobs import KnobBank
from llmtop.tui.widgets.line import Line
from llmtop.tui.widgets.panel import ChartPanel, Panel
from llmtop.tui.widgets.slider import LogSlider
from llmtop.tui.widgets.tables import EventPanel, PercentilePanel

DEFAULT_CONTEXT_TOKENS = 32768


class Cockpit(Screen[None]):
    """Header, verdict, sliders, panels, events, keys."""

    AUTO_FOCUS = "#load"

    def __init__(self, glyphs: Glyphs, slo: Slo, faults: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.slo = slo
        self.mode = glyphs.modes[0]
        self.frame: Frame | None = None
        self.assessment: Assessment | None = None
        self.condition = Condition()
        self.keys: Sequence[tuple[str, str, str]] = ()
        self.said: tuple[str, str] | None = None
        self._maximised: Panel | None = None
        self.header = Line(id="header")
        self.verdict = Line(id="verdict")
        self.load_slider = LogSlider("concurrency", LogScale(low=1, high=1024, zero=True), glyphs, id="load")
        self.prompt_slider = LogSlider(
            "prompt tok", LogScale(low=8, high=DEFAULT_CONTEXT_TOKENS), glyphs, unit="tokens", id="prompt"
        )
        self.output_slider = LogSlider("output tok", LogScale(low=1, high=8192), glyphs, unit="tokens", id="output")
        self.sliders = Vertical(self.load_slider, self.prompt_slider, self.output_slider, id="sliders")
        self.knobs = KnobBank(glyphs, faults, id="knobs")
        self.settings = Line(id="settings")
        self.charts = [ChartPanel(number, glyphs, id=f"panel{number}") for number in range(1, 7)]
        self.curve = CurvePanel(7, glyphs, id="panel7")
        self.percentiles = PercentilePanel(8, glyphs, id="panel8")
        self.log_panel = EventPanel(9, glyphs, id="panel9")
        self.grid = Grid(*self.charts, id="charts")
        self.lower = Horizontal(self.curve, self.percentiles, id="lower")
        self.event_line = Line(id="events")
        self.mark_input = Input(placeholder="mark: a word for this moment, Enter sets it", id="mark", compact=True)
        self.footer = Line(id="keys")

    def compose(self) -> ComposeResult:
        yield self.header
        yield self.verdict
        with Vertical(id="banks"):
            yield self.sliders
            yield self.knobs
        yield self.settings
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield self.grid
                yield self.lower
            yield self.log_panel
        yield self.event_line
        yield self.mark_input
        yield self.footer

    def on_mount(self) -> None:
        self.knobs.display = False
        self.mark_input.display = False
        self._arrange(self.app.size.width, self.app.size.height)

    # -- attributes down --------------------------------------------------------------------------------------------

    def show(self, frame: Frame | None, assessment: Assessment | None, condition: Condition) -> None:
        """Draw what is new."""
        self.frame, self.assessment, self.condition = frame, assessment, condition
        glyphs = self.glyphs
        self.header.show(lambda width: lines.header(frame, condition, glyphs, width))
        self.verdict.show(lambda width: lines.cut(self._verdict(), width, glyphs.more))
        self.settings.show(lambda width: lines.settings(frame, condition, glyphs, width))
        self.show_events()
        if frame is None:
            return
        self._show_sliders(frame)
        for panel, view in zip(self.charts, panels(frame, self.slo, glyphs, condition), strict=True):
            panel.show(view, self.mode)
        stale = is_stale(frame, condition)
        self.percentiles.show(frame, stale)
        self.curve.show(() if assessment is None else assessment.curves, assessment, self.slo)
        self.log_panel.show(lines.entries(frame, glyphs))

    def _verdict(self) -> Runs:
        runs = lines.verdict(self.frame, self.assessment, self.condition, self.glyphs)
        if not arrange(*self.app.size).fits:
            small = f" terminal {self.app.size.width}x{self.app.size.height}: needs {MIN_SIZE[0]}x{MIN_SIZE[1]} "
            self.event_line.show(lambda width: [(small, "warn")])
        return runs

    def show_events(self) -> None:
        """The newest events, or for a moment what was said in answer to a key."""
        if self.said is not None:
            text, role = self.said
            self.event_line.show(lambda width: lines.cut([(f" {text}", role)], width, self.glyphs.more))
        elif self.log_panel.display:
            self.event_line.show(lambda width: [])
        else:
            found = lines.entries(self.frame, self.glyphs)
            self.event_line.show(lambda width: lines.event_line(found, self.glyphs, width))

    def show_keys(self, shown: Sequence[tuple[str, str, str]]) -> None:
        self.keys = shown
        self.footer.show(lambda width: lines.keys(shown, width))

    def _show_sliders(self, frame: Frame) -> None:
        stale = is_stale(frame, self.condition)
        point = frame.target
        cap = float(frame.max_concurrency)
        cliff = self.assessment.cliff if self.assessment is not None else None
        open_loop = point.rate_rps is not None
        at = cliff.at if cliff is not None and cliff.kind is Kind.CLIFF else None
        if cliff is not None and (cliff.axis == "rate") != open_loop:
            at = None
        load = self.load_slider
        load.cap_reason = "the cap of this run (--max-concurrency)"
        if open_loop:
            load.label, load.unit = "rate req/s", "req/s"
            load.scale = LogScale(low=0.1, high=cap, quantum=0.1, zero=True)
            load.follow(point.rate_rps or 0.0, None, at, stale)
        else:
            load.label = "concurrency"
            load.scale = LogScale(low=1, high=cap, zero=True)
            load.follow(float(point.concurrency or 0), float(frame.in_flight), at, stale)
        context = frame.server.max_model_len if frame.server is not None else None
        self.prompt_slider.scale = LogScale(low=8, high=float(context or DEFAULT_CONTEXT_TOKENS))
        self.prompt_slider.cap_reason = "the model's context length" if context else "the longest prompt made here"
        self.prompt_slider.follow(float(point.prompt_tokens), None, None, stale)
        self.output_slider.scale = LogScale(low=1, high=min(8192.0, context or 8192.0))
        self.output_slider.follow(float(point.output_tokens), None, None, stale)
        locked = None
        if frame.replay is not None:
            locked = "this is a replay: its load cannot be changed"
        elif self.condition.lost is not None:
            locked = "the session is lost: nothing is driven any more"
        for slider in (load, self.prompt_slider, self.output_slider):
            slider.locked = locked
        self.knobs.follow(frame.endpoint.knobs, stale)

    # -- arrangement ------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        self._arrange(event.size.width, event.size.height)

    def _arrange(self, width: int, height: int) -> None:
        plan = arrange(width, height)
        body_visible = plan.fits
        for widget in (self.query_one("#banks"), self.query_one("#body"), self.footer):
            widget.display = body_visible
        self.settings.display = plan.fits and plan.settings
        self.output_slider.display = plan.output_slider
        alone = self._maximised
        shown = 2 * plan.panel_rows
        for panel in self.charts:
            panel.display = panel is alone if alone is not None else panel.number <= shown
        self.grid.display = alone is None or alone in self.charts
        columns = 1 if alone is not None else 2
        rows = 1 if alone is not None else plan.panel_rows
        self.grid.styles.grid_size_columns = columns
        self.grid.styles.grid_size_rows = rows
        lower: tuple[Panel, ...] = (self.curve, self.percentiles)
        self.lower.display = alone in lower or (alone is None and plan.lower_height > 0)
        self.lower.styles.height = "1fr" if alone in lower else plan.lower_height
        for under in lower:
            under.display = under is alone if alone is not None else True
        self.query_one("#main").display = alone is not self.log_panel
        self.log_panel.display = alone is self.log_panel or (alone is None and plan.log_width > 0)
        self.log_panel.styles.width = "1fr" if alone is self.log_panel else max(plan.log_width, 1)
        self.call_after_refresh(self._redraw_all)

    def _redraw_all(self) -> None:
        self.show(self.frame, self.assessment, self.condition)
        self.footer.redraw()

    @property
    def panels(self) -> list[Panel]:
        return [*self.charts, self.curve, self.percentiles, self.log_panel]

    def focus_panel(self, number: int) -> None:
        """Focus a panel by its number; one that has no room here is maximised."""
        panel = self.panels[number - 1]
        if self._maximised is not None or not (panel.display and panel.size):
            self._maximised = panel
            self._arrange(self.app.size.width, self.app.size.height)
        panel.focus()

    def toggle_maximised(self, panel: Panel | None) -> None:
        """Let `panel` fill the body, or give the room back."""
        self._maximised = None if self._maximised is not None else panel
        self._arrange(self.app.size.width, self.app.size.height)
        if panel is not None and panel.display:
            panel.focus()

    @property
    def maximised(self) -> Panel | None:
        return self._maximised

    def show_knobs(self, on: bool) -> None:
        """The sliders of the load, or those of the simulated server, in the same rows."""
        self.knobs.display = on
        self.sliders.display = not on
        if on:
            self.knobs.focus_first()
        self.call_after_refresh(self._redraw_all)

    def cycle_mode(self) -> ChartMode:
        modes = self.glyphs.modes
        self.mode = modes[(modes.index(self.mode) + 1) % len(modes)]
        self._redraw_all()
        return self.mode
