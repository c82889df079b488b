"""The canary lane of a session: there is one where it is asked for, and it ends with the load and with the contact."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from session_fakes import BASE, INFO, World, made, settled

from llmtop.domain.commands import SetLoad, StopLoad
from llmtop.domain.crew import CrewSpec
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome
from llmtop.meter.facts import Facts
from llmtop.recording.reader import RunReader
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session

PROFILE = Profile(name="p", plan=LoadPlan(stages=(), base=BASE), canary=0.5)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return made(World(), monkeypatch)


class Hanging:
    """What a client does that never has an answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, str]] = []
        self.waiting = 0

    async def generate(self, said: str, output_tokens: int, api: str, trace: Any, sink: Any, **carried: Any) -> None:
        self.sent.append((said, output_tokens, api))
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
            trace.outcome = Outcome.CANCELLED


async def begun(world: World, path: Path, **fields: Any) -> tuple[Any, Hanging]:
    """A session under load whose first canary is on its way."""
    session = world.session(path, profile=PROFILE, **fields)
    await session.start()
    await settled()
    hanging = Hanging()
    world.clients[1].generate = hanging.generate  # type: ignore[method-assign]
    await world.clock.go(2.5)
    assert hanging.waiting == 1
    return session, hanging


async def test_without_being_asked_for_there_is_no_lane_and_no_second_client(world: World, tmp_path: Path) -> None:
    session = world.session(tmp_path)
    await session.start()
    await world.clock.go(9.0)
    assert len(world.clients) == 1
    frame = session.frame()
    assert (frame.new_user, frame.new_user_waits_s) == (None, None)
    assert set(frame.timeline.canary_ms) <= {None}
    await world.ended(session)


async def test_its_age_is_shown_while_it_waits(world: World, tmp_path: Path) -> None:
    session, hanging = await begun(world, tmp_path)
    await world.clock.go(9.0)
    assert session.frame().new_user_waits_s == pytest.approx(7.0)
    assert len(hanging.sent) == 1
    assert hanging.sent[0][1:] == (1, "chat")
    await world.ended(session)
    assert hanging.waiting == 0
    assert world.clients[1].closed


@pytest.mark.parametrize("command", [StopLoad(), SetLoad(BASE.at("concurrency", 0))], ids=["stop", "zero"])
async def test_a_stop_gives_it_up_at_once(world: World, tmp_path: Path, command: Any) -> None:
    session, hanging = await begun(world, tmp_path)
    if isinstance(command, SetLoad):
        world.engines[0].target = command.point
    await session.command(command)
    await settled()
    assert hanging.waiting == 0, "before any tick"
    await world.clock.go(20.0)
    assert len(hanging.sent) == 1
    world.engines[0].target = BASE
    await world.clock.go(22.5)
    assert len(hanging.sent) == 2
    await world.ended(session)
    assert [each for batch in session.take_facts() for each in batch.canaries] == []


async def test_a_load_that_is_cut_by_whatever_ends_it_within_a_tick(world: World, tmp_path: Path) -> None:
    session, hanging = await begun(world, tmp_path)
    world.engines[0].cut()
    await world.clock.go(world.clock.now_s + 0.25)
    assert hanging.waiting == 0
    await world.ended(session)


async def test_with_workers_the_session_sends_it_and_with_the_api_of_the_load(world: World, tmp_path: Path) -> None:
    world.found = lambda: replace(INFO, apis=("completions",))
    session, hanging = await begun(world, tmp_path, workers=CrewSpec(count=3))
    said, tokens, api = hanging.sent[0]
    assert (len(said.split()), tokens, api) == (64, 1, "completions")
    assert world.engines[0].hands[0] == "workers"
    await world.ended(session)


@pytest.mark.faults
async def test_past_the_cliff_it_feels_the_queue_and_with_a_gate_what_lies_behind_it(tmp_path: Path) -> None:
    """On the simulated engine with four slots, in real time; the load alone fills them."""
    felt: dict[str, list[float]] = {}
    for name, users, gate in (("below", 2, None), ("past", 24, None), ("gated", 24, 2)):
        point = LoadPoint(concurrency=users, prompt_tokens=64, output_tokens=32, gate=gate)
        profile = replace(PROFILE, plan=LoadPlan(stages=(), base=point), canary=5.0)
        path = tmp_path / f"{name}.llmtop"
        session = Session(SessionOptions(profile=profile, knobs={"max_num_seqs": 4}, run_file=str(path)))
        await session.start()
        try:
            await asyncio.sleep(9.0)
        finally:
            await session.close()
        totals = session.frame().totals
        assert totals.sent == totals.ok + totals.errors + totals.cancelled
        with RunReader(path) as run:
            facts = Facts.of(run.batches())
            told = [each.ttft_s for each in facts.canaries if each.ttft_s is not None]
        assert len(facts.requests) == totals.sent, "no canary is a request"
        felt[name] = sorted(told)
        assert len(told) >= 3
    below, past, gated = (ttfts[len(ttfts) // 2] for ttfts in felt.values())
    assert past > 4 * below
    assert gated < 2 * below
