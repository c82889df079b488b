"""The app: one frame a tick to the cockpit, commands to the session, an assessment a second in a thread."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.worker import get_current_worker

from llmtop.domain.commands import Command, Quit
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.errors import LlmtopError
from llmtop.tui import commanding, keys
from llmtop.tui.palette import DAY, NIGHT, THEMES, Palette
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.widgets.knobs import FaultBar
from llmtop.tui.widgets.messages import Commanded
from llmtop.tui.widgets.panel import Panel
from llmtop.tui.widgets.slider import LogSlider
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE

ASSESS_INTERVAL_S = 1.0
SILENT_AFTER_S = 3.0
"""Without a new frame for so long, the last one is shown as stale."""
DRAIN_LIMIT_S = 15.0


class Link(Protocol):
    """The way to a session: frames up, commands down."""

    @property
    def facts(self) -> Any: ...
    @property
    def alive(self) -> bool: ...
    @property
    def error(self) -> str | None: ...
    def frame(self) -> Frame | None: ...
    def send(self, command: Command, /) -> None: ...


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
        assess: makes an Assessment of `link.facts` and the one before; called in a thread, at most once a second.
        slo: the limits that figures are coloured by.
        ascii: draw with ASCII only.
        fps: how often the screen is brought up to date; keys are answered at once.
        title: of the terminal window.
        search: makes `s` work.
        export: makes `e` work: writes a report and returns its path. Called in a thread.
        theme: one of Textual's themes or llmtop's own two.
    """

    CSS_PATH = "cockpit.tcss"
    ESCAPE_TO_MINIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "quit: load stops first", id="app.leave"),
        Binding("ctrl+c,ctrl+q", "leave", "quit", id="app.leave-too", show=False, priority=True),
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("space", "freeze", "freeze; play and pause", id="app.freeze"),
        Binding("s", "search", "start or stop the search", id="app.search"),
        Binding("e", "export", "export a report", id="app.export"),
        Binding("t", "next_theme", "next theme", id="app.theme"),
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
        self.title = title
        self.animation_level = "none"
        self.register_theme(NIGHT)
        self.register_theme(DAY)
        self.theme = "ansi-dark" if colourless else theme or _theme_of_terminal()
        self.frame: Frame | None = None
        self.assessment: Assessment | None = None
        self._frozen = False
        self._draining_ticks: int | None = None
        self._lost_shown = False
        self._silent_ticks = 0
        self._assess_ticks = 0
        self._assessing = False

    @property
    def palette(self) -> Palette:
        return _palette(tuple(sorted(self.theme_variables.items())), self.native_ansi_color)

    def get_default_screen(self) -> Screen[None]:
        return Cockpit(self.glyphs, self.slo)

    @property
    def cockpit(self) -> Cockpit:
        """The screen under all others."""
        cockpit = self.screen_stack[0]
        assert isinstance(cockpit, Cockpit)
        return cockpit

    # -- the tick ---------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        if not self.is_headless:
            # Without this a kill or a closed terminal would leave it in raw mode with the mouse on.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit)
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
        self._silent_ticks = 0 if fresh or self._frozen else self._silent_ticks + 1
        if newest is not None and not self._frozen:
            self.frame = newest
        self._start_assessing()
        self.show()
        self._show_loss()
        if self._draining_ticks is not None:
            self._draining_ticks += 1
            if self._draining_ticks / self.fps > DRAIN_LIMIT_S:
                self.exit()

    def show(self) -> None:
        """Hand the newest of everything to the cockpit."""
        self.cockpit.show(self.frame, self.assessment, self._condition())

    def _condition(self) -> Condition:
        silent_s = self._silent_ticks / self.fps
        replay = self.frame is not None and self.frame.replay is not None
        draining = self._draining_ticks is not None
        search = self.search
        return Condition(
            frozen=self._frozen,
            lost=None if self.link.alive or draining or replay else self.link.error or "the session process has ended",
            draining=draining,
            silent_s=silent_s if silent_s >= SILENT_AFTER_S and self.frame is not None and not replay else 0.0,
            note=search.text if search is not None and search.running else None,
        )

    def _show_loss(self) -> None:
        """Once: why the session is gone and what is saved."""
        lost = self.cockpit.condition.lost
        if lost is None or self._lost_shown:
            return
        from llmtop.tui.screens.lost import LostScreen

        self._lost_shown = True
        run_file = None if self.frame is None else self.frame.run_file
        self.push_screen(LostScreen(lost, run_file, self.export is not None))

    def _start_assessing(self) -> None:
        self._assess_ticks += 1
        if self._assessing or self.frame is None:
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

    # -- keys -------------------------------------------------------------------------------------------------------

    @on(Commanded)
    def _command(self, message: Commanded) -> None:
        self.link.send(message.command)

    def action_freeze(self) -> None:
        """Freeze the display, not the load; in a replay, play or pause."""
        if self.frame is not None and self.frame.replay is not None:
            self.cockpit.carry_out(commanding.play_or_pause(self.frame))
            return
        self._frozen = not self._frozen
        if self._frozen:
            self.cockpit.say("display frozen; the load goes on; space thaws it")
        self.tick()

    def action_search(self) -> None:
        cockpit = self.cockpit
        refusal = commanding.live_only(self.frame, not self.link.alive, "a search")
        if refusal is not None:
            cockpit.refuse(refusal.reason)
        elif self.search is None:
            cockpit.refuse("no search here: this session cannot be driven by one")
        elif self.search.running:
            self.search.stop()
            cockpit.say("search stopped; the wheel is yours")
        else:
            self.search.start()
            cockpit.say("searching the cliff; s stops it, any slider takes the wheel back")
        self.show()

    def action_export(self) -> None:
        if self.export is None:
            self.cockpit.refuse("nothing can be exported here")
        else:
            self.cockpit.say("exporting ...")
            self._export(self.export)

    @work(thread=True, group="export", exclusive=True)
    def _export(self, export: Export) -> None:
        try:
            path = export()
        except LlmtopError as error:
            self.call_from_thread(self.cockpit.refuse, f"export: {error}")
        else:
            self.call_from_thread(self.cockpit.say, f"exported {path}", "focus")

    def action_help(self) -> None:
        from llmtop.tui.screens.help import HelpScreen

        tables = (LogSlider.BINDINGS, FaultBar.BINDINGS, Panel.BINDINGS, Cockpit.BINDINGS, self.BINDINGS)
        rows = [*keys.rows_of(*tables), (self.COMMAND_PALETTE_BINDING, "every command by name")]
        self.push_screen(HelpScreen(rows, self.glyphs, self.palette))

    def action_next_theme(self) -> None:
        if self.no_color:
            self.cockpit.refuse("NO_COLOR is set: there are no themes")
            return
        now = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(now + 1) % len(THEMES)]
        self.cockpit.say(f"theme {self.theme}")

    def action_leave(self) -> None:
        """Quit: stop the load and wait for the session to end; a second time leaves at once."""
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

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What ctrl+p offers: every key's action by name."""
        for prefix, bindings in (("app.", self.BINDINGS), ("screen.", Cockpit.BINDINGS)):
            for binding in keys.shown(bindings):
                name = binding.description[0].upper() + binding.description[1:]
                action = binding.action if binding.action.startswith("app.") else prefix + binding.action
                yield SystemCommand(name, f"key {keys.name_of(binding.key)}", self._runner(action))

    def _runner(self, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.run_action, action)

        return run


def _theme_of_terminal() -> str:
    """Day where the terminal says that it is light: COLORFGBG is `foreground;background` in the sixteen colours."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return DAY.name if background in ("7", "15") else NIGHT.name


@lru_cache(maxsize=8)
def _palette(variables: tuple[tuple[str, str], ...], ansi: bool) -> Palette:
    return Palette(dict(variables), ansi)
