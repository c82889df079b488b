"""The session is gone: why, what is saved, what can be done."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.domain.plain import LONG, plain


def short(path: str) -> str:
    """The path as a shell takes it, with `~` for the home folder."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is none
    return "~" + path[len(home) :] if path.startswith(home + "/") else path


class LostScreen(ModalScreen[None]):
    """Closing it leaves the last values on the screen, dimmed."""

    DEFAULT_CSS = """
    LostScreen { align: center middle; background: $background 60%; }
    LostScreen Vertical {
        width: 70; max-width: 96%; height: auto; padding: 1 2; background: $surface; border-left: outer $error;
    }
    LostScreen #title { color: $error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "dismiss", "look at the last values", id="lost.close"),
        Binding("e", "export", "export a report", id="lost.export"),
        Binding("q", "app.leave", "quit", id="lost.quit"),
    ]

    def __init__(self, reason: str, run_file: str | None, *, over: bool = False) -> None:
        super().__init__()
        self.reason = plain(reason, LONG)
        self._over = over
        """It was ended in order, from elsewhere."""
        self.run_file = None if run_file is None else plain(short(run_file), LONG)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("The run is over" if self._over else "Session lost", id="title", markup=False)
            yield Static(self._text(), markup=False)

    def _text(self) -> str:
        rows = ["", self.reason, "", "No load is being sent any more."]
        if self.run_file:
            rows += ["Everything up to the last second is saved in", f"  {self.run_file}", "", "Look at it again with"]
            rows += [f"  llmtop replay {self.run_file}"]
        else:
            rows += ["This run was not recorded."]
        export, leave = map(self.app.key, ("app.export", "app.leave"))  # type: ignore[attr-defined]
        exports = f"{export} exports a report   " if self.run_file else ""
        return "\n".join([*rows, "", f"{exports}Enter shows the last values   {leave} quits"])

    def action_export(self) -> None:
        self.dismiss()
        self.app.call_later(self.app.run_action, "app.export")
