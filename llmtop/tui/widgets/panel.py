"""A panel: a rule with name, figure and limit, and what it shows under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from llmtop.tui.widgets.canvas import Canvas
from llmtop.view import charts
from llmtop.view.glyphs import ChartMode, Glyphs
from llmtop.view.panels import PanelView
from llmtop.view.runs import Runs
from llmtop.view.scale import HeldTop


class Panel(Canvas, can_focus=True):
    """Base of what can be focused by its number and maximised: the rule on top."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "maximise", "maximise the panel", tooltip="maximise", id="panel.maximise"),
    ]

    @dataclass
    class Maximised(Message):
        """The user wants this panel to fill the body, or to give it back."""

        panel: Panel

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.number = number
        self.glyphs = glyphs

    def action_maximise(self) -> None:
        self.post_message(self.Maximised(self))

    def on_click(self, event: events.Click) -> None:
        if event.y == 0 or event.chain == 2:
            self.post_message(self.Maximised(self))

    def rule(self, width: int, title: str, right: Runs) -> Runs:
        """The row on top, exactly `width` cells."""
        return charts.rule(width, self.number, title, right, self.glyphs, self.has_focus)


CURSOR = Binding.Group("read charts at one moment")
CURSOR_PAGE = Binding.Group("that moment 10 s back, on")


class ChartPanel(Panel):
    """One figure over time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.cursor(-1)", "a second back", tooltip="read", id="chart.back", group=CURSOR),
        Binding("right", "screen.cursor(1)", "a second on", tooltip="read", id="chart.on", group=CURSOR),
        Binding("pageup", "screen.cursor(-10)", "10 s back", id="chart.page-back", group=CURSOR_PAGE),
        Binding("pagedown", "screen.cursor(10)", "10 s on", id="chart.page-on", group=CURSOR_PAGE),
        *Panel.BINDINGS,
    ]

    DEFAULT_CSS = "ChartPanel { width: 1fr; height: 1fr; }"

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(number, glyphs, **options)
        self.view: PanelView | None = None
        self.mode = glyphs.modes[0]
        self.with_axis = False
        """Whether the row under it tells the time: of one column, the lowest chart's does."""
        self._held = HeldTop()
        self._drawn: tuple[object, list[Runs]] = (None, [])
        """The last rows, and all that they are made of: a size, a focus and a frame come one after the other."""

    def show(self, view: PanelView, mode: ChartMode) -> None:
        """Draw `view`. The y axis follows the peak of what is drawn."""
        self.view, self.mode = view, mode
        self._held.follow(charts.peak_of(view), view.floor, view.ceiling)
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        view = self.view
        if view is None:
            return [self.rule(width, "", [])]
        top = self._held.top or view.floor
        head = self.rule(width, view.title, charts.figures(view, width, self.glyphs))
        under = self.with_axis and view.absent is None
        of = (view, top, self.mode, width, height, under)
        if self._drawn[0] != of:
            rows = charts.chart(view, top, self.mode, width, height - 1 - under)
            self._drawn = of, [*rows, charts.time_axis(view.axis, self.mode, width)] if under else rows
        return [head, *self._drawn[1]]
