"""The app: keys in, commands out, one frame a tick."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

from msgspec.structs import replace
from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input
from textual.worker import get_current_worker

from llmtop.domain.commands import (
    AddMark,
    Command,
    InjectFault,
    Quit,
    Seek,
    SetKnob,
    SetLoad,
    SetRecording,
    StopLoad,
)
from llmtop.domain.frame import Frame
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.errors import LlmtopError
from llmtop.tui.glyphs import ASCII, UNICODE
from llmtop.tui.palette import DAY, NIGHT, THEMES, Palette
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.help import HelpScreen
from llmtop.tui.screens.lost import LostScreen
from llmtop.tui.view import Condition
from llmtop.tui.widgets.knobs import FaultBar
from llmtop.tui.widgets.panel import Panel
from llmtop.tui.widgets.slider import LogSlider

ASSESS_INTERVAL_S = 1.0
SILENT_AFTER_S = 3.0
"""Without a new frame for so long, the last one is shown as stale."""
SAID_S = 4.0
"""How long an answer to a key stays on the event line."""
DRAIN_LIMIT_S = 15.0
SEEK_STEP_S = 10.0
_KEY_NAMES = {
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "comma": ",",
    "full_stop": ".",
}
SPEEDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


class Link(Protocol):
    """The way to a session: frames up, commands down."""

    @property
    def facts(self) -> Any: ...
    @property
    def alive(self) -> bool: ...
    @property
    def error(self) -> str | None: ...
    def frame(self) -> Frame | None: ...
    def send(self, command: Command) -> None: ...


class Search(Protocol):
    """A search for the capacity that takes the wheel while it runs."""

    @property
    def running(self) -> bool: ...
    @property
    def text(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


Assess = Callable[[Any, Assessment | None], Assessment]
Export = Callable[[], str | Path]


class LlmtopApp(App[None]):
    """The cockpit over a session, live or replayed.

    Args:
        link: the session.
        assess: makes an Assessment of `link.facts`; called in a thread, at most once a second.
        slo: the limits that figures are coloured by.
        ascii: draw with ASCII only.
        fps: how often the screen is brought up to date; keys are answered at once.
        title: of the terminal window.
        search: makes `s` work. export: makes `e` work and returns the path it wrote.
        faults: names of the simulated server's faults.
        theme: one of Textual's themes or llmtop's own two.
    """

    TITLE = "llmtop"
    CSS_PATH = "cockpit.tcss"
    ENABLE_COMMAND_PALETTE = True
    ESCAPE_TO_MINIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "quit", id="app.leave"),
        Binding("ctrl+c,ctrl+q", "leave", "quit", id="app.leave-too", show=False, priority=True),
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("c", "slider('load')", "concurrency slider", id="slider.load"),
        Binding("p", "slider('prompt')", "prompt slider", id="slider.prompt"),
        Binding("o", "slider('output')", "output slider", id="slider.output"),
        Binding("k", "knobs", "server knobs", id="app.knobs"),
        Binding("space", "freeze", "freeze, or play and pause", id="app.freeze"),
        Binding("x", "stop_load", "stop the load", id="load.stop"),
        Binding("m", "mark", "set a mark", id="run.mark"),
        Binding("r", "record", "pause recording", id="run.record"),
        Binding("s", "search", "search the cliff", id="load.search"),
        Binding("e", "export", "export", id="run.export"),
        Binding("g", "chart_mode", "chart dots", id="view.dots"),
        Binding("t", "next_theme", "next theme", id="view.theme"),
        Binding("z", "maximise", "maximise the panel", id="view.maximise"),
        Binding("escape", "release", "back", id="view.back"),
        Binding("left_square_bracket", "seek(-1)", "replay: back", id="replay.back"),
        Binding("right_square_bracket", "seek(1)", "replay: forward", id="replay.forward"),
        Binding("comma", "speed(-1)", "replay: slower", id="replay.slower"),
        Binding("full_stop", "speed(1)", "replay: faster", id="replay.faster"),
        *(Binding(str(n), f"panel({n})", f"panel {n}", id=f"panel.{n}", show=False) for n in range(1, 10)),
    ]

    def __init__(
        self,
        link: Link,
        assess: Assess,
        *,
        slo: Slo,
        ascii: bool = False,
        fps: float = 2.0,
        title: str = "llmtop",
        search: Search | None = None,
        export: Export | None = None,
        faults: Sequence[str] = (),
        theme: str | None = None,
    ) -> None:
        colourless = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if colourless else None)
        self.link = link
        self.assess = assess
        self.slo = slo
        self.glyphs = ASCII if ascii else UNICODE
        self.fps = max(0.2, fps)
        self.search = search
        self.export = export
        self.faults = tuple(faults)
        self.title = title
        self.register_theme(NIGHT)
        self.register_theme(DAY)
        self.theme = "ansi-dark" if colourless else theme or NIGHT.name
        self.frame: Frame | None = None
        self.assessment: Assessment | None = None
        self._frozen = False
        self._draining_ticks: int | None = None
        self._lost_shown = False
        self._silent_ticks = 0
        self._assess_ticks = 0
        self._assessing = False
        self._pending: LoadPoint | None = None
        self._pending_ticks = 0

    @property
    def palette(self) -> Palette:
        return _palette(self.theme, tuple(sorted(self.theme_variables.items())), self.native_ansi_color)

    # -- the tick ---------------------------------------------------------------------------------------------------

    def get_default_screen(self) -> Screen[None]:
        return Cockpit(self.glyphs, self.slo, self.faults)

    @property
    def cockpit(self) -> Cockpit:
        cockpit = self.screen_stack[0]
        assert isinstance(cockpit, Cockpit)
        return cockpit

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        self.set_interval(1 / self.fps, self.tick)
        self.tick()

    def _theme_changed(self, theme: Theme) -> None:
        for widget in self.cockpit.walk_children():
            widget.notify_style_update()
            widget.refresh()

    def tick(self) -> None:
        """Take the newest frame and show it, unless the display is frozen."""
        newest = self.link.frame()
        fresh = newest is not None and (self.frame is None or newest.seq != self.frame.seq)
        self._silent_ticks = 0 if fresh else self._silent_ticks + 1
        if newest is not None and not self._frozen:
            self.frame = newest
        self._pending_ticks += 1
        self._start_assessing()
        condition = self._condition()
        if condition.lost is not None and not self._lost_shown:
            self._lost_shown = True
            run_file = None if newest is None else newest.run_file
            self.push_screen(LostScreen(condition.lost, run_file, self.export is not None))
        self.show()
        self._leave_when_drained()

    def show(self) -> None:
        """Hand the newest of everything to the cockpit."""
        self.cockpit.show(self.frame, self.assessment, self._condition())
        self.cockpit.show_keys(self._keys())

    def _condition(self) -> Condition:
        silent_s = self._silent_ticks / self.fps
        paused = self.frame is not None and self.frame.replay is not None
        lost = None
        if not self.link.alive and self._draining_ticks is None and not (self.frame and self.frame.replay):
            lost = self.link.error or "the session process has ended"
        search = self.search
        return Condition(
            frozen=self._frozen,
            lost=lost,
            draining=self._draining_ticks is not None,
            silent_s=silent_s if silent_s >= SILENT_AFTER_S and not paused and self.frame is not None else 0.0,
            note=search.text if search is not None and search.running else None,
        )

    def _start_assessing(self) -> None:
        self._assess_ticks += 1
        if self._assessing or self._frozen or self.frame is None:
            return
        if self._assess_ticks / self.fps >= ASSESS_INTERVAL_S or self.assessment is None:
            self._assess_ticks = 0
            self._assessing = True
            self._assess(self.link.facts, self.assessment)

    @work(thread=True, group="assess")
    def _assess(self, facts: Any, previous: Assessment | None) -> None:
        assessment = self.assess(facts, previous)
        if not get_current_worker().is_cancelled:
            self.call_from_thread(self._assessed, assessment)

    def _assessed(self, assessment: Assessment) -> None:
        self._assessing = False
        if not self._frozen:
            self.assessment = assessment

    # -- answers ----------------------------------------------------------------------------------------------------

    def say(self, text: str, role: str = "text") -> None:
        """Show an answer to a key on the event line for some seconds."""
        self.cockpit.said = (text, role)
        self.cockpit.show_events()
        said = self.cockpit.said
        self.set_timer(SAID_S, lambda: self._unsay(said))

    def _unsay(self, said: tuple[str, str]) -> None:
        if self.cockpit.said is said:
            self.cockpit.said = None
            self.cockpit.show_events()

    def refuse(self, reason: str) -> None:
        """Say why a key does nothing now."""
        self.say(f"{self.glyphs.warn} {reason}", "warn")

    def _live(self, what: str) -> bool:
        """Whether a command to the load makes sense now; says why not."""
        if self.frame is None:
            self.refuse(f"no session yet: {what} waits for the first frame")
        elif self.frame.replay is not None:
            self.refuse(f"this is a replay: {what} needs a live run")
        elif not self.link.alive:
            self.refuse(f"the session is lost: no {what} any more")
        else:
            return True
        return False

    # -- sliders ----------------------------------------------------------------------------------------------------

    @on(LogSlider.Changed)
    def _slider_changed(self, message: LogSlider.Changed) -> None:
        knob = self.cockpit.knobs.knob_of(message.slider)
        if knob is not None:
            self.link.send(SetKnob(knob, message.value))
            return
        if self.frame is None:
            return
        base = self._pending if self._pending is not None and self._pending_ticks < 4 else self.frame.target
        point = self._moved(base, message)
        if point != self._pending or message.final is False:
            self.link.send(SetLoad(point))
        self._pending, self._pending_ticks = point, 0

    def _moved(self, base: LoadPoint, message: LogSlider.Changed) -> LoadPoint:
        if message.slider.id == "prompt":
            return replace(base, prompt_tokens=int(message.value))
        if message.slider.id == "output":
            return replace(base, output_tokens=int(message.value))
        if base.rate_rps is not None:
            return replace(base, rate_rps=message.value)
        return replace(base, concurrency=int(message.value))

    @on(LogSlider.Refused)
    def _slider_refused(self, message: LogSlider.Refused) -> None:
        self.refuse(message.reason)

    @on(FaultBar.Toggled)
    def _fault_toggled(self, message: FaultBar.Toggled) -> None:
        self.link.send(InjectFault(message.name, message.on))
        self.say(f"fault {message.name} {'starts' if message.on else 'ends'}")

    def action_slider(self, name: str) -> None:
        cockpit = self.cockpit
        if cockpit.knobs.display:
            cockpit.show_knobs(False)
        slider = cockpit.query_one(f"#{name}", LogSlider)
        if not slider.display:
            self.refuse("the output slider needs a terminal of 22 rows")
            return
        slider.focus()

    def action_knobs(self) -> None:
        frame = self.frame
        if frame is None or not frame.endpoint.simulated or not frame.endpoint.knobs:
            self.refuse("server knobs: only the simulated server can be turned while it runs")
            return
        self.cockpit.show_knobs(not self.cockpit.knobs.display)
        if not self.cockpit.knobs.display:
            self.cockpit.load_slider.focus()
        self.show()

    # -- load and run -----------------------------------------------------------------------------------------------

    def action_stop_load(self) -> None:
        if self._live("stop"):
            self.link.send(StopLoad())
            self._pending = None
            self.say("load to zero: everything in flight is cancelled", "warn")

    def action_freeze(self) -> None:
        if self.frame is not None and self.frame.replay is not None:
            self.link.send(Seek(playing=not self.frame.replay.playing))
            return
        self._frozen = not self._frozen
        if self._frozen:
            self.say("display frozen; the load goes on; space shows it again")
        self.tick()

    def action_mark(self) -> None:
        if not self._live("mark"):
            return
        cockpit = self.cockpit
        cockpit.event_line.display = False
        cockpit.mark_input.display = True
        cockpit.mark_input.value = ""
        cockpit.mark_input.focus()

    @on(Input.Submitted, "#mark")
    def _mark_set(self, message: Input.Submitted) -> None:
        point = None if self.frame is None else self.frame.target
        load = "" if point is None else f"{point.concurrency if point.rate_rps is None else point.rate_rps:g}"
        text = message.value.strip() or load
        self._close_mark()
        self.link.send(AddMark(text))
        self.say(f'mark "{text}" set')

    def _close_mark(self) -> None:
        cockpit = self.cockpit
        cockpit.mark_input.display = False
        cockpit.event_line.display = True
        cockpit.load_slider.focus()

    def action_record(self) -> None:
        if not self._live("recording") or self.frame is None:
            return
        if self.frame.run_file is None:
            self.refuse("this run has no file to record to: start with --record FILE")
            return
        on = not self.frame.recording
        self.link.send(SetRecording(on))
        self.say("recording goes on" if on else "recording pauses; r goes on")

    def action_search(self) -> None:
        if not self._live("search"):
            return
        if self.search is None:
            self.refuse("no search here: this session cannot be driven by one")
        elif self.search.running:
            self.search.stop()
            self.say("search stopped; the wheel is yours")
        else:
            self.search.start()
            self.say("searching the cliff; s stops, any slider takes the wheel back")
        self.show()

    def action_export(self) -> None:
        if self.export is None:
            self.refuse("nothing to export here")
        else:
            self.say("exporting ...")
            self._export(self.export)

    @work(thread=True, group="export", exclusive=True)
    def _export(self, export: Export) -> None:
        try:
            path = export()
        except LlmtopError as error:
            self.call_from_thread(self.refuse, f"export: {error}")
        else:
            self.call_from_thread(self.say, f"exported {path}", "focus")

    # -- replay -----------------------------------------------------------------------------------------------------

    def action_seek(self, direction: int) -> None:
        frame = self.frame
        if frame is None or frame.replay is None:
            self.refuse("[ and ] step through a replay; this run is live")
            return
        t_s = min(max(frame.t_s + direction * SEEK_STEP_S, 0.0), frame.replay.length_s)
        self.link.send(Seek(t_s=t_s))

    def action_speed(self, direction: int) -> None:
        frame = self.frame
        if frame is None or frame.replay is None:
            self.refuse(", and . change the speed of a replay; this run is live")
            return
        nearest = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - frame.replay.speed))  # type: ignore[union-attr]
        speed = SPEEDS[min(max(nearest + direction, 0), len(SPEEDS) - 1)]
        self.link.send(Seek(speed=speed))
        self.say(f"speed x{speed:g}")

    # -- view -------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self.glyphs))

    def action_panel(self, number: int) -> None:
        self.cockpit.focus_panel(number)

    @on(Panel.Maximised)
    def _panel_maximised(self, message: Panel.Maximised) -> None:
        self.cockpit.toggle_maximised(message.panel)

    def action_maximise(self) -> None:
        focused = self.focused
        if isinstance(focused, Panel):
            self.cockpit.toggle_maximised(focused)
        elif self.cockpit.maximised is not None:
            self.cockpit.toggle_maximised(None)
        else:
            self.refuse("choose a panel first: Tab, or Esc and its number")

    def action_release(self) -> None:
        if self.cockpit.mark_input.display:
            self._close_mark()
        elif self.cockpit.maximised is not None:
            self.cockpit.toggle_maximised(None)
        elif self.cockpit.knobs.display:
            self.action_knobs()
        else:
            self.cockpit.set_focus(None)

    def action_chart_mode(self) -> None:
        if self.glyphs.ascii:
            self.refuse("started with --ascii: charts have one kind of dots")
            return
        self.say(f"charts in {self.cockpit.cycle_mode().value}")

    def action_next_theme(self) -> None:
        if self.no_color:
            self.refuse("NO_COLOR is set: there are no themes")
            return
        now = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(now + 1) % len(THEMES)]
        self.say(f"theme {self.theme}")

    # -- leaving ----------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """Quit: stop the load, wait for the session to end; a second time leaves at once."""
        if self._draining_ticks is not None or not self.link.alive:
            self.exit()
            return
        self._draining_ticks = 0
        self._frozen = False
        self.link.send(Quit())
        self.show()
        self.set_interval(0.1, self._leave_when_gone)

    def _leave_when_gone(self) -> None:
        if not self.link.alive:
            self.exit()

    def _leave_when_drained(self) -> None:
        if self._draining_ticks is None:
            return
        self._draining_ticks += 1
        if self._draining_ticks / self.fps > DRAIN_LIMIT_S:
            self.exit()

    # -- palette and keys -------------------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Any:
        """What ctrl+p offers: every key's action by name."""
        for binding in self.BINDINGS:
            if isinstance(binding, Binding) and binding.show:
                yield SystemCommand(
                    binding.description.capitalize(),
                    f"key {_key_name(binding.key)}",
                    lambda action=binding.action: self.call_later(self.run_action, action),
                )

    def _keys(self) -> list[tuple[str, str, str]]:
        """What the last line offers now, the most wanted first."""
        if self.frame is not None and self.frame.replay is not None:
            return [
                ("?", "help", "app.help"),
                ("space", "play/pause", "app.freeze"),
                ("[ ]", "10s", "app.seek(1)"),
                (", .", "speed", "app.speed(1)"),
                ("z", "maximise", "app.maximise"),
                ("e", "export", "app.export"),
                ("g", "dots", "app.chart_mode"),
                ("t", "theme", "app.next_theme"),
                ("q", "quit", "app.leave"),
            ]
        simulated = self.frame is not None and bool(self.frame.endpoint.knobs)
        recording = self.frame is not None and self.frame.recording
        searching = self.search is not None and self.search.running
        knobs = [("k", "load" if self.cockpit.knobs.display else "knobs", "app.knobs")] if simulated else []
        return [
            ("?", "help", "app.help"),
            (f"{self.glyphs.left_right} c/p/o", "slide", "app.slider('load')"),
            *knobs,
            ("s", "stop search" if searching else "search", "app.search"),
            ("m", "mark", "app.mark"),
            ("space", "thaw" if self._frozen else "freeze", "app.freeze"),
            ("x", "stop", "app.stop_load"),
            ("q", "quit", "app.leave"),
            ("r", "pause rec" if recording else "rec", "app.record"),
            ("e", "export", "app.export"),
            ("z", "maximise", "app.maximise"),
            ("g", "dots", "app.chart_mode"),
            ("t", "theme", "app.next_theme"),
        ]


def _key_name(key: str) -> str:
    return _KEY_NAMES.get(key, key)


@lru_cache(maxsize=8)
def _palette(theme: str, variables: tuple[tuple[str, str], ...], ansi: bool) -> Palette:
    return Palette(dict(variables), ansi)
