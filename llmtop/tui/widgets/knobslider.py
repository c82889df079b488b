"""A slider of a server's setting: what cannot be set while it runs can be asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.message import Message

from llmtop.tui.widgets.messages import Said
from llmtop.tui.widgets.slider import LogSlider
from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Runs
from llmtop.view.scale import LogScale
from llmtop.view.track import track

NOT_SET = "not set"


class KnobSlider(LogSlider):
    """Beyond what `applies` its thumb is hollow: that value is asked about, and nothing is commanded."""

    @dataclass
    class Asks(Message):
        """What is asked about, or whether anything is, has changed."""

        slider: KnobSlider

    def __init__(self, label: str, scale: LogScale, glyphs: Glyphs, *, unit: str = "", **options: Any) -> None:
        super().__init__(label, scale, glyphs, unit=unit, **options)
        self.applies: tuple[float, float] | None = None
        """Between what a value can be set while the server runs; None: all that the track has."""
        self.imagined: float | None = None
        """A value that is asked about; None: what stands."""
        self.beyond: Callable[[float], str] = f"{{:g}} {NOT_SET}".format
        """Why a value is only asked about."""
        self.named: tuple[float, str] | None = None
        """A value with a word of its own."""

    @property
    def stands(self) -> float | None:
        return self.value if self.imagined is None else self.imagined

    def imagine(self, value: float | None) -> None:
        """Ask about a value; None: about none."""
        if value == self.imagined:
            return
        if value is not None and self.imagined is None:
            self.post_message(Said(self.beyond(value)))
        self.imagined = value
        self.post_message(self.Asks(self))
        self.redraw()

    def follow(self, value: float, live: float | None, cliff: float | None, stale: bool) -> None:
        super().follow(value, live, cliff, stale)
        if value == self.imagined:  # it was started with it meanwhile
            self.imagine(None)

    def move_to(self, value: float) -> None:
        """Set `value`, or ask about it where it cannot be set."""
        self._widen(value)
        snapped = self.scale.snap(value)
        low, high = self.applies or (snapped, snapped)
        if low <= snapped <= high or self.locked is not None:
            self.imagine(None)
            super().move_to(snapped)
        else:
            self.asked = None
            self.imagine(snapped)

    def go_back(self, value: float) -> str:
        self.imagine(None)
        return super().go_back(value)

    def action_step(self, direction: int) -> None:
        """One step, but never over an end of what can be set."""
        at = self.stands
        if at is None:
            return
        moved = self.scale.step(at, direction)
        for end in self.applies or ():
            if min(at, moved) < end < max(at, moved):
                moved = end
        self._refuse_at_end(moved, direction)
        self.move_to(moved)

    def action_go_to_end(self, direction: int) -> None:
        """The end of what can be set; from there, of the track."""
        low, high = self.applies or (self.scale.low, self.scale.high)
        end, last = (high, self.scale.high) if direction > 0 else (low, self.scale.low)
        self.wish(last if self.stands == end else end)

    def action_release(self) -> None:
        """Esc: first what was typed, then what is asked about, then the slider."""
        if self.imagined is not None and not self.typing:
            self.imagine(None)
        else:
            super().action_release()

    def _track(self, ink: str) -> Runs:
        cells, glyphs = self._track_cells, self.glyphs
        return track(
            self.scale, cells, self.value, self.live, None, glyphs, ink, self.stale, None, self.imagined, self.applies
        )

    def _figure(self, focused: bool) -> Runs:
        if self.typing or (self.asked is not None and focused):
            return super()._figure(focused)
        if self.imagined is not None:
            return [(f"{self.imagined:>7.0f}", "focus" if focused else "strong"), (f" {NOT_SET}", "dim")]
        if self.named is not None and self.value == self.named[0]:
            return [(f"{self.named[1]:>7}", "stale" if self.stale else "strong"), (f" {self.unit}", "dim")]
        return super()._figure(focused)
