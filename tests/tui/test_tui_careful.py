"""A real endpoint's load rises little by little: by mouse, by key, by undo; and a hand that takes a slider has it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from textual.events import MouseScrollUp

from llmtop.domain.commands import SetKnob, SetLoad, Steer, StopLoad
from llmtop.domain.steering import Steering
from llmtop.tui.app import LlmtopApp
from llmtop.tui.widgets import loadbank
from llmtop.tui.widgets import slider as sliders
from llmtop.view.arrangement import LABEL_CELLS

SIZE = (80, 24)
TRACK_END = LABEL_CELLS + 47


@pytest.fixture
def real(cockpit):
    """A cockpit over a real endpoint that is driven with 4 in flight."""

    def make(scene: str = "loaded", **target: object) -> LlmtopApp:
        app = cockpit(scene)
        frame = app.host.now.frame
        fields = target or {"concurrency": 4}
        app.host.frame_becomes(
            endpoint=replace(frame.endpoint, simulated=False),
            target=replace(frame.target, **fields),
            max_concurrency=1024,
        )
        return app

    return make


def row(app: LlmtopApp, widget_id: str) -> str:
    return app.cockpit.query_one(f"#{widget_id}").render_line(0).text


def loads(app: LlmtopApp) -> list[float]:
    return [command.point.value for command in app.host.sent if isinstance(command, SetLoad)]


def test_the_thresholds_are_those_that_were_chosen() -> None:
    assert (sliders.MOUSE_TIMES, sliders.LEAP_TIMES, loadbank.REACH) == (2.0, 4.0, 64.0)


@pytest.mark.parametrize(
    ("target", "most"), [({"concurrency": 4}, 8), pytest.param({"concurrency": 0}, 2, marks=pytest.mark.faults)]
)
async def test_a_click_at_most_doubles_the_load(real, target, most):
    app = real(**target)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.click("#load", offset=(TRACK_END, 0))
        await pilot.pause(0.3)
        assert "the mouse at most doubles concurrency" in row(app, "events")
    assert max(loads(app)) == most


@pytest.mark.faults
async def test_a_drag_is_one_act_however_it_wanders(real):
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.mouse_down("#load", offset=(LABEL_CELLS + 10, 0))
        for x in (30, 15, 40, 46):
            await pilot.hover("#load", offset=(LABEL_CELLS + x, 0))
            await pilot.pause(0.25)
        await pilot.mouse_up("#load", offset=(TRACK_END, 0))
        await pilot.pause(0.3)
        assert max(loads(app)) == 8
        await pilot.press("u")
        await pilot.pause(0.3)
    assert loads(app)[-1] == 4, "one act is undone at once"


@pytest.mark.faults
async def test_a_flick_of_the_wheel_is_one_act(real):
    app = real(concurrency=16)
    async with app.run_test(size=SIZE) as pilot:
        for _ in range(12):
            await pilot._post_mouse_events([MouseScrollUp], "#load", offset=(20, 0))
        await pilot.pause(0.5)
    assert loads(app)[-1] == 32


@pytest.mark.faults
async def test_the_mouse_lowers_the_load_as_far_as_it_wants(real):
    app = real(concurrency=60)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.click("#load", offset=(LABEL_CELLS + 1, 0))
        await pilot.pause(0.3)
    assert loads(app) == [1]


@pytest.mark.parametrize("key", ["enter", pytest.param("end", marks=pytest.mark.faults)])
async def test_a_leap_waits_for_enter(real, monkeypatch, key):
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press(*(("6", "4") if key == "enter" else ()), key)
        await pilot.pause(0.3)
        assert "is a leap: Enter does it, Esc does not" in row(app, "events")
        assert "? Enter" in row(app, "load")
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert loads(app) == [], "an Enter that was typed ahead answers nothing"
        monkeypatch.setattr(sliders, "READ_S", 0.0)
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert loads(app) == [64]


@pytest.mark.faults
@pytest.mark.parametrize("key", ["escape", "left", "p"])
async def test_a_leap_that_nobody_confirms_is_none(real, monkeypatch, key):
    monkeypatch.setattr(sliders, "READ_S", 0.0)
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("6", "0", "enter")
        await pilot.pause()
        assert "is a leap" in row(app, "events")
        await pilot.press(key, "enter")
        await pilot.pause(0.3)
        app.tick()
        await pilot.pause()
        assert "is a leap" not in row(app, "events"), "Enter does it no more"
    assert all(load <= 4 for load in loads(app))


async def test_the_track_of_a_real_endpoint_ends_at_64_until_more_is_typed(real, monkeypatch):
    monkeypatch.setattr(sliders, "READ_S", 0.0)
    app = real(concurrency=60)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup", "pageup")
        await pilot.pause(0.3)
        assert loads(app) == [64]
        assert "ends at 64 by key and mouse: type a larger number, up to 1024" in row(app, "events")
        await pilot.press("1", "0", "0", "enter", "pageup")
        await pilot.pause(0.3)
        assert loads(app)[-1] == 100
        await pilot.press("1", "0", "2", "5", "enter")
        await pilot.pause(0.3)
        assert "ends at 1024: the cap of this run" in row(app, "events")
        assert app.cockpit.bank.load.scale.high == 100
        await pilot.press("7", "escape", "pagedown", "end")
        await pilot.pause(0.3)
    assert loads(app)[-1] == 100


@pytest.mark.faults
async def test_undo_leaps_up_only_when_confirmed(real):
    app = real(concurrency=60)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("1", "enter")
        await pilot.pause(0.3)
        await pilot.press("u")
        await pilot.pause(0.3)
        assert "? Enter" in row(app, "load")
    assert loads(app) == [1]


@pytest.mark.faults
async def test_the_simulated_engine_is_driven_as_wildly_as_anybody_likes(cockpit):
    app = cockpit("loaded")
    app.host.frame_becomes(target=replace(app.host.now.frame.target, concurrency=1))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("end")
        await pilot.pause(0.3)
    assert loads(app) == [256]


# -- who has the wheel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [["4", "enter"], pytest.param(["p", "pageup"], marks=pytest.mark.faults)])
async def test_a_slider_that_is_taken_during_a_search_has_the_wheel_also_where_it_stands(real, keys):
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        app.host.now = replace(app.host.now, steering=Steering(True, "search: level 1"))
        app.tick()
        await pilot.press(*keys)
        await pilot.pause(0.4)
        assert "the search ends: the wheel is yours" in row(app, "events")
    assert app.host.sent
    assert all(isinstance(command, SetLoad) for command in app.host.sent)


@pytest.mark.faults
async def test_a_search_ends_what_can_be_undone(real):
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.4)
        app.host.now = replace(app.host.now, steering=Steering(True, "search: level 1"))
        app.tick()
        await pilot.press("u")
        await pilot.pause(0.3)
    assert loads(app) == [8]


async def test_a_search_starts_a_stopped_load_only_when_confirmed(real, monkeypatch):
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape", "x", "s", "enter")
        await pilot.pause()
        assert app.host.sent == [StopLoad()]
        monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
        for key in ("escape", "right"):
            await pilot.press("s", key, "enter")
            await pilot.pause()
            assert app.host.sent == [StopLoad()]
            await pilot.press("escape")
        await pilot.press("s", "enter")
        await pilot.pause()
    assert app.host.sent[-1] == Steer()


async def test_undo_turns_the_knob_back_that_was_turned_and_leaves_the_load_alone(cockpit):
    app = cockpit("loaded")
    was = app.host.now.frame.endpoint.knobs["max_num_seqs"]
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("right")
        await pilot.pause(0.3)
        before = len(loads(app))
        await pilot.press("k", "pagedown")
        await pilot.pause(0.3)
        await pilot.press("u")
        await pilot.pause(0.3)
        await pilot.press("u")
        assert "no knob was turned" in row(app, "events")
    turned = [command.value for command in app.host.sent if isinstance(command, SetKnob)]
    assert turned == [was / 2, was]
    assert len(loads(app)) == before


async def test_a_window_that_was_too_small_for_a_while_gives_the_slider_back(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        focused = app.cockpit.focused
        await pilot.resize_terminal(50, 12)
        await pilot.pause()
        await pilot.resize_terminal(*SIZE)
        await pilot.pause()
        await pilot.pause()
        assert focused is not None
        assert app.cockpit.focused is focused


async def test_a_number_is_typed_up_to_the_end_of_a_track_that_a_server_has_moved(cockpit):
    app = cockpit("loaded")
    app.host.frame_becomes(endpoint=replace(app.host.now.frame.endpoint, max_model_len=100_000))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("p", *"90000", "enter", "k", *"500", "enter")
        await pilot.pause(0.3)
    prompts = [command.point.prompt_tokens for command in app.host.sent if isinstance(command, SetLoad)]
    turned = [command.value for command in app.host.sent if isinstance(command, SetKnob)]
    assert prompts[-1] == 90_000
    assert turned[-1] == 500


async def test_a_question_that_stands_no_more_is_not_answered_by_enter(real, monkeypatch) -> None:
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
    monkeypatch.setattr("llmtop.tui.app.ASKED_S", 0.05)
    app = real()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape", "x", "s")
        await pilot.pause(0.2)
        assert app.cockpit.saying == ""
        await pilot.press("enter")
        await pilot.pause()
    assert Steer() not in app.host.sent
