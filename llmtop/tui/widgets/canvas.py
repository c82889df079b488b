"""The one base of everything drawn by hand: rows of runs in, changed rows out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmtop.domain.plain import LONG, plain
from llmtop.tui.palette import Inked, Palette
from llmtop.view.runs import Runs


class Canvas(Widget):
    """A widget that is repainted row by row, and only where a row differs from what is on the screen.

    A subclass says in `draw` what it looks like; whoever changes an attribute of it calls `redraw`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rows: list[Runs] = []
        self._strips: dict[int, Strip] = {}

    def draw(self, width: int, height: int) -> Sequence[Runs]:
        """The rows of a canvas of this size; short ones are filled with blanks."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again and hand the changed rows to the compositor."""
        width, height = self.size
        if not width or not height or not self.display:
            return
        rows = list(self.draw(width, height))[:height]
        rows += [[] for _ in range(height - len(rows))]
        if len(self._rows) != height:
            self._rows = rows
            self._strips.clear()
            self.refresh()
            return
        changed = []
        for y, (before, now) in enumerate(zip(self._rows, rows, strict=True)):
            if before != now:
                self._strips.pop(y, None)
                changed.append(Region(0, y, _changed_width(before, now, width), 1))
        self._rows = rows
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.palette[""])
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._strip(self._rows[y])
        return strip

    def _strip(self, runs: Runs) -> Strip:
        palette = self.palette
        segments = [Segment(plain(text, LONG), palette[role]) for text, role in _merged(runs)]
        return Strip(segments).adjust_cell_length(self.size.width, palette[""])

    @property
    def palette(self) -> Palette:
        return cast(Inked, self.app).palette

    def on_resize(self, event: events.Resize) -> None:
        self._rows = []
        self.redraw()

    def on_show(self) -> None:
        self.redraw()

    def watch_has_focus(self, focused: bool) -> None:
        super().watch_has_focus(focused)
        self.redraw()

    def notify_style_update(self) -> None:
        """The theme or the focus changed: same rows, other ink."""
        super().notify_style_update()
        self._strips.clear()


def _merged(runs: Runs) -> Runs:
    """Runs of one role as one, blanks joining what they follow: each run costs some 40 bytes of escape codes."""
    joined: Runs = []
    for text, role in runs:
        blank = not text.strip() and "#" not in role
        if joined and (role == joined[-1][1] or (blank and "badge" not in joined[-1][1])):
            joined[-1] = (joined[-1][0] + text, joined[-1][1])
        else:
            joined.append((text, role))
    return joined


def _changed_width(before: Runs, now: Runs, width: int) -> int:
    """How many cells from the left must be repainted: the common end of both rows need not."""
    old, new = _cells(before, width), _cells(now, width)
    end = width
    while end > 1 and old[end - 1] == new[end - 1]:
        end -= 1
    return end


def _cells(runs: Runs, width: int) -> list[tuple[str, str]]:
    cells: list[tuple[str, str]] = []
    for text, role in runs:
        if cell_len(text) == len(text):
            cells += [(character, role) for character in text]
        else:
            for character in text:
                cells += [(character, role)] + [("", role)] * (cell_len(character) - 1)
    cells += [(" ", "")] * (width - len(cells))
    return cells[:width]
