"""A setting of the server's command asks before it costs a restart, and what went wrong stands where it was asked."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Static

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Imagine, Restart, SetKnob
from llmtop.domain.endpoint import CommandStatus
from llmtop.domain.foresight import Foresight, Interval
from llmtop.tui.app import LlmtopApp
from llmtop.tui.widgets import serverbank
from llmtop.tui.widgets.serverbank import ServerBank, SettingSlider, SettingText
from llmtop.tui.widgets.slider import SETTLE_S

STATUS = CommandStatus(
    serves=True, settings=(("max_num_seqs", "32"), ("kv_cache_dtype", "auto")), start_s=50.0, log=("last words",)
)

ANSWER = Foresight(
    settings=(("max_num_seqs", 64.0),),
    users=Interval(71, 62, 80),
    wall=Interval(66, 60, 72),
    off=0.03,
    text="64 slots: ~71 users at the SLO (62 to 80); the twin was fitted on 9 levels, 3 % off",
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverbank, "READ_S", 0.0)


def commanded(app: LlmtopApp, **fields: object) -> None:
    """The server of the scene is behind a command, and that stands so."""
    endpoint = app.host.now.frame.endpoint
    app.host.frame_becomes(endpoint=replace(endpoint, command=replace(STATUS, **fields)))
    app.tick()


def said(app: LlmtopApp) -> str:
    """The row under the settings."""
    bank = app.cockpit.query_one(ServerBank)
    return "".join(text for text, _ in bank._question.draw(bank.size.width, 1)[0]).strip()


async def shown(app: LlmtopApp, pilot: Pilot[None]) -> None:
    commanded(app)
    await pilot.press("k")
    await pilot.pause()


async def test_a_moved_setting_asks_and_enter_restarts_with_it(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot)
        assert isinstance(app.cockpit.focused, SettingSlider)
        assert said(app) == "a setting that is moved restarts the server after Enter"
        await pilot.press("enter")
        assert not app.host.sent
        await pilot.press("6", "4", "enter")
        await pilot.pause(SETTLE_S)
        question = "restart the server with max_num_seqs 64? about 50 s, then the same load · Enter · Esc"
        assert said(app) == question
        commanded(app)
        assert said(app) == question, "the server's own value does not take it back"
        assert app.host.sent == [Imagine((("max_num_seqs", 64.0),))], "asked before it costs a restart"
        app.host.now = replace(app.host.now, assessment=Assessment(foreseen=ANSWER))
        app.tick()
        assert "~71 users at the SLO" in "".join(text for text, _ in app.cockpit.server._gives.draw(120, 1)[0])
        assert app.cockpit.bank.load.foreseen == 66
        await pilot.press("enter")
        await pilot.pause()
        app.tick()
        assert app.cockpit.bank.load.foreseen is None
    assert set(app.host.sent[1:]) == {Restart((("max_num_seqs", "64"),)), Imagine(())}
    assert len(app.host.sent) == 3


@pytest.mark.faults
async def test_esc_takes_the_question_back_and_the_slider_too(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(app, pilot)
        await pilot.press("pageup")
        await pilot.pause(SETTLE_S)
        assert "max_num_seqs 64? about 50 s" in said(app)
        assert said(app).endswith("Enter · Esc")
        await pilot.press("escape")
        await pilot.pause()
        for _ in range(20):
            app.tick()
        assert app.cockpit.query_one(SettingSlider).value == 32
        assert "?" not in said(app)
        await pilot.press("enter")
    assert all(isinstance(command, Imagine) for command in app.host.sent)
    assert app.host.sent[-1] == Imagine(())


@pytest.mark.faults
async def test_a_setting_that_is_no_number_is_typed(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot)
        await pilot.press("down")
        assert isinstance(app.cockpit.focused, SettingText)
        await pilot.press("enter")
        await pilot.press("f", "p", "8", "enter")
        await pilot.pause()
        assert said(app).startswith("restart the server with kv_cache_dtype fp8? about 50 s")
        await pilot.press("enter")
        await pilot.pause()
    assert app.host.sent == [Restart((("kv_cache_dtype", "fp8"),))]


@pytest.mark.faults
async def test_nothing_moves_while_the_server_is_under_way(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot)
        commanded(app, work="starting the server with max_num_seqs 64: loading, 41 s")
        assert "loading, 41 s" in said(app)
        await pilot.press("right", "enter")
        await pilot.pause()
        assert app.cockpit.query_one(SettingSlider).value == 32
    assert not app.host.sent


async def test_what_went_wrong_is_said_with_its_log_and_the_old_settings_can_be_put_back(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(160, 40)) as pilot:
        await shown(app, pilot)
        commanded(app, problem="the server ended with exit code 1 before it was ready", runs=False)
        assert said(app).endswith("Enter: start it with max_num_seqs 32, kv_cache_dtype auto")
        await pilot.press("v")
        await pilot.pause()
        app.tick()
        assert "last words" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        await pilot.press("enter")
        await pilot.pause()
    assert app.host.sent == [Restart(())]


@pytest.mark.faults
async def test_undo_asks_for_the_settings_before(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(app, pilot)
        await pilot.press("6", "4", "enter")
        await pilot.pause(SETTLE_S)
        await pilot.press("enter")
        commanded(app, settings=(("max_num_seqs", "64"), ("kv_cache_dtype", "auto")))
        await pilot.press("u")
        await pilot.pause()
        assert "max_num_seqs 32?" in said(app)
        await pilot.press("enter")
        await pilot.pause()
    assert [c for c in app.host.sent if isinstance(c, Restart)][-1] == Restart((("max_num_seqs", "32"),))


@pytest.mark.faults
async def test_a_server_of_somebody_elses_has_no_log_here(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("v")
        await pilot.pause()
        assert "not started from here" in app.cockpit.saying


@pytest.mark.faults
async def test_a_setting_that_turns_live_asks_only_for_more_than_the_server_was_started_with(cockpit):
    app = cockpit("live")
    async with app.run_test(size=(80, 24)) as pilot:
        endpoint = app.host.now.frame.endpoint
        slots = {"max_num_seqs": 32.0}
        app.host.frame_becomes(endpoint=replace(endpoint, knobs=slots, knob_most=slots))
        await shown(app, pilot)
        app.tick()
        await pilot.press("1", "6", "enter")
        await pilot.pause(2 * SETTLE_S)
        await pilot.press("6", "4", "enter")
        await pilot.pause(2 * SETTLE_S)
        assert said(app).startswith("restart the server with max_num_seqs 64?")
        await pilot.press("u", "u")
        await pilot.pause(2 * SETTLE_S)
        assert not said(app).startswith("restart")
    turned = [command for command in app.host.sent if isinstance(command, SetKnob)]
    assert turned == [SetKnob("max_num_seqs", 16.0), SetKnob("max_num_seqs", 32.0)]
    assert not [command for command in app.host.sent if isinstance(command, Restart)]
