"""A restart that was asked for: no load while it lasts, the same load after it, and a curve of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from session_fakes import BASE, World, made, settled

from llmtop.domain.commands import Restart, SetLoad, StopLoad
from llmtop.domain.endpoint import CommandStatus, Endpoint, EndpointState
from llmtop.domain.run import Chapter, Event, FactBatch
from llmtop.domain.samples import LoadBin
from llmtop.errors import ServeError
from llmtop.session.session import Session


class FakeCommanded:
    """Takes until `ready` is set, and fails with `fails`."""

    def __init__(self) -> None:
        self.bank = None
        self.knobs: Mapping[str, float] = {}
        self.faults: Mapping[str, float] = {}
        self.settings = {"seqs": "8"}
        self.problem, self.runs = "", True
        self.ready = asyncio.Event()
        self.fails: ServeError | None = None
        self.asked: list[dict[str, str]] = []

    @property
    def status(self) -> CommandStatus:
        told = tuple(self.settings.items())
        return CommandStatus(serves=True, runs=self.runs, settings=told, problem=self.problem)

    def over(self, snapshot: object) -> object:
        return snapshot

    async def start(self) -> Endpoint:
        return Endpoint(base_url="http://10.0.0.1:8000")

    async def restart(self, knobs: Mapping[str, str]) -> Endpoint:
        self.asked.append(dict(knobs))
        self.problem = ""
        await self.ready.wait()
        if self.fails is not None:
            self.problem = str(self.fails)
            raise self.fails
        self.runs = True
        self.settings |= knobs
        return await self.start()

    async def close(self) -> None:
        """Nothing was started."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return made(World(), monkeypatch)


async def begun(world: World, path: Path) -> tuple[Session, FakeCommanded]:
    session = world.session(path)
    target = session._target = FakeCommanded()
    await session.start()
    await world.clock.go(1.0)
    return session, target


def told(session: Session) -> tuple[list[Chapter], list[Event]]:
    batches = session.take_facts()
    return [each for batch in batches for each in batch.chapters], [each for batch in batches for each in batch.events]


async def test_the_load_falls_to_zero_and_goes_on_when_the_server_is_back(world: World, tmp_path: Path) -> None:
    session, target = await begun(world, tmp_path)
    await session.command(Restart((("seqs", "16"),)))
    await world.clock.go(2.0)
    first = world.engines[0]
    assert (first.cuts, first.closed, world.scrapers[0].closed) == (1, True, True)
    assert session.frame().endpoint.state is EndpointState.CONNECTING
    assert (target.asked, len(world.engines)) == ([{"seqs": "16"}], 1)
    target.ready.set()
    await world.clock.go(4.0)
    assert world.engines[1].pacer.target(0.0) == BASE, "the same load again"
    assert session.frame().endpoint.state is EndpointState.UP
    chapters, _ = told(session)
    assert [chapter.text for chapter in chapters] == ["the server has restarted: seqs 8 → 16"]
    assert chapters[0].key.startswith("start=2 ")
    assert "seqs=16" in chapters[0].key
    assert session.frame().endpoint.named == "seqs 16"
    await world.ended(session, 0.0)


@pytest.mark.parametrize("wish", [StopLoad(), SetLoad(BASE.at("concurrency", 5))])
async def test_a_load_that_was_commanded_meanwhile_is_the_one_that_goes_on(
    world: World, tmp_path: Path, wish: StopLoad | SetLoad
) -> None:
    session, target = await begun(world, tmp_path)
    await session.command(Restart(()))
    await world.clock.go(2.0)
    await session.command(wish)
    target.ready.set()
    await world.clock.go(4.0)
    assert world.engines[1].pacer.target(0.0).value == (0 if isinstance(wish, StopLoad) else 5)
    await world.ended(session, 0.0)


async def test_a_server_that_does_not_come_gets_no_load_and_can_be_put_back(world: World, tmp_path: Path) -> None:
    session, target = await begun(world, tmp_path)
    target.fails, target.runs = ServeError("the server ended with exit code 1"), False
    target.ready.set()
    await session.command(Restart((("seqs", "999"),)))
    await world.clock.go(3.0)
    _, events = told(session)
    assert [event.text for event in events if event.severity == "error"] == ["the server ended with exit code 1"]
    assert session.frame().endpoint.state is EndpointState.DOWN
    assert len(world.engines) == 1
    target.fails = None
    await session.command(Restart(()))
    await world.clock.go(6.0)
    assert target.asked == [{"seqs": "999"}, {}]
    assert world.engines[1].pacer.target(0.0).value == 0, "nobody has asked for load since it failed"
    assert session.frame().endpoint.state is EndpointState.UP
    await world.ended(session, 0.0)


async def test_settings_that_were_not_applied_are_not_driven(world: World, tmp_path: Path) -> None:
    session, target = await begun(world, tmp_path)
    target.fails = ServeError("not applied: it says seqs 8 instead of 16")
    target.ready.set()
    await session.command(Restart((("seqs", "16"),)))
    await world.clock.go(3.0)
    chapters, events = told(session)
    assert any("not applied" in event.text and event.severity == "error" for event in events)
    assert "seqs=16" not in chapters[0].key
    assert session.frame().endpoint.state is EndpointState.UP
    assert world.engines[1].pacer.target(0.0).value == 0
    await world.ended(session, 0.0)


async def test_a_server_of_ours_that_dies_gets_no_more_load(world: World, tmp_path: Path) -> None:
    session, target = await begun(world, tmp_path)
    target.problem, target.runs = "the server was ended by SIGKILL", False
    await world.clock.go(2.0)
    _, events = told(session)
    assert [event.text for event in events if event.severity == "error"] == ["the server was ended by SIGKILL"]
    assert world.engines[0].cuts == 1
    assert session.frame().endpoint.state is EndpointState.DOWN
    await settled()
    await world.ended(session, 0.0)


async def test_a_last_token_of_a_server_that_died_does_not_bring_it_back(world: World, tmp_path: Path) -> None:
    session, target = await begun(world, tmp_path)
    target.problem, target.runs = "the server was ended by SIGKILL", False
    late = LoadBin(t_s=1.2, span_s=0.25, target=2, in_flight=2, output_tokens=5)
    world.engines[0].untold += [FactBatch(t_s=1.2, bins=(late,)), FactBatch(t_s=1.5, bins=(late,))]
    await world.clock.go(3.0)
    assert session.frame().endpoint.state is EndpointState.DOWN
    await world.ended(session, 0.0)
