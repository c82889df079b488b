"""One panel as rows: the rule with its name, figure and limit, and the chart under it."""

from __future__ import annotations

import math
import textwrap

from llmtop.view.glyphs import ChartMode, Glyphs
from llmtop.view.panels import PanelView
from llmtop.view.raster import DOTS_X, Layer, Picture, TimeAxis, column_of, paint
from llmtop.view.runs import Run, Runs, joined
from llmtop.view.tone import Tone
from llmtop.wording.figures import clock

FIELD_CELLS = 7
ROOMY_CELLS = 34
"""From this width of a panel, figures stand in a field of fixed width."""
RULE_CELLS = 12
"""Of a rule beside title, note, figure and limit: the number, and what is between them."""
CLOCK_CELLS = 5
"""Of a moment: 02:15."""
GUTTER_CELLS = 6
"""Room for the labels of the y axis."""
CLOCK_STEPS_S = (5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Between two moments of the time axis: the least of these that leaves them room."""


def rule(width: int, number: int, title: str, right: Runs, glyphs: Glyphs, focused: bool) -> Runs:
    """`─ [1] title ────── right ─`, exactly `width` cells; in little room `─ 1 title`."""
    lead: Run = (glyphs.rule + glyphs.focus, "focus") if focused else (glyphs.rule + " ", "rule")
    mark = f"[{number}] " if width >= ROOMY_CELLS else f"{number} "
    left: Runs = [lead, (mark, "focus" if focused else "dim")]
    left.append((title + " ", "focus" if focused else "title"))
    used = sum(len(text) for text, _ in left) + sum(len(text) for text, _ in right)
    fill = width - used - 3
    middle: Run = (glyphs.rule * max(fill, 0) + " ", "focus" if focused else "rule")
    return [*left, middle, *right, (f" {glyphs.rule}", "rule")]


def peak_of(view: PanelView) -> float:
    """What the y axis must reach: the highest value drawn, and the limit as soon as it is near."""
    series = (*(layer.values for layer in view.layers), view.dots)
    peak = max((value for values in series for value in values if value is not None), default=0.0)
    if view.limit_at is not None and peak > 0.5 * view.limit_at:
        return max(peak, view.limit_at * 1.1)
    return peak


def figures(view: PanelView, width: int, glyphs: Glyphs) -> Runs:
    """What stands at the right of the rule of a panel of `width` cells: note, figure, limit."""
    symbol = {Tone.WARN: glyphs.warn, Tone.BAD: glyphs.bad}.get(view.tone, "")
    limit = f" /{view.limit}" if view.limit else ""
    figure = f"{symbol}{view.figure}"
    cells = FIELD_CELLS if width >= ROOMY_CELLS else 0
    right: Runs = [(f"{figure:>{cells}}", view.tone.value), (limit, "dim")]
    room = width - len(view.title) - max(cells, len(figure)) - len(limit) - RULE_CELLS
    note = next((note for note in view.notes if len(note) <= room), "")
    return [(f"{note} ", "dim"), *right] if note else right


def chart(view: PanelView, top: float, mode: ChartMode, width: int, height: int) -> list[Runs]:
    """`height` rows of `width` cells, the y axis ending at `top`, a round value; or why there is nothing to draw."""
    if view.absent is not None:
        return _absent(view.absent, width, height)
    picture = Picture(
        axis=view.axis,
        layers=_dimmed(view.layers) if view.stale else view.layers,
        top=top,
        limit=view.limit_at,
        limit_role="faint" if view.stale else "limit",
        dots=view.dots,
        dot=(view.dot[0], "stale") if view.stale else view.dot,
        ticks=view.ticks,
        cursor_s=view.cursor_s,
        mode=mode,
    )
    known = any(value is not None for layer in view.layers for value in layer.values)
    labels = {0: view.label(top), height - 1: "0"} if known else {}
    if known and height >= 6 and height % 2:
        labels[height // 2] = view.label(top / 2)
    return [
        [(f"{labels.get(y, ''):>{GUTTER_CELLS - 1}} ", "faint"), *joined(cells)]
        for y, cells in enumerate(paint(picture, width - GUTTER_CELLS, height))
    ]


def time_axis(axis: TimeAxis, mode: ChartMode, width: int) -> Runs:
    """The row under a chart of `width` cells: run clock at round moments, each under the cell of its moment."""
    dots, cells = DOTS_X[mode], width - GUTTER_CELLS
    step_s = next((step for step in CLOCK_STEPS_S if axis.span_s / step * (CLOCK_CELLS + 3) <= cells), axis.span_s)
    row = [" "] * cells
    first = math.ceil(max(0.0, axis.end_s - axis.span_s) / step_s)
    for count in range(first, math.floor(axis.end_s / step_s) + 1):
        column = column_of(count * step_s, axis, cells * dots, dots)
        begin = -1 if column is None else column // dots - CLOCK_CELLS // 2
        if 0 <= begin <= cells - CLOCK_CELLS:
            row[begin : begin + CLOCK_CELLS] = clock(count * step_s)[-CLOCK_CELLS:]
    return [(" " * GUTTER_CELLS + "".join(row), "faint")]


def _absent(reason: str, width: int, height: int) -> list[Runs]:
    lines = textwrap.wrap(reason, width - 4)[: max(height, 1)]
    above = max(0, (height - len(lines)) // 2)
    return [[] for _ in range(above)] + [[(line.center(width), "dim")] for line in lines]


def _dimmed(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(Layer(layer.values, "stale", None, layer.filled) for layer in layers)
