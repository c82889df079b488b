"""Sliders for the knobs of the simulated server, and its faults: the one place where max_num_seqs moves live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.tui.widgets.canvas import Canvas
from llmtop.tui.widgets.messages import Commanded, Said
from llmtop.tui.widgets.slider import LogSlider
from llmtop.view.arrangement import LABEL_CELLS
from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Runs
from llmtop.view.scale import LogScale

_KNOBS = {
    "max_num_seqs": ("max seqs", "slots"),
    "num_gpu_blocks": ("KV blocks", "blocks"),
    "max_num_batched_tokens": ("tok budget", "tokens"),
}
_REACH = 16
"""A knob turns from a sixteenth to sixteen times of the value it had when it was first seen."""


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


class KnobBank(Vertical):
    """The rows of the load sliders, taken over by the server's knobs."""

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.sliders = {
            name: LogSlider(label, LogScale(low=1, high=_REACH), glyphs, unit=unit, id=f"knob-{name}")
            for name, (label, unit) in _KNOBS.items()
        }
        self.fault_bar = FaultBar(glyphs)
        self._told: dict[str, float] = {}
        self._acts: list[tuple[LogSlider, float]] = []
        """What was turned, and where it stood before, the last at the end."""

    def compose(self) -> ComposeResult:
        yield from self.sliders.values()
        yield self.fault_bar

    def follow(self, knobs: Mapping[str, float], faults: Mapping[str, float], stale: bool) -> None:
        """Show what the server reports; a knob it does not have has no slider."""
        if not self.display:
            return
        for name, slider in self.sliders.items():
            slider.display = name in knobs
            if name in knobs:
                if slider.value is None:
                    slider.scale = LogScale(low=max(1.0, knobs[name] // _REACH), high=knobs[name] * _REACH)
                    slider.cap_reason = f"{_REACH} times what it started with"
                slider.follow(knobs[name], None, None, stale)
                if slider.value == knobs[name]:
                    self._told[name] = knobs[name]
        self.fault_bar.follow(faults)

    def undo(self) -> str | None:
        """Turn back what was turned last, and say what that is; None: nothing was."""
        if not self._acts:
            return None
        slider, before = self._acts.pop()
        return slider.go_back(before)

    @property
    def first(self) -> LogSlider | FaultBar:
        """Where the focus goes."""
        return next((slider for slider in self.sliders.values() if slider.display), self.fault_bar)

    @on(LogSlider.Changed)
    def _turned(self, message: LogSlider.Changed) -> None:
        """Command the knob; the final value of a slider was told before, unless it moved since."""
        message.stop()
        if message.halts != message.slider.halts:
            return
        if message.before is not None and message.before != message.value:
            self._acts.append((message.slider, message.before))
        name = next(name for name, slider in self.sliders.items() if slider is message.slider)
        if self._told.get(name) != message.value:
            self._told[name] = message.value
            self.post_message(Commanded(SetKnob(name, message.value)))
