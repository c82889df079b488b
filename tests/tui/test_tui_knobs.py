"""The knob bank on any server: a gate where no knob turns, and what is asked about beside what is set."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Imagine, SetKnob, SetLoad
from llmtop.domain.foresight import Foresight, Interval
from llmtop.domain.steering import Steering
from llmtop.tui.app import LlmtopApp
from llmtop.tui.widgets.slider import SETTLE_S

SIZE = (80, 24)
SLOTS = "max_num_seqs"
ANSWER = Foresight(
    settings=((SLOTS, 64.0),),
    users=Interval(71, 62, 80),
    wall=Interval(66, 60, 72),
    off=0.03,
    text="64 slots: ~71 users at the SLO (62 to 80); the twin was fitted on 9 levels, 3 % off",
)


def row(app: LlmtopApp, name: str) -> str:
    return app.cockpit.query_one(f"#{name}").render_line(0).text


def says(app: LlmtopApp) -> str:
    """The row of words of the bank."""
    says = app.cockpit.live_knobs._says
    return "".join(text for text, _ in says.draw(SIZE[0], 1)[0]).strip()


def gates(app: LlmtopApp) -> list[int | None]:
    return [command.point.gate for command in app.host.sent if isinstance(command, SetLoad)]


def asked(app: LlmtopApp) -> list[tuple[tuple[str, float], ...]]:
    return [command.settings for command in app.host.sent if isinstance(command, Imagine)]


def serves(app: LlmtopApp, **fields: Any) -> None:
    """The endpoint of the scene tells these of itself."""
    app.host.frame_becomes(endpoint=replace(app.host.now.frame.endpoint, **fields))
    app.tick()


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause(SETTLE_S + 0.1)


async def test_on_a_server_without_knobs_the_gate_goes_down_and_up_again_to_none(cockpit):
    app = cockpit("live")
    async with app.run_test(size=SIZE) as pilot:
        serves(app, slots=32)
        await press(pilot, "k")
        assert app.cockpit.focused is app.cockpit.live_knobs.gate
        assert "no gate of 32" in row(app, "knob-gate")
        load = app.host.now.frame.target
        await press(pilot, "1", "6", "enter")
        assert app.host.sent == [
            Imagine(((SLOTS, 16.0),)),
            SetLoad(replace(load, gate=16), gate_alone=True),
        ], "the load stays as it is"
        app.host.frame_becomes(target=replace(load, gate=16))
        await press(pilot, "up", "right")
        assert gates(app)[-1] == 16, "the load that is moved beside it keeps the gate"
        await press(pilot, "k", "k", "end")
        assert gates(app)[-1] is None
        await press(pilot, "u")
    assert gates(app)[-1] == 16


async def test_above_the_servers_own_slots_a_value_is_asked_about_and_nothing_is_commanded(cockpit):
    app = cockpit("live")
    async with app.run_test(size=SIZE) as pilot:
        serves(app, slots=32)
        await press(pilot, "k", "6", "4", "enter")
        assert asked(app) == [((SLOTS, 64.0),)]
        assert not gates(app)
        assert "64: the server has 32 slots, a gate only goes down: asked about, not set" in row(app, "events")
        assert "○" in row(app, "knob-gate")
        assert "64 not set" in row(app, "knob-gate")
        assert says(app) == "max seqs 64 is asked about, not set · restart with --max-num-seqs 64"
        app.host.now = replace(app.host.now, assessment=Assessment(foreseen=ANSWER))
        app.tick()
        assert says(app) == "not set (--max-num-seqs 64): ~71 users at the SLO (62 to 80), twin 3 % off"
        assert "△" in row(app, "load")
        await press(pilot, "escape")
        app.tick()
        assert asked(app)[-1] == ()
        assert "○" not in row(app, "knob-gate")
        assert "△" not in row(app, "load"), "an answer to another question is no answer"
    assert not gates(app)


async def test_a_live_knob_turns_up_to_what_the_server_was_started_with_and_the_prediction_stays(cockpit):
    app = cockpit("live")
    async with app.run_test(size=SIZE) as pilot:
        serves(app, knobs={SLOTS: 16.0}, knob_most={SLOTS: 32.0}, knobs_by="llmtop_knobs", slots=16)
        await press(pilot, "k", "2", "4", "enter")
        assert not app.cockpit.live_knobs.gate.display
        await press(pilot, "4", "8", "enter")
        assert "48 is more than the 32 the server was started with: asked about, not set" in row(app, "events")
        await press(pilot, "k")
    assert [command for command in app.host.sent if isinstance(command, SetKnob)] == [SetKnob(SLOTS, 24.0)]
    assert asked(app) == [((SLOTS, 24.0),), ((SLOTS, 48.0),), ()]


@pytest.mark.faults
async def test_a_cache_that_is_known_and_does_not_turn_is_asked_about_alone(cockpit):
    app = cockpit("live")
    async with app.run_test(size=SIZE) as pilot:
        app.host.frame_becomes(server=replace(app.host.now.frame.server, num_gpu_blocks=3000.0))
        app.tick()
        await press(pilot, "k", "down", "pageup")
        assert asked(app) == [(("num_gpu_blocks", 6000.0),)]
        assert "restart with another --gpu-memory-utilization" in says(app)
        await press(pilot, "u")
    assert asked(app)[-1] == ()
    assert len(app.host.sent) == 2


async def test_while_the_load_is_held_a_gate_ends_nothing_and_the_load_slider_follows(cockpit):
    app = cockpit("live")
    async with app.run_test(size=SIZE) as pilot:
        app.host.now = replace(app.host.now, steering=Steering(True, "holding 31 (cliff ~32)", "hold"))
        serves(app, slots=32)
        await press(pilot, "k")
        assert says(app).startswith("holding 31 (cliff ~32)")
        await press(pilot, "pagedown")
        assert gates(app) == [16]
        assert "the wheel is yours" not in row(app, "events")
        app.host.frame_becomes(target=app.host.now.frame.target.at("concurrency", 29))
        app.tick()
        assert app.cockpit.bank.load.value == 29


@pytest.mark.faults
async def test_in_a_recording_no_knob_turns(cockpit):
    app = cockpit("replay")
    async with app.run_test(size=SIZE) as pilot:
        await press(pilot, "k")
        assert "this is a replay: turning a knob needs a live run" in row(app, "events")
        assert not app.cockpit.knobs.display
