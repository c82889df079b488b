"""Several screens on one run: which keys ask for the wheel, what takes it, and how a screen leaves."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.commands import Detach, Export, Quit, StopLoad, TakeWheel
from llmtop.domain.run import Ended
from llmtop.domain.shown import Answer, Wheel
from llmtop.tui.app import LlmtopApp
from llmtop.tui.screens.lost import LostScreen
from llmtop.tui.widgets import slider
from llmtop.wording import running, wheel

SIZE = (80, 24)
OTHERS = Wheel(mine=False, holder="pts/3", screens=2)
NOBODYS = Wheel(mine=False, screens=2)
VIEW = Wheel(mine=False, view=True, holder="pts/3", screens=2)
PLANS = Wheel(mine=False, view=True, holder=running.ITS_PLAN, screens=1)
DRIVE = ("right", "pagedown", "s", "h", "m", "r", "u", "e", "f")
"""Keys that change something for whoever looks at the run."""
LOOK = ("space", "space", "g", "l", "z", "tab", "1", "w", "escape", "n", "escape", "b", "escape", "k", "escape", "t")


@pytest.fixture(autouse=True)
def _reads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question may be answered as soon as it stands there."""
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)


def row(app: LlmtopApp, widget_id: str) -> str:
    return app.cockpit.query_one(f"#{widget_id}").render_line(0).text.rstrip()


def wheel_is(app: LlmtopApp, now: Wheel) -> None:
    app.host.now = replace(app.host.now, wheel=now)
    if app.is_running:
        app.tick()


async def pressed(pilot, *keys: str) -> None:
    """Each is obeyed, and what it posts is heard, before the next comes; a slider has told what it stands on."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
    await pilot.pause(slider.SETTLE_S + 0.05)


# -- asked, taken, refused --------------------------------------------------------------------------------------------


async def test_a_screen_without_the_wheel_is_asked_before_it_takes_it_and_drives_nothing(cockpit):
    app = cockpit("loaded")
    wheel_is(app, OTHERS)
    async with app.run_test(size=SIZE) as pilot:
        before = app.cockpit.bank.load.value
        for key in DRIVE:
            await pressed(pilot, key)
            assert row(app, "events") == " pts/3 has the wheel: Enter takes it", key
            assert app.host.sent == [], key
            assert app.cockpit.bank.load.value == before
            await pressed(pilot, "enter")
            assert app.host.sent == [TakeWheel()], key
            wheel_is(app, Wheel(screens=2))
            assert row(app, "events").strip() == wheel.TAKEN, key
            assert app.host.sent == [TakeWheel()], key
            wheel_is(app, OTHERS)
            app.host.sent.clear()


async def test_the_key_that_asked_drives_when_it_is_pressed_again(cockpit):
    app = cockpit("loaded")
    wheel_is(app, OTHERS)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "e", "enter")
        wheel_is(app, Wheel(screens=2))
        await pressed(pilot, "e")
    assert app.host.sent == [TakeWheel(), Export()]


async def test_any_key_but_enter_leaves_the_wheel_where_it_is(cockpit):
    app = cockpit("loaded")
    wheel_is(app, OTHERS)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "right", "escape", "enter", "right", "w", "escape", "enter")
    assert app.host.sent == []


async def test_of_a_run_that_nobody_drives_the_wheel_is_asked_for_too(cockpit):
    app = cockpit("loaded")
    wheel_is(app, NOBODYS)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "right")
        assert row(app, "events") == " nobody has the wheel: Enter takes it"


@pytest.mark.parametrize("held", [VIEW, PLANS])
async def test_a_screen_that_only_looks_on_says_so_and_asks_for_nothing(cockpit, held):
    app = cockpit("loaded")
    wheel_is(app, held)
    async with app.run_test(size=SIZE) as pilot:
        for key in (*DRIVE, "x"):
            app.cockpit.unsay()
            await pilot.press(key)
            await pilot.pause()
            assert wheel.lacking(held) in row(app, "events"), key
            await pilot.press("enter")
        await pressed(pilot)
    assert app.host.sent == []
    assert wheel.lacking(VIEW) != wheel.lacking(PLANS)


@pytest.mark.parametrize("held", [OTHERS, VIEW])
async def test_who_does_not_drive_may_look_at_everything(cockpit, held):
    app = cockpit("loaded")
    wheel_is(app, held)
    async with app.run_test(size=(120, 40)) as pilot:
        for key in LOOK:
            await pilot.press(key)
            await pilot.pause()
            assert app.cockpit.saying not in (wheel.lacking(held), f"{app.glyphs.warn} {wheel.lacking(held)}"), key
    assert [type(each).__name__ for each in app.host.sent if type(each).__name__ != "ShowMap"] == []


async def test_knobs_and_faults_do_not_move_under_a_hand_without_the_wheel(cockpit):
    app = cockpit("loaded", faults=("http_500", "stall"))
    wheel_is(app, OTHERS)
    async with app.run_test(size=(120, 40)) as pilot:
        await pressed(pilot, "k", "right")
        assert row(app, "events").endswith("Enter takes it")
        await pressed(pilot, "escape")
        app.cockpit.live_knobs.fault_bar.focus()
        await pressed(pilot, "enter")
        assert not app.cockpit.live_knobs.fault_bar.active
        assert row(app, "events").endswith("Enter takes it")
    assert app.host.sent == []


async def test_x_stops_the_load_from_any_screen_that_may_drive_and_takes_the_wheel(cockpit):
    app = cockpit("loaded")
    wheel_is(app, OTHERS)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "x")
        assert app.host.sent == [TakeWheel(), StopLoad()]
        assert row(app, "events").strip() == wheel.STOPS_AND_TAKES
        wheel_is(app, Wheel(screens=2))
        await pressed(pilot, "left", "p", "pageup")
        assert all(each.point.value == 0 for each in app.host.sent[2:])


async def test_a_stop_here_does_not_hold_the_load_that_another_screen_drives_later(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "x")
        wheel_is(app, OTHERS)
        target = replace(app.host.now.frame.target, concurrency=7)
        app.host.frame_becomes(target=target)
        for _ in range(20):
            app.tick()
        assert app.cockpit.bank.load.value == 7
        wheel_is(app, Wheel(screens=2))
        assert app.cockpit.bank.load.value == 7
        assert not app.cockpit.bank.stopped


async def test_losing_the_wheel_is_said(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE):
        app.host.now = replace(app.host.now, wheel=OTHERS, answer=Answer(1, running.taken_by("pts/3"), refused=True))
        app.tick()
        assert "taken by pts/3" in row(app, "events")


# -- leaving ----------------------------------------------------------------------------------------------------------


async def test_d_goes_when_the_run_has_let_the_screen_go_and_ends_nothing(cockpit):
    app = cockpit("loaded", detached_for=60.0)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "d")
        assert app.is_running
        assert app.host.sent == [Detach(60.0)]
        app.host.left = True
        await pilot.pause(0.2)
        assert app._exit
    assert app.host.sent == [Detach(60.0)]


async def test_a_run_that_cannot_be_left_says_why_and_q_ends_it_as_always(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "d")
        app.host.now = replace(app.host.now, answer=Answer(1, "not detached: no socket", refused=True))
        app.tick()
        assert "no socket" in row(app, "events")
        await pressed(pilot, "q")
        assert app.host.sent == [Detach(), Quit()]
        assert not app._exit


async def test_d_leaves_no_replay_and_no_run_that_is_ending(cockpit):
    app = cockpit("replay")
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "d")
        assert wheel.REPLAY_STAYS in row(app, "events")
    assert app.host.sent == []
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "q", "d")
        assert wheel.ENDING in row(app, "events")
    assert app.host.sent == [Quit()]


@pytest.mark.parametrize("held", [OTHERS, NOBODYS, VIEW, PLANS])
@pytest.mark.parametrize("key", ["q", "ctrl+c", "d"])
async def test_without_the_wheel_every_way_out_only_leaves(cockpit, held, key):
    app = cockpit("loaded", detached_for=60.0)
    wheel_is(app, held)
    async with app.run_test(size=SIZE) as pilot:
        assert "q leave" in row(app, "keys")
        assert "d detach" not in row(app, "keys")
        await pressed(pilot, key)
        app.host.left = True
        await pilot.pause(0.2)
        assert app._exit
    assert app.host.sent == [Detach()]


async def test_a_host_that_does_not_answer_is_left_by_a_second_q(cockpit):
    app = cockpit("loaded")
    wheel_is(app, VIEW)
    async with app.run_test(size=SIZE) as pilot:
        await pressed(pilot, "q", "q")
        assert app._exit
    assert Quit() not in app.host.sent


async def test_a_run_that_was_ended_from_elsewhere_is_over_and_not_lost(cockpit):
    app = cockpit("loaded")
    wheel_is(app, VIEW)
    async with app.run_test(size=SIZE) as pilot:
        app.host.now = replace(app.host.now, ended=Ended())
        app.tick()
        await pilot.pause()
        assert isinstance(app.screen, LostScreen)
        assert app.screen.reason == wheel.ENDED_ELSEWHERE
        assert "run over" in row(app, "header")
        await pressed(pilot, "enter", "right", "e")
        assert app.host.sent == [Export()], "the attendant says that the run is over"
        await pressed(pilot, "q")
        assert app._exit


# -- what the header and the last line say ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
async def test_the_header_says_who_drives_where_it_is_not_this_screen_alone(cockpit, width):
    app = cockpit("loaded")
    async with app.run_test(size=(width, 24)):
        for held, says, not_says in (
            (Wheel(), "", "screen"),
            (Wheel(screens=2), "2 screens", "wheel"),
            (OTHERS, "wheel: pts/3", "VIEW"),
            (NOBODYS, "wheel: nobody", "VIEW"),
            (VIEW, "VIEW", "mine"),
            (PLANS, "VIEW", "wheel"),
        ):
            wheel_is(app, held)
            header = row(app, "header")
            assert says in header
            assert not_says not in header
            assert len(header) <= width
            for stays in ("llmtop", "up", "REC"):
                assert stays in header


async def test_a_screen_that_only_looks_on_offers_no_key_that_drives(cockpit):
    app = cockpit("loaded")
    wheel_is(app, VIEW)
    async with app.run_test(size=(160, 40)):
        offered = row(app, "keys")
    for word in ("q leave", "w why", "space freeze", "? help"):
        assert word in offered
    for word in ("stop", "search", "hold", "undo", "mark", "rec", "detach", "export", "profile", "slide"):
        assert word not in offered, word


async def test_the_map_and_the_big_answer_offer_a_screen_that_only_looks_on_no_key_that_drives(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        for now, offers, leaves in ((Wheel(), True, "quit"), (OTHERS, True, "leave"), (VIEW, False, "leave")):
            wheel_is(app, now)
            for key, line in (("n", "map-keys"), ("b", "big-keys")):
                await pressed(pilot, key)
                app.tick()
                await pilot.pause()
                told = app.screen.query_one(f"#{line}").render_line(0).text
                assert ("stop the load" in told) is offers, (now, line)
                assert ("explore" in told) is (offers and key == "n"), (now, line)
                assert told.rstrip().endswith(leaves) or f"q {leaves} " in told, (now, line)
                await pressed(pilot, "escape")
