"""The answer for a stage: the number in digits that a room can read, the curve under it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.tui import keys
from llmtop.tui.screens.overlay import DRIVING, Overlay, leaving
from llmtop.tui.widgets.curve import CurvePanel
from llmtop.tui.widgets.line import Line, Lines
from llmtop.view import lines
from llmtop.view.big import HEAD_ROWS, big
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import cut


class BigScreen(Overlay):
    """In place of the cockpit, which goes on underneath. `hides_address` is remembered from one to the next."""

    DEFAULT_CSS = """
    BigScreen { layout: vertical; background: $background; color: $foreground; }
    BigScreen #big-curve { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "dismiss", "back", id="big.back"),
        Binding("h", "hide", "hide or show the address", id="big.hide"),
    ]
    hides_address = False

    def __init__(self, glyphs: Glyphs, slo: Slo) -> None:
        super().__init__()
        self.glyphs = glyphs
        self.slo = slo
        self._last: tuple[Frame, Assessment | None, Condition] | None = None
        self._head = Lines(id="big-head")
        self._curve = CurvePanel(7, glyphs, id="big-curve")
        self._curve.can_focus = False
        self._keys = Line(id="big-keys")
        self._offered: list[tuple[str, str, str]] = []

    def on_mount(self) -> None:
        self._head.styles.height = HEAD_ROWS

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._curve
        yield self._keys

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        self._last = (frame, assessment, condition)
        hidden = self.hides_address
        self._head.show(lambda width, rows: big(frame, assessment, condition, self.slo, self.glyphs, width, hidden))
        self._curve.show(assessment, self.slo)
        tables = (Overlay.BINDINGS, self.BINDINGS)
        offered = [
            (
                keys.name_of(binding.key),
                leaving(condition) if binding.action == "app.leave" else binding.description,
                _full(binding.action),
            )
            for binding in keys.shown_once(self.app.bound, *tables)  # type: ignore[attr-defined]
            if self.drives(frame, condition) or binding.action not in DRIVING
        ]
        self._offered = offered
        self.answer("")

    def answer(self, said: str) -> None:
        """In the place of the keys."""
        told, offered = plain(said, self.glyphs), self._offered
        self._keys.show(
            lambda width: cut([(f" {told}", "focus")], width, self.glyphs.more) if told else lines.keys(offered, width)
        )

    def action_hide(self) -> None:
        BigScreen.hides_address = not self.hides_address
        if self._last is not None:
            self.tell(*self._last)


def _full(action: str) -> str:
    """The action as the app runs it."""
    return action if action.startswith("app.") else f"screen.{action}"
