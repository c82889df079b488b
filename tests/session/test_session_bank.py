"""A run over a server whose knobs turn: what is shown, what a turn leaves behind, and what a restart does to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from session_fakes import INFO, World, made, refusals, settled

from llmtop.analysis.segments import segments_of
from llmtop.domain.commands import SetKnob
from llmtop.domain.run import Chapter, Event, FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.errors import EndpointUnusable
from llmtop.meter.facts import Facts
from llmtop.session.away import turned
from llmtop.session.liveknobs import Stand
from llmtop.session.session import Session
from llmtop.session.targets import slots_told
from llmtop.session.turning import KNOBS_S


class Speaker:
    """Turns what it is told to, on two engines, unless it `fails`."""

    by = "a speaker"

    def __init__(self, value: float = 16.0) -> None:
        self.value, self.fails = value, False

    @property
    def stand(self) -> Stand:
        return Stand(knobs={"max_num_seqs": self.value}, most={"max_num_seqs": 16.0}, engines=2)

    async def read(self) -> Stand:
        return self.stand

    async def turn(self, name: str, value: int) -> Stand:
        if self.fails:
            raise EndpointUnusable("http://h", "it did not take it")
        self.value = float(value)
        return self.stand


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return made(World(), monkeypatch)


async def driving(world: World, path: Path, speaker: Speaker, **fields: Any) -> Session:
    world.knobs = lambda: (speaker, speaker.stand)
    session = world.session(path, **fields)
    await session.start()
    await world.clock.go(1.5)
    return session


async def turn(world: World, session: Session, value: float) -> None:
    await session.command(SetKnob("max_num_seqs", value))
    await settled()
    await world.clock.go(world.clock.now_s + 3.0)


def told(batches: tuple[FactBatch, ...]) -> tuple[list[Chapter], list[Event], list[ServerSnapshot]]:
    return (
        [each for batch in batches for each in batch.chapters],
        [each for batch in batches for each in batch.events if "max_num_seqs" in each.text or "take" in each.text],
        [each for batch in batches for each in batch.server],
    )


async def test_a_turn_is_told_as_one_of_the_simulated_engine_is(world: World, tmp_path: Path) -> None:
    session = await driving(world, tmp_path, Speaker())
    status = session.frame().endpoint
    assert (status.knobs, status.knob_most) == ({"max_num_seqs": 16}, {"max_num_seqs": 16})
    assert (status.knobs_by, status.no_knobs, status.slots) == ("a speaker", "", 32)
    assert session.meta.info is not None
    assert dict(session.meta.info.flags) == {"max_num_seqs": "16"}
    await turn(world, session, 4.0)
    status = session.frame().endpoint
    assert (status.knobs, status.slots, status.named) == ({"max_num_seqs": 4}, 8, "max_num_seqs 4")
    chapters, events, scraped = told(session.take_facts())
    (chapter,) = chapters
    assert chapter.text == "max_num_seqs 16 → 4"
    assert "max_num_seqs=4" in chapter.key
    assert dict(chapter.traits)["max_num_seqs"] == "4"
    assert [(each.kind, each.severity, each.text) for each in events] == [
        ("server", "info", "max_num_seqs set to 4 (a speaker)")
    ]
    assert (scraped[0].max_num_seqs, scraped[-1].max_num_seqs) == (32, 8), "of both engines, as they stand"
    await world.ended(session)


async def test_turned_there_and_back_it_is_on_the_curve_of_before(world: World, tmp_path: Path) -> None:
    session = await driving(world, tmp_path, Speaker())
    await turn(world, session, 4.0)
    await turn(world, session, 16.0)
    facts = Facts()
    for batch in session.take_facts():
        facts.extend(batch)
    first, second, third = (each.key for each in segments_of(facts, session.meta))
    assert first == third != second
    await world.ended(session)


async def test_a_turn_that_fails_begins_nothing(world: World, tmp_path: Path) -> None:
    speaker = Speaker()
    session = await driving(world, tmp_path, speaker)
    speaker.fails = True
    await turn(world, session, 4.0)
    await turn(world, session, 64.0)
    chapters, events, _ = told(session.take_facts())
    assert chapters == []
    assert [each.severity for each in events] == ["warning", "warning"]
    assert events[0].text == "it did not take it"
    assert "from 1 to 16" in events[1].text
    assert session.frame().endpoint.named == ""
    await world.ended(session)


async def test_a_server_that_was_started_anew_is_asked_again(world: World, tmp_path: Path) -> None:
    speaker = Speaker()
    session = await driving(world, tmp_path, speaker)
    await turn(world, session, 4.0)
    session.take_facts()
    speaker.value = 16.0
    world.scrapers[0].restarted = True
    await world.clock.go(world.clock.now_s + 1.2)
    world.scrapers[0].restarted = False
    await world.clock.go(world.clock.now_s + 6.0)
    status = session.frame().endpoint
    assert (status.knobs, status.named) == ({"max_num_seqs": 16}, ""), "what was turned is gone with the process"
    chapters, _, _ = told(session.take_facts())
    assert chapters[-1].text == "the server has restarted: max_num_seqs 4 → 16"
    world.knobs = "nothing turns"
    world.engines[-1].untold = [refusals(world.clock.now_s)]
    await world.clock.go(world.clock.now_s + 6.0)
    status = session.frame().endpoint
    assert (status.knobs, status.no_knobs, status.knobs_by) == ({}, "nothing turns", "")
    await world.ended(session)


async def test_an_outage_leaves_a_turned_knob_turned(world: World, tmp_path: Path) -> None:
    world.served = lambda t_s: ServerSnapshot(t_s=t_s, running=0.0, process_start_s=5.0)
    session = await driving(world, tmp_path, Speaker())
    await turn(world, session, 4.0)
    session.take_facts()
    world.engines[0].untold = [refusals(world.clock.now_s)]
    await world.clock.go(world.clock.now_s + 6.0)
    chapters, _, _ = told(session.take_facts())
    assert chapters == [], "nothing has changed that was not known"
    assert session.frame().endpoint.named == "max_num_seqs 4"
    await world.ended(session)


async def test_what_somebody_else_turns_is_seen_and_begins_a_curve(world: World, tmp_path: Path) -> None:
    speaker = Speaker()
    session = await driving(world, tmp_path, speaker)
    speaker.value = 8.0
    await world.clock.go(KNOBS_S + 2.0)
    chapters, events, scraped = told(session.take_facts())
    assert [each.text for each in chapters] == ["max_num_seqs 16 → 8, not turned from here"]
    assert [each.severity for each in events] == ["warning"]
    assert scraped[-1].max_num_seqs == 16
    await world.ended(session)


async def test_servers_that_take_turns_have_no_knob_any_more(world: World, tmp_path: Path) -> None:
    session = await driving(world, tmp_path, Speaker())
    world.scrapers[0].in_turn = True
    await world.clock.go(3.5)
    status = session.frame().endpoint
    assert status.knobs == {}
    assert "several replicas answer here" in status.no_knobs
    await world.ended(session)


async def test_nobody_looks_where_nothing_is_to_be_checked(world: World, tmp_path: Path) -> None:
    session = await driving(world, tmp_path, Speaker(), skip_checks=True)
    status = session.frame().endpoint
    assert (status.knobs, status.no_knobs) == ({}, "")
    await world.ended(session)


def test_a_server_tells_its_slots_by_whatever_name() -> None:
    assert slots_told({}, replace(INFO, flags=(("max_running_requests", "64"),)), None) == 64
    assert slots_told({"max_num_seqs": 8.0}, INFO, None) == 8
    assert slots_told({}, replace(INFO, max_num_seqs=12), ServerSnapshot(t_s=0.0, max_num_seqs=24.0)) == 24
    assert slots_told({}, INFO, None) is None


def test_a_turned_knob_stands_in_what_the_server_told_of_itself() -> None:
    flags = (("max_running_requests", "64"), ("page_size", "1"))
    assert turned(flags, {"max_num_seqs": 8.0}, engines=2) == (("max_running_requests", "16"), ("page_size", "1"))
    both = (("max_num_active_seqs", "16"), ("max_num_seqs", "16"))
    assert turned(both, {"max_num_seqs": 8.0}) == (("max_num_active_seqs", "16"), ("max_num_seqs", "8"))
