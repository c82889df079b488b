"""The app: a tick asks the host for the newest of everything and shows it; keys become commands to the host."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from msgspec.structs import replace
from textual import events, on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.keys import key_to_character
from textual.screen import Screen
from textual.theme import Theme
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import (
    Command,
    Detach,
    Export,
    Imagine,
    InjectFault,
    Pilot,
    Quit,
    SaveProfile,
    SetKnob,
    SetLoad,
    ShowMap,
    Steer,
    StopLoad,
    TakeWheel,
)
from llmtop.domain.frame import Frame, Offer
from llmtop.domain.preferences import NOTHING, Remembered
from llmtop.domain.shown import Shown
from llmtop.host.attendant import Attendant
from llmtop.tui import commanding, keys, packets
from llmtop.tui.keys import Bound
from llmtop.tui.palette import DAY, NIGHT, THEMES, Palette
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.overlay import Overlay
from llmtop.tui.terminal import MOST_COLUMNS, MOST_ROWS, TerminalDriver
from llmtop.tui.widgets.faultbar import FaultBar
from llmtop.tui.widgets.messages import Commanded, WheelWanted
from llmtop.tui.widgets.panel import ChartPanel, Panel
from llmtop.tui.widgets.slider import READ_S, LogSlider
from llmtop.view.arrangement import Layout
from llmtop.view.condition import Condition, on_offer
from llmtop.view.glyphs import ASCII, UNICODE
from llmtop.view.private import private
from llmtop.wording import demo, wheel

SILENT_AFTER_S = 3.0
"""Without a new frame for so long, the last one is shown as stale."""
DRAIN_LIMIT_S = 15.0
OWNERS = (("a slider", LogSlider), ("a chart", ChartPanel), ("a panel", Panel), ("the faults", FaultBar))
"""What has keys of its own while it has the focus."""
ASKED_S = 15.0
"""So long a question stands; an Enter that comes later means something else."""
FROM_PAGES = ("freeze", "search", "edge", "demo", "detach", "export", "save_profile", "next_theme")
"""What is the whole run's: keys that do the same from a page over the cockpit."""


class LlmtopApp(App[None]):
    """The cockpit over a run, live or replayed.

    Args:
        host: attends to the run; it goes on by itself whatever this screen does.
        ascii: draw with ASCII only.
        fps: how often the screen is brought up to date; keys are answered at once.
        title: of the terminal window.
        theme: one of Textual's themes or llmtop's own two; None: the one that is remembered, else the terminal's.
        layout: of the panels, by its name; None: the one that is remembered.
        private: show words in the place of names, addresses and paths (`view.private`).
        keymap: keys of bindings that are not on those they are built with, by their ids; checked by `keymap.check`.
        remembered: how the last screen was left.
        remember: keeps that for the next one; called when it has changed, and must neither wait nor raise.
        detached_for: seconds that a run which this screen detaches from may be left alone; None: as it was begun with.
        until: leave by itself, as by `q`, once this is true of what is shown.
    """

    CSS_PATH = "cockpit.tcss"
    ESCAPE_TO_MINIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "quit: load stops first", tooltip="quit", id="app.leave"),
        Binding("d", "detach", "detach: the load goes on", tooltip="detach", id="app.detach"),
        Binding(",".join(packets.LEAVE_KEYS), "leave", "quit", id="app.leave-too", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "suspend", id="app.suspend", show=False, priority=True),
        Binding("question_mark", "help", "help", tooltip="help", id="app.help"),
        Binding("space", "freeze", "freeze; play and pause", tooltip="freeze", id="app.freeze"),
        Binding("s", "search", "start or stop the search", tooltip="search", id="app.search"),
        Binding("h", "edge", "hold the latency limits", tooltip="hold", id="app.edge"),
        Binding("a", "demo", "demo: on, or stop it", tooltip="go on", id="app.demo"),
        Binding("w", "why", "why: behind the verdict", tooltip="why", id="app.why"),
        Binding("n", "map", "users by prompt length", tooltip="map", id="app.map"),
        Binding("b", "big", "the answer in big digits", tooltip="big", id="app.big"),
        Binding("e", "export", "export a report", tooltip="export", id="app.export"),
        Binding("f", "save_profile", "save as a profile", tooltip="profile", id="app.profile"),
        Binding("t", "next_theme", "next theme", tooltip="theme", id="app.theme"),
    ]

    def __init__(
        self,
        host: Attendant,
        *,
        ascii: bool = False,
        fps: float = 2.0,
        title: str = "llmtop",
        theme: str | None = None,
        layout: str | None = None,
        private: bool = False,
        keymap: Mapping[str, str] | None = None,
        remembered: Remembered = NOTHING,
        remember: Callable[[Remembered], None] = lambda remembered: None,
        detached_for: float | None = None,
        until: Callable[[Shown], bool] | None = None,
    ) -> None:
        colourless = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if colourless else None)
        self.host = host
        self.bound = keys.effective(keymap or {})
        self.set_keymap(dict(self.bound))
        self.leave_keys = frozenset((*self.keys_of("app.leave"), *packets.LEAVE_KEYS))
        self.typed = packets.typed(self.characters_of)
        self.glyphs = ASCII if ascii else UNICODE
        self.fps = max(0.2, fps)
        self._detached_for = detached_for
        self.title = title
        self._until = until
        self.animation_level = "none"
        self.register_theme(NIGHT)
        self.register_theme(DAY)
        self._layout = layout
        self._private = private
        self.remembered = remembered
        self._remember = remember
        self._coloured: tuple[dict[str, str], bool, Palette] | None = None
        """What colours were last asked for, and they."""
        self.theme = "ansi-dark" if colourless else theme or _known(remembered.theme) or _theme_of_terminal()
        self.frame: Frame | None = None
        self.assessment: Assessment | None = None
        self._shown = Shown()
        self._answered = 0
        self._frozen = False
        self._draining_ticks: int | None = None
        self._going: Timer | None = None
        """Waits for the word that this screen has left the run, which goes on."""
        self._wants_wheel = False
        """It was asked for here, and has not come yet."""
        self._lost_shown = False
        self._beyond: tuple[int, int] | None = None
        self._silent_ticks = 0
        self._question: tuple[Callable[[], None], float, str] | None = None
        """What Enter does, since when that is asked, and in which words: they must still stand on the screen."""
        self._offered_at: tuple[float | None, float] = (None, 0.0)
        """Which load is on offer, by its time, and since when that is shown."""
        self._declined_s: float | None = None
        """The offer that was answered."""
        self._loop_of_screen: asyncio.AbstractEventLoop | None = None
        self.ticks = 0

    @property
    def palette(self) -> Palette:
        variables, ansi = self.theme_variables, self.native_ansi_color
        if self._coloured is None or self._coloured[0] is not variables or self._coloured[1] is not ansi:
            self._coloured = variables, ansi, _palette(tuple(sorted(variables.items())), ansi)
        return self._coloured[2]

    def keys_of(self, name: str) -> list[str]:
        """The keys of a binding of the app, the cockpit or a slider, by its id."""
        tables = (*self.BINDINGS, *Cockpit.BINDINGS, *LogSlider.BINDINGS)
        return [binding.key for binding in keys.bound(tables, self.bound) if binding.id == name]

    def key(self, name: str) -> str:
        """What stands on the first of them."""
        return keys.name_of(self.keys_of(name)[0])

    def characters_of(self, name: str) -> str:
        """What its keys write."""
        return "".join(filter(None, map(key_to_character, self.keys_of(name))))

    @property
    def driver(self) -> TerminalDriver | None:
        """Of a terminal; None before there is one, and in tests."""
        driver = self._driver
        return driver if isinstance(driver, TerminalDriver) else None

    @property
    def writing(self) -> bool:
        """Whether keys are letters of a line now, not commands."""
        return bool(self._screen_stack) and isinstance(self.focused, Input)

    def get_driver_class(self) -> type[Driver]:
        return TerminalDriver

    def leave(self) -> None:
        """Go at once; from any thread, and it waits for nobody."""
        if self._loop_of_screen is not None:
            with contextlib.suppress(RuntimeError):  # it has gone meanwhile
                self._loop_of_screen.call_soon_threadsafe(self.exit)

    def on_load(self) -> None:
        self._loop_of_screen = asyncio.get_running_loop()

    def get_default_screen(self) -> Screen[None]:
        asked, left = self._layout, self.remembered
        layout = next((each for each in Layout if each == (asked or left.layout)), Layout.ALL)
        return Cockpit(self.glyphs, self.host.slo, layout, None if asked else left.maximised)

    @property
    def cockpit(self) -> Cockpit:
        """The screen under all others."""
        cockpit = self.screen_stack[0]
        assert isinstance(cockpit, Cockpit)
        return cockpit

    def remember(self, **changes: Any) -> None:
        """Keep for the next screen how this one is left."""
        changed = replace(self.remembered, **changes)
        if changed != self.remembered:
            self.remembered = changed
            self._remember(changed)

    # -- the tick ---------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        self.start_ticking()
        self.tick()
        if self.driver is not None:
            self.call_after_refresh(_collect)
            if self.driver.left_early:
                self.action_leave()

    def refresh_css(self, animate: bool = True) -> None:
        """Before there is a screen nothing has colours: what was read of styles need not be read again."""
        if self._screen_stack:
            super().refresh_css(animate)
        else:
            self.stylesheet.set_variables(self.get_css_variables())

    def start_ticking(self) -> None:
        """From now on the screen is brought up to date by itself, `fps` times a second."""
        self.set_interval(1 / self.fps, self.tick)

    async def on_event(self, event: events.Event) -> None:
        """Before there is a frame nobody sees what a key would do: all but those to leave are left out."""
        typed = isinstance(event, events.InputEvent) and self.frame is None
        if typed and not (isinstance(event, events.Key) and event.key in self.leave_keys):
            return
        commands = isinstance(event, events.Key | events.Paste) and not event.is_forwarded and not self.writing
        if commands and isinstance(event, events.Paste):
            self.cockpit.refuse("what was pasted is no command: nothing was done")
        elif commands and isinstance(event, events.Key):
            await self._obey(event)
        else:
            await super().on_event(event)

    async def _obey(self, key: events.Key) -> None:
        """Do what a key does before the next is looked at: in one packet, each finds what the one before has chosen."""
        question, self._question = self._question, None
        asked = question is not None and self.cockpit.saying == question[2]
        offer, before = self._offer_on_screen(), self.cockpit.bank.touched
        if question is not None and asked and key.key == "enter":
            if time.monotonic() - question[1] >= READ_S:
                question[0]()
            else:
                self._question = question
            return
        if asked:
            self.cockpit.unsay()
        if asked and key.key == "escape":
            self.show()
        elif offer is not None and key.key == "enter":
            if time.monotonic() - self._offered_at[1] >= READ_S:
                self._let_pass(offer)
                self.cockpit.take_up(offer.point)
        elif offer is not None and key.key == "escape":
            self._let_pass(offer)
            self.cockpit.say("not taken up: the load stays at 0")
        elif not await self._check_bindings(key.key, priority=True):
            focused = self.focused
            if not (isinstance(focused, LogSlider) and focused.type(key.key, key.character)):
                done = await self._check_bindings(key.key)
                if not done and isinstance(self.screen, Overlay):
                    await self._obey_from_page(key.key)
            if offer is not None and self.cockpit.bank.touched != before:
                self._let_pass(offer)

    async def _obey_from_page(self, key: str) -> None:
        """A key of the cockpit where a page stands over it: what it does, or where it acts."""
        bound = [each for each in keys.shown((*self.BINDINGS, *Cockpit.BINDINGS), self.bound) if each.key == key]
        if bound and bound[0].action in FROM_PAGES:
            await self.run_action(f"app.{bound[0].action}")
        elif bound:
            self.cockpit.refuse(f"{keys.name_of(key)}: in the cockpit (Esc)")
        self.show()

    def _offer_on_screen(self) -> Offer | None:
        """The load that Enter takes up again: one that stands on the screen, with no other question before it."""
        cockpit, screen = self.cockpit, self.screen
        shown = not cockpit.takes_enter if screen is cockpit else isinstance(screen, Overlay) and screen.tells_offer
        return cockpit.condition.offer if shown else None

    def _let_pass(self, offer: Offer) -> None:
        """It is answered, or a hand does something else: it stands no more."""
        self._declined_s = offer.t_s
        self.cockpit.let_pass(offer.point)
        self.show()

    def _theme_changed(self, theme: Theme) -> None:
        for widget in self.cockpit.walk_children():
            widget.notify_style_update()
            widget.refresh()

    def tick(self) -> None:
        """Take the newest of everything and show it, unless the display is frozen."""
        if not self._screen_stack:  # the app closes: its screens have gone before its timers
            return
        self.ticks += 1
        before, shown = self._shown.wheel, self.host.shown()
        if self._private:
            shown = private(shown)
        self._shown = shown
        newest = shown.frame
        fresh = newest is not None and (self.frame is None or newest.seq != self.frame.seq)
        self._silent_ticks = 0 if fresh or self._frozen else self._silent_ticks + 1
        if newest is not None and not self._frozen:
            self.frame, self.assessment = newest, shown.assessment
        self._show_wheel(before.mine)
        self.show()
        self._end_steering_of_what_is_gone()
        self._show_answer()
        self._show_loss()
        self._show_window()
        if self._draining_ticks is not None:
            self._draining_ticks += 1
            if self._draining_ticks / self.fps > DRAIN_LIMIT_S:
                self.exit()
        elif self._until is not None and self._until(shown):
            self.action_leave()

    def show(self) -> None:
        """Hand the newest of everything to the cockpit, and to what stands over it."""
        self.cockpit.show(self.frame, self.assessment, self._condition(), self._shown.scene)
        self.remember(maximised=self.cockpit.body.alone)
        if isinstance(self.screen, Overlay) and self.frame is not None:
            self.screen.tell(self.frame, self.assessment, self.cockpit.condition)
            self.screen.answer(self.cockpit.saying)

    def _condition(self) -> Condition:
        silent_s = self._silent_ticks / self.fps
        replay = self.frame is not None and self.frame.replay is not None
        draining = self._draining_ticks is not None
        ended, steering = self._shown.ended, self._shown.steering
        gone = ended is not None and not draining and not replay
        condition = Condition(
            frozen=self._frozen,
            lost=(ended.error or wheel.ENDED_ELSEWHERE) if ended is not None and gone else None,
            over=gone and ended is not None and ended.error is None,
            draining=draining,
            silent_s=silent_s if silent_s >= SILENT_AFTER_S and self.frame is not None and not replay else 0.0,
            note=steering.text if steering.running else None,
            pilot=steering.by,
            wheel=self._shown.wheel,
        )
        offer = on_offer(self.frame, condition, self._declined_s)
        if offer is not None and offer.t_s != self._offered_at[0]:
            self._offered_at = (offer.t_s, time.monotonic())
        return replace(condition, offer=offer)

    def _end_steering_of_what_is_gone(self) -> None:
        """Nobody drives a server that was started anew under it: a hand begins again."""
        awaited = self.frame is not None and self.frame.endpoint.awaited is not None
        if awaited and self._shown.steering.running and self._shown.wheel.mine:
            by = self._shown.steering.by
            self.cockpit.say(wheel.server_gone(by))
            self.host.send(Steer(by, on=False))

    def _show_answer(self) -> None:
        """Once: what became of something that was asked for."""
        answer = self._shown.answer
        if answer is None or answer.number == self._answered:
            return
        self._answered = answer.number
        if self._going is not None and answer.refused:  # it could not leave
            self._going.stop()
            self._going = None
        if answer.refused:
            self.cockpit.refuse(answer.text)
        else:
            self.cockpit.say(answer.text, "focus")

    def _show_loss(self) -> None:
        """Once: why the session is gone and what is saved."""
        lost = self.cockpit.condition.lost
        if lost is None or self._lost_shown:
            return
        from llmtop.tui.screens.lost import LostScreen

        self._lost_shown = True
        run_file = None if self.frame is None else self.frame.run_file
        self.push_screen(LostScreen(lost, run_file, over=self.cockpit.condition.over))

    def _show_wheel(self, mine: bool) -> None:
        """Once: that this screen has got the wheel that it asked for. That it has lost it is answered to it."""
        now = self._shown.wheel
        if mine and not now.mine:
            self.cockpit.give_way()
        elif now.mine and self._wants_wheel:
            self._wants_wheel = False
            self.cockpit.say(wheel.TAKEN, "focus")

    def _show_window(self) -> None:
        """Once for each size: that only a part of the window is drawn on."""
        beyond = None if self.driver is None else self.driver.beyond
        if beyond is not None and beyond != self._beyond:
            width, height = beyond
            self.cockpit.say(f"{MOST_COLUMNS} by {MOST_ROWS} cells are drawn on, the window has {width} by {height}")
        self._beyond = beyond

    # -- keys -------------------------------------------------------------------------------------------------------

    @on(Commanded)
    def _command(self, message: Commanded) -> None:
        gate_alone = isinstance(message.command, SetLoad) and message.command.gate_alone
        sets = isinstance(message.command, SetLoad | StopLoad) and not gate_alone
        if sets and (offer := self.cockpit.condition.offer) is not None:
            self._let_pass(offer)
        if not self._may_ask(message.command):
            return
        steering = self._shown.steering
        releases = isinstance(message.command, SetLoad) and not (gate_alone and steering.by == "hold")
        releases |= steering.by == "demo" and isinstance(message.command, SetKnob | InjectFault)
        if releases and steering.running:
            self.cockpit.say(wheel.gives_back(steering.by))
        self.host.send(message.command)

    def _may_ask(self, command: Command) -> bool:
        """Whether this screen may ask the run for it. To stop the load it takes the wheel at once."""
        held = self._shown.wheel
        if held.mine or isinstance(command, ShowMap) or self._shown.ended is not None:
            return True
        if isinstance(command, StopLoad) and not held.view:
            self.host.send(TakeWheel())
            return True
        if not isinstance(command, Imagine):
            self._ask_for_wheel()
        return False

    @on(WheelWanted)
    def _ask_for_wheel(self) -> None:
        """Say who drives; where this screen may, Enter takes the wheel, and does nothing else."""
        asked = wheel.lacking(self._shown.wheel)
        if self._shown.wheel.view:
            self.cockpit.say(f"{self.glyphs.warn} {asked}", "warn")
        elif asked:
            self.cockpit.say(asked, "focus", ASKED_S)
            self._question = (self._take_wheel, time.monotonic(), asked)
        self.show()

    def _take_wheel(self) -> None:
        self._wants_wheel = True
        self.host.send(TakeWheel())

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
        self._steer("search")

    def action_edge(self) -> None:
        self._steer("hold")

    def action_demo(self) -> None:
        """Go on with a demo that a hand has the wheel of, or stop it."""
        if self._shown.scene is None:
            self.cockpit.refuse(demo.NOT_HERE)
        else:
            self._steer("demo")

    def _steer(self, by: Pilot) -> None:
        """Let a search or a hold take the wheel, from another too; or take it back from this one."""
        cockpit, steering = self.cockpit, self._shown.steering
        refusal = commanding.drives(self.frame, self._condition(), wheel.ONE[by])
        if refusal is not None:
            cockpit.refuse(refusal.reason)
        elif steering.running and steering.by == by:
            cockpit.say(wheel.gives_back(by))
            self.host.send(Steer(by, on=False))
        elif cockpit.bank.stopped:
            asked = wheel.asks_to_start(by)
            cockpit.say(asked, "focus", ASKED_S)
            self._question = (lambda: self._start(by), time.monotonic(), asked)
        else:
            self._start(by)
        self.tick()

    def _start(self, by: Pilot) -> None:
        self.cockpit.bank.start_anew()
        self.cockpit.say(wheel.BEGINS[by])
        self.host.send(Steer(by))

    def action_export(self) -> None:
        if self._may_ask(Export()):
            self.cockpit.say("exporting ...")
            self.host.send(Export())

    def action_save_profile(self) -> None:
        if self._may_ask(SaveProfile()):
            self.host.send(SaveProfile())

    def action_help(self) -> None:
        from llmtop.tui.screens.help import HelpScreen

        chapters = key_chapters(self.cockpit.focused, self.bound)
        self.push_screen(HelpScreen(chapters, self.glyphs, self.palette))

    def action_why(self) -> None:
        from llmtop.tui.screens.why import WhyScreen

        self._show_over(WhyScreen(self.glyphs, self.palette))

    def action_server_log(self) -> None:
        if self.frame is None or self.frame.endpoint.command is None:
            self.cockpit.refuse("no log: this server was not started from here (--serve, --apply)")
            return
        from llmtop.tui.screens.serverlog import ServerLogScreen

        self._show_over(ServerLogScreen(self.glyphs))

    def action_map(self) -> None:
        from llmtop.tui.screens.map import MapScreen

        self._show_over(MapScreen(self.glyphs))

    def action_explore(self) -> None:
        """From the map alone: nothing else starts it."""
        self._steer("map")

    def action_big(self) -> None:
        from llmtop.tui.screens.big import BigScreen

        self._show_over(BigScreen(self.glyphs, self.host.slo))

    def _show_over(self, overlay: Overlay) -> None:
        self.push_screen(overlay)
        self.call_later(self.show)

    def action_stop_load(self) -> None:
        """Also from a screen over the cockpit."""
        self.cockpit.action_stop_load()

    def action_next_theme(self) -> None:
        if self.no_color:
            self.cockpit.refuse("NO_COLOR is set: there are no themes")
            return
        now = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(now + 1) % len(THEMES)]
        self.remember(theme=self.theme)
        self.cockpit.say(f"theme {self.theme}")

    def action_detach(self) -> None:
        """Leave the run, which goes on."""
        if self.frame is not None and self.frame.replay is not None:
            self.cockpit.refuse(wheel.REPLAY_STAYS)
        elif self._draining_ticks is not None:
            self.cockpit.refuse(wheel.ENDING)
        elif self._shown.ended is not None:
            self.action_leave()
        else:
            self.cockpit.say(wheel.LEAVING)
            self.host.send(Detach(self._detached_for if self._shown.wheel.mine else None))
            if self._going is None:
                self._going = self.set_interval(0.05, self._leave_when_gone)

    def action_leave(self) -> None:
        """Quit: stop the load and wait for the session to end; a second time leaves at once.

        From a screen that does not drive it ends nothing.
        """
        if not self._shown.wheel.mine and self._shown.ended is None and self._draining_ticks is None:
            if self._going is None and self.frame is not None:
                self.action_detach()
            else:
                self.exit()
            return
        if self._draining_ticks is not None or self._shown.ended is not None:
            self.host.send(Quit(patient=False))
            self.exit()
            return
        while isinstance(self.screen, Overlay):  # the cockpit shows how far it is
            self.pop_screen()
        self._draining_ticks = 0
        self._frozen = False
        self.host.send(Quit())
        self.show()
        self.set_interval(0.1, self._leave_when_gone)

    def action_suspend_process(self) -> None:
        """To the shell and back with `fg`; not where there is no shell that would bring it back."""
        if os.getpgrp() == os.getsid(0):
            self.cockpit.refuse("not suspended: there is no shell to go back to")
        else:
            super().action_suspend_process()

    def _leave_when_gone(self) -> None:
        if self.host.left or self.host.shown().ended is not None:
            self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What ctrl+p offers: every key's action by name."""
        for prefix, bindings in (("app.", self.BINDINGS), ("screen.", Cockpit.BINDINGS)):
            for binding in keys.shown(bindings, self.bound):
                name = binding.description[0].upper() + binding.description[1:]
                action = binding.action if binding.action.startswith("app.") else prefix + binding.action
                yield SystemCommand(name, f"key {keys.name_of(binding.key)}", self._runner(action))

    def _runner(self, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.run_action, action)

        return run


def key_chapters(focused: Widget | None = None, keymap: Bound = ()) -> list[tuple[str, list[tuple[str, str]]]]:
    """(where, rows of keys and what they do there): first what has the focus, then everywhere, then what has not."""
    rows = keys.rows_of(Cockpit.BINDINGS, LlmtopApp.BINDINGS, keymap=keymap)
    rows = [*rows, (App.COMMAND_PALETTE_BINDING, "every command by name")]
    own = [(name, keys.rows_of(owner.BINDINGS), isinstance(focused, owner)) for name, owner in OWNERS]
    here = [(f"Keys on {name}, lit now", table) for name, table, lit in own if lit]
    return [*here, ("Keys everywhere", rows), *((f"Keys on {name}", table) for name, table, lit in own if not lit)]


def _known(theme: str | None) -> str | None:
    """The theme, if there still is one of that name."""
    return theme if theme in THEMES else None


def _theme_of_terminal() -> str:
    """Day where the terminal says that it is light: COLORFGBG is `foreground;background` in the sixteen colours."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return DAY.name if background in ("7", "15") else NIGHT.name


def _collect() -> None:
    """Let rubbish be collected again, which a start does without; what is there by now stays."""
    gc.freeze()
    gc.enable()


@lru_cache(maxsize=8)
def _palette(variables: tuple[tuple[str, str], ...], ansi: bool) -> Palette:
    return Palette(dict(variables), ansi)
