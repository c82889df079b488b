"""A screen cell by cell, and what a terminal is told so that it shows another one than now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import get_character_cell_size
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

BEGIN = "\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J"
"""No cursor, no wrapping, nothing on the screen."""
GAP = 3
"""Cells that stay and are written again all the same, if they need no other ink: going past them costs more."""
_ATTRIBUTES = (("bold", "1"), ("dim", "2"), ("italic", "3"), ("underline", "4"), ("reverse", "7"), ("strike", "9"))
_SEEN_ON_BLANKS = frozenset(("4", "7", "9"))


class Ink(NamedTuple):
    """How a cell is written, as parameters of SGR (ECMA-48 8.3.117)."""

    foreground: str = "39"
    background: str = "49"
    attributes: tuple[str, ...] = ()


class Cell(NamedTuple):
    """One column of a row. The text of a wide character is in its first column, and "" in the second."""

    text: str
    ink: Ink


Row = Sequence[Cell]


def cells_of(strip: Strip) -> Row:
    """The columns of a row that Textual has drawn. A blank has the ink of its background alone."""
    cells: list[Cell] = []
    for text, style, control in strip:
        if not control:
            cells += _stretch(text, style)
    return cells


@lru_cache(maxsize=8192)
def _stretch(text: str, style: Style | None) -> Row:
    """Columns of one ink. What has no width goes with what it follows."""
    ink = _ink(style)
    blank = Ink(background=ink.background) if _SEEN_ON_BLANKS.isdisjoint(ink.attributes) else ink
    cells: list[Cell] = []
    base = 0
    for character in text:
        width = get_character_cell_size(character)
        if width:
            base = len(cells)
            cells.append(Cell(character, blank if character == " " else ink))
            cells += [Cell("", ink)] * (width - 1)
        elif cells:
            cells[base] = Cell(cells[base].text + character, ink)
    return cells


def text_of(row: Row) -> str:
    return "".join(cell.text for cell in row)


def change(before: Sequence[Row], now: Sequence[Row]) -> str:
    """What is written so that a terminal that shows `before` shows `now`; empty: nothing differs.

    Args:
        before: as many rows as `now`, and as long; or none, of a screen that is blank in the terminal's own colours.
    """
    pen = _Pen()
    for y, row in enumerate(now):
        old = before[y] if before else [Cell(" ", Ink())] * len(row)
        if old == row:
            continue
        for first, last in _spans(old, row):
            pen.write(y, first, row[first:last])
    return pen.written


def _spans(old: Row, row: Row) -> Iterator[tuple[int, int]]:
    """Where two rows differ: the first column of each stretch and the first behind it. None begins in a wide character.

    Stretches that lie close together are one.
    """
    first: int | None = None
    last = 0
    for x, cell in enumerate(row):
        if x < len(old) and old[x] == cell:
            continue
        begin = x - 1 if not cell.text and x else x
        if first is not None and begin - last > GAP:
            yield first, last
            first = None
        first = begin if first is None else first
        last = x + 1
        while last < len(row) and not row[last].text:
            last += 1
    if first is not None:
        yield first, last


class _Pen:
    """Writes cells one after the other, and says of place and ink only what is new."""

    def __init__(self) -> None:
        self.written = ""
        self._place: tuple[int, int] | None = None
        self._ink: Ink | None = None

    def write(self, y: int, x: int, cells: Row) -> None:
        parts: list[str] = []
        for cell in cells:
            if cell.text:
                if self._place != (y, x):
                    parts.append(f"\x1b[{y + 1};{x + 1}H")
                if (dip := self._dip(cell)) is not None:
                    parts.append(f"\x1b[{dip}m")
                parts.append(cell.text)
                # How wide a terminal draws what is not of one plain column is not for us to know: it is told again.
                self._place = (y, x + 1) if _is_narrow(cell.text) else None
            x += 1
        self.written += "".join(parts)

    def _dip(self, cell: Cell) -> str | None:
        """The parameters that change the ink to that of a cell; None: it will do."""
        has, wants = self._ink, cell.ink
        blank = cell.text == " " and not wants.attributes
        if has is not None and blank and _SEEN_ON_BLANKS.isdisjoint(has.attributes):
            wants = has._replace(background=wants.background)
        if has == wants:
            return None
        self._ink = wants
        if has is None or not set(has.attributes) <= set(wants.attributes):
            colours = [each for each in wants[:2] if each not in Ink()[:2]]
            return ";".join(("0", *wants.attributes, *colours))
        attributes = [each for each in wants.attributes if each not in has.attributes]
        return ";".join((*attributes, *(new for new, old in zip(wants[:2], has[:2], strict=True) if new != old)))


def _is_narrow(text: str) -> bool:
    return len(text) == 1 and get_character_cell_size(text) == 1


def _ink(style: Style | None) -> Ink:
    if style is None:
        return Ink()
    attributes = tuple(number for name, number in _ATTRIBUTES if getattr(style, name))
    return Ink(_parameters(style.color, foreground=True), _parameters(style.bgcolor, foreground=False), attributes)


def _parameters(colour: Color | None, *, foreground: bool) -> str:
    return ";".join((colour or Color.default()).get_ansi_codes(foreground))
