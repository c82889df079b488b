"""A server that is started anew under a session with a hand: no load at once, readiness, and the same load on offer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from session_fakes import BASE, INFO, World, made, refusals

from llmtop.domain.commands import SetLoad, StopLoad
from llmtop.domain.endpoint import Endpoint, EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import ChangeReason, Chapter, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.endpoint.control import control
from llmtop.errors import EndpointUnreachable
from llmtop.host.review import sides_of_run
from llmtop.session.away import BRAKED_S, Away, Driven, same_process
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.session.targets import with_token
from llmtop.simulator.server.process import SimulatorProcess
from llmtop.wording.restarts import LISTS, RESTARTED, SILENT

BIGGER = replace(INFO, flags=(("max_num_seqs", "64"),))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return made(World(), monkeypatch)


async def driving(world: World, path: Path) -> Session:
    world.found = lambda: replace(INFO, flags=(("max_num_seqs", "8"),))
    session = world.session(path)
    await session.start()
    await world.clock.go(0.5)
    return session


def failing(problem: str = "nobody") -> Any:
    def found() -> Any:
        raise EndpointUnreachable("http://h", problem)

    return found


def chapters(session: Session) -> list[Chapter]:
    return [chapter for batch in session.take_facts() for chapter in batch.chapters]


async def test_a_restart_that_only_metrics_tell_cuts_the_load_and_offers_it_when_a_token_came(
    world: World, tmp_path: Path
) -> None:
    session = await driving(world, tmp_path)
    world.found = failing("HTTP 503 Loading model")
    world.scrapers[0].restarted = True
    await world.clock.go(1.2)
    world.scrapers[0].restarted = False
    frame = session.frame()
    assert world.engines[0].cuts == 1
    assert frame.endpoint.awaited == SILENT
    assert frame.offer is None, "nobody is there to drive"
    await world.clock.go(5.0)
    assert session.frame().endpoint.state is EndpointState.DOWN
    world.found = lambda: BIGGER
    await world.clock.go(8.0)
    frame = session.frame()
    assert (frame.endpoint.state, frame.endpoint.awaited) == (EndpointState.UP, None)
    assert frame.offer is not None
    assert (frame.offer.point, frame.offer.text) == (BASE, "back after 5 s: max_num_seqs 8 → 64")
    assert world.engines[-1].pacer.plan.base == BASE.at("concurrency", 0), "no load by itself"
    (chapter,) = chapters(session)
    assert chapter.text == f"{RESTARTED}: max_num_seqs 8 → 64"
    assert dict(chapter.traits)["max_num_seqs"] == "64"
    assert session.meta.began is not None
    assert session.meta.info is not None
    assert (dict(session.meta.began.flags), dict(session.meta.info.flags)) == (
        {"max_num_seqs": "8"},
        {"max_num_seqs": "64"},
    )
    await world.ended(session)


@pytest.mark.parametrize("command", [SetLoad(LoadPoint(concurrency=3)), SetLoad(BASE), StopLoad()])
async def test_whatever_a_hand_does_ends_the_offer(world: World, tmp_path: Path, command: SetLoad | StopLoad) -> None:
    session = await driving(world, tmp_path)
    world.engines[0].untold = [refusals(0.75)]
    await world.clock.go(3.0)
    assert session.frame().offer is not None
    await session.command(command)
    assert session.frame().offer is None
    await world.ended(session)


async def test_a_gate_that_is_turned_starts_no_load_and_keeps_the_offer_behind_it(world: World, tmp_path: Path) -> None:
    session = await driving(world, tmp_path)
    world.found = failing()
    world.engines[0].untold = [refusals(0.75)]
    await world.clock.go(1.5)
    await session.command(SetLoad(replace(BASE, gate=8), gate_alone=True))
    assert world.engines[0].commands == [(replace(BASE.at("concurrency", 0), gate=8), "hand")]
    world.found = lambda: INFO
    await world.clock.go(8.0)
    offer = session.frame().offer
    assert offer is not None
    assert offer.point == replace(BASE, gate=8)
    await world.ended(session)


@pytest.mark.parametrize("by", ["search", "hold", "map"])
async def test_who_steers_and_does_not_know_yet_starts_no_load_meanwhile(
    world: World, tmp_path: Path, by: ChangeReason
) -> None:
    session = await driving(world, tmp_path)
    world.found = failing()
    world.engines[0].untold = [refusals(0.75)]
    await world.clock.go(1.5)
    await session.command(SetLoad(LoadPoint(concurrency=64), by))
    assert world.engines[0].commands == []
    await session.command(SetLoad(LoadPoint(concurrency=4)))
    assert world.engines[0].commands == [(LoadPoint(concurrency=4), "hand")]
    world.found = lambda: INFO
    await world.clock.go(8.0)
    assert session.frame().offer is None, "a hand has set another load"
    await world.ended(session)


@pytest.mark.parametrize(("start_s", "anew"), [(5.0, False), (9.0, True)])
async def test_an_outage_of_the_network_begins_no_epoch(
    world: World, tmp_path: Path, start_s: float, anew: bool
) -> None:
    world.served = lambda t_s: ServerSnapshot(t_s=t_s, process_start_s=5.0)
    session = await driving(world, tmp_path)
    world.found = failing()
    world.scrapers[0].fresh = False
    world.engines[0].untold = [refusals(0.75)]
    await world.clock.go(1.5)
    world.served = lambda t_s: ServerSnapshot(t_s=t_s, process_start_s=start_s)
    world.found = lambda: replace(INFO, flags=(("max_num_seqs", "8"),))
    await world.clock.go(8.0)
    offer = session.frame().offer
    assert offer is not None
    assert ("nothing that it tells has changed" if anew else "it was not restarted") in offer.text
    assert [chapter.text for chapter in chapters(session)] == ([RESTARTED] if anew else [])
    await world.ended(session)


# ── Pure ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_brake_made_of_the_load_as_the_server_went_away_is_not_what_was_meant() -> None:
    driven, meant, braked = Driven(), LoadPoint(concurrency=48), LoadPoint(concurrency=1)
    driven.note([LoadChange(10.0, meant), LoadChange(20.0, braked, "brake")])
    assert driven.at(20.0 + BRAKED_S, braked) == meant
    assert driven.at(20.1 + BRAKED_S, braked) == braked, "this is what somebody has left it at"
    driven.note([LoadChange(21.0, LoadPoint(concurrency=5))])
    assert driven.at(22.0, LoadPoint(concurrency=6)) == LoadPoint(concurrency=6), "a ramp goes on"
    assert driven.at(22.0, LoadPoint(concurrency=0)) is None


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({}, {}, None),
        ({"process_start_s": 5.0}, {}, None),
        ({"process_start_s": 5.0}, {"process_start_s": 6.0}, True),
        ({"process_start_s": 5.0}, {"process_start_s": 6.1}, False),
        ({"generation_tokens_total": 9.0}, {"generation_tokens_total": 9.0}, True),
        ({"generation_tokens_total": 9.0}, {"generation_tokens_total": 8.0}, False),
        ({"generation_tokens_total": 0.0}, {"generation_tokens_total": 0.0}, None),
    ],
)
def test_a_process_is_known_by_its_start_or_by_what_it_has_counted(
    before: dict[str, float], after: dict[str, float], same: bool | None
) -> None:
    assert same_process(ServerSnapshot(t_s=1.0, **before), ServerSnapshot(t_s=2.0, **after)) is same
    assert same_process(None, ServerSnapshot(t_s=2.0, **after)) is None


@pytest.mark.parametrize(
    ("known", "same", "changed", "anew"),
    [
        ({}, None, False, False),
        ({}, None, True, True),
        ({"absent": True}, None, False, True),
        ({"absent": True}, True, False, False),
        ({"restarted": True}, True, False, True),
        ({}, False, False, True),
        ({}, True, True, False),
    ],
)
def test_a_server_that_nobody_saw_gone_was_not_restarted(
    known: dict[str, bool], same: bool | None, changed: bool, anew: bool
) -> None:
    assert Away(0.0, None, **known).started_anew(same, changed) is anew


def test_how_far_a_probe_came_is_what_is_waited_for() -> None:
    away = Away(0.0, None)
    away.reach(LISTS)
    assert away.stage == LISTS


# ── The whole story ───────────────────────────────────────────────────────────────────────────────────────────────────


async def until(session: Session, condition: Callable[[Frame], bool], timeout_s: float = 40.0) -> Frame:
    """The first frame that meets the condition. The time limit only ends a test that would hang."""
    async with asyncio.timeout(timeout_s):
        while not condition(frame := session.frame()):
            await asyncio.sleep(0.05)
        return frame


async def killed(simulator: SimulatorProcess) -> SimulatorProcess:
    """Another process at the same address, with other knobs."""
    port = int(simulator.base_url.rpartition(":")[2])
    await simulator.close()
    await asyncio.sleep(2.0)
    return await SimulatorProcess.start(knobs={"max_num_seqs": 16}, port=port)


async def anew(simulator: SimulatorProcess) -> SimulatorProcess:
    """The same again, so soon that metrics alone tell of it."""
    endpoint = with_token(Endpoint(base_url=simulator.base_url), simulator.control_token)
    await control(endpoint, "POST", "/llmtop/control", {"faults": {"restart": 0.2}})
    return simulator


@pytest.mark.faults
@pytest.mark.parametrize(
    ("restart", "told", "slots"),
    [(killed, "max_num_seqs 8 → 16", ["8", "16"]), (anew, "nothing that it tells has changed", ["8", "8"])],
)
async def test_a_server_that_is_restarted_under_load_is_driven_again_as_two_sides(
    tmp_path: Path, restart: Callable[..., Any], told: str, slots: list[str]
) -> None:
    point, path = LoadPoint(concurrency=4, prompt_tokens=32, output_tokens=8), tmp_path / "r.llmtop"
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=point))
    simulator = await SimulatorProcess.start(knobs={"max_num_seqs": 8})
    endpoint = Endpoint(base_url=simulator.base_url)
    session = Session(SessionOptions(profile=profile, run_file=str(path), endpoint=endpoint))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 40)
        simulator = await restart(simulator)
        frame = await until(session, lambda frame: frame.offer is not None)
        assert frame.offer is not None
        assert (frame.offer.point, frame.target.value, frame.in_flight) == (point, 0, 0)
        assert told in frame.offer.text
        errors, ok = frame.totals.errors, frame.totals.ok
        await session.command(SetLoad(frame.offer.point))
        frame = await until(session, lambda frame: frame.totals.ok > ok + 40)
        assert frame.totals.errors == errors
        assert frame.offer is None
        assert all(
            rate is None or rate >= 0 for rate in (frame.window.preemptions_per_s, *frame.timeline.output_tokens_per_s)
        )
    finally:
        await session.close()
        await simulator.close()
    first, second = sides_of_run(path)
    assert [side.traits["max_num_seqs"] for side in (first, second)] == slots
    assert [sum(level.errors for level in side.levels) for side in (first, second)] == [0, 0]
    assert {level.load for side in (first, second) for level in side.levels} == {4}
