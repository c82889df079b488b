"""The map: users by prompt length, what was held and what is foreseen; from here it is explored."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import ShowMap
from llmtop.domain.frame import Frame
from llmtop.domain.map import Map
from llmtop.tui.screens.overlay import DRIVING, Overlay, leaving
from llmtop.tui.widgets.line import Line, Lines
from llmtop.tui.widgets.messages import Commanded
from llmtop.view import lines
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.map import Cursor, picture_of, rows_of
from llmtop.view.verdict import urgent

FOUND = "map: "
AROUND = Binding.Group("read another place of the map")


class MapScreen(Overlay):
    """In place of the cockpit, which goes on underneath. Esc leaves, and an exploration goes on."""

    DEFAULT_CSS = """
    MapScreen { layout: vertical; background: $background; color: $foreground; }
    MapScreen #map-picture { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "dismiss", "back", id="map.back"),
        Binding("s", "app.explore", "explore, or end that", id="map.explore"),
        Binding("left", "move(-1, 0)", "read", id="map.left", group=AROUND),
        Binding("right", "move(1, 0)", "read", id="map.right", group=AROUND),
        Binding("up", "move(0, 1)", "read", id="map.up", group=AROUND),
        Binding("down", "move(0, -1)", "read", id="map.down", group=AROUND),
    ]
    tells_offer = True

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self._cursor: Cursor | None = None
        """None: nobody has moved it, and it stands on what was held last."""
        self._last: tuple[Frame, Assessment | None, Condition] | None = None
        self._found = ""
        """What an exploration that has ended said."""
        self._header = Line(id="map-header")
        self._picture = Lines(id="map-picture")
        self._urgent = Line(id="map-urgent")
        self._keys = Line(id="map-keys")

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._picture
        yield self._urgent
        yield self._keys

    def on_mount(self) -> None:
        self._urgent.display = False
        self.app.post_message(Commanded(ShowMap()))

    def on_unmount(self) -> None:
        self.app.post_message(Commanded(ShowMap(False)))

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        self._last = (frame, assessment, condition)
        self._header.show(lambda width: lines.header(frame, condition, self.glyphs, width))
        self._urgent.display = bool(urgent(frame, condition, self.glyphs, self.app.size.width))
        self._urgent.show(lambda width: urgent(frame, condition, self.glyphs, width))
        known = None if assessment is None else assessment.map
        now = self.app.cockpit.saying or condition.note or ""  # type: ignore[attr-defined]
        self._found = now if now.startswith(FOUND) and not condition.note else "" if condition.note else self._found
        said = now or self._found
        drives = self.drives(frame, condition)
        self._picture.show(
            lambda width, rows: rows_of(
                known, self._at(known, frame, width, rows), self.glyphs, width, rows, said, not drives
            )
        )
        explore, stop, leave = map(self.app.key, ("app.search", "load.stop", "app.leave"))  # type: ignore[attr-defined]
        offered = [
            ("Esc", "back", "screen.dismiss"),
            (explore, "stop exploring" if condition.note and condition.pilot == "map" else "explore", "app.explore"),
            (plain("←→↑↓", self.glyphs), "read", ""),
            (stop, "stop the load", "app.stop_load"),
            (leave, leaving(condition), "app.leave"),
        ]
        offered = [row for row in offered if drives or row[2] not in DRIVING]
        self._keys.show(lambda width: lines.keys(offered, width))

    def _at(self, known: Map | None, frame: Frame, width: int, rows: int) -> Cursor:
        if self._cursor is not None:
            return self._cursor
        picture, point = picture_of(known, width, rows), frame.target
        column = picture.column(point.value) if point.value else 0
        row = picture.row(point.prompt_tokens)
        return Cursor(column / max(1, picture.width - 1), 1 - row / max(1, picture.height - 1))

    def action_move(self, across: int, up: int) -> None:
        """Read the place beside."""
        if self._last is None:
            return
        frame, assessment, condition = self._last
        known = None if assessment is None else assessment.map
        width, rows = self._picture.size
        picture = picture_of(known, width, rows)
        self._cursor = self._at(known, frame, width, rows).moved(across, up, picture)
        self.tell(frame, assessment, condition)
