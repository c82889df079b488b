"""As much of a terminal as a film is written for: cells, a cursor, colours and attributes."""

from __future__ import annotations

import re

from rich.cells import get_character_cell_size

from llmtop.tui.cells import Cell, Ink

_PIECES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([^\x1b]+)")
_BARE = Ink()


class Emulator:
    """A screen of `columns` by `rows` cells. Raises ValueError for what it does not know."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[Cell(" ", _BARE)] * columns for _ in range(rows)]
        self._x = self._y = 0
        self._foreground, self._background = _BARE.foreground, _BARE.background
        self._attributes: set[str] = set()

    def feed(self, text: str) -> None:
        at = 0
        for piece in _PIECES.finditer(text):
            if piece.start() != at:
                raise ValueError(f"{text[at : piece.start()]!r} is no sequence")
            at = piece.end()
            parameters, final, printed = piece.groups()
            if printed is not None:
                for character in printed:
                    self._print(character)
            elif final == "H":
                row, column = parameters.split(";")
                self._y, self._x = int(row) - 1, int(column) - 1
            elif final == "m":
                self._dip([int(each) for each in parameters.split(";")])
            elif (parameters, final) == ("2", "J"):
                self.cells = [[Cell(" ", _BARE)] * self.columns for _ in range(self.rows)]
            elif (parameters, final) not in (("?25", "l"), ("?7", "l")):
                raise ValueError(f"what is {piece.group()!r}?")
        if at != len(text):
            raise ValueError(f"{text[at:]!r} is no sequence")

    def _print(self, character: str) -> None:
        if ord(character) < 32:
            raise ValueError(f"{character!r} is no character to print")
        row, width = self.cells[self._y], get_character_cell_size(character)
        ink = Ink(self._foreground, self._background, tuple(sorted(self._attributes)))
        if not width:
            base = self._x - 1 if row[self._x - 1].text else self._x - 2
            row[base] = Cell(row[base].text + character, ink)  # a blank that bears something has the ink of it
            return
        if character == " " and not self._attributes & {"4", "7", "9"}:
            ink = Ink(background=self._background)
        for x in (self._x, self._x + width - 1):  # half of a wide character is none
            if not row[x].text and x:
                row[x - 1] = Cell(" ", Ink(background=row[x - 1].ink.background))
            if x + 1 < self.columns and not row[x + 1].text:
                row[x + 1] = Cell(" ", Ink(background=row[x + 1].ink.background))
        row[self._x] = Cell(character, ink)
        if width == 2:
            row[self._x + 1] = Cell("", ink)
        self._x += width

    def _dip(self, numbers: list[int]) -> None:
        left = list(numbers)
        while left:
            number = left.pop(0)
            if number in (38, 48):
                kind = left.pop(0)
                colour = [str(left.pop(0)) for _ in range({2: 3, 5: 1}[kind])]
                self._colour(number == 38, ";".join((str(number), str(kind), *colour)))
            elif number == 0:
                self._foreground, self._background, self._attributes = _BARE.foreground, _BARE.background, set()
            elif number in (1, 2, 3, 4, 7, 9):
                self._attributes.add(str(number))
            elif number // 10 in (3, 9):
                self._colour(True, str(number))
            elif number // 10 in (4, 10):
                self._colour(False, str(number))
            else:
                raise ValueError(f"what is SGR {number}?")

    def _colour(self, foreground: bool, parameters: str) -> None:
        if foreground:
            self._foreground = parameters
        else:
            self._background = parameters
