"""Lines and areas drawn with the dots of character cells. Pure: numbers in, cells out.

Time is cut into dot columns at absolute places (column b covers the times (b·d, (b+1)·d]), and the picture's right edge
is a whole cell. So a chart scrolls by whole cells, a column keeps its shape for as long as it is visible, and nothing
shimmers. Measured: 34x5 cells with two layers of 120 samples in 0.25 ms, where plotext takes 23 ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from llmtop.view.glyphs import ChartMode

Values = Sequence[float | None]
Cell = tuple[str, str]
"""A character and the name of its role."""

_BRAILLE_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of (dot row, dot column) from the top left. Unicode chapter 21.1."""
_BRAILLE_STROKES = tuple(
    tuple(
        tuple(sum(_BRAILLE_BITS[3 - dot][side] for dot in range(begin, end + 1)) for end in range(4))
        for begin in range(4)
    )
    for side in (0, 1)
)
"""Bits of (dot column, lowest dot, highest dot), dots counted from the bottom of a cell."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"
DOTS_X = {ChartMode.BRAILLE: 2, ChartMode.BLOCK: 1, ChartMode.ASCII: 1}
"""Dot columns of a cell."""
DOTS_Y = {ChartMode.BRAILLE: 4, ChartMode.BLOCK: 8, ChartMode.ASCII: 1}
"""Dot rows of a cell."""


class Layer(Struct, frozen=True):
    """One series. Later layers lie on top. `over` is the role of what stands above the limit."""

    values: Values
    role: str
    over: str | None = None
    filled: bool = False


class TimeAxis(Struct, frozen=True):
    """Where samples lie: sample i of n ends at `end_s - (n - 1 - i) * step_s`; `span_s` seconds are shown."""

    end_s: float
    step_s: float
    span_s: float


class Tick(Struct, frozen=True):
    """A moment on the time axis: the load moved, or somebody set a mark."""

    t_s: float
    glyph: str
    role: str


class Picture(Struct, frozen=True, kw_only=True):
    """Everything about one chart but its data's height on the screen."""

    axis: TimeAxis
    layers: tuple[Layer, ...]
    top: float
    limit: float | None = None
    limit_role: str = "limit"
    dots: Values = ()
    """Drawn over the layers, each as a `dot` of its own."""
    dot: Cell = ("o", "")
    ticks: tuple[Tick, ...] = ()
    cursor_s: float | None = None
    """Of an upright line through the moment that is read."""
    mode: ChartMode = ChartMode.BRAILLE


def columns(values: Values, axis: TimeAxis, dots: int, dots_per_cell: int) -> list[float | None]:
    """The highest sample of each of `dots` dot columns, newest last; None where there is none.

    One more stands first: the column left of the picture, from which a line comes in. A sample covers the `step_s`
    before its time, so that there are no holes where columns are finer than samples.
    """
    if not values:
        return [None] * (dots + 1)
    found: list[float | None] = []
    for begin, end in _samples_of(axis, dots, dots_per_cell, len(values)):
        best: float | None = None
        for value in values[begin:end]:
            if value is not None and (best is None or value > best):
                best = value
        found.append(best)
    return found


@lru_cache(maxsize=64)
def _samples_of(axis: TimeAxis, dots: int, dots_per_cell: int, count: int) -> tuple[tuple[int, int], ...]:
    """Which of `count` samples lie in each column: from one to before another. Charts of a screen share them."""
    column_s = axis.span_s / dots
    per_step = column_s / axis.step_s
    newest = round(axis.end_s / axis.step_s)
    last = math.ceil(newest / per_step - 1e-9)
    last = -(-last // dots_per_cell) * dots_per_cell
    oldest = newest - count + 1
    found: list[tuple[int, int]] = []
    for column in range(last - dots - 1, last):
        begin = max(math.floor(column * per_step + 1e-9) + 1 - oldest, 0)
        end = min(math.ceil((column + 1) * per_step - 1e-9), newest) - oldest + 1
        found.append((begin, max(begin, end)))
    return tuple(found)


def column_of(t_s: float, axis: TimeAxis, dots: int, dots_per_cell: int) -> int | None:
    """The dot column in which `t_s` lies, or None when it is off the picture."""
    column_s = axis.span_s / dots
    last = math.ceil(round(axis.end_s / axis.step_s) * axis.step_s / column_s - 1e-9)
    last = -(-last // dots_per_cell) * dots_per_cell
    column = math.ceil(t_s / column_s - 1e-9) - 1 - (last - dots)
    return column if 0 <= column < dots else None


def dot_row(value: float, top: float, rows: int) -> int:
    """Height in dots from the bottom, 0 to rows - 1. Monotone in `value`; what is past the top stays at the top."""
    if top <= 0:
        return 0
    return min(max(round(value / top * (rows - 1)), 0), rows - 1)


def paint(picture: Picture, width: int, height: int) -> list[list[Cell]]:
    """`height` rows of `width` cells, top row first."""
    if width < 1 or height < 1:
        return []
    if picture.mode is ChartMode.BRAILLE:
        cells = _paint_braille(picture, width, height)
    elif picture.mode is ChartMode.BLOCK:
        cells = _paint_blocks(picture, width, height)
    else:
        cells = _paint_ascii(picture, width, height)
    dots_x = DOTS_X[picture.mode]
    _dot(cells, picture, width, height)
    for tick in picture.ticks:
        column = column_of(tick.t_s, picture.axis, width * dots_x, dots_x)
        if column is not None:
            cells[0][column // dots_x] = (tick.glyph, tick.role)
    if picture.cursor_s is not None:
        # The oldest sample may lie left of a picture whose right edge is a whole cell: it is read at the left edge.
        column = column_of(picture.cursor_s, picture.axis, width * dots_x, dots_x) or 0
        for row in cells:
            row[column // dots_x] = ("|" if picture.mode is ChartMode.ASCII else "│", "focus")
    return cells


def _dot(cells: list[list[Cell]], picture: Picture, width: int, height: int) -> None:
    dots_x, rows = DOTS_X[picture.mode], height * DOTS_Y[picture.mode]
    for x, value in enumerate(columns(picture.dots, picture.axis, width * dots_x, dots_x)[1:]):
        if value is not None:
            y = height - 1 - dot_row(value, picture.top, rows) // DOTS_Y[picture.mode]
            cells[y][x // dots_x] = picture.dot


def _strokes(layer: Layer, picture: Picture, width: int, rows: int, dots_x: int) -> Iterator[tuple[int, int, int, int]]:
    """(column, row of its value, lowest and highest row of its stroke) for each of `width` columns that has a value."""
    entering, *values = columns(layer.values, picture.axis, width, dots_x)
    before = None if entering is None else dot_row(entering, picture.top, rows)
    for x, value in enumerate(values):
        if value is None:
            before = None
            continue
        y = dot_row(value, picture.top, rows)
        yield x, y, *_extent(y, before, layer.filled)
        before = y


def _paint_braille(picture: Picture, width: int, height: int) -> list[list[Cell]]:
    """Dots of all layers are joined; the cell takes the colour of the topmost layer in it."""
    rows = height * 4
    bits = [[0] * width for _ in range(height)]
    roles = [[""] * width for _ in range(height)]
    limit_row = None if picture.limit is None or picture.limit > picture.top else dot_row(
        picture.limit, picture.top, rows
    )  # fmt: skip
    for layer in picture.layers:
        for x, _, low, high in _strokes(layer, picture, width * 2, rows, 2):
            cell_x, strokes = x >> 1, _BRAILLE_STROKES[x & 1]
            for from_bottom in range(low >> 2, (high >> 2) + 1):
                first = from_bottom << 2
                begin, end = max(low - first, 0), min(high - first, 3)
                cell_y = height - 1 - from_bottom
                bits[cell_y][cell_x] |= strokes[begin][end]
                if layer.over is not None and limit_row is not None and first + end > limit_row:
                    roles[cell_y][cell_x] = layer.over
                elif roles[cell_y][cell_x] != layer.over or layer.over is None:
                    roles[cell_y][cell_x] = layer.role
    if limit_row is not None:
        _dash_braille(bits, roles, rows - 1 - limit_row, picture.limit_role)
    return [
        [(chr(0x2800 + mask), role) if mask else (" ", "") for mask, role in zip(mask_row, role_row, strict=True)]
        for mask_row, role_row in zip(bits, roles, strict=True)
    ]


def _extent(y: int, before: int | None, filled: bool) -> tuple[int, int]:
    """Which dots of a column a point draws: down to the ground, or up or down to where the point before stood."""
    if filled:
        return 0, y
    if before is None or abs(before - y) <= 1:
        return y, y
    return (before + 1, y) if before < y else (y, before - 1)


def _dash_braille(bits: list[list[int]], roles: list[list[str]], from_top: int, role: str) -> None:
    """A dashed line through the cells that nothing else needs."""
    cell_y, row = from_top >> 2, from_top & 3
    mask = _BRAILLE_BITS[row][0] | _BRAILLE_BITS[row][1]
    for x, present in enumerate(bits[cell_y]):
        if not present and x % 2 == 0:
            bits[cell_y][x] = mask
            roles[cell_y][x] = role


def _paint_blocks(picture: Picture, width: int, height: int) -> list[list[Cell]]:
    """Bars of eighths. Lower bars lie over higher ones; an area leaves the end of a line's bar as it is."""
    rows = height * 8
    cells: list[list[Cell]] = [[(" ", "")] * width for _ in range(height)]
    bars = [columns(layer.values, picture.axis, width, 1)[1:] for layer in picture.layers]
    limit_cell = _limit_cell(picture, height)
    for x in range(width):
        known = [(bar[x], layer) for layer, bar in zip(picture.layers, bars, strict=True)]
        for value, layer in sorted(known, key=lambda pair: (pair[0] or 0.0, not pair[1].filled), reverse=True):
            if value is None:
                continue
            eighths = dot_row(value, picture.top, rows) + 1
            for from_bottom in range((eighths + 7) // 8):
                part = min(8, eighths - from_bottom * 8)
                y = height - 1 - from_bottom
                if layer.filled and cells[y][x][0] != " " and (part < 8 or cells[y][x][0] != "█"):
                    continue
                past = layer.over is not None and limit_cell is not None and y < limit_cell
                cells[y][x] = (_EIGHTHS[part], (layer.over or layer.role) if past else layer.role)
    _dash_cells(cells, limit_cell, "╌", picture.limit_role)
    return cells


def _paint_ascii(picture: Picture, width: int, height: int) -> list[list[Cell]]:
    """One character a cell: `*` for the line, `:` for what lies under an area."""
    cells: list[list[Cell]] = [[(" ", "")] * width for _ in range(height)]
    limit_cell = _limit_cell(picture, height)
    for layer in picture.layers:
        for x, y, low, high in _strokes(layer, picture, width, height, 1):
            for dot in range(low, high + 1):
                row = height - 1 - dot
                past = layer.over is not None and limit_cell is not None and row < limit_cell
                glyph = ":" if layer.filled else "*" if dot == y else "|"
                cells[row][x] = (glyph, (layer.over or layer.role) if past else layer.role)
    _dash_cells(cells, limit_cell, "-", picture.limit_role)
    return cells


def _limit_cell(picture: Picture, height: int) -> int | None:
    if picture.limit is None or picture.limit > picture.top:
        return None
    return height - 1 - dot_row(picture.limit, picture.top, height)


def _dash_cells(cells: list[list[Cell]], y: int | None, glyph: str, role: str) -> None:
    if y is None:
        return
    for x, (present, _) in enumerate(cells[y]):
        if present == " " and x % 2 == 0:
            cells[y][x] = (glyph, role)
