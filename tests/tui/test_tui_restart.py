"""After a restart of the server Enter takes up the load of before, once, while it is on offer, and at no other time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.commands import SetLoad, StopLoad
from llmtop.domain.frame import Offer, ReplayPosition
from llmtop.domain.load import LoadPoint
from llmtop.tui.app import LlmtopApp

SIZE = (80, 24)
MEANT = LoadPoint(concurrency=48, prompt_tokens=512, output_tokens=32, think_time_s=1.0)
OFFER = Offer(40.0, MEANT, "back after 52 s: max_num_seqs 32 → 64")


@pytest.fixture(autouse=True)
def _is_read(monkeypatch):
    """Whatever stands on the screen has been read."""
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)


def offered(app: LlmtopApp, offer: Offer | None = OFFER) -> None:
    """The frames of a server that is back, without load."""
    target = app.host.now.frame.target
    app.host.frame_becomes(offer=offer, target=target.at("concurrency", 0), in_flight=0, stage=None)
    app.tick()


def loads(app: LlmtopApp) -> list[LoadPoint | None]:
    """What was commanded; a stop is None."""
    return [
        command.point if isinstance(command, SetLoad) else None
        for command in app.host.sent
        if isinstance(command, SetLoad | StopLoad)
    ]


def verdict_of(app: LlmtopApp) -> str:
    lines = app.cockpit.query_one("#verdict")
    return " ".join(lines.render_line(row).text.strip() for row in range(2))


async def test_enter_takes_up_the_whole_load_of_before_once(cockpit, monkeypatch):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        offered(app)
        await pilot.pause()
        told = verdict_of(app)
        assert "after 52 s: max_num_seqs 32 → 64" in told
        assert "Enter: 48 users again" in told
        assert "48? Enter" in app.cockpit.query_one("#load").render_line(0).text
        monkeypatch.setattr("llmtop.tui.app.READ_S", 1e9)
        await pilot.press("enter")
        assert loads(app) == [], "typed ahead, before it could be read"
        monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
        await pilot.press("enter")
        assert loads(app) == [MEANT]
        assert (app.cockpit.bank.load.value, app.cockpit.bank.prompt.value) == (48.0, 512.0)
        await pilot.press("enter", "escape", "enter")
        offered(app)
        await pilot.press("enter")
        assert loads(app) == [MEANT], "it is answered"
        assert "again" not in verdict_of(app)


@pytest.mark.parametrize(
    "keys",
    [
        ["escape"],
        ["left"],
        ["p", "right"],
        ["5", "backspace"],
        pytest.param(["x"], marks=pytest.mark.faults),
        pytest.param(["o", "pageup"], marks=pytest.mark.faults),
        pytest.param(["?", "escape", "escape"], marks=pytest.mark.faults),
    ],
)
async def test_any_other_move_ends_the_offer(cockpit, keys):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        offered(app)
        await pilot.press("right" if keys == ["left"] else "escape", *([] if keys == ["escape"] else keys))
        await pilot.pause(0.3)  # a slider tells its last value a moment after it stands
        before = [load for load in loads(app) if load is not None]
        app.set_focus(None)
        await pilot.press("enter")
        assert [load for load in loads(app) if load is not None] == before
        assert MEANT not in loads(app)


async def test_a_number_that_is_typed_is_what_enter_sets(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        offered(app)
        await pilot.press("c", "3", "enter")
        assert [load.value for load in loads(app) if load is not None] == [3.0]


@pytest.mark.parametrize("how", ["no offer", "frozen", "running", "replay", "help"])
async def test_enter_starts_nothing_where_no_offer_is_shown(cockpit, how):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        offered(app, None if how == "no offer" else OFFER)
        if how == "frozen":
            await pilot.press("space")
        elif how == "running":
            app.host.frame_becomes(target=LoadPoint(concurrency=3))
        elif how == "replay":
            app.host.frame_becomes(replay=ReplayPosition(60.0, 1.0, False))
        elif how == "help":
            await pilot.press("question_mark")
        app.tick()
        app.set_focus(None)
        await pilot.press("enter")
        assert MEANT not in loads(app)


@pytest.mark.faults
async def test_the_next_restart_is_another_offer(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        offered(app)
        await pilot.press("escape")
        offered(app, replace(OFFER, t_s=90.0))
        await pilot.press("enter")
        assert loads(app) == [MEANT]
