"""What the cockpit looks like: one picture for each size and each state. Fed from data/*.msgpack."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.foresight import Foresight, Interval
from llmtop.domain.run import Ended
from llmtop.domain.shown import Shown

SMALL, MIDDLE, LARGE = (80, 24), (120, 40), (180, 45)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("past", SMALL),
        ("past", MIDDLE),
        ("past", LARGE),
        ("loaded", MIDDLE),
        ("idle", SMALL),
        ("live", SMALL),
        ("stale", SMALL),
        ("down", SMALL),
        ("auth", SMALL),
        ("no-metrics", SMALL),
        ("replay", SMALL),
        ("rate", SMALL),
        ("braked", SMALL),
        ("client-bound", SMALL),
        ("loaded", (60, 16)),
        ("past", (50, 12)),
    ],
)
def test_scene(snap_compare, cockpit, settle, name, size):
    assert snap_compare(cockpit(name), terminal_size=size, run_before=settle)


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_ascii(snap_compare, cockpit, settle, size):
    assert snap_compare(cockpit("past", ascii=True), terminal_size=size, run_before=settle)


def test_light_theme(snap_compare, cockpit, settle):
    assert snap_compare(cockpit("past", theme="llmtop-day"), terminal_size=SMALL, run_before=settle)


def test_no_color(snap_compare, cockpit, settle, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(cockpit("past"), terminal_size=SMALL, run_before=settle)


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("help", ["question_mark"]),
        ("blocks", ["g"]),
        ("maximised", ["escape", "1", "z"]),
        ("curve-without-room", ["escape", "7"]),
        ("typed", ["1", "2", "8"]),
        ("mark", ["m", "h", "i"]),
        ("knobs", ["k"]),
    ],
)
def test_after_keys(snap_compare, cockpit, settle, what, keys):
    async def press(pilot):
        await settle(pilot)
        await pilot.press(*keys)
        await pilot.pause()

    app = cockpit("past", faults=("http_503", "hang", "kv_leak"))
    assert snap_compare(app, terminal_size=SMALL, run_before=press)


@pytest.mark.parametrize(
    ("what", "size", "keys"), [("gate", SMALL, ["k"]), ("asked", MIDDLE, ["k", "6", "4", "enter"])]
)
def test_knobs_of_a_real_server(snap_compare, cockpit, settle, what, size, keys):
    app = cockpit("live")
    frame = app.host.now.frame
    answer = Foresight(
        settings=(("max_num_seqs", 64.0),),
        users=Interval(71, 62, 80),
        wall=Interval(58, 52, 64),
        off=0.03,
        text="64 slots: ~71 users at the SLO (62 to 80); the twin was fitted on 9 levels, 3 % off",
    )
    app.host.now = replace(app.host.now, assessment=replace(app.host.now.assessment, foreseen=answer))
    app.host.frame_becomes(
        endpoint=replace(frame.endpoint, slots=48),
        target=replace(frame.target, gate=24),
        server=replace(frame.server, num_gpu_blocks=3250.0),
    )

    async def press(pilot):
        await settle(pilot)
        await pilot.press(*keys)
        await settle(pilot)
        app.cockpit.say("")

    assert snap_compare(app, terminal_size=size, run_before=press)


def test_session_lost(snap_compare, cockpit, settle):
    app = cockpit("past")

    async def lose(pilot):
        await settle(pilot)
        app.host.now = replace(app.host.now, ended=Ended("the session process was killed (signal 9)", 3))
        app.tick()
        await pilot.pause()

    assert snap_compare(app, terminal_size=SMALL, run_before=lose)


def test_waiting_for_the_session(snap_compare, cockpit, settle):
    app = cockpit("idle")
    app.host.now = Shown()
    assert snap_compare(app, terminal_size=SMALL, run_before=settle)
