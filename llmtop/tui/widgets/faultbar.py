"""The faults of the simulated server by name: left and right choose one, Enter starts or ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from llmtop.domain.commands import InjectFault
from llmtop.tui.widgets.canvas import Canvas
from llmtop.tui.widgets.messages import Commanded, Refused, Said
from llmtop.view.arrangement import LABEL_CELLS
from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Runs


class FaultBar(Canvas, can_focus=True):
    """Faults by name: left and right choose one, Enter starts or ends it."""

    DEFAULT_CSS = "FaultBar { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "choose a fault", tooltip="choose", id="faults.before"),
        Binding("right", "choose(1)", "choose a fault", tooltip="choose", id="faults.after"),
        Binding("enter", "switch", "start or end the fault", tooltip="start, end", id="faults.toggle"),
        Binding("up", "app.focus_previous", "slider above, below", id="faults.above"),
        Binding("down", "app.focus_next", "slider above, below", id="faults.below"),
    ]

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.faults: tuple[str, ...] = ()
        self.active: set[str] = set()
        self.chosen = 0
        self.locked: str | None = None
        """Why none can be switched now; None: they can."""
        self._told: Mapping[str, float] = {}

    def follow(self, faults: Mapping[str, float]) -> None:
        """Show which faults are on. What the hand has switched stands until the server tells something new."""
        if faults != self._told:
            self._told = faults
            self.faults = tuple(faults)
            self.active = {name for name, figure in faults.items() if figure}
        self.display = bool(faults)
        self.redraw()

    def action_choose(self, direction: int) -> None:
        if self.faults:
            self.chosen = (self.chosen + direction) % len(self.faults)
            self.redraw()

    def action_switch(self) -> None:
        if not self.faults:
            return
        if self.locked is not None:
            self.post_message(Refused(self.locked))
            return
        name = self.faults[self.chosen]
        on = name not in self.active
        self.active ^= {name}
        self.post_message(Commanded(InjectFault(name, on)))
        self.post_message(Said(f"fault {name} {'starts' if on else 'ends'}"))
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        lead = self.glyphs.focus if self.has_focus else " "
        runs: Runs = [(f"{lead}{'faults':<{LABEL_CELLS - 1}}", "focus" if self.has_focus else "text")]
        room = width - LABEL_CELLS - len(self.glyphs.more)
        texts = [f"{self.glyphs.on if name in self.active else self.glyphs.off} {name}" for name in self.faults]
        first = 0
        while sum(len(text) + 2 for text in texts[first : self.chosen + 1]) > room and first < self.chosen:
            first += 1
        for index in range(first, len(texts)):
            if len(texts[index]) > room:
                runs.append((self.glyphs.more, "dim"))
                break
            lit = self.faults[index] in self.active
            role = "focus" if self.has_focus and index == self.chosen else "warn" if lit else "dim"
            runs += [(texts[index], role), ("  ", "")]
            room -= len(texts[index]) + 2
        return [runs]
