"""The last lines of the server that llmtop has started, or of the command that changes it."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.tui.screens.lost import short
from llmtop.tui.screens.overlay import Page
from llmtop.view.condition import Condition
from llmtop.view.glyphs import plain


class ServerLogScreen(Page):
    """Over the cockpit, which goes on underneath."""

    DEFAULT_CSS = """
    ServerLogScreen VerticalScroll { max-width: 140; }
    ServerLogScreen Static { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "dismiss", "back", id="log.back"),
    ]

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        command = frame.endpoint.command
        if command is None or self._shown == command:
            return
        self._shown = command
        head = command.work or command.problem or "the server's last lines"
        where = "" if command.log_path is None else f"all of it: {short(command.log_path)}"
        rows = [f"{head}   (Esc back)", "", *(command.log or ("nothing was written",)), "", where]
        self._told.update(Text(plain("\n".join(rows), self.glyphs)))
