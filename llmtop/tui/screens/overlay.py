"""A screen over the cockpit that shows the run, too: kept up to date with it, and the load can be stopped from it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.domain.frame import Frame
from llmtop.domain.verdicts import Assessment
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs


class Overlay(ModalScreen[None]):
    """Base of them: Esc leaves, x stops the load."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back", id="overlay.back"),
        Binding("x", "app.stop_load", "stop the load at once", id="overlay.stop"),
    ]

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        """Show what is new."""
        raise NotImplementedError


class Page(Overlay):
    """A text in the middle of the cockpit, which goes on underneath; `_told` takes it."""

    DEFAULT_CSS = """
    Page { align: center middle; background: $background 60%; }
    Page VerticalScroll {
        width: 100%; max-width: 100; height: auto; max-height: 100%; padding: 1 2; background: $surface;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $primary 40%;
    }
    Page Static { height: auto; width: auto; }
    """

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self._told = Static()
        self._shown: object = None
        """What was told last."""

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=True):
            yield self._told
