"""The coach line and the stage in the cockpit: where they stand, how they go, and that they come back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.gain import Comparison, Gain
from llmtop.domain.preferences import Remembered
from llmtop.domain.shown import Scene
from llmtop.domain.steering import Steering
from llmtop.tui.app import LlmtopApp
from llmtop.view.arrangement import Layout

COACHED = Remembered()
SMALL, MIDDLE = (80, 24), (120, 40)
SCENE = Scene(2, 5, "KV cache", "Long answers: each user's tokens stay in the cache until the answer is whole.")


def line(app: LlmtopApp, name: str) -> str:
    return "".join(segment.text for segment in app.cockpit.query_one(name).render_line(0))


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
async def test_the_coach_stands_in_its_row_or_in_that_of_the_events(cockpit, settle, size):
    app = cockpit("past", remembered=COACHED)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        shown = line(app, "#story" if size == MIDDLE else "#events")
        assert "with 64 running: the slot limit; press k, give it" in shown, shown


async def test_esc_lets_go_first_and_then_dismisses_for_good(cockpit, settle):
    kept: list[Remembered] = []
    app = cockpit("past", remembered=COACHED, remember=kept.append)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("escape")
        assert app.focused is None
        assert app.remembered.coach
        await pilot.press("escape")
        assert not kept[-1].coach
        assert "the coach is off" in app.cockpit.saying
        assert "i brings it back" in app.cockpit.saying
        await pilot.press("i")
        assert kept[-1].coach


async def test_where_the_coach_is_off_esc_is_as_ever(cockpit, settle):
    app = cockpit("past")
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("escape", "escape", "escape")
        assert app.cockpit.saying == ""


async def test_help_and_palette_name_it(cockpit, settle):
    app = cockpit("past")
    async with app.run_test(size=MIDDLE) as pilot:
        await settle(pilot)
        assert any("coach" in command.title for command in app.get_system_commands(app.screen))


async def test_keys_are_told_as_they_are_bound(cockpit, settle):
    app = cockpit("past", remembered=COACHED, keymap={"view.coach": "y"})
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("y")
        assert "y brings it back" in app.cockpit.saying


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
async def test_caption_above_coach(cockpit, settle, size):
    app = cockpit("past", remembered=COACHED)
    app.host.now = replace(app.host.now, scene=SCENE, steering=Steering(running=True, text=SCENE.caption, by="demo"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert "2/5 KV cache" in line(app, "#story")
        assert "Long answers" not in line(app, "#settings")
        assert app.cockpit._coached


@pytest.mark.parametrize("by", ["demo", "search"])
async def test_what_a_turned_knob_gave_is_told_by_the_captions_of_a_demo(cockpit, settle, by):
    app = cockpit("past", remembered=COACHED)
    known = Comparison(changed="max_num_seqs 6 → 32", gain=Gain.MORE, text="max_num_seqs 6 → 32: 6 → 16 users")
    found = replace(app.host.now.assessment, compared=known)
    app.host.now = replace(app.host.now, assessment=found, steering=Steering(running=True, text="drives", by=by))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert (known.text in app.cockpit.saying) is (by == "search")


async def test_what_the_stage_hides_is_said_where_a_key_asks_for_it(cockpit, settle):
    app = cockpit("past", layout="stage")
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("o")
        assert "not on the stage" in app.cockpit.saying
        assert app.focused is app.cockpit.bank.load
        await pilot.press("escape", "2")
        assert app.focused is app.cockpit.body.panels[1]
        assert app.focused.region.height


async def test_the_stage_is_one_of_the_layouts(cockpit, settle):
    app = cockpit("past", layout="stage")
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        assert app.cockpit.panels_as is Layout.STAGE
        await pilot.press("l")
        assert app.cockpit.panels_as is Layout.ALL
        assert not app.cockpit._stage.display
        assert app.cockpit.bank.prompt.display


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
@pytest.mark.parametrize("name", ["past", "idle"])
def test_pictures_of_the_coach(snap_compare, cockpit, settle, name, size):
    assert snap_compare(cockpit(name, remembered=COACHED), terminal_size=size, run_before=settle)


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_pictures_of_the_stage(snap_compare, cockpit, settle, size, ascii):
    app = cockpit("past", layout="stage", remembered=COACHED, ascii=ascii, private=True)
    app.host.now = replace(app.host.now, scene=SCENE)
    assert snap_compare(app, terminal_size=size, run_before=settle)
