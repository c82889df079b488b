"""The last lines of the server that llmtop has started, or of the command that changes it."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from llmtop.domain.frame import Frame
from llmtop.domain.verdicts import Assessment
from llmtop.tui.screens.lost import short
from llmtop.tui.screens.overlay import Overlay
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain


class ServerLogScreen(Overlay):
    """Over the cockpit, which goes on underneath."""

    DEFAULT_CSS = """
    ServerLogScreen { align: center middle; background: $background 60%; }
    ServerLogScreen VerticalScroll {
        width: 100%; max-width: 140; height: auto; max-height: 100%; padding: 1 2; background: $surface;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $primary 40%;
    }
    ServerLogScreen Static { height: auto; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "dismiss", "back", id="log.back"),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self._told = Static()
        self._shown: object = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=True):
            yield self._told

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        command = frame.endpoint.command
        if command is None or self._shown == command:
            return
        self._shown = command
        head = command.work or command.problem or "the server's last lines"
        where = "" if command.log_path is None else f"all of it: {short(command.log_path)}"
        rows = [f"{head}   (Esc back)", "", *(command.log or ("nothing was written",)), "", where]
        self._told.update(Text(plain("\n".join(rows), self.glyphs)))
