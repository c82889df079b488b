"""A slider on a logarithmic scale, one row high: label, track, figure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec.structs import replace
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from llmtop.tui.widgets.canvas import Canvas
from llmtop.tui.widgets.messages import Refused, Said
from llmtop.view.arrangement import FIGURE_CELLS, LABEL_CELLS
from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Run, Runs
from llmtop.view.scale import LogScale
from llmtop.view.track import track
from llmtop.wording.figures import UNKNOWN

LIVE_INTERVAL_S = 0.2
"""While a slider moves, its value is told at most five times a second."""
SETTLE_S = 0.15
"""And once more as final, this long after the last movement."""
HAND_FRAMES = 8
"""For so many frames the hand is believed before the session, which needs a moment to take a value up."""
MOUSE_TIMES = 2.0
"""A careful slider rises by at most so much in one act of the mouse: a track of 50 cells is a load of 1 to 1000."""
LEAP_TIMES = 4.0
"""What would make a careful slider rise by more than that at once is asked for first."""
READ_S = 0.5
"""An Enter that comes sooner after a question is not its answer: it was typed ahead, or twice."""
WHEEL_REST_S = 0.4
"""Turns of the wheel that follow each other sooner are one act: a flick sends dozens."""


class LogSlider(Canvas, can_focus=True):
    """Left and right one step, PgUp and PgDn times two, Home and End, digits and Enter exactly, Esc lets go.

    The value is the target. `live` is what really is, and fills the track up to itself; `cliff` is marked on it, and
    where one is `foreseen`. A
    slider that is `careful` rises by the mouse only little by little, and asks before it leaps; the end of its track is
    no limit for a number that is typed, up to `most`.
    """

    DEFAULT_CSS = "LogSlider { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "slider one step", tooltip="step", id="slider.down"),
        Binding("right", "step(1)", "slider one step", tooltip="step", id="slider.up"),
        Binding("pagedown", "times(0.5)", "slider half, double", tooltip="x2", id="slider.half"),
        Binding("pageup", "times(2.0)", "slider half, double", tooltip="x2", id="slider.double"),
        Binding("home", "go_to_end(-1)", "slider lowest, highest", id="slider.lowest"),
        Binding("end", "go_to_end(1)", "slider lowest, highest", id="slider.highest"),
        Binding("enter", "accept", "type an exact value", key_display="0-9 Enter", tooltip="set", id="slider.accept"),
        Binding("escape", "release", "let go; give room back", id="slider.release"),
        Binding("up", "app.focus_previous", "slider above, below", id="slider.above"),
        Binding("down", "app.focus_next", "slider above, below", id="slider.below"),
    ]

    @dataclass
    class Changed(Message):
        """The slider moved. `final`: it has come to rest. `before`: where it stood, once for each act of a hand."""

        slider: LogSlider
        value: float
        final: bool
        before: float | None
        halts: int
        """How often it had been halted: what was told before a halt counts no more."""

        @property
        def control(self) -> LogSlider:
            return self.slider

    def __init__(self, label: str, scale: LogScale, glyphs: Glyphs, *, unit: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.label = label
        self.scale = scale
        self.glyphs = glyphs
        self.unit = unit
        self.value: float | None = None
        self.live: float | None = None
        self.cliff: float | None = None
        self.foreseen: float | None = None
        self.stale = False
        self.cap_reason = "the slider ends there"
        self.locked: str | None = None
        """Why it cannot be moved now; None: it can."""
        self.driven = False
        """Not a hand moves it: a hand that puts it where it stands takes it over."""
        self.careful = False
        self.most: float | None = None
        """The largest value that can be typed; None: the end of the track."""
        self.halts = 0
        self.asked: float | None = None
        """What Enter moves it to."""
        self._asked_at_s = 0.0
        self._typed: str | None = None
        self._act_from: float | None = None
        """Where it stood when the act that goes on began; None: no act does."""
        self._act_told = False
        self._mouse_from = 0.0
        self._wheel: Timer | None = None
        self._waiting_frames = 0
        self._cooling: Timer | None = None
        self._settling: Timer | None = None
        self._untold = False
        self._dragging = False

    # -- what the session says ------------------------------------------------------------------------------------

    def follow(self, value: float, live: float | None, cliff: float | None, stale: bool) -> None:
        """Show a frame. The hand wins until the session has taken its value up, or long enough has not."""
        self.live, self.cliff, self.stale = live, cliff, stale
        if self._waiting_frames and self.value is not None and not _same(value, self.value):
            self._waiting_frames -= 1
        elif not self._dragging and self._settling is None:
            self._waiting_frames = 0
            self.value = value
        self.redraw()

    # -- the hand -------------------------------------------------------------------------------------------------

    def wish(self, value: float) -> None:
        """Put the slider on `value`, or ask for it first where that is a leap."""
        if self.locked is None and self.careful and value > LEAP_TIMES * self._least_up(self.value or 0.0):
            now = _figure(self.value or 0.0)
            self.ask(value)
            leap = f"{self.label} {now} to {_figure(value)} is a leap: Enter does it, Esc does not"
            self.post_message(Said(leap, so=lambda: self.has_focus and self.asked == value))
        else:
            self.move_to(value)

    @property
    def stands(self) -> float | None:
        """Where a hand finds it, and moves it from."""
        return self.value

    @property
    def typing(self) -> bool:
        return self._typed is not None

    def ask(self, value: float | None) -> None:
        """Enter moves it to `value`, until a hand does something else; None: Enter moves nothing."""
        self._typed, self.asked, self._asked_at_s = None, value, time.monotonic()
        self.redraw()

    def go_back(self, value: float) -> str:
        """As `wish`, but nothing that could be undone; says what it undoes: `concurrency 64 → 8`."""
        now = self.value or 0.0
        self.halt(now)
        self._act_from, self._act_told = self.value, True
        self.wish(value)
        return f"{self.label} {now:g} {self.glyphs.arrow} {value:g}"

    def halt(self, value: float) -> None:
        """Stand on `value`; whatever a hand had begun is over, and what it has told counts no more."""
        self.halts += 1
        for timer in (self._cooling, self._settling, self._wheel):
            if timer is not None:
                timer.stop()
        self._cooling = self._settling = self._wheel = None
        self._typed = self.asked = self._act_from = None
        self._untold = False
        self._end_drag()
        self.value, self._waiting_frames = value, HAND_FRAMES
        self.redraw()

    @property
    def limit(self) -> float:
        """What nobody can move it beyond."""
        return self.scale.high if self.most is None else self.most

    def move_to(self, value: float) -> None:
        """Put the slider on `value`, tell it at once or within 200 ms, and as final when it rests."""
        self.asked = None
        if self.locked is not None:
            self.post_message(Refused(self.locked))
            return
        self._widen(value)
        snapped = self.scale.snap(value)
        if self.value is not None and _same(snapped, self.value) and not self.driven:
            return
        if self._act_from is None:
            self._act_from, self._act_told = self.value, False
        self.value = snapped
        self._waiting_frames = HAND_FRAMES
        if self._cooling is None:
            self._tell(final=False)
            self._cooling = self.set_timer(LIVE_INTERVAL_S, self._cooled)
        else:
            self._untold = True
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(SETTLE_S, self._settled)
        self.redraw()

    def _widen(self, value: float) -> None:
        """Let the track end at a number that was typed, where it may be."""
        if self.scale.high < value <= self.limit:
            self.scale = replace(self.scale, high=value)

    def _least_up(self, value: float) -> float:
        """What a rise from `value` is a multiple of: from 0, of the lowest value that is a load."""
        return max(value, self.scale.low)

    def _cooled(self) -> None:
        self._cooling = None
        if self._untold:
            self._tell(final=False)
            self._cooling = self.set_timer(LIVE_INTERVAL_S, self._cooled)

    def _settled(self) -> None:
        self._settling = None
        self._tell(final=True)
        if not self._dragging:
            self._act_from = None

    def _tell(self, *, final: bool) -> None:
        self._untold = False
        if self.value is not None:
            before = None if self._act_told else self._act_from
            self._act_told = True
            self.post_message(self.Changed(self, self.value, final, before, self.halts))

    def action_step(self, direction: int) -> None:
        if self.stands is None:
            return
        moved = self.scale.step(self.stands, direction)
        self._refuse_at_end(moved, direction)
        self.move_to(moved)

    def action_times(self, factor: float) -> None:
        if self.stands is None:
            return
        moved = self.scale.times(self.stands, factor)
        self._refuse_at_end(moved, 1 if factor > 1 else -1)
        self.move_to(moved)

    def _refuse_at_end(self, moved: float, direction: int) -> None:
        if direction > 0 and self.stands is not None and _same(moved, self.stands) and moved >= self.scale.high:
            self._refuse_past_cap()

    def _refuse_past_cap(self) -> None:
        end = f"{self.label} ends at {_figure(self.scale.high)}"
        if self.scale.high < self.limit:
            self.post_message(Refused(f"{end} by key and mouse: type a larger number, up to {_figure(self.limit)}"))
        else:
            self.post_message(Refused(f"{end}: {self.cap_reason}"))

    def action_go_to_end(self, direction: int) -> None:
        self.wish(self.scale.high if direction > 0 else self.scale.low)

    def action_release(self) -> None:
        """Esc: drop what was typed or asked, else let go of the slider."""
        if self._typed is not None or self.asked is not None:
            self.ask(None)
        else:
            self.screen.set_focus(None)

    def action_accept(self) -> None:
        """Enter: take what was typed, exactly, or what was asked; or say why not."""
        typed, self._typed = self._typed, None
        self.redraw()
        if typed is None and self.asked is not None and time.monotonic() - self._asked_at_s >= READ_S:
            self.move_to(self.asked)
        if not typed or typed == ".":
            return
        value = float(typed)
        if value > self.limit:
            self.post_message(Refused(f"{self.label} ends at {_figure(self.limit)}: {self.cap_reason}"))
        elif value < self.scale.low and not (self.scale.zero and value == 0):
            self.post_message(Refused(f"{self.label} starts at {_figure(self.scale.low)}"))
        else:
            self.wish(value)

    def _is_entry(self, character: str | None) -> bool:
        if character is None:
            return False
        return character.isdecimal() or (character == "." and self.scale.quantum < 1)

    def type(self, key: str, character: str | None) -> bool:
        """Whether the key is one of a number that is being typed; it is taken then."""
        if self._is_entry(character) and character is not None:
            if len(self._typed or "") < 7 and not (character == "." and "." in (self._typed or "")):
                self._typed = (self._typed or "") + character
        elif key == "backspace" and self._typed is not None:
            self._typed = self._typed[:-1] or None
        else:
            return False
        self.asked = None
        self.redraw()
        return True

    def on_blur(self) -> None:
        self._typed = None

    # -- the mouse ------------------------------------------------------------------------------------------------

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.x >= LABEL_CELLS and event.x < LABEL_CELLS + self._track_cells:
            self._dragging = True
            self._mouse_from = self.value or 0.0
            self.capture_mouse()
            self._drag_to(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragging:
            self._drag_to(event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self._end_drag()

    def _end_drag(self) -> None:
        if self._dragging:
            self._dragging = False
            self.release_mouse()
            if self._settling is None:
                self._act_from = None

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._turn_wheel(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._turn_wheel(-1)

    def _turn_wheel(self, direction: int) -> None:
        if self.value is None or self.stands is None:
            return
        if self._wheel is None:
            self._mouse_from = self.value
        else:
            self._wheel.stop()
        self._wheel = self.set_timer(WHEEL_REST_S, self._wheel_rests)
        moved = self.scale.step(self.stands, direction)
        self._refuse_at_end(moved, direction)
        self._move_by_mouse(moved)

    def _wheel_rests(self) -> None:
        self._wheel = None

    def _drag_to(self, x: int) -> None:
        cell = min(max(x - LABEL_CELLS, 0), self._track_cells - 1)
        self._move_by_mouse(self.scale.at_cell(cell, self._track_cells))

    def _move_by_mouse(self, value: float) -> None:
        most = MOUSE_TIMES * self._least_up(self._mouse_from)
        if self.careful and value > most and self.locked is None:
            value = most
            self.post_message(Said(f"the mouse at most doubles {self.label}: once more, or type a number"))
        self.move_to(value)

    # -- the picture ----------------------------------------------------------------------------------------------

    @property
    def _track_cells(self) -> int:
        return max(4, self.size.width - LABEL_CELLS - FIGURE_CELLS)

    def draw(self, width: int, height: int) -> list[Runs]:
        focused = self.has_focus
        lead = self.glyphs.focus if focused else " "
        label: Run = (f"{lead}{self.label:<{LABEL_CELLS - 1}}"[:LABEL_CELLS], "focus" if focused else "text")
        return [[label, *self._track("-focus" if focused else ""), *self._figure(focused)]]

    def _track(self, ink: str) -> Runs:
        cells, glyphs = self._track_cells, self.glyphs
        return track(self.scale, cells, self.value, self.live, self.cliff, glyphs, ink, self.stale, self.foreseen)

    def _figure(self, focused: bool) -> Runs:
        if self._typed is not None:
            return [(f"{self._typed:>7}", "focus"), (self.glyphs.cursor, "focus"), (" Enter", "dim")]
        if self.asked is not None and focused:
            return [(f"{_figure(self.asked):>7}", "focus"), ("? Enter", "dim")]
        figure = UNKNOWN if self.value is None else _figure(self.value)
        role = "stale" if self.stale else "strong"
        if self.live is not None:
            return [(f"{figure:>7}", role), (f" ({_figure(self.live)} live)", "dim")]
        return [(f"{figure:>7}", role), (f" {self.unit}", "dim")]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _same(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6 * max(1.0, abs(one))
