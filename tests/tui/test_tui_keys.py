"""Every key: what it commands, what it shows, or why it does nothing."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace
from textual.binding import Binding
from textual.events import MouseScrollUp
from textual.widgets import Input, Static

from llmtop.domain.commands import (
    AddMark,
    Export,
    Imagine,
    InjectFault,
    Quit,
    SaveProfile,
    Seek,
    SetKnob,
    SetLoad,
    SetRecording,
    Steer,
    StopLoad,
)
from llmtop.domain.run import Ended
from llmtop.domain.shown import Answer
from llmtop.domain.steering import Steering
from llmtop.tui.app import LlmtopApp
from llmtop.tui.keys import FIRST, LIVE, ORDER, name_of, rows_of, shown
from llmtop.tui.palette import THEMES
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.help import NAME_CELLS, HelpScreen
from llmtop.tui.screens.lost import LostScreen
from llmtop.tui.widgets.faultbar import FaultBar
from llmtop.tui.widgets.panel import ChartPanel, Panel
from llmtop.tui.widgets.slider import LIVE_INTERVAL_S, LogSlider
from llmtop.view.glyphs import legend
from llmtop.wording import wheel
from llmtop.wording.figures import clock

SIZE = (80, 24)
SETTLED_S = LIVE_INTERVAL_S + 0.05
"""After so long a slider has told what it stands on."""
KEYED = (LogSlider, FaultBar, ChartPanel, Panel, Cockpit, LlmtopApp)
"""Whatever has keys of its own while the cockpit is on the screen."""


def row(app: LlmtopApp, widget_id: str) -> str:
    """What a line of the cockpit says."""
    line = app.cockpit.query_one(f"#{widget_id}")
    return line.render_line(0).text


def points(app: LlmtopApp) -> list[tuple[float | None, int, int]]:
    """The loads that were commanded: (concurrency or rate, prompt, output)."""
    sent = [command.point for command in app.host.sent if isinstance(command, SetLoad)]
    return [(p.concurrency if p.rate_rps is None else p.rate_rps, p.prompt_tokens, p.output_tokens) for p in sent]


# -- sliders ----------------------------------------------------------------------------------------------------------


async def test_keys_move_the_concurrency(cockpit):
    moved = (
        ("right", 36), ("left", 32), ("left", 30), ("right", 32), ("pageup", 64), ("pagedown", 32), ("pagedown", 16),
        ("home", 1), ("end", 256),
    )  # fmt: skip
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        for key, _ in moved:
            await pilot.press(key)
            await pilot.pause(SETTLED_S)
    assert points(app) == [(value, 512, 128) for _, value in moved]


async def test_digits_and_enter_set_an_exact_value(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("1", "0", "9", "backspace", "7")
        assert "107" in row(app, "load")
        assert not app.host.sent
        await pilot.press("enter")
    assert points(app) == [(107, 512, 128)]


async def test_past_the_cap_is_refused_with_the_reason(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("9", "9", "9", "enter")
        await pilot.pause()
        assert "concurrency ends at 256: the cap of this run (--max-concurrency)" in row(app, "events")
        await pilot.press("end")
        await pilot.pause(0.2)
        await pilot.press("right")
        await pilot.pause()
        assert "ends at 256" in row(app, "events")
    assert points(app) == [(256, 512, 128)]


async def test_below_the_start_is_refused_but_zero_is_not(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("p", "3", "enter")
        await pilot.pause()
        assert "prompt tok starts at 8" in row(app, "events")
        await pilot.press("c", "0", "enter")
    assert points(app) == [(0, 512, 128)]


async def test_escape_drops_what_was_typed_then_lets_go_and_moves_nothing(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("right", "right")
        await pilot.pause(0.3)
        await pilot.press("5", "escape")
        assert "40" in row(app, "load")
        assert app.focused.id == "load"
        await pilot.press("escape", "right")
        assert app.focused is None
        await pilot.pause(0.3)
    assert points(app)[-1] == (40, 512, 128)


async def test_prompt_and_output_join_in_one_point(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup", "p", "pageup", "o", "pagedown")
        await pilot.pause(0.3)
    assert points(app)[-1] == (64, 1024, 64)


async def test_a_held_key_tells_at_most_five_values_a_second_and_the_last(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        began = time.monotonic()
        for _ in range(10):
            await pilot.press("right")
        await pilot.pause(0.5)
        took_s = time.monotonic() - began
        last = app.cockpit.bank.load.value
    assert points(app)[-1][0] == last
    assert len(points(app)) <= 2 + 5 * took_s


async def test_the_hand_is_believed_until_the_session_follows(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.3)
        app.tick()
        assert app.cockpit.bank.load.value == 64
        app.host.frame_becomes(target=replace(app.host.now.frame.target, concurrency=64))
        app.tick()
        app.host.frame_becomes(target=replace(app.host.now.frame.target, concurrency=8))
        app.tick()
        assert app.cockpit.bank.load.value == 8


async def test_a_command_that_is_not_taken_up_is_given_up(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.3)
        for _ in range(10):
            app.tick()
        assert app.cockpit.bank.load.value == 32


async def test_open_loop_drives_the_rate(cockpit):
    app = cockpit("rate")
    async with app.run_test(size=SIZE) as pilot:
        assert "rate req/s" in row(app, "load")
        await pilot.press("2", "0", ".", "5", "enter")
    assert points(app) == [(20.5, 512, 128)]


async def test_wheel_and_drag(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot._post_mouse_events([MouseScrollUp], "#load", offset=(20, 0))
        await pilot.pause(0.3)
        assert points(app) == [(36, 512, 128)]
        await pilot.mouse_down("#load", offset=(13, 0))
        await pilot.hover("#load", offset=(30, 0))
        await pilot.mouse_up("#load", offset=(30, 0))
        await pilot.pause(0.5)
        slider = app.cockpit.bank.load
        assert slider.scale.cell(slider.value, slider._track_cells) == 17
    assert points(app)[-1][0] == slider.value


async def test_up_and_down_go_to_the_slider_beside(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("down")
        assert app.focused.id == "prompt"
        await pilot.press("up")
        assert app.focused.id == "load"


# -- load and run -----------------------------------------------------------------------------------------------------


async def test_stop(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("x")
        await pilot.pause()
        assert "load to zero" in row(app, "events")
    assert app.host.sent == [StopLoad()]


async def test_mark_takes_a_word_or_the_load(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("m", *"qx", "enter", "m", "enter", "m", "a", "escape")
        await pilot.pause()
        assert not app.cockpit.query_one(Input).display
        assert isinstance(app.focused, LogSlider)
    assert app.host.sent == [AddMark("qx"), AddMark("32")]


async def test_record(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("r")
        app.host.frame_becomes(recording=False)
        app.tick()
        await pilot.press("r")
        app.host.frame_becomes(run_file=None)
        app.tick()
        await pilot.press("r")
        await pilot.pause()
        assert "--record FILE" in row(app, "events")
    assert app.host.sent == [SetRecording(False), SetRecording(True)]


async def test_search(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("s")
        app.host.now = replace(app.host.now, steering=Steering(True, "search: level 3 of about 7, 40 requests left"))
        app.tick()
        await pilot.pause()
        assert "level 3" in row(app, "settings")
        await pilot.press("s")
        await pilot.pause()
    assert app.host.sent == [Steer(), Steer(on=False)]


async def test_hold(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("h")
        assert "holding the latency limits" in row(app, "events")
        app.host.now = replace(app.host.now, steering=Steering(True, "holding 31 (cliff ~32)", "hold"))
        app.tick()
        await pilot.pause()
        assert "holding 31 (cliff ~32)" in row(app, "settings")
        assert ("h", "end hold", "app.edge") in app.cockpit.offered()
        await pilot.press("h")
        assert "hold ends: the wheel is yours" in row(app, "events")
        await pilot.press("s")
        await pilot.pause()
    assert app.host.sent == [Steer("hold"), Steer("hold", on=False), Steer("search")]


async def test_hold_needs_a_live_run_and_lets_no_stopped_load_start_unasked(cockpit):
    app = cockpit("replay")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("h")
        assert "this is a replay: hold needs a live run" in row(app, "events")
    assert app.host.sent == []
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape", "x", "h")
        assert "the load was stopped: Enter lets hold start it" in row(app, "events")
        await pilot.pause()
    assert app.host.sent == [StopLoad()]


async def test_a_question_that_is_declined_goes_and_enter_is_the_sliders_again(cockpit, monkeypatch):
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
    monkeypatch.setattr("llmtop.tui.widgets.slider.READ_S", 0.0)
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("c", "x", "h")
        assert "Enter lets hold start it; other keys do not" in row(app, "events")
        await pilot.press("escape")
        assert "Enter lets hold" not in row(app, "events")
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert [type(command) for command in app.host.sent] == [StopLoad, SetLoad]


async def test_a_question_is_answered_once_it_could_be_read_and_stands_until_then(cockpit, monkeypatch):
    monkeypatch.setattr("llmtop.tui.app.READ_S", 1e9)
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("x", "h", "enter")
        assert "Enter lets hold start it" in row(app, "events")
        monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
        await pilot.press("enter")
        assert "holding the latency limits" in row(app, "events")
    assert app.host.sent == [StopLoad(), Steer("hold")]


def test_each_question_is_whole_in_eighty_columns():
    assert all(len(f" {wheel.asks_to_start(by)}") <= SIZE[0] for by in wheel.NAMES)


async def test_an_export_is_asked_for_and_its_answer_is_shown_once(cockpit, settle):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("e")
        assert app.host.sent == [Export()]
        app.host.now = replace(app.host.now, answer=Answer(1, "exported /tmp/run.html"))
        await settle(pilot)
        assert "exported /tmp/run.html" in row(app, "events")
        app.cockpit.say("something else")
        await settle(pilot)
        assert "something else" in row(app, "events")


@pytest.mark.parametrize("scene", ["loaded", "replay"])
async def test_one_key_saves_a_profile_and_asks_nothing(cockpit, scene):
    app = cockpit(scene)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("f")
        assert app.host.sent == [SaveProfile()]
        assert app.screen is app.cockpit


async def test_what_is_refused_says_why(cockpit, settle):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("e")
        app.host.now = replace(app.host.now, answer=Answer(1, "export: run.html: no room left", refused=True))
        await settle(pilot)
        assert "! export: run.html: no room left" in row(app, "events").replace(app.glyphs.warn, "!")


async def test_freezing_holds_the_display_and_not_the_load(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("space")
        app.host.frame_becomes(t_s=500.0)
        app.tick()
        await pilot.pause()
        assert "FROZEN" in row(app, "header")
        assert "01:58" in row(app, "header")
        await pilot.press("right")
        await pilot.pause(0.3)
        for _ in range(12):
            app.tick()
        assert app.cockpit.bank.load.value == 36
        await pilot.press("space")
        assert "08:20" in row(app, "header")
    assert points(app) == [(36, 512, 128)]


# -- the simulated server ---------------------------------------------------------------------------------------------


async def test_knobs_and_faults(cockpit):
    app = cockpit("loaded", faults=("http_500", "hang"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("k")
        await pilot.pause()
        assert app.cockpit.knobs.display
        assert app.cockpit.bank.load.display, "load and knob are seen together"
        assert not app.cockpit.bank.prompt.display
        await pilot.press("pageup")
        await pilot.pause(0.3)
        app.cockpit.query_one(FaultBar).focus()
        await pilot.press("right", "enter", "enter")
        await pilot.press("c")
        assert app.cockpit.focused is app.cockpit.bank.load
        assert app.cockpit.knobs.display
        await pilot.press("p")
        assert app.cockpit.bank.prompt.display
    assert app.host.sent == [
        Imagine((("max_num_seqs", 128.0),)),
        SetKnob("max_num_seqs", 128.0),
        InjectFault("hang", True),
        InjectFault("hang", False),
        Imagine(()),
    ]


async def test_knobs_that_were_gone_for_a_while_have_the_focus_again(cockpit):
    app = cockpit("loaded", faults=("http_500",))
    async with app.run_test(size=SIZE) as pilot:
        endpoint = app.host.now.frame.endpoint
        await pilot.press("k")
        app.host.frame_becomes(endpoint=replace(endpoint, knobs={}))
        app.tick()
        await pilot.press("p")
        app.host.frame_becomes(endpoint=endpoint)
        app.tick()
        await pilot.press("k")
        await pilot.pause()
        assert app.cockpit.focused is app.cockpit.knobs.sliders["max_num_seqs"]


# -- replay -----------------------------------------------------------------------------------------------------------


async def test_replay_keys(cockpit):
    app = cockpit("replay")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("left_square_bracket", "right_square_bracket", "comma", "full_stop", "space")
        await pilot.pause()
    assert app.host.sent == [
        Seek(t_s=136.0),
        Seek(t_s=156.0),
        Seek(speed=1.0),
        Seek(speed=5.0),
        Seek(playing=False),
    ]


async def test_a_replay_goes_to_marks_and_to_a_typed_time(cockpit):
    app = cockpit("replay")
    replay = replace(app.host.now.frame.replay, moments=(20.0, 146.0, 200.0))
    app.host.frame_becomes(t_s=146.0, replay=replay)
    async with app.run_test(size=SIZE) as pilot:
        app.tick()
        await pilot.press("left_curly_bracket", "right_curly_bracket", "j", "1", ":", "3", "0")
        await pilot.pause()
        assert offered(app) == {"goes there": "Enter", "does not": "Esc"}
        await pilot.press("enter", "j", "9", "escape")
        await pilot.pause()
    assert app.host.sent == [Seek(t_s=20.0), Seek(t_s=200.0), Seek(t_s=90.0)]


@pytest.mark.parametrize(
    ("scene", "keys", "why"),
    [
        ("replay", ["x", "m", "r", "s", "u", "right"], "this is a replay"),
        ("loaded", ["left_square_bracket", "comma", "left_curly_bracket", "j"], "this run is live"),
    ],
)
async def test_a_replay_refuses_to_drive_and_a_live_run_to_seek(cockpit, scene, keys, why):
    app = cockpit(scene)
    async with app.run_test(size=SIZE) as pilot:
        for key in keys:
            app.cockpit._said = None
            app.tick()
            await pilot.pause()
            assert why not in row(app, "events")
            await pilot.press(key)
            await pilot.pause()
            assert why in row(app, "events"), key
    assert app.host.sent == []


# -- view -------------------------------------------------------------------------------------------------------------


async def test_help_opens_and_closes(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, Cockpit)


def test_help_has_a_row_for_every_shown_key() -> None:
    for widget in KEYED:
        rows = {does: keys for keys, does in rows_of(widget.BINDINGS)}
        for binding in shown(widget.BINDINGS):
            keys = rows[binding.description if binding.group is None else binding.group.description]
            first, _, last = keys.partition("-")
            name = binding.key_display or name_of(binding.key)
            assert name in keys.split() or name == keys or first <= name <= last, binding


async def test_help_tells_what_every_shown_key_does(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=(120, 60)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        told = str(app.screen.query_one(Static).content)
    assert told.startswith("Keys on a slider, lit now")
    for keys, does in (row for widget in KEYED for row in rows_of(widget.BINDINGS)):
        assert f"{keys:<{NAME_CELLS}}{does}" in told
        assert len(keys) < NAME_CELLS
        assert len(does) < (80 - 6) // 2 - NAME_CELLS, "two columns of it, apart, fit into 80 cells"


@pytest.mark.parametrize("ascii", [False, True])
async def test_help_tells_what_every_sign_says(cockpit, ascii):
    app = cockpit("loaded", ascii=ascii)
    async with app.run_test(size=(120, 60)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        told = str(app.screen.query_one(Static).content)
    assert "{cliff}" not in told
    lines = " ".join(told.split())
    for signs, says in legend(app.glyphs):
        assert len(signs) < NAME_CELLS
        assert f"\n{signs:<{NAME_CELLS}}" in told
        assert says in lines


def offered(app: LlmtopApp) -> dict[str, str]:
    """Words of the last line, and the keys for them."""
    return {word: keys for keys, word, _ in app.cockpit.offered()}


async def test_the_last_line_follows_the_focus_and_offers_only_keys_that_do_it(cockpit):
    app = cockpit("loaded", faults=("hang",))
    async with app.run_test(size=SIZE) as pilot:
        for keys, own in (
            ([], {"step": "← →", "x2": "PgDn PgUp", "set": "0-9 Enter"}),
            (["escape"], {"slide": "c p o"}),
            (["3"], {"maximise": "Enter z", "read": "← →"}),
            (["k", "tab", "tab", "tab"], {"choose": "← →", "start, end": "Enter", "load": "k"}),
            (["m"], {"sets the mark": "Enter", "does not": "Esc"}),
        ):
            await pilot.press(*keys)
            await pilot.pause()
            assert own.items() <= offered(app).items()
            first = next(iter(own if "m" in keys else ("help",)))
            assert first in row(app, "keys")
            assert "m" in keys or {"x stop", "q quit"} <= set(row(app, "keys").strip().split("  "))
            bound = {name_of(key) for key in app.screen.active_bindings}
            for key in " ".join(offered(app).values()).replace("0-9 ", "").split():
                assert key in bound or "m" in keys
            assert ("step" in offered(app)) == isinstance(app.focused, LogSlider)


async def test_the_last_line_of_a_replay_moves_no_load(cockpit):
    app = cockpit("replay")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        told = offered(app)
    assert (told["10s"], told["mark"], told["go to"]) == ("[ ]", "{ }", "j")
    assert (told["speed"], told["pause"]) == (", .", "space")
    assert not {"stop", "undo", "step", "x2", "search", "rec", "knobs"} & told.keys()


def test_every_word_of_the_last_line_has_its_place() -> None:
    assert {binding.id for widget in KEYED for binding in shown(widget.BINDINGS)} > LIVE
    told = [binding.id for owner in (Cockpit, LlmtopApp) for binding in shown(owner.BINDINGS) if binding.tooltip]
    assert sorted([*FIRST, *ORDER]) == sorted(told)


async def test_palette_offers_every_command(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        names = [command.title for command in app.get_system_commands(app.screen)]
        assert {
            "Quit: load stops first",
            "Stop the load at once",
            "Mark this moment",
            "Panel 9",
            "Replay: faster",
        } <= set(names)
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"at once", "enter")
        await pilot.pause(0.3)
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert app.host.sent == [StopLoad()]


async def test_numbers_focus_panels_and_z_gives_them_the_room(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape", "3")
        assert app.focused.id == "panel3"
        await pilot.press("z")
        await pilot.pause()
        shown = [panel.number for panel in app.cockpit.query(ChartPanel) if panel.display]
        assert shown == [3]
        assert app.focused.size.height == 15
        await pilot.press("escape")
        await pilot.pause()
        assert sum(panel.display for panel in app.cockpit.query(ChartPanel)) == 6
        await pilot.press("enter")
        await pilot.pause()
        assert app.cockpit.body.maximised is app.focused


async def test_a_panel_without_room_is_maximised(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        for number in (7, 8, 9):
            await pilot.press("escape", "escape", str(number))
            await pilot.pause()
            assert app.focused.number == number
            assert app.focused.size.height == 15
            await pilot.press("1")
            await pilot.pause()
            assert app.cockpit.body.maximised.number == 1


async def test_maximise_needs_a_panel(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("z")
        await pilot.pause()
        assert "choose a panel first" in row(app, "events")


async def test_a_click_on_a_rule_maximises(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.click("#panel4", offset=(5, 0))
        await pilot.pause()
        assert app.cockpit.body.maximised.number == 4


async def test_tab_goes_through_sliders_and_panels(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        seen = []
        for _ in range(9):
            await pilot.press("tab")
            seen.append(app.focused.id)
    assert seen == ["prompt", "output", "panel1", "panel2", "panel3", "panel4", "panel5", "panel6", "load"]


async def test_dots(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        seen = []
        for _ in range(3):
            await pilot.press("g")
            seen.append(app.cockpit.body.mode.value)
    assert seen == ["block", "ascii", "braille"]


async def test_themes(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        seen = {app.theme}
        for _ in THEMES:
            await pilot.press("t")
            await pilot.pause()
            seen.add(app.theme)
        assert seen == set(THEMES)


async def test_ascii_and_no_color_refuse_what_they_exclude(cockpit, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    app = cockpit("past", ascii=True)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("g")
        await pilot.pause()
        assert "--ascii" in row(app, "events")
        await pilot.press("t")
        await pilot.pause()
        assert "NO_COLOR" in row(app, "events")


async def test_ascii_screens_hold_ascii_only(cockpit, settle):
    app = cockpit("past", ascii=True)
    async with app.run_test(size=(80, 24)) as pilot:
        for size in ((80, 24), (120, 40), (180, 45)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            rows = app.cockpit._compositor.render_strips()
            text = "\n".join(strip.text for strip in rows)
            assert len(rows) == size[1]
            assert text.isascii(), {character for character in text if not character.isascii()}


def test_every_binding_has_an_id():
    for owner in (LlmtopApp, Cockpit, LogSlider, ChartPanel, Panel, FaultBar, HelpScreen, LostScreen):
        for binding in owner.BINDINGS:
            assert isinstance(binding, Binding)
            assert binding.id, f"{owner.__name__}: {binding.key}"
            for key in binding.key.split(","):
                assert "alt" not in key
                assert not (key.startswith("f") and key[1:].isdigit())


async def test_each_column_of_charts_tells_the_time_under_it(cockpit, settle):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        for size in (SIZE, (60, 16), (100, 30), (120, 40), (180, 45)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            last = [panel for panel in app.cockpit.query(ChartPanel) if panel.display][-2:]
            assert ["01:00" in panel.render_line(panel.size.height - 1).text for panel in last] == [True, True], size


async def test_what_has_no_chart_has_no_time(cockpit, settle):
    app = cockpit("no-metrics")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("escape", "3", "z")
        await settle(pilot)
        panel = app.cockpit.query_one("#panel3", ChartPanel)
        assert "01:00" not in "".join(panel.render_line(y).text for y in range(panel.size.height))


async def test_a_cursor_reads_all_charts_at_one_moment_until_escape_or_another_focus(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape", "3")
        await pilot.pause()
        now = [row(app, f"panel{n}") for n in range(1, 7)]
        await pilot.press("left", "pageup")
        await pilot.pause()
        then = [row(app, f"panel{n}") for n in range(1, 7)]
        end_s = app.frame.timeline.end_s
        assert app.cockpit.body.cursor_s == end_s - 11
        assert then != now
        assert row(app, "events").startswith(f" at {clock(end_s - 11)}: load 96")
        await pilot.press("tab")
        await pilot.pause()
        assert app.cockpit.body.cursor_s == end_s - 11
        await pilot.press(*["pageup"] * 12)
        await pilot.pause()
        assert app.cockpit.body.cursor_s == end_s - 120 + app.frame.timeline.step_s
        await pilot.press("escape")
        await pilot.pause()
        assert app.cockpit.body.cursor_s is None
        assert not row(app, "events").startswith(" at ")
        assert isinstance(app.focused, ChartPanel)
        await pilot.press("left", "c")
        await pilot.pause()
        assert app.cockpit.body.cursor_s is None
        assert row(app, "panel4") == now[3]
    assert app.host.sent == []


# -- leaving and losing -----------------------------------------------------------------------------------------------


async def test_quit_waits_for_the_session(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("q")
        await pilot.pause()
        assert app.host.sent == [Quit()]
        assert "DRAINING" in row(app, "verdict")
        assert app.is_running
        app.host.now = replace(app.host.now, ended=Ended())
        while not app._exit:
            await asyncio.sleep(0.05)


async def test_a_second_quit_does_not_wait(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("q", "q")
        await pilot.pause()
        assert app._exit
    assert app.host.sent == [Quit(), Quit(patient=False)], "neither the screen nor the session"


async def test_a_lost_session_is_told_once_and_drives_nothing(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        app.host.now = replace(app.host.now, ended=Ended("killed", 3))
        app.tick()
        await pilot.pause()
        assert isinstance(app.screen, LostScreen)
        await pilot.press("enter")
        await pilot.pause()
        app.tick()
        assert isinstance(app.screen, Cockpit)
        assert "SESSION LOST  killed" in row(app, "verdict")
        await pilot.press("right", "x")
        await pilot.pause()
    assert app.host.sent == []


async def test_a_silent_session_is_shown_as_stale(cockpit):
    app = cockpit("loaded", fps=2)
    async with app.run_test(size=SIZE) as pilot:
        frozen = app.host.shown()
        app.host.shown = lambda: frozen
        for _ in range(8):
            app.tick()
        await pilot.pause()
        assert "no frame for" in row(app, "header")


async def test_resizing_drops_and_brings_back_panels(cockpit, settle):
    app = cockpit("past")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.cockpit.query_one("#panel7").size.height > 0
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not app.cockpit.query_one("#lower").display
        await pilot.resize_terminal(50, 10)
        await pilot.pause()
        assert "too small" in row(app, "events")
        assert "SLO FAIL" in row(app, "verdict")
        await pilot.resize_terminal(180, 45)
        await pilot.pause()
        assert app.cockpit.query_one("#panel9").size.height > 0


@pytest.mark.parametrize(("said", "theme"), [("15;0", "llmtop-night"), ("0;15", "llmtop-day"), ("", "llmtop-night")])
def test_a_light_terminal_gets_the_light_theme(cockpit, monkeypatch, said, theme):
    monkeypatch.setenv("COLORFGBG", said)
    assert cockpit("idle").theme == theme
