"""The two kinds of servers a run can drive, and as much of a hand as there is on each."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_here import EngineHere
from msgspec.structs import replace

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.profile import Profile
from llmtop.domain.samples import ServerSnapshot
from llmtop.errors import EndpointUnreachable, EndpointUnusable, UsageError
from llmtop.session import targets
from llmtop.session.options import SessionOptions
from llmtop.session.targets import Given, Simulated, slots_of, target_of

INFO = EndpointInfo(dialect=Dialect.VLLM, model="tiny", server="vLLM 0.33.0")
SIMULATED = Endpoint(base_url="", simulated=True)


async def test_the_simulated_engine_starts_turns_and_ends() -> None:
    target = Simulated(SIMULATED, "laptop", {"max_num_seqs": 16}, seed=0)
    endpoint = await target.start()
    try:
        assert endpoint.base_url.startswith("http://127.0.0.1:")
        assert target.knobs["max_num_seqs"] == 16
        assert await target.turn(SetKnob("max_num_seqs", 8)) == "max_num_seqs set to 8"
        assert target.knobs["max_num_seqs"] == 8
        assert target.faults["hang"] == 0
        own = replace(INFO, server="vLLM 0.33.0+llmtop")
        assert await slots_of(target, endpoint, INFO) == 8
        assert await slots_of(Given(endpoint), endpoint, own) == 8, "asked at its version: its control lets nobody in"
        assert await slots_of(Given(endpoint), endpoint, INFO) is None, "a server of somebody else's is asked for none"
        assert await slots_of(target, endpoint, replace(INFO, max_num_seqs=3)) == 3
        assert await target.turn(InjectFault("hang", True)) == "fault hang on"
        assert target.faults["hang"] > 0
        with pytest.raises(EndpointUnusable, match="max_num_seqs"):
            await target.turn(SetKnob("max_num_seqs", -1))
        assert target.knobs["max_num_seqs"] == 8
    finally:
        await target.close()
    with pytest.raises(EndpointUnreachable):
        await target.turn(SetKnob("max_num_seqs", 9))


async def test_the_limits_of_the_simulated_engine_are_known_from_its_knobs_but_for_slots_of_a_second_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "SimulatorProcess", EngineHere)
    target = Simulated(SIMULATED, "laptop", {"max_num_seqs": 16}, seed=0)
    scrape = ServerSnapshot(t_s=1.0, running=3.0)
    assert target.over(scrape) == scrape, "nothing is known before it runs"
    await target.start()
    try:
        await target.turn(SetKnob("max_num_batched_tokens", 64))
        assert target.over(scrape) == replace(scrape, max_num_seqs=16.0, max_num_batched_tokens=64.0)
        await target.turn(InjectFault("replica_added"))
        assert target.over(scrape) == replace(scrape, max_num_batched_tokens=64.0)
    finally:
        await target.close()


async def test_a_restart_comes_back_at_the_same_place_with_other_knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SimulatorProcess", EngineHere)
    target = Simulated(SIMULATED, "laptop", {"jitter": 0.0}, seed=0)
    before = await target.start()
    try:
        await target.turn(SetKnob("max_num_seqs", 8))
        assert await target.restart({"max_num_seqs": 24}) == before
        assert target.knobs["max_num_seqs"] == 24
    finally:
        await target.close()


async def test_a_given_server_is_neither_turned_nor_restarted() -> None:
    target = Given(Endpoint(base_url="http://h"))
    assert (await target.start()).base_url == "http://h"
    assert target.knobs == target.faults == {}
    with pytest.raises(UsageError, match="not known yet"):
        await target.turn(SetKnob("max_num_seqs", 8))
    with pytest.raises(UsageError, match="not started from here"):
        await target.restart({})
    await target.close()


def test_without_an_endpoint_the_simulated_engine_is_driven(tmp_path: Path) -> None:
    assert isinstance(target_of(SessionOptions(profile=Profile(name="p"))), Simulated)
    given = SessionOptions(profile=Profile(name="p"), endpoint=Endpoint(base_url="http://h"))
    assert isinstance(target_of(given), Given)


async def test_the_slots_of_all_engines_count_where_the_metrics_tell_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scraped:
        async def scrape(self) -> ServerSnapshot:
            return ServerSnapshot(t_s=0.0, max_num_seqs=24.0)

        async def close(self) -> None:
            pass

    endpoint = Endpoint(base_url="http://h")
    monkeypatch.setattr(targets, "Scraper", lambda *_: Scraped())
    assert await slots_of(Given(endpoint), endpoint, replace(INFO, max_num_seqs=8)) == 24
