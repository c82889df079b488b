"""Why, the big answer and the map: over the cockpit, kept up to date, left by Esc; the load is stopped from them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from textual.widgets import Static

from llmtop.domain.commands import Quit, SetLoad, ShowMap, Steer, StopLoad
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Offer
from llmtop.domain.kinds import CallFigures, KindFigures
from llmtop.domain.load import LoadPoint
from llmtop.domain.map import Map, MapCell, MapEdge
from llmtop.domain.steering import Steering
from llmtop.domain.verdicts import Capacity
from llmtop.tui.app import LlmtopApp
from llmtop.tui.screens.big import BigScreen
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.map import MapScreen
from llmtop.tui.screens.why import WhyScreen

SIZES = [(80, 24), (120, 40), (180, 45)]


def rows(app: LlmtopApp, widget_id: str) -> list[str]:
    widget = app.screen.query_one(f"#{widget_id}")
    return [widget.render_line(y).text for y in range(widget.size.height)]


@pytest.fixture(autouse=True)
def _address_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BigScreen, "hides_address", False)


@pytest.mark.parametrize(("key", "screen"), [("w", WhyScreen), ("b", BigScreen), ("n", MapScreen)])
async def test_they_open_and_close_and_the_load_is_stopped_from_them(cockpit, key, screen):
    app = cockpit("past")
    async with app.run_test(size=SIZES[0]) as pilot:
        for leave in ("escape", key):
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, screen)
            await pilot.press(leave)
            await pilot.pause()
            assert isinstance(app.screen, Cockpit)
        assert StopLoad() not in app.host.sent
        await pilot.press(key, "x")
        await pilot.pause()
    assert [command for command in app.host.sent if not isinstance(command, ShowMap)] == [StopLoad()]


@pytest.mark.parametrize("key", ["n", "question_mark", *(pytest.param(key, marks=pytest.mark.faults) for key in "wb")])
async def test_q_quits_from_them_and_the_cockpit_shows_how_far_that_is(cockpit, key):
    app = cockpit("past")
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press(key, "q")
        await pilot.pause()
        assert isinstance(app.screen, Cockpit)
        assert "DRAINING" in rows(app, "verdict")[0]
    assert [command for command in app.host.sent if not isinstance(command, ShowMap)] == [Quit()]


@pytest.mark.parametrize(("key", "line"), [("w", "page-said"), ("b", "big-keys"), ("n", "map-picture")])
async def test_a_key_of_the_cockpit_acts_from_them_or_says_where(cockpit, key, line):
    app = cockpit("past")
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press(key, "k")
        await pilot.pause()
        assert "k: in the cockpit (Esc)" in rows(app, line)[-1]
        assert not app.cockpit.knobs.display
        await pilot.press("space")
        await pilot.pause()
        assert app.cockpit.condition.frozen
        assert "display frozen" in rows(app, line)[-1]


async def test_why_tells_three_facts(cockpit):
    app = cockpit("past")
    found = app.host.now.assessment
    diagnosis = replace(found.diagnosis, evidence=("64 running while 32 wait",), votes=(7, 8))
    app.host.now = replace(app.host.now, assessment=replace(found, diagnosis=diagnosis))
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("w")
        await pilot.pause()
        told = str(app.screen.query_one(Static).content)
    for words in ("the SLO", "what binds", "the cliff", "queue-bound", "7 of 8 windows say so", "latency bends at 66"):
        assert words in told


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_why_has_a_table_of_names_that_fits_and_none_where_there_are_none(cockpit, size):
    app = cockpit("past")
    async with app.run_test(size=size) as pilot:
        await pilot.press("w")
        await pilot.pause()
        assert "By name" not in str(app.screen.query_one(Static).content)
        names = (
            KindFigures(name="answer", n=99_999, errors=999, ttft_p50_ms=999, ttft_p95_ms=9990, ok=False),
            KindFigures(name="retrieve-" * 9, n=88, tpot_p95_ms=38.2, e2e_p95_ms=999_000, ok=True),
        )
        calls = (CallFigures(name="search", n=90, errors=9, p50_ms=12, p95_ms=30),)
        told = replace(app.host.now.assessment, by_name=names, calls=calls)
        app.host.now = replace(app.host.now, assessment=told)
        app.tick()
        await pilot.pause()
        lines = str(app.screen.query_one(Static).content).splitlines()
    (head,) = (line for line in lines if line.startswith("By name"))
    answer, retrieve = lines[lines.index(head) + 1 :][:2]
    assert answer.endswith("SLO FAIL")
    assert retrieve.startswith("retrieve-")
    assert max(len(line) for line in lines) <= min(size[0], 100) - 6
    assert any(line.startswith("search ") for line in lines)


@pytest.mark.parametrize("ascii", [False, True])
async def test_the_number_is_five_rows_high_and_follows_the_run(cockpit, ascii):
    app = cockpit("past", ascii=ascii)
    ink = "#" if ascii else "█"
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("b")
        for at_slo, size in enumerate(SIZES, 126):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            before = rows(app, "big-head")
            assert sum(ink in row for row in before) == 5
            assert "concurrent users at the SLO" in before[2]
            assert any("127.0.0.1:41733" in row for row in before)
            assert len(rows(app, "big-curve")) == size[1] - 13
            capacity = Capacity(at_slo=at_slo, fails_at=140)
            app.host.now = replace(app.host.now, assessment=replace(app.host.now.assessment, capacity=capacity))
            app.tick()
            await pilot.pause()
            assert rows(app, "big-head") != before


async def test_the_address_is_hidden_on_demand_and_stays_hidden(cockpit):
    app = cockpit("past")
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("b", "h")
        await pilot.pause()
        assert not any("127.0.0.1" in row for row in rows(app, "big-head"))
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("b")
        await pilot.pause()
        assert not any("127.0.0.1" in row for row in rows(app, "big-head"))
        assert "hide or show the address" in rows(app, "big-keys")[0]


async def test_a_slider_that_was_let_go_of_stays_so_behind_a_screen(cockpit) -> None:
    app = cockpit("past")
    async with app.run_test(size=SIZES[0]) as pilot:
        for keys in (("w", "escape"), ("b", "escape"), ("question_mark", "escape"), ("w", "w")):
            app.set_focus(app.cockpit.bank.load)
            await pilot.pause()
            assert app.cockpit.focused is app.cockpit.bank.load
            await pilot.press("escape", *keys, "right", "4", "enter")
            await pilot.pause()
            assert app.cockpit.focused is not app.cockpit.bank.load, keys
            assert app.host.sent == [], keys


def mapped(app: LlmtopApp) -> None:
    """A map of two lengths."""
    cells = tuple(
        MapCell(load=load, prompt_tokens=length, n=80, stand="ok", ttft_p95_ms=900.0, tpot_p95_ms=30.0)
        for length in (192, 768)
        for load in (8.0, 32.0)
    )
    contour = tuple(MapEdge(prompt_tokens=length, held=32.0) for length in (192, 768))
    found = Map(cells=cells, contour=contour, text="contour: at least 32 users at 192 tokens")
    app.host.now = replace(app.host.now, assessment=replace(app.host.now.assessment, map=found))


async def test_the_map_is_read_with_arrows_and_only_s_explores(cockpit):
    app = cockpit("past")
    mapped(app)
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("n")
        await pilot.pause()
        before = rows(app, "map-picture")
        assert "contour: at least 32 users" in "\n".join(before)
        await pilot.press("left", "up", "enter", "right", "right")
        await pilot.pause()
        assert rows(app, "map-picture") != before
        assert app.host.sent == [ShowMap()]
        await pilot.press("s")
        await pilot.pause()
        assert app.host.sent == [ShowMap(), Steer("map")]
        assert "exploring the map" in rows(app, "map-picture")[-1]
        app.host.now = replace(app.host.now, steering=Steering(True, "map: 24 users x 768 tokens", "map"))
        app.tick()
        await pilot.pause()
        assert "stop exploring" in rows(app, "map-keys")[0]
        await pilot.press("s")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
    assert app.host.sent == [ShowMap(), Steer("map"), Steer("map", on=False), ShowMap(False)]


async def test_the_map_says_how_the_server_stands_and_takes_up_the_load_on_offer(cockpit, monkeypatch):
    app, meant = cockpit("loaded"), LoadPoint(concurrency=48, prompt_tokens=512, output_tokens=32)
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("n")
        await pilot.pause()
        assert "REC" in rows(app, "map-header")[0]
        assert not app.screen.query_one("#map-urgent").display
        up = app.host.now.frame.endpoint
        app.host.frame_becomes(endpoint=replace(up, state=EndpointState.STALE, since_s=60.0))
        app.tick()
        await pilot.pause()
        assert "hung" in rows(app, "map-header")[0]
        assert rows(app, "map-urgent")[0].startswith(" HUNG ")
        target = app.host.now.frame.target.at("concurrency", 0)
        app.host.frame_becomes(endpoint=up, offer=Offer(40.0, meant, "back after 52 s"), target=target, in_flight=0)
        app.tick()
        await pilot.pause()
        assert "BACK  after 52 s · Enter: 48 users again" in rows(app, "map-urgent")[0]
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, MapScreen)
    assert app.host.sent == [ShowMap(), SetLoad(meant), ShowMap(False)]


@pytest.mark.faults
async def test_after_a_stop_the_map_asks_before_it_explores(cockpit, monkeypatch):
    app = cockpit("past")
    mapped(app)
    monkeypatch.setattr("llmtop.tui.app.READ_S", 0.0)
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("n", "x", "s")
        await pilot.pause()
        assert app.host.sent == [ShowMap(), StopLoad()]
        assert "Enter lets the exploration start it" in rows(app, "map-picture")[-1]
        await pilot.press("enter")
        await pilot.pause()
    assert app.host.sent[:3] == [ShowMap(), StopLoad(), Steer("map")]


@pytest.mark.faults
async def test_in_a_replay_the_map_shows_and_explores_nothing(cockpit):
    app = cockpit("replay")
    mapped(app)
    async with app.run_test(size=SIZES[0]) as pilot:
        await pilot.press("n", "s")
        await pilot.pause()
        assert "this is a replay: an exploration needs a live run" in rows(app, "map-picture")[-1]
        assert "explore" not in rows(app, "map-keys")[0]
    assert not [command for command in app.host.sent if isinstance(command, Steer)]
