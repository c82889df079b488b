"""The answer card: it comes when nothing is driven any more, stays, and Enter holds what it recommends."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.commands import SetLoad
from llmtop.domain.gain import Comparison, Gain
from llmtop.tui.app import LlmtopApp
from llmtop.tui.widgets import slider as sliders

SIZE = (80, 24)


def rows(app: LlmtopApp, widget_id: str) -> list[str]:
    widget = app.cockpit.query_one(f"#{widget_id}")
    return [widget.render_line(y).text for y in range(widget.size.height)] if widget.display else []


def loads(app: LlmtopApp) -> list[float]:
    return [command.point.value for command in app.host.sent if isinstance(command, SetLoad)]


def driven_with(app: LlmtopApp, concurrency: int) -> None:
    app.host.frame_becomes(target=replace(app.host.now.frame.target, concurrency=concurrency))
    app.tick()


@pytest.fixture
def rest(cockpit):
    """A cockpit over a run in which 66 users were found and 48 are recommended; still driven."""

    def make(**options: object) -> LlmtopApp:
        app = cockpit("past", **options)
        found = app.host.now.assessment
        capacity = replace(found.capacity, fails_at=72, recommended=48, soak=38)
        app.host.now = replace(app.host.now, assessment=replace(found, capacity=capacity))
        return app

    return make


@pytest.mark.parametrize("ascii", [False, True])
async def test_it_stays_while_nothing_is_driven_and_goes_with_the_first_load(rest, ascii):
    app = rest(ascii=ascii)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert rows(app, "card") == []
        driven_with(app, 0)
        for _ in range(3):
            app.tick()
            await pilot.pause()
        card = "\n".join(rows(app, "card"))
        assert "Supports 66 concurrent users at the SLO" in card
        assert "run it at 48, soak it at 38: Enter holds 48" in card
        assert "llmtop replay /home/me/runs/2026-11-03-laptop.llmtop" in card
        assert len(rows(app, "panel1")) == 5
        driven_with(app, 8)
        await pilot.pause()
        assert rows(app, "card") == []


@pytest.mark.parametrize("simulated", [True, False])
async def test_enter_holds_the_recommended_load_once_it_could_be_read(rest, monkeypatch, simulated):
    monkeypatch.setattr(sliders, "READ_S", 60.0)
    app = rest()
    endpoint = app.host.now.frame.endpoint
    app.host.frame_becomes(endpoint=replace(endpoint, simulated=simulated))
    async with app.run_test(size=SIZE) as pilot:
        driven_with(app, 0)
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert loads(app) == [], "it was typed before the offer could be read"
        assert "48? Enter" in rows(app, "load")[0]
        monkeypatch.setattr(sliders, "READ_S", 0.0)
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert loads(app) == [48]


async def test_after_a_stop_enter_holds_the_recommended_load_not_the_one_that_broke(rest, monkeypatch):
    monkeypatch.setattr(sliders, "READ_S", 0.0)
    app = rest()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("x")
        await pilot.pause()
        assert "Enter on its slider holds the recommended 48" in rows(app, "events")[0]
        driven_with(app, 0)
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert loads(app) == [48]


async def test_escape_drops_the_offer_and_a_number_that_is_typed_is_not_taken_over(rest, monkeypatch):
    monkeypatch.setattr(sliders, "READ_S", 0.0)
    app = rest()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("7")
        driven_with(app, 0)
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert loads(app) == [7]
        driven_with(app, 7)
        driven_with(app, 0)
        await pilot.press("escape")
        app.tick()
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert loads(app) == [7]


async def test_enter_finds_the_offer_where_no_slider_is_lit(rest, monkeypatch):
    monkeypatch.setattr(sliders, "READ_S", 0.0)
    app = rest()
    async with app.run_test(size=SIZE) as pilot:
        driven_with(app, 0)
        await pilot.press("escape", "escape")
        assert app.focused is None
        app.tick()
        await pilot.press("enter")
        assert loads(app) == [], "Esc has dropped it: the first Enter asks again"
        await pilot.press("enter")
        await pilot.pause(0.3)
    assert loads(app) == [48]


async def test_what_a_turned_knob_did_is_said_when_it_becomes_known(rest):
    app = rest()
    found = app.host.now.assessment
    texts = {
        Gain.OPEN: "max_num_seqs 32 → 46: 49 concurrent users before",
        Gain.FEWER: "max_num_seqs 32 → 46: 49 → 36 concurrent users at the SLO",
    }
    async with app.run_test(size=(120, 40)) as pilot:
        for gain, text in texts.items():
            compared = Comparison(changed="max_num_seqs 32 → 46", gain=gain, before=49, text=text)
            app.host.now = replace(app.host.now, assessment=replace(found, compared=compared))
            driven_with(app, 0)
            await pilot.pause()
            assert text in rows(app, "events")[0]
            assert any(text in row for row in rows(app, "card"))
            assert text in " ".join("".join(rows(app, "verdict")).split())
        app.cockpit.say("something else")
        app.tick()
        await pilot.pause()
        assert "something else" in rows(app, "events")[0], "it is said once"


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (180, 45)])
async def test_a_run_that_rests_from_the_first_frame_on_shows_it(rest, size):
    app = rest()
    app.host.frame_becomes(target=replace(app.host.now.frame.target, concurrency=0))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.tick()
        await pilot.pause()
        assert "Supports 66 concurrent users" in "".join(rows(app, "card"))
