"""The settings of the server's command: a change is asked for first, as it costs a restart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from llmtop.domain.commands import Imagine, Restart, SetKnob
from llmtop.domain.endpoint import CommandStatus
from llmtop.domain.foresight import Foresight
from llmtop.domain.settings import is_slots, setting_key
from llmtop.tui.widgets.canvas import Canvas
from llmtop.tui.widgets.line import Line
from llmtop.tui.widgets.messages import Commanded, Refused
from llmtop.tui.widgets.slider import READ_S, LogSlider
from llmtop.view.arrangement import LABEL_CELLS
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Runs, cut_inside, fitting
from llmtop.view.scale import LogScale
from llmtop.wording import bank as words
from llmtop.wording.bank import SLOTS, Asked, as_the_twin
from llmtop.wording.sentences import gate_text
from llmtop.wording.serving import asked_text, settings_text

REACH = 16
"""A setting slides from a sixteenth to sixteen times of the value it had when it was first seen."""
MOST_DIGITS = 9
"""Of a number that has a slider; longer ones are names."""


@dataclass
class Decided(Message):
    """Enter where nothing is typed, or Esc: whether what was changed is wanted."""

    wanted: bool


@dataclass
class Typing(Message):
    """A value is to be typed on a line."""

    name: str


class SettingSlider(LogSlider):
    """A whole number. What is moved or typed waits for an Enter of its own."""

    pending = False
    """Something in the bank waits for Enter."""

    def action_accept(self) -> None:
        if self.typing or self.asked is not None:
            super().action_accept()
        else:
            self.post_message(Decided(True))

    def action_release(self) -> None:
        if not self.typing and self.pending:
            self.post_message(Decided(False))
        else:
            super().action_release()


class SettingText(Canvas, can_focus=True):
    """A value that is no number: Enter writes another one."""

    DEFAULT_CSS = "SettingText { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "type a value", tooltip="type", id="setting.accept"),
        Binding("escape", "release", "let go; give room back", id="setting.release"),
        Binding("up", "app.focus_previous", "slider above, below", id="setting.above"),
        Binding("down", "app.focus_next", "slider above, below", id="setting.below"),
    ]

    def __init__(self, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self.setting, self.glyphs = name, glyphs
        self.value = ""
        self.pending = False

    def action_accept(self) -> None:
        self.post_message(Decided(True) if self.pending else Typing(self.setting))

    def action_release(self) -> None:
        if self.pending:
            self.post_message(Decided(False))
        else:
            self.screen.set_focus(None)

    def draw(self, width: int, height: int) -> list[Runs]:
        lead = self.glyphs.focus if self.has_focus else " "
        label = f"{lead}{label_of(self.setting):<{LABEL_CELLS - 1}}"
        shown = cut_inside(self.value, max(8, width - LABEL_CELLS - 1), self.glyphs.more) if self.value else "not known"
        return [[(label, "focus" if self.has_focus else "text"), (shown, "strong" if self.value else "dim")]]


class ServerBank(Vertical):
    """A row for each setting, and one that says what Enter does, what is waited for, or what went wrong."""

    DEFAULT_CSS = """
    ServerBank { height: auto; }
    ServerBank > Vertical { height: auto; overflow-y: auto; scrollbar-size-vertical: 0; }
    """

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.rows: dict[str, SettingSlider | SettingText] = {}
        self.locked: str | None = None
        """Why no slider may move; None: they may."""
        self._list = Vertical()
        self._question = Line()
        self._gives = Line()
        """What the twin says of what was changed."""
        self._behind = ""
        """Of the gate, which the lines that this bank hides would tell."""
        self._rows = 3
        """How many there is room for."""
        self._posted: tuple[tuple[str, float], ...] = ()
        self._status: CommandStatus | None = None
        self._pending: dict[str, str] = {}
        """What was changed and waits for Enter."""
        self._before: dict[str, str] = {}
        """The settings before the last that were commanded."""
        self._knobs: Mapping[str, float] = {}
        self._most: Mapping[str, float] = {}
        """Knobs that turn while the server runs, and how far."""
        self._turned: dict[str, float] = {}
        """Those that were turned since the bank was opened."""
        self._told: dict[str, float] = {}
        self._acts: list[tuple[LogSlider, float]] = []
        """What was turned, and where it stood before, the last at the end."""
        self._asked_at_s = 0.0
        self._loaded = False

    def compose(self) -> ComposeResult:
        yield self._list
        yield self._question
        yield self._gives

    def on_mount(self) -> None:
        self._gives.display = False

    @property
    def first(self) -> SettingSlider | SettingText | None:
        """Where the focus goes."""
        return next(iter(self.rows.values()), None)

    def turns(self, knobs: Mapping[str, float], most: Mapping[str, float]) -> None:
        """What turns while the server runs, and how far: a setting that is moved within that needs no restart."""
        self._knobs, self._most = knobs, most

    def _knob_of(self, name: str) -> str | None:
        """The knob that turns what the setting starts with."""
        alike = (each for each in self._knobs if each == setting_key(name) or (is_slots(each) and is_slots(name)))
        return next(alike, None)

    def follow(self, status: CommandStatus, loaded: bool, stale: bool) -> None:
        """Show how it stands with the command.

        Args:
            loaded: requests are sent, or are to be.
        """
        self._status, self._loaded = status, loaded
        live = {name: f"{self._knobs[knob]:.0f}" for name in self.rows if (knob := self._knob_of(name)) is not None}
        wanted = dict(status.wanted) if status.work else live
        shown = {**dict(status.settings), **wanted, **self._pending}
        if not self.rows and shown and self._list.is_mounted:
            self.rows = {name: self._row(name, value) for name, value in shown.items()}
            self._list.mount(*self.rows.values())
        for name, row in self.rows.items():
            value, row.pending = shown.get(name, ""), bool(self._pending)
            if isinstance(row, SettingText):
                row.value = value
                row.redraw()
            elif value.isdecimal():
                row.locked = self.locked or (f"the server is under way: {status.work}" if status.work else None)
                row.follow(float(value), None, None, stale)
                if live.get(name) == value and row.value == float(value):
                    self._told[name] = row.value
        self._say()
        self._ask()

    @property
    def asked(self) -> list[Asked]:
        """What was changed and waits for Enter, as far as a twin knows what it is."""
        short = {name: value for name, value in self._pending.items() if len(value) <= MOST_DIGITS}
        values = self._turned | {name: float(value) for name, value in short.items() if value.isdecimal()}
        found = {as_the_twin(name): value for name, value in values.items() if as_the_twin(name)}
        names = sorted(found, key=lambda name: name != SLOTS)
        return [Asked(name, found[name], words.label_of(name), True) for name in names]

    def _ask(self) -> None:
        settings = tuple((each.name, each.value) for each in self.asked)
        if settings != self._posted:
            self._posted = settings
            self.app.post_message(Commanded(Imagine(settings)))

    def tell(self, foreseen: Foresight | None, gate: int | None) -> None:
        """What would come of what was changed: one row, while there is an answer; and which gate is commanded."""
        self._behind = "" if gate is None else f"{gate_text(gate)}{words.SEP}"
        self._gives.display = foreseen is not None
        self._share_room()
        told = [plain(way, self.glyphs) for way in words.asked_ways(self.asked, {}, foreseen)]
        self._gives.show(lambda width: [(" " + fitting(told, width - 2, self.glyphs.more), "focus")])

    @property
    def rows_wanted(self) -> int:
        """With the rows of words."""
        return len(self.rows) + 1 + self._gives.display

    def give_room(self, rows: int) -> None:
        """So many rows and no more: settings that have no room are scrolled to."""
        self._rows = rows
        self._share_room()

    def _share_room(self) -> None:
        self._list.styles.max_height = max(1, self._rows - 1 - self._gives.display)

    def leave(self) -> None:
        """The bank is left: what was changed stays, and waits, but nothing is asked any more."""
        self._turned.clear()
        if self._posted:
            self._posted = ()
            self.app.post_message(Commanded(Imagine(())))

    def _row(self, name: str, value: str) -> SettingSlider | SettingText:
        if not (value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS and int(value) > 0):
            return SettingText(name, self.glyphs)
        scale = LogScale(low=max(1, int(value) // REACH), high=int(value) * REACH)
        slider = SettingSlider(label_of(name), scale, self.glyphs)
        slider.most = 10.0**MOST_DIGITS
        slider.cap_reason = "type a larger number"
        return slider

    def want(self, name: str, value: str) -> None:
        """A value that was chosen: it is asked whether the server is to have it."""
        status = self._status
        if status is None or status.work:
            return
        if dict(status.settings).get(name) == value:
            self._pending.pop(name, None)
        else:
            self._pending[name] = value
        self._asked_at_s = time.monotonic()
        self.follow(status, self._loaded, False)

    def undo(self) -> str | None:
        """Ask for the settings before the last that were commanded, or take back what was not commanded yet."""
        if self._status is None or self._status.work:
            return None
        if self._pending:
            told = settings_text(self._pending)
            self._pending = {}
            return told
        if self._acts:
            slider, before = self._acts.pop()
            return slider.go_back(before)
        for name, value in self._before.items():
            self.want(name, value)
        return f"{settings_text(self._pending)} is asked for again" if self._pending else None

    @on(LogSlider.Changed)
    def _moved(self, message: LogSlider.Changed) -> None:
        message.stop()
        if message.halts == message.slider.halts:
            name = next(name for name, row in self.rows.items() if row is message.slider)
            knob = self._knob_of(name)
            if knob is not None and message.value <= self._most.get(knob, message.value):
                self._turn(name, knob, message)
            else:
                self.want(name, f"{message.value:.0f}")

    def _turn(self, name: str, knob: str, moved: LogSlider.Changed) -> None:
        """Within what turns live: no question, and no restart."""
        self._pending.pop(name, None)
        if moved.before is not None and moved.before != moved.value:
            self._acts.append((moved.slider, moved.before))
        if self._told.get(name) != moved.value:
            self._told[name] = self._turned[name] = moved.value
            self.post_message(Commanded(SetKnob(knob, moved.value)))
        self._ask()

    @on(Decided)
    def _decided(self, message: Decided) -> None:
        message.stop()
        status = self._status
        if status is None:
            return
        if not message.wanted:
            self._pending = {}
            self.follow(status, self._loaded, False)
        elif status.work:
            self.post_message(Refused(f"the server is under way: {status.work}"))
        elif not self._pending and not status.problem:
            self.post_message(Refused("no setting was changed: move one, and Enter restarts the server with it"))
        elif time.monotonic() - self._asked_at_s >= READ_S:  # else it was typed ahead, or twice
            self._before = dict(status.settings) if self._pending else self._before
            self.post_message(Commanded(Restart(tuple(self._pending.items()))))
            self._pending = {}
            self._acts.clear()

    def _say(self) -> None:
        status, glyphs = self._status, self.glyphs
        if status is None:
            return
        if status.work:
            text, role = f"{glyphs.wait} {status.work}", "warn"
        elif self._pending:
            keys = f" {glyphs.sep} Enter {glyphs.sep} Esc"
            asked = [asked_text(status.serves, self._pending, status.start_s, each) for each in (self._loaded, False)]
            fits = len(asked[0] + keys) <= self.size.width - 2
            text, role = (asked[0] if fits else asked[1]) + keys, "focus"
        elif status.problem:
            again = f"Enter: {'start it' if status.serves else 'apply'} with {settings_text(dict(status.settings))}"
            text, role = f"{glyphs.warn} {status.problem} {glyphs.sep} v its log {glyphs.sep} {again}", "bad"
        else:
            does = "restarts the server" if status.serves else "applies it"
            live = [label_of(name) for name in self.rows if self._knob_of(name) is not None]
            at_once = f"{live[0]} turns at once, but no further than it was started; anything else" if live else ""
            text, role = f"{self._behind}{at_once or 'a setting that is moved'} {does} after Enter", "dim"
        self._question.show(lambda width: [(" " + cut_inside(text, width - 2, glyphs.more), role)])


def label_of(name: str) -> str:
    """The name of a setting where a label has room."""
    short = words.label_of(name)
    return short if len(short) < LABEL_CELLS else short[: LABEL_CELLS - 2]
