"""The main screen: attributes down to its widgets, their commands up to the app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from msgspec.structs import replace
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from llmtop.domain.assessment import Assessment
from llmtop.domain.foresight import Foresight
from llmtop.domain.frame import Frame
from llmtop.domain.gain import Gain
from llmtop.domain.load import LoadPoint
from llmtop.domain.shown import Scene
from llmtop.domain.slo import Slo
from llmtop.host.flags import startup_flags
from llmtop.tui import commanding, keys
from llmtop.tui.commanding import Order, Refusal
from llmtop.tui.screens.lost import short
from llmtop.tui.widgets.body import Body
from llmtop.tui.widgets.faultbar import FaultBar
from llmtop.tui.widgets.knobs import GateTurned, KnobBank
from llmtop.tui.widgets.line import Line, Lines
from llmtop.tui.widgets.loadbank import LoadBank
from llmtop.tui.widgets.messages import Commanded, Refused, Said, WheelWanted
from llmtop.tui.widgets.panel import ChartPanel, Panel
from llmtop.tui.widgets.serverbank import ServerBank, SettingText, Typing
from llmtop.tui.widgets.slider import LogSlider
from llmtop.view import card, lines
from llmtop.view.arrangement import LAYOUTS, MIN_SIZE, Layout, arrange
from llmtop.view.coach import Coach
from llmtop.view.condition import Condition, Lateness, is_stale
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.rest import HeldCharts, at_rest
from llmtop.view.runs import Runs, cut, cut_story
from llmtop.view.stage import stage
from llmtop.view.verdict import verdict
from llmtop.wording import coach as coach_words
from llmtop.wording import wheel
from llmtop.wording.bank import hints

SAID_S = 4.0
"""How long an answer to a key stays on the event line."""

_DRIVES = (*(keys.LIVE - {"view.knobs", "view.log"}), "app.export", "app.profile")
"""What a screen that only looks on does not offer, besides sliders and loads."""
SLIDERS = Binding.Group("the three load sliders")
PANELS = Binding.Group("panel by number")
SEEK = Binding.Group("replay: 10 s back, on")
JUMP = Binding.Group("replay: mark, event")
SPEED = Binding.Group("replay: slower, faster")


class Cockpit(Screen[None]):
    """Header, verdict, sliders, panels, events, keys."""

    AUTO_FOCUS = ""
    """Nothing by itself: a screen that closes over this one must not give the load slider to stray keys."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "slider('load')", "concurrency slider", tooltip="slide", id="slider.load", group=SLIDERS),
        Binding("p", "slider('prompt')", "prompt slider", tooltip="slide", id="slider.prompt", group=SLIDERS),
        Binding("o", "slider('output')", "output slider", tooltip="slide", id="slider.output", group=SLIDERS),
        Binding("tab", "app.focus_next", "next slider or panel", id="view.next"),
        Binding("k", "knobs", "the server's knobs", tooltip="knobs", id="view.knobs"),
        Binding("v", "app.server_log", "the server's last lines", tooltip="log", id="view.log"),
        Binding("x", "stop_load", "stop the load at once", tooltip="stop", id="load.stop"),
        Binding("enter", "hold", "take the load on offer", tooltip="take", id="load.hold"),
        Binding("u", "undo", "undo what a slider did", tooltip="undo", id="load.undo"),
        Binding("m", "mark", "mark this moment", tooltip="mark", id="run.mark"),
        Binding("r", "record", "pause or go on recording", tooltip="rec", id="run.record"),
        Binding("g", "chart_mode", "other dots for charts", tooltip="dots", id="view.dots"),
        Binding("z", "maximise", "maximise the panel", tooltip="maximise", id="view.maximise"),
        Binding("l", "layout", "next layout of panels", tooltip="layout", id="view.layout"),
        Binding("i", "coach", "the coach line: off, on", id="view.coach"),
        Binding("escape", "release", "let go; give room back", id="view.back"),
        Binding("left_square_bracket", "seek(-1)", "replay: 10 s back", tooltip="10s", id="replay.back", group=SEEK),
        Binding("right_square_bracket", "seek(1)", "replay: 10 s on", tooltip="10s", id="replay.forward", group=SEEK),
        Binding(
            "left_curly_bracket", "jump(-1)", "replay: mark before", tooltip="mark", id="replay.before", group=JUMP
        ),
        Binding("right_curly_bracket", "jump(1)", "replay: next mark", tooltip="mark", id="replay.next", group=JUMP),
        Binding("j", "go_to", "replay: go to a time", tooltip="go to", id="replay.go"),
        Binding("comma", "speed(-1)", "replay: slower", tooltip="speed", id="replay.slower", group=SPEED),
        Binding("full_stop", "speed(1)", "replay: faster", tooltip="speed", id="replay.faster", group=SPEED),
        *(Binding(str(n), f"panel({n})", f"panel {n}", id=f"panel.{n}", group=PANELS) for n in range(1, 10)),
    ]

    def __init__(
        self, glyphs: Glyphs, slo: Slo, layout: Layout = Layout.ALL, alone: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.frame: Frame | None = None
        self.condition = Condition()
        self._assessment: Assessment | None = None
        self._scene: Scene | None = None
        self._coached = ""
        """What the coach says."""
        self._story_lines: list[Runs] = []
        """The caption of a demo's scene, and that."""
        self._coach = Coach(self._key_of)
        self._told_rows = 0
        """Of caption and coach above the events."""
        self._story_wanted = 0
        self._said: tuple[str, str] | None = None
        self._said_so: Callable[[], bool] = lambda: True
        """Whether what was said last still holds."""
        self._lateness = Lateness()
        self.panels_as = layout
        self._before: Widget | None = None
        """What had the focus before the knobs were shown."""
        self._before_mark: Widget | None = None
        self._kept: Widget | None = None
        """What had the focus before the window became too small."""
        self._charts = HeldCharts()
        self._told: list[card.Fact] = []
        """What the answer card says; nothing while a load is driven."""
        self._offered: float | None = None
        self._compared: dict[tuple[str, str], Gain] = {}
        self._header = Line(id="header")
        self._verdict = Lines(id="verdict")
        self._stage = Lines(id="stage")
        self.bank = LoadBank(glyphs, id="sliders")
        self.live_knobs = KnobBank(glyphs, id="knobs")
        self.server = ServerBank(glyphs, id="server")
        self._line_for = ""
        """The setting whose value is typed."""
        self._bank_rows = 0
        """What load slider and knobs wanted when the room was given out; 0: they were not shown."""
        self._settings = Line(id="settings")
        self._card = Lines(id="card")
        self.body = Body(glyphs, slo, id="body")
        self.body.begin(alone)
        self._story = Lines(id="story")
        self._events = Line(id="events")
        self._mark = Input(id="mark", compact=True)
        self._mark.cursor_blink = False
        self._keys = Line(id="keys")

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._stage
        yield self._verdict
        with Vertical(id="banks"):
            yield self.bank
            yield self.live_knobs
            yield self.server
        yield self._settings
        yield self._card
        yield self.body
        yield self._story
        yield self._events
        yield self._mark
        yield self._keys

    def on_mount(self) -> None:
        self.live_knobs.display = self.server.display = False
        self._mark.display = self._story.display = self._stage.display = False
        self.set_focus(self.bank.load)
        self._arrange()

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    # -- attributes down --------------------------------------------------------------------------------------------

    def show(
        self, frame: Frame | None, assessment: Assessment | None, condition: Condition, scene: Scene | None = None
    ) -> None:
        """Draw what is new. While frozen, sliders show the hand and not the old frame."""
        if frame is not None:
            condition = replace(condition, late=self._lateness.see(frame))
        self.frame, self._assessment, self.condition, self._scene = frame, assessment, condition, scene
        glyphs = self.glyphs
        self._tell_story()
        self._header.show(lambda width: lines.header(frame, condition, glyphs, width))
        self._verdict.show(lambda width, rows: verdict(frame, assessment, condition, glyphs, width, rows))
        drawn = None if frame is None else self._charts.see(frame, at_rest(frame, condition))
        besides = condition if scene is None else replace(condition, note=None)  # a caption is told in its own row
        self._settings.show(lambda width: lines.settings(drawn, besides, glyphs, width))
        if frame is not None:
            if not isinstance(self.focused, ChartPanel):  # who looks elsewhere must not take old figures for new ones
                self.body.cursor_s = None
            self.body.show(drawn or frame, assessment, condition)
            slo = self.body.slo
            self._stage.show(lambda width, rows: stage(frame, assessment, condition, slo, glyphs, width))
        self._show_events()
        self._show_keys()
        if frame is None:
            return
        self.bank.drive(condition.note is not None or frame.stage is not None)
        if not condition.frozen:
            stale = is_stale(frame, condition)
            locked = commanding.drives(frame, condition, "moving the load")
            answer = self._foreseen(assessment)
            wall = answer.wall if answer is not None and answer.axis == frame.target.axis else None
            self.bank.follow(
                frame,
                None if assessment is None else assessment.cliff,
                stale,
                None if locked is None else locked.reason,
                None if wall is None else wall.value,
            )
            self._follow_knobs(frame, stale, answer)
        self._show_card(frame, assessment, condition)
        self._tell_compared(assessment)

    def _show_card(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        """What a run at rest has found, and on the slider the load that it recommends."""
        resting, again = assessment is not None and at_rest(frame, condition), condition.offer
        locked = self._locked(frame, condition) or self.bank.starting
        offered = card.offered(assessment) if resting and not locked else None
        if again is not None:
            offered = again.point.value
        if offered is None or self._offered == offered or self.bank.offer(offered):
            self._offered = offered
        load, glyphs = self.bank.load, self.glyphs
        asks = frame.target.value == 0 and frame.replay is None and again is None and condition.wheel.mine
        holds = card.holding(load.asked, load.has_focus, offered is not None) if asks else ""
        run_file = None if frame.run_file is None else short(frame.run_file)
        told: list[card.Fact] = []
        if resting and assessment is not None:
            told = card.facts(frame, assessment, condition, glyphs, holds, run_file)
        moves = self._card_rows(told) != self._card_rows(self._told)
        self._told = told
        self._card.show(lambda width, rows: card.card(told, glyphs, width, rows))
        if moves and self.is_mounted:
            self._arrange()

    def _tell_compared(self, assessment: Assessment | None) -> None:
        """What a turned knob did, and what the run is beside an earlier one, once known; of a demo captions tell."""
        known = {}
        demonstrates = self.condition.note is not None and self.condition.pilot == "demo"
        for compared in () if assessment is None else assessment.comparisons:
            key = compared.against, compared.changed
            known[key] = compared.gain
            news = self._compared.get(key) is not compared.gain
            if news and not demonstrates and (not compared.against or compared.gain is not Gain.OPEN):
                self.say(compared.text, "focus")
        self._compared = known

    def _card_rows(self, told: list[card.Fact]) -> int:
        return card.rows_needed(told, self.app.size.width)

    @staticmethod
    def _locked(frame: Frame, condition: Condition) -> bool:
        gone = condition.lost is not None or condition.draining
        return frame.replay is not None or gone or not condition.wheel.mine

    def offered(self) -> list[tuple[str, str, str]]:
        """What the last line offers: (keys, word, action), for what has the focus and for how the run stands."""
        if self._mark.display:
            replay = self.frame is not None and self.frame.replay is not None
            does = "takes it" if self._line_for else "goes there" if replay else "sets the mark"
            return [("Enter", does, ""), ("Esc", "does not", "")]
        if self.frame is None:
            return [(self._key("app.leave"), "quit", "app.leave")]
        focused = self.focused
        owner = type(focused) if isinstance(focused, LogSlider | Panel | FaultBar | SettingText) else None
        found = keys.footer(owner, type(self), type(self.app), self._offers(), self._words(), self._bound)
        return [(plain(key, self.glyphs), word, action) for key, word, action in found]

    @property
    def _bound(self) -> keys.Bound:
        """What is on other keys than it is built with."""
        return self.app.bound  # type: ignore[attr-defined,no-any-return]

    def _key(self, name: str) -> str:
        """What stands on the key of a binding."""
        return self.app.key(name)  # type: ignore[attr-defined,no-any-return]

    def _offers(self) -> Callable[[str], bool]:
        """Which bindings make sense, by their id."""
        frame = self.frame
        if frame is not None and frame.replay is not None:
            return lambda name: name not in keys.LIVE and not name.startswith(("slider.", "load."))
        senseless = {
            *(() if frame is not None and frame.endpoint.command else ("view.log",)),
            *(() if self.condition.wheel.mine else ("app.detach",)),
            *(_DRIVES if self.condition.wheel.view else ()),
            *(() if self.condition.pilot == "demo" else ("app.demo",)),
            *(() if (self._offered is not None and self._told) or self.condition.offer is not None else ("load.hold",)),
        }
        of_others = ("replay.", "slider.", "load.") if self.condition.wheel.view else ("replay.",)
        return lambda name: not name.startswith(of_others) and name not in senseless

    def _words(self) -> dict[str, str]:
        """Words of the last line that say what a key would do now."""
        frame, condition = self.frame, self.condition
        replay = None if frame is None else frame.replay
        words = {} if condition.wheel.mine else {"app.leave": "leave"}
        if replay is not None:
            words["app.freeze"] = "pause" if replay.playing else "play"
        elif condition.frozen:
            words["app.freeze"] = "thaw"
        if condition.note:
            words |= wheel.STOPS.get(condition.pilot, {})
        if condition.offer is not None:
            words["load.hold"] = "again"
        if self.knobs.display:
            words["view.knobs"] = "load"
        if frame is not None and frame.recording:
            words["run.record"] = "pause rec"
        return words

    def _show_keys(self) -> None:
        offered = self.offered()
        self._keys.show(lambda width: lines.keys(offered, width))

    def on_descendant_focus(self) -> None:
        if self.body.cursor_s is not None:
            self._show_again()
        self._show_keys()

    def on_descendant_blur(self) -> None:
        self._show_keys()

    # -- caption and coach ------------------------------------------------------------------------------------------

    @property
    def _coaches(self) -> bool:
        return self.app.remembered.coach  # type: ignore[attr-defined,no-any-return]

    @property
    def _story_wants(self) -> int:
        return self._coaches + (self._scene is not None)

    def _key_of(self, name: str) -> str:
        """What stands on the key of a binding now; of a slider's, behind the key that goes there first."""
        key = self._key(name)
        there = not name.startswith("slider.") or name == "slider.load" or self.focused is self.bank.load
        return plain(key if there else f"{self._key_of('slider.load')} {key}", self.glyphs)

    def _tell_story(self) -> None:
        self._coached = ""
        if self._coaches:
            self._coached = self._coach.see(self.frame, self._assessment, self.condition)
        story = self._story_lines = lines.story(self._scene, self._coached, self.glyphs)
        self._story.show(lambda width, rows: [cut_story(line, width, self.glyphs.more) for line in story[:rows]])
        if self.is_mounted and self._story_wants != self._story_wanted:
            self._arrange()

    def _shared(self) -> Runs:
        """What caption and coach have no row of their own for."""
        rest = self._story_lines[self._told_rows :]
        return rest[0] if rest else []

    def action_coach(self) -> None:
        """The coach on, or off."""
        on = not self._coaches
        self.app.remember(coach=on)  # type: ignore[attr-defined]
        self._show_again()
        self.say(coach_words.ON if on else coach_words.off(self._key_of("app.help"), self._key_of("view.coach")))

    def _show_events(self) -> None:
        """The newest events, or the coach; for a moment what was said to a key; or that the terminal is too small."""
        width, height = self.app.size
        if self._said is not None and not self._said_so():
            self._said = None
        if not arrange(width, height).fits:
            small = f" {width}x{height} is too small: llmtop needs {MIN_SIZE[0]}x{MIN_SIZE[1]}"
            self._events.show(lambda room: cut([(small, "warn")], room, self.glyphs.more))
        elif self._said is not None:
            text, role = self._said
            self._events.show(lambda room: cut([(f" {text}", role)], room, self.glyphs.more))
        elif self.body.cursor_s is not None:
            self._events.show(lambda room: cut([(f" {self.body.reading}", "text")], room, self.glyphs.more))
        elif self.body.shows_log:
            self._events.show(lambda room: [])
        else:
            found = lines.entries(self.frame, self.glyphs)
            shared = self._shared()
            t_s = 0.0 if self.frame is None else self.frame.t_s
            if shared and not lines.is_news(found, t_s):
                self._events.show(lambda room: cut_story(shared, room, self.glyphs.more))
            elif self.panels_as is Layout.STAGE and not lines.is_news(found, t_s):
                self._events.show(lambda room: [])
            else:
                self._events.show(lambda room: lines.event_line(found, self.glyphs, room))

    def _arrange(self) -> None:
        rows = self.knobs.rows_wanted + 1 if self.knobs.display else 0
        wanted = self._story_wanted = self._story_wants
        plan = arrange(*self.app.size, self._card_rows(self._told), rows, self.panels_as, wanted)
        self._bank_rows, self._told_rows = rows, plan.told_rows
        if not plan.fits:
            self._kept = self.focused or self._kept
        elif self._kept is not None:  # a window that was too small for a while takes no slider out of the hand
            self.call_after_refresh(self.set_focus, self.focused or self._kept)
            self._kept = None
        self._card.display = plan.fits and plan.card_rows > 0
        self._card.styles.height = max(plan.card_rows, 1)
        for widget in (self.query_one("#banks"), self.body, self._keys):
            widget.display = plan.fits
        self._story.display = plan.told_rows > 0
        self._story.styles.height = max(plan.told_rows, 1)
        self._stage.display = plan.stage_rows > 0
        self._stage.styles.height = max(plan.stage_rows, 1)
        self._verdict.styles.height = plan.verdict_rows
        self._settings.display = plan.fits and plan.settings and not self.knobs.display
        self.bank.show_load_alone(self.knobs.display or plan.stage_rows > 0)
        self.bank.show_output(plan.output_slider)
        self.knobs.give_room(plan.bank_rows - 1)
        self.body.give_room(plan)
        self.call_after_refresh(self._show_again)

    def _show_again(self) -> None:
        self.show(self.frame, self._assessment, self.condition, self._scene)

    # -- answers ----------------------------------------------------------------------------------------------------

    def say(
        self, text: str, role: str = "text", stands_s: float = SAID_S, so: Callable[[], bool] = lambda: True
    ) -> None:
        """Show `text` on the event line for some seconds, and no longer than it is `so`."""
        said = self._said = (text, role)
        self._said_so = so
        self._show_events()
        self.set_timer(stands_s, lambda: self._unsay(said))

    @property
    def saying(self) -> str:
        """What stands on the event line beside the events; empty: nothing."""
        return "" if self._said is None else self._said[0]

    def unsay(self) -> None:
        """What is said stands no more."""
        self._said = None
        self._show_events()

    def _unsay(self, said: tuple[str, str]) -> None:
        if self._said is said:
            self.unsay()

    def refuse(self, reason: str) -> None:
        """Say why a key does nothing now; where another screen has the wheel, it may be asked for."""
        if reason and reason == self.condition.lacking:
            self.post_message(WheelWanted())
            return
        self.say(f"{self.glyphs.warn} {reason}", "warn")

    def carry_out(self, answer: Order | Refusal) -> None:
        """Pass a command on, or say why there is none."""
        if isinstance(answer, Refusal):
            self.refuse(answer.reason)
            return
        self.post_message(Commanded(answer.command))
        if answer.said:
            self.say(answer.said)

    @on(Refused)
    def _refused(self, message: Refused) -> None:
        self.refuse(message.reason)

    @on(Said)
    def _something_said(self, message: Said) -> None:
        self.say(message.text, so=message.so)

    def give_way(self) -> None:
        """Another screen drives: what was begun here, asked or stopped, counts no more."""
        self.bank.start_anew()
        self.bank.load.ask(None)
        if self._bank_rows:
            self._show_knobs(False)

    # -- keys -------------------------------------------------------------------------------------------------------

    def action_slider(self, name: str) -> None:
        if self.knobs.display and name != "load":
            self._show_knobs(False)
        slider = self.query_one(f"#{name}", LogSlider)
        if not slider.display:
            on_stage = self.panels_as is Layout.STAGE
            why = f"not on the stage: {self._key_of('view.layout')} shows the other sliders"
            self.refuse(why if on_stage else "the output slider needs a terminal of 22 rows")
            return
        self.set_focus(slider)

    def action_knobs(self) -> None:
        refusal = commanding.live_only(self.frame, self.condition, "turning a knob")
        if refusal is not None:
            self.refuse(refusal.reason)
        else:
            self._show_knobs(not self.knobs.display)

    def _show_knobs(self, on: bool) -> None:
        """The server's knobs under the load slider, or the other sliders of the load."""
        knobs = self.knobs
        if not on:
            knobs.leave()
        knobs.display = on
        self.bank.show_load_alone(on)
        if on and self.frame is not None:
            self._before = self.focused
            self._follow_knobs(self.frame, is_stale(self.frame, self.condition), None)
        self.set_focus(knobs.first if on else self._before)
        self._arrange()

    @property
    def knobs(self) -> KnobBank | ServerBank:
        """Those of the server that is driven: of its command, where that has settings."""
        command = None if self.frame is None else self.frame.endpoint.command
        return self.server if command is not None and command.settings else self.live_knobs

    def _foreseen(self, assessment: Assessment | None) -> Foresight | None:
        """The answer to what the bank asks; None: it asks nothing, or there is none yet."""
        asked = tuple((each.name, each.value) for each in self.knobs.asked) if self.knobs.display else ()
        answer = None if assessment is None else assessment.foreseen
        return answer if asked and answer is not None and answer.settings == asked else None

    def _follow_knobs(self, frame: Frame, stale: bool, answer: Foresight | None) -> None:
        if not self.knobs.display:
            return
        refusal = commanding.drives(frame, self.condition, "turning a knob")
        locked = None if refusal is None else refusal.reason
        if isinstance(self.knobs, ServerBank):
            self.server.locked = locked
            assert frame.endpoint.command is not None
            self.server.turns(frame.endpoint.knobs, frame.endpoint.knob_most)
            self.server.tell(answer, frame.target.gate)
            self.server.follow(frame.endpoint.command, frame.target.value > 0, stale)
        else:
            self.live_knobs.follow(frame, stale, locked)
            flags = startup_flags(frame.endpoint.dialect)
            self.live_knobs.tell(answer, flags, hints(frame.endpoint), self.condition.note or "")
        if self.is_mounted and self.knobs.rows_wanted + 1 != self._bank_rows:
            self._arrange()

    @on(GateTurned)
    def _gate_turned(self, message: GateTurned) -> None:
        command = self.bank.behind(message.gate)
        if command is not None:
            self.post_message(Commanded(command))

    @on(Typing)
    def _value_is_typed(self, message: Typing) -> None:
        self._open_line(f"a value for {message.name}; Enter takes it, Esc does not", message.name)

    def action_stop_load(self) -> None:
        refusal = commanding.live_only(self.frame, self.condition, "stopping the load")
        if refusal is not None or self.condition.wheel.view:
            self.refuse(self.condition.lacking if refusal is None else refusal.reason)
            return
        offered = card.offered(self._assessment)
        self.bank.stop(offered)
        then = self.bank.load.asked
        what = "goes back to" if offered is None else "holds the recommended"
        again = "" if then is None else f"; Enter on its slider {what} {then:g}"
        self.say(f"load to zero, and it stays there{again}" if self.condition.wheel.mine else wheel.STOPS_AND_TAKES)

    @property
    def takes_enter(self) -> bool:
        """Whether Enter is a slider's own now: a number is being typed, or a knob asks."""
        focused = self.focused
        if not isinstance(focused, LogSlider):
            return False
        return focused.typing or (focused.asked is not None and focused is not self.bank.load)

    def take_up(self, point: LoadPoint) -> None:
        """Drive what was driven before the server went away."""
        if self.knobs.display:
            self._show_knobs(False)
        self.bank.take_up(point)
        self.say("the same load again")

    def let_pass(self, point: LoadPoint) -> None:
        """The load of before stands no more on its slider as a question."""
        if self.bank.load.asked == point.value:
            self.bank.load.ask(None)
        self._offered = None

    def action_hold(self) -> None:
        """Enter where nothing else takes it: the load that stands on its slider as a question, or asks for it."""
        if self.knobs.display or not self._told:
            return
        self.bank.load.focus()
        if self.bank.load.asked is None and self._offered is not None:
            self.bank.offer(self._offered)
        else:
            self.bank.load.action_accept()

    def action_undo(self) -> None:
        refusal = commanding.drives(self.frame, self.condition, "undoing")
        if refusal is not None:
            self.refuse(refusal.reason)
            return
        turns = self.knobs.display and self.focused is not self.bank.load
        if (undone := (self.knobs if turns else self.bank).undo()) is not None:
            self.say(f"undone: {undone}")
        elif turns:
            self.refuse(f"nothing to undo: no knob was turned ({self._key('slider.load')} goes to the load)")
        else:
            self.refuse("nothing to undo: " + ("the load was stopped" if self.bank.stopped else "no slider was moved"))

    def action_record(self) -> None:
        self.carry_out(commanding.record(self.frame, self.condition))

    def action_seek(self, direction: int) -> None:
        self.carry_out(commanding.seek(self.frame, direction))

    def action_jump(self, direction: int) -> None:
        self.carry_out(commanding.jump(self.frame, direction))

    def action_speed(self, direction: int) -> None:
        self.carry_out(commanding.change_speed(self.frame, direction))

    def action_mark(self) -> None:
        refusal = commanding.drives(self.frame, self.condition, "a mark")
        if refusal is not None:
            self.refuse(refusal.reason)
            return
        self._open_line("a word for this moment; Enter sets the mark, Esc does not")

    def action_go_to(self) -> None:
        if self.frame is None or self.frame.replay is None:
            self.carry_out(commanding.go_to(self.frame, ""))
            return
        self._open_line("a time of the run, as 90, 1:30 or 1:02:03; Enter goes there, Esc does not")

    def _open_line(self, placeholder: str, setting: str = "") -> None:
        """A line to write on in the place of the events."""
        self._line_for = setting
        self._events.display = False
        self._mark.display = True
        self._mark.placeholder = placeholder
        self._mark.value = ""
        self._before_mark = self.focused
        self.set_focus(self._mark)

    @on(Input.Submitted, "#mark")
    def _mark_set(self, message: Input.Submitted) -> None:
        self._close_mark()
        if self._line_for:
            self.server.want(self._line_for, message.value.strip())
        elif self.frame is not None and self.frame.replay is not None:
            self.carry_out(commanding.go_to(self.frame, message.value))
        else:
            self.carry_out(commanding.mark(self.frame, self.condition, message.value))

    def _close_mark(self) -> None:
        self._mark.display = False
        self._events.display = True
        self.set_focus(self._before_mark)

    def action_layout(self) -> None:
        layouts = list(Layout)
        self.panels_as = layouts[(layouts.index(self.panels_as) + 1) % len(layouts)]
        self.body.maximised = None
        self._arrange()
        self.app.remember(layout=str(self.panels_as))  # type: ignore[attr-defined]
        self.say(f"layout {self.panels_as}: {LAYOUTS[self.panels_as]}")

    def action_cursor(self, seconds: float) -> None:
        """Move the moment that all charts are read at."""
        self.body.move_cursor(seconds)
        self._said = None
        self._show_again()

    def action_panel(self, number: int) -> None:
        self.body.focus_panel(number)

    def action_maximise(self) -> None:
        focused = self.focused
        if isinstance(focused, Panel) or self.body.maximised is not None:
            self.body.toggle_maximised(focused if isinstance(focused, Panel) else None)
        else:
            self.refuse("choose a panel first: Tab, or Esc and its number")

    def action_release(self) -> None:
        """Esc: one thing back."""
        if self._mark.display:
            self._close_mark()
        elif self.body.cursor_s is not None:
            self.body.cursor_s = None
            self._show_again()
        elif self.body.maximised is not None:
            self.body.toggle_maximised(None)
        elif self.knobs.display:
            self._show_knobs(False)
            self.set_focus(None)
        elif self.focused is None and self._coached:
            self.action_coach()
        else:
            self.set_focus(None)

    def _reset_focus(self, widget: Widget, avoiding: list[Widget] | None = None) -> None:
        """What is hidden gives its focus to nothing: the next one might be a slider that nobody chose."""
        if self.focused is widget:
            self.set_focus(None)

    def action_chart_mode(self) -> None:
        if self.glyphs.ascii:
            self.refuse("started with --ascii: charts have one kind of dots")
        else:
            self.say(f"charts in {self.body.cycle_mode().value}")
