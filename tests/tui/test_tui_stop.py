"""A load that was stopped stays stopped, undo has a key of its own, and no load comes from anything but a load key."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.commands import SetLoad, StopLoad
from llmtop.domain.load import LoadPoint
from llmtop.tui.app import LlmtopApp
from llmtop.tui.widgets import slider as sliders

SIZE = (80, 24)


def row(app: LlmtopApp, widget_id: str) -> str:
    return app.cockpit.query_one(f"#{widget_id}").render_line(0).text


def loads(app: LlmtopApp) -> list[float]:
    """What was commanded, in order; a stop is 0."""
    sent = [command for command in app.host.sent if isinstance(command, SetLoad | StopLoad)]
    return [command.point.value if isinstance(command, SetLoad) else 0.0 for command in sent]


def point_is(app: LlmtopApp, **fields: object) -> None:
    """From now on frames tell this load."""
    app.host.frame_becomes(target=replace(app.host.now.frame.target, **fields))
    app.tick()


async def test_a_movement_that_is_not_told_yet_ends_with_a_stop(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("right", "right", "right", "x")
        await pilot.pause(0.6)
    assert loads(app)[-1] == 0
    assert loads(app).count(0) == 1


STILL = (
    ["escape", "escape", "right", "c"],
    ["left", "pagedown"],
    ["u", "u"],
    ["p", "pageup", "o", "pagedown", "c"],
    ["k", "escape", "escape", "c"],
    ["0", "enter"],
    ["7", "escape", "enter"],
    ["x", "x", "backspace"],
    ["enter"],
)
"""Keys that start no load."""


async def test_a_stopped_load_stays_stopped_under_whatever_is_no_upward_load_key(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.2)
        for keys in STILL:
            await pilot.press("x", *keys)
        await pilot.pause(0.4)
    after = loads(app)[loads(app).index(0) :]
    assert set(after) == {0}


@pytest.mark.faults
async def test_it_stays_stopped_while_frames_still_tell_the_old_load(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("x")
        for _ in range(2 * sliders.HAND_FRAMES):
            app.tick()
        assert app.cockpit.bank.load.value == 0
        await pilot.press("p", "pageup")
        await pilot.pause(0.3)
    assert set(loads(app)) == {0}
    assert app.host.sent[-1].point.prompt_tokens == 1024


async def test_an_upward_key_starts_it_again(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        for keys, load in ((["right"], 1), (["pageup"], 1), (["1", "2", "enter"], 12)):
            app.host.sent.clear()
            await pilot.press("c", "x")
            await pilot.press(*keys)
            await pilot.pause(0.2)
            point_is(app, concurrency=load)
            await pilot.press("p", "right")
            await pilot.pause(0.2)
            assert loads(app) == [0, load, load]


@pytest.mark.parametrize("scene", ["loaded", pytest.param("rate", marks=pytest.mark.faults)])
async def test_enter_goes_back_to_the_load_that_was_stopped_once_the_offer_could_be_read(cockpit, monkeypatch, scene):
    app = cockpit(scene)
    before = app.host.now.frame.target
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("x", "enter")
        await pilot.pause()
        assert "Enter on its slider goes back to" in row(app, "events")
        assert "? Enter" in row(app, "load")
        assert loads(app) == [0]
        monkeypatch.setattr(sliders, "READ_S", 0.0)
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert app.host.sent == [StopLoad(), SetLoad(before)]


async def test_undo_goes_back_act_by_act_and_says_so(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        for keys in (["right"], ["p", "pageup"], ["c", "pageup"]):
            await pilot.press(*keys)
            await pilot.pause(0.4)
        assert loads(app) == [36, 36, 72]
        told = []
        for _ in range(4):
            await pilot.press("u")
            await pilot.pause(0.4)
            told.append(row(app, "events").strip())
    assert [command.point for command in app.host.sent[-3:]] == [
        LoadPoint(concurrency=36, prompt_tokens=1024, output_tokens=128),
        LoadPoint(concurrency=36, prompt_tokens=512, output_tokens=128),
        LoadPoint(concurrency=32, prompt_tokens=512, output_tokens=128),
    ]
    assert told[0] == f"undone: concurrency 72 {app.glyphs.arrow} 36"
    assert told[1].startswith("undone: prompt tok 1024")
    assert "nothing to undo: no slider was moved" in told[3]


@pytest.mark.faults
async def test_a_stop_ends_what_can_be_undone(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.3)
        await pilot.press("x", "u")
        await pilot.pause(0.3)
        assert "nothing to undo: the load was stopped" in row(app, "events")
    assert loads(app) == [64, 0]


@pytest.mark.faults
async def test_what_somebody_else_moved_since_is_not_undone(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("pageup")
        await pilot.pause(0.3)
        point_is(app, concurrency=64)
        point_is(app, concurrency=1)  # as the brake does
        await pilot.press("u")
        await pilot.pause(0.3)
    assert loads(app) == [64]
