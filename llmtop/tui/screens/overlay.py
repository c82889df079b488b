"""A screen over the cockpit that shows the run, too: kept up to date with it, and the load can be stopped from it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.tui.widgets.line import Line
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import cut

DRIVING = ("app.stop_load", "app.explore")
"""What the last line of such a screen offers to whoever may drive the run, and to nobody else."""


def leaving(condition: Condition) -> str:
    """What the key that leaves does: the run ends with the screen that has the wheel, and with no other."""
    return "quit" if condition.wheel.mine else "leave"


class Overlay(ModalScreen[None]):
    """Base of them: Esc leaves, x stops the load, q quits. Of the cockpit's other keys the app does what is the whole
    run's, and says of the rest that they act there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "back", id="overlay.back"),
        Binding("x", "app.stop_load", "stop the load at once", id="overlay.stop"),
        Binding("q", "app.leave", "quit", id="overlay.quit"),
    ]
    tells_offer: ClassVar[bool] = False
    """Whether it shows the load on offer, which Enter takes up from it, too."""

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        """Show what is new."""
        raise NotImplementedError

    def answer(self, said: str) -> None:
        """Show what is said in answer to a key; empty: nothing is."""

    @staticmethod
    def drives(frame: Frame, condition: Condition) -> bool:
        """Whether keys may drive the run: not of a recording, and not where this screen only looks on."""
        return frame.replay is None and not condition.wheel.view


class Page(Overlay):
    """A text in the middle of the cockpit, which goes on underneath; `_told` takes it."""

    DEFAULT_CSS = """
    Page { align: center middle; background: $background 60%; }
    Page VerticalScroll {
        width: 100%; max-width: 100; height: auto; max-height: 100%; padding: 1 2; background: $surface;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $primary 40%;
    }
    Page Static { height: auto; width: auto; }
    Page #page-said { dock: bottom; }
    """

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self._told = Static()
        self._said = Line(id="page-said")
        self._shown: object = None
        """What was told last."""

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=True):
            yield self._told
        yield self._said

    def on_mount(self) -> None:
        self._said.display = False

    def answer(self, said: str) -> None:
        self._said.display = bool(said)
        self._said.show(lambda width: cut([(f" {plain(said, self.glyphs)}", "focus")], width, self.glyphs.more))
