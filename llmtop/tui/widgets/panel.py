"""A panel: a rule with name, figure and limit, and a chart under it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import Struct
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from llmtop.tui.glyphs import ChartMode, Glyphs
from llmtop.tui.palette import Run, Runs
from llmtop.tui.raster import Layer, Picture, Tick, TimeAxis, paint
from llmtop.tui.scale import HeldTop
from llmtop.tui.tone import Tone
from llmtop.tui.widgets.canvas import Canvas

FIGURE_CELLS = 7
ROOMY_CELLS = 34
"""From this width of a panel, figures stand in a field of fixed width."""
GUTTER_CELLS = 6
"""Room for the labels of the y axis."""


class PanelView(Struct, frozen=True, kw_only=True):
    """What one panel shows. Values in the unit of `layers`."""

    title: str
    notes: tuple[str, ...] = ()
    """Small words beside the figure, from the fullest wording to the shortest: the first that fits is shown."""
    figure: str
    limit: str = ""
    tone: Tone = Tone.GOOD
    layers: tuple[Layer, ...] = ()
    axis: TimeAxis = TimeAxis(0.0, 1.0, 60.0)
    ticks: tuple[Tick, ...] = ()
    limit_at: float | None = None
    floor: float = 1.0
    """The y axis never ends below this."""
    ceiling: float | None = None
    label: str = "{:g}"
    """How a y value is written beside the axis."""
    scale: float = 1.0
    """A y value times this is what is written."""
    absent: str | None = None
    """Instead of a chart: why there is nothing to draw."""
    stale: bool = False


class Panel(Canvas, can_focus=True):
    """Base of what can be focused by its number and maximised: the rule on top."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "maximise", "maximise", id="panel.maximise"),
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
        """`─ ¹title ───────── right ─`, exactly `width` cells."""
        rule, focused = self.glyphs.rule, self.has_focus
        number = self.glyphs.numbers[self.number - 1]
        lead: Run = (rule + self.glyphs.focus, "focus") if focused else (rule + " ", "rule")
        left: Runs = [lead, (number, "focus" if focused else "dim")]
        left.append((title + " ", "focus" if focused else "title"))
        used = sum(len(text) for text, _ in left) + sum(len(text) for text, _ in right)
        fill = width - used - 3
        middle: Run = (rule * max(fill, 0) + " ", "focus" if focused else "rule")
        return [*left, middle, *right, (f" {rule}", "rule")]


class ChartPanel(Panel):
    """One figure over time."""

    DEFAULT_CSS = "ChartPanel { width: 1fr; height: 1fr; }"

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(number, glyphs, **options)
        self.view: PanelView | None = None
        self.mode = glyphs.modes[0]
        self._held = HeldTop()

    def show(self, view: PanelView, mode: ChartMode) -> None:
        """Draw `view`. The y axis follows the peak of what is drawn."""
        self.view, self.mode = view, mode
        peaks = [value for layer in view.layers for value in layer.values if value is not None]
        peak = max(peaks, default=0.0)
        if view.limit_at is not None and peak > 0.5 * view.limit_at:
            peak = max(peak, view.limit_at * 1.1)
        self._held.follow(peak, view.floor, view.ceiling)
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        view = self.view
        if view is None:
            return [self.rule(width, "", [])]
        rows = [self._header(view, width)]
        if view.absent is not None:
            return rows + self._absent(view.absent, width, height - 1)
        return rows + self._chart(view, width, height - 1)

    def _header(self, view: PanelView, width: int) -> Runs:
        symbol = {Tone.WARN: self.glyphs.warn, Tone.BAD: self.glyphs.bad}.get(view.tone, "")
        limit = f" /{view.limit}" if view.limit else ""
        figure = f"{symbol}{view.figure}"
        cells = FIGURE_CELLS if width >= ROOMY_CELLS else 0
        right: Runs = [(f"{figure:>{cells}}", view.tone.value), (limit, "dim")]
        room = width - len(view.title) - max(cells, len(figure)) - len(limit) - 9
        note = next((note for note in view.notes if len(note) <= room), "")
        if note:
            right.insert(0, (f"{note} ", "dim"))
        return self.rule(width, view.title, right)

    def _chart(self, view: PanelView, width: int, height: int) -> list[Runs]:
        top = self._held.top or view.floor
        picture = Picture(
            axis=view.axis,
            layers=_dimmed(view.layers) if view.stale else view.layers,
            top=top,
            limit=view.limit_at,
            limit_role="faint" if view.stale else "limit",
            ticks=view.ticks,
            mode=self.mode,
        )
        known = any(value is not None for layer in view.layers for value in layer.values)
        labels = {0: self._label(view, top), height - 1: "0"} if known else {}
        if known and height >= 6 and height % 2:
            labels[height // 2] = self._label(view, top / 2)
        return [
            [(f"{labels.get(y, ''):>{GUTTER_CELLS - 1}} ", "faint"), *_runs(cells)]
            for y, cells in enumerate(paint(picture, width - GUTTER_CELLS, height))
        ]

    @staticmethod
    def _label(view: PanelView, value: float) -> str:
        scaled = value * view.scale
        if view.label == "time":
            return f"{scaled:g}ms" if scaled < 1000 else f"{scaled / 1000:g}s"
        if view.label == "count":
            return f"{scaled:g}" if scaled < 1000 else f"{scaled / 1000:g}k"
        return view.label.format(scaled)

    def _absent(self, reason: str, width: int, height: int) -> list[Runs]:
        lines = textwrap.wrap(reason, width - 4)[: max(height, 1)]
        above = max(0, (height - len(lines)) // 2)
        return [[] for _ in range(above)] + [[(line.center(width), "dim")] for line in lines]


def _dimmed(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(Layer(layer.values, "stale", None, layer.filled) for layer in layers)


def _runs(cells: list[Run]) -> Runs:
    runs: Runs = []
    for glyph, role in cells:
        if runs and runs[-1][1] == role:
            runs[-1] = (runs[-1][0] + glyph, role)
        else:
            runs.append((glyph, role))
    return runs
