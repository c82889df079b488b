"""A screen over the cockpit that shows the run, too: kept up to date with it, and the load can be stopped from it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from llmtop.domain.frame import Frame
from llmtop.domain.verdicts import Assessment
from llmtop.view.condition import Condition


class Overlay(ModalScreen[None]):
    """Base of them: Esc leaves, x stops the load."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back", id="overlay.back"),
        Binding("x", "app.stop_load", "stop the load at once", id="overlay.stop"),
    ]

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        """Show what is new."""
        raise NotImplementedError
