"""The map as rows of text: users to the right, longer prompts up; cells, contour and KV wall. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from msgspec import Struct

from llmtop.domain.map import Map, MapCell
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Run, Runs, cut, joined
from llmtop.wording import mapping as words
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import short_axis

LABEL = 7
"""Cells at the left, of a prompt length and the axis."""
TOLD_ROWS = 5
"""Of what is read, known and said."""
HEAD, FOOT = 2, 2 + TOLD_ROWS
"""Rows above the picture, and below it: the axis and what is told."""
MARGIN = 1.5
"""Room above the highest load that was held, and the longest prompt, as a factor."""
LONE = 4.0
"""The same to either side of the one length that was measured."""
NEAR = 1.25
"""A foreseen cell speaks for places whose load and length differ by at most this factor."""
_STANDS = ("ok", "near", "broken")
_INKS = {"ok": "up", "near": "over", "broken": "bad", None: "dim"}
_FAINT = {"ok": "faint", "near": "limit", "broken": "chase"}


class Picture(Struct, frozen=True, kw_only=True):
    """Where a map lies on a screen."""

    width: int
    height: int
    low: float
    high: float
    """Loads at the first and the last column."""
    short: float
    long: float
    """Prompt lengths at the lowest and the highest row."""

    def column(self, load: float) -> int:
        return round(_share(load, self.low, self.high) * (self.width - 1))

    def row(self, length: float) -> int:
        """0 is the highest."""
        return self.height - 1 - round(_share(length, self.short, self.long) * (self.height - 1))

    def load(self, column: int) -> float:
        return float(self.low * (self.high / self.low) ** (column / max(1, self.width - 1)))

    def length(self, row: int) -> float:
        return float(self.short * (self.long / self.short) ** ((self.height - 1 - row) / max(1, self.height - 1)))


class Cursor(Struct, frozen=True):
    """The place that is read, in shares of the picture: 0 is the lowest load, and the shortest prompt."""

    across: float = 0.5
    up: float = 0.5

    def moved(self, across: int, up: int, picture: Picture) -> Cursor:
        """By cells."""
        column = round(self.across * (picture.width - 1)) + across
        row = round(self.up * (picture.height - 1)) + up
        return Cursor(_share_of(column, picture.width), _share_of(row, picture.height))

    def place(self, picture: Picture) -> tuple[int, int]:
        """(column, row)."""
        return round(self.across * (picture.width - 1)), picture.height - 1 - round(self.up * (picture.height - 1))


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, math.log(max(value, 1e-9) / low) / math.log(high / low)))


def _share_of(cell: int, cells: int) -> float:
    return min(1.0, max(0.0, cell / max(1, cells - 1)))


def picture_of(known: Map | None, width: int, height: int) -> Picture:
    """The axes of a map on a screen of this size."""
    columns, rows = max(8, width - LABEL - 2), max(3, height - HEAD - FOOT)
    lengths = () if known is None else known.lengths
    loads = [] if known is None else [cell.load for cell in known.cells if cell.measured]
    low = min([1.0, *loads])
    room = MARGIN if len(lengths) > 1 else LONE
    return Picture(
        width=columns,
        height=rows,
        low=low,
        high=max([*loads, 8 * low]) * MARGIN,
        short=min(lengths, default=64) / room,
        long=max(lengths, default=1024) * room,
    )


def rows_of(
    known: Map | None, cursor: Cursor, glyphs: Glyphs, width: int, height: int, said: str, looks_on: bool = False
) -> list[Runs]:
    """The whole screen.

    Args:
        said: what is being done, or was answered to a key; empty: nothing.
        looks_on: nothing can be driven from here, so that no load is asked for.
    """
    picture = picture_of(known, width, height)
    rows: list[Runs] = [cut(_legend(glyphs), width, glyphs.more), [(" prompt tokens", "dim")]]
    if known is None:
        told = words.NOTHING_HELD if looks_on else words.NOTHING_YET
        blank: list[Runs] = [[]] * (picture.height + 1)
        return [*rows, cut([(f" {told}", "text")], width, glyphs.more), *blank, *_said(said, [], glyphs, width)]
    rows += _picture(known, picture, cursor, glyphs)
    rows += _x_axis(known, picture, glyphs)
    return [*rows, *_said(said, _told(known, picture, cursor, looks_on), glyphs, width)]


def _legend(glyphs: Glyphs) -> Runs:
    """Each stand with its two signs, held and foreseen; too few requests, which say of none, are held alone."""
    runs: Runs = [(" Map ", "title"), (" held, foreseen:", "dim")]
    for held, foreseen, stand in zip(glyphs.cells, glyphs.cells_foreseen, _STANDS, strict=False):
        runs += [(f" {held}", _INKS[stand]), (f" {foreseen}", _FAINT[stand]), (f" {stand} ", "dim")]
    runs += [(f" {glyphs.cells[len(_STANDS)]}", _INKS[None]), (" too few ", "dim")]
    return [*runs, (f" {glyphs.contour}", "title"), (" SLO", "dim"), (f"  {glyphs.wall}", "dim"), (" KV full", "dim")]


def _picture(known: Map, picture: Picture, cursor: Cursor, glyphs: Glyphs) -> list[Runs]:
    here = cursor.place(picture)
    labels: dict[int, str] = {}
    for length in known.lengths:  # lengths that share a row are told by the first, and that there are more
        row = picture.row(length)
        labels[row] = f"{labels[row].rstrip('+')}+" if row in labels else str(length)
    rows = []
    for row in range(picture.height):
        cells = _row(known, picture, row, glyphs)
        if row == here[1]:
            text, _ = cells[here[0]]
            cells[here[0]] = (text if text.strip() else glyphs.cursor, "badge")
        label = labels.get(row, "")
        axis = "┤" if label and not glyphs.ascii else "+" if label else "│" if not glyphs.ascii else "|"
        rows.append(joined([(label.rjust(LABEL - 1) + " ", "text" if label else "dim"), (axis, "rule"), *cells]))
    return rows


def _row(known: Map, picture: Picture, row: int, glyphs: Glyphs) -> list[Run]:
    """One row of the picture: foreseen cells, over them the wall and the contour, over them what was held."""
    cells: list[Run] = [(" ", "")] * picture.width
    length = picture.length(row)
    here = [each for each in known.lengths if picture.row(each) == row]
    foreseen = foreseen_at(known, here[0] if here else length)
    for column in range(picture.width):
        found = _nearest(foreseen, picture.load(column))
        if found is not None and found.stand is not None:
            cells[column] = (glyphs.cells_foreseen[_STANDS.index(found.stand)], _FAINT[found.stand])
    wall = known.wall_at(here[0] if here else length)
    if wall is not None and picture.low <= wall <= picture.high:
        cells[picture.column(wall)] = (glyphs.wall, "dim")
    users = known.users_at(here[0] if here else length)
    if users is not None and users.value >= picture.low:
        cells[picture.column(users.value)] = (glyphs.contour, "title")
    for cell in known.cells:
        if cell.measured and picture.row(cell.prompt_tokens) == row:
            sign = glyphs.cells[3 if cell.stand is None else _STANDS.index(cell.stand)]
            cells[picture.column(cell.load)] = (sign, _INKS[cell.stand])
    return cells


def foreseen_at(known: Map, length: float) -> list[MapCell]:
    """The foreseen cells of the length next to this one; none speaks for one that is far from it."""
    cells = [cell for cell in known.cells if not cell.measured]
    lengths = {cell.prompt_tokens for cell in cells}
    nearest = min(lengths, key=lambda each: abs(math.log(each / length)), default=None)
    if nearest is None or not min(lengths) / 1.02 <= length <= max(lengths) * 1.02:
        return []
    return [cell for cell in cells if cell.prompt_tokens == nearest and max(nearest / length, length / nearest) <= NEAR]


def _nearest(cells: Sequence[MapCell], load: float) -> MapCell | None:
    found = min(cells, key=lambda cell: abs(math.log(cell.load / load)), default=None)
    if found is None or (abs(found.load - load) > 0.5 and max(found.load / load, load / found.load) > NEAR):
        return None
    return found


def _x_axis(known: Map, picture: Picture, glyphs: Glyphs) -> list[Runs]:
    name = "users" if known.axis == "concurrency" else short_axis(known.axis)
    line = list((glyphs.rule if not glyphs.ascii else "-") * picture.width)
    ticks = [" "] * picture.width
    free, power = 0, math.ceil(math.log2(picture.low) - 1e-9)
    while 2.0**power <= picture.high:
        at, text = picture.column(2.0**power), TIGHT.count(2.0**power)
        if free <= at <= picture.width - len(name) - len(text) - 2:
            ticks[at : at + len(text)] = list(text)
            line[at] = "+" if glyphs.ascii else "┬"
            free = at + len(text) + 1
        power += 1
    ticks[picture.width - len(name) :] = list(name)
    corner = "└" if not glyphs.ascii else "+"
    left = " " * LABEL
    return [[(left, ""), (corner + "".join(line), "rule")], [(left + " ", ""), ("".join(ticks), "dim")]]


def reading(known: Map, picture: Picture, cursor: Cursor) -> list[str]:
    """What the place under the cursor says: a level, what is foreseen or would make it known; contour and wall."""
    column, row = cursor.place(picture)
    load, length = picture.load(column), picture.length(row)
    there = [each for each in known.lengths if picture.row(each) == row]
    here = there[0] if there else None
    held = [cell for cell in known.cells if cell.measured and cell.prompt_tokens in there]
    at = min(held, key=lambda cell: abs(picture.column(cell.load) - column), default=None)
    length = float(here) if here is not None else length
    if at is not None and abs(picture.column(at.load) - column) <= 1:
        told, length = [words.cell_text(at, known.axis)], float(at.prompt_tokens)
    elif (found := _nearest(foreseen_at(known, length), load)) is not None:
        told = [words.cell_text(found, known.axis)]
    else:
        told = [words.unknown_text(load, round(length), known.axis, driven=here is not None)]
    users, wall = known.users_at(length), known.wall_at(length)
    beside = [words.contour_at_text(users, known.axis)] if users is not None else []
    beside += [words.wall_text(wall)] if wall is not None and known.axis == "concurrency" else []
    return [*told, "; ".join(beside)]


def _told(known: Map, picture: Picture, cursor: Cursor, looks_on: bool) -> list[tuple[str, str]]:
    first, *rest = reading(known, picture, cursor)
    missing = "" if looks_on else known.missing
    return [(first, "strong"), *((text, "text") for text in rest), (known.text, "text"), (missing, "focus")]


def _said(said: str, told: Sequence[tuple[str, str]], glyphs: Glyphs, width: int) -> list[Runs]:
    """What is read and known, and in the last row what is said, if anything is."""
    room = TOLD_ROWS - bool(said)
    wrapped = [(line, role) for text, role in told for line in textwrap.wrap(plain(text, glyphs), width - 2)]
    rows = [*wrapped[:room], *[("", "")] * (room - len(wrapped)), *([(plain(said, glyphs), "focus")] if said else [])]
    return [cut([(f" {text}", role)], width, glyphs.more) for text, role in rows]
