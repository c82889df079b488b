"""A session over the simulated engine: conservation, live control, a recording that replays to the same frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from engine_here import EngineHere

from llmtop.analysis.diagnosis import Recent, diagnose
from llmtop.analysis.recent import limits_of
from llmtop.dialects import DIALECTS
from llmtop.domain.commands import AddMark, Seek, SetKnob, SetLoad, StopLoad
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.load import Caps, LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch
from llmtop.domain.verdicts import Bound
from llmtop.endpoint.probe import probe
from llmtop.errors import EndpointUnreachable
from llmtop.host.replay import ReplayLink
from llmtop.meter.facts import Facts
from llmtop.recording.reader import RunReader
from llmtop.session import away, targets
from llmtop.session import session as session_module
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session

SHORT = LoadPoint(concurrency=4, prompt_tokens=32, output_tokens=8)


def options(path: Path, **fields: object) -> SessionOptions:
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=SHORT), caps=Caps(max_concurrency=64))
    return SessionOptions(**{"profile": profile, "run_file": str(path), **fields})  # type: ignore[arg-type]


async def until(session: Session, condition: Callable[[Frame], bool], timeout_s: float = 60.0) -> Frame:
    """The first frame that meets the condition. The time limit only ends a test that would hang."""
    async with asyncio.timeout(timeout_s):
        while not condition(frame := session.frame()):
            await asyncio.sleep(0.02)
        return frame


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is down is tried again soon, and processes are told apart that started within one second."""
    monkeypatch.setattr(session_module, "TICK_S", 0.05)
    monkeypatch.setattr(session_module, "RETURN_S", (0.1,))
    monkeypatch.setattr(away, "START_BLUR_S", 0.05)


async def test_a_run_that_is_not_to_be_kept_has_its_file_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "SimulatorProcess", EngineHere)
    path = tmp_path / "run.llmtop"
    session = Session(options(path, kept=False))
    await session.start()
    try:
        frame = await until(session, lambda frame: frame.totals.ok > 0)
        assert (frame.run_file, frame.recording) == (str(path), True)
        assert path.exists()
    finally:
        await session.close()
    assert not path.exists()
    assert session.frame().run_file is None


async def test_a_run_from_the_first_second_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    hand = options(path).profile
    session = Session(options(path, profile=msgspec.structs.replace(hand, canary=5.0)))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok >= 8)
        await session.command(SetLoad(msgspec.structs.replace(SHORT, concurrency=200)))
        frame = await until(session, lambda frame: frame.in_flight == 64)
        assert frame.target.concurrency == 64, "the cap holds"
        await session.command(AddMark("sixty-four"))
        await session.command(SetKnob("max_num_seqs", 16))
        frame = await until(session, lambda frame: frame.endpoint.knobs["max_num_seqs"] == 16)
        await session.command(StopLoad())
        frame = await until(session, lambda frame: frame.in_flight == 0)
    finally:
        await session.close()
    frame = session.frame()
    totals = frame.totals
    assert totals.sent == totals.ok + totals.errors + totals.cancelled
    assert totals.cancelled > 0
    assert frame.endpoint.state is EndpointState.UP
    assert frame.server is not None
    assert frame.server.running is not None
    assert [mark.text for mark in frame.marks] == ["sixty-four"]
    texts = " ".join(event.text for event in frame.events)
    assert "above the limit of 64" in texts
    assert "drained" in texts

    told = [batch for batch in session.take_facts() if batch != FactBatch(t_s=batch.t_s)]
    with RunReader(path) as run:
        assert run.complete
        assert list(run.batches()) == told
    assert sum(len(batch.requests) for batch in told) == totals.ok + totals.errors + totals.cancelled

    canaries = [canary for batch in told for canary in batch.canaries]
    assert canaries
    assert all(canary.ttft_s is not None for canary in canaries)
    first_s = min(change.t_s for batch in told for change in batch.changes)
    last_s = max(change.t_s for batch in told for change in batch.changes)
    assert all(first_s < canary.t_s < last_s for canary in canaries), "beside the load alone"

    samples = [sample for batch in told for sample in batch.client]
    assert samples
    assert all(sample.state is None and sample.reads is not None and sample.cpu is not None for sample in samples)
    assert all(record.client_limited is None for batch in told for record in batch.requests)
    limited = Facts.of(told).requests.column("client_limited")
    assert np.isfinite(limited).all(), "at its end all of a run is judged"

    replay = ReplayLink(path, clock=lambda: 0.0)
    replayed = replay_at(replay, replay.length_s)
    same = ("t_s", "target", "in_flight", "totals", "window", "timeline", "client", "changes", "marks", "foreign")
    for name in (*same, "new_user", "new_user_waits_s"):
        assert getattr(replayed, name) == getattr(frame, name), name
    assert replayed.endpoint.state is EndpointState.UP


def replay_at(replay: ReplayLink, t_s: float) -> Frame:
    replay.send(Seek(t_s=t_s, playing=False))
    return replay.frame()


async def test_an_endpoint_that_is_not_there_shows_and_is_tried_again(tmp_path: Path, unused_port: int) -> None:
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{unused_port}")
    session = Session(options(tmp_path / "run.llmtop", endpoint=endpoint))
    await session.start()
    try:
        frame = await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
        assert frame.endpoint.last_error
        assert frame.endpoint.retry_in_s is not None
        assert frame.in_flight == 0
    finally:
        await session.close()


async def test_an_impatient_session_says_so_at_once(tmp_path: Path, unused_port: int) -> None:
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{unused_port}")
    session = Session(options(tmp_path / "run.llmtop", endpoint=endpoint, patient=False))
    with pytest.raises(EndpointUnreachable, match=f"127.0.0.1:{unused_port}"):
        await session.start()
    await session.close()


async def test_an_outage_cuts_the_load_and_only_a_hand_brings_it_back(tmp_path: Path) -> None:
    simulator = await EngineHere.start()
    port = int(simulator.base_url.rpartition(":")[2])
    session = Session(options(tmp_path / "run.llmtop", endpoint=Endpoint(base_url=simulator.base_url)))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 0)
        await simulator.close()
        frame = await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
        await until(session, lambda frame: frame.in_flight == 0)
        simulator = await EngineHere.start(port=port)
        frame = await until(session, lambda frame: frame.endpoint.state is EndpointState.UP)
        assert frame.target.concurrency == 0
        await session.command(SetLoad(SHORT))
        ok = frame.totals.ok
        await until(session, lambda frame: frame.totals.ok > ok)
    finally:
        await session.close()
        await simulator.close()


async def outage(session: Session, simulator: EngineHere, preset: str = "laptop") -> EngineHere:
    """The endpoint dies under load, and comes back at the same address with `preset`."""
    port = int(simulator.base_url.rpartition(":")[2])
    await until(session, lambda frame: frame.totals.ok > 0)
    await simulator.close()
    await until(session, lambda frame: frame.endpoint.state is EndpointState.DOWN)
    seen = session._contact.scraping.seen
    if seen is not None and seen.process_start_s is not None:  # sooner, and it would be taken for the same process
        await asyncio.sleep(max(0.0, seen.process_start_s + 2 * away.START_BLUR_S - time.time()))
    back = await EngineHere.start(preset, port=port)
    await until(session, lambda frame: any("is back" in event.text for event in frame.events))
    return back


async def test_another_model_after_an_outage_is_the_one_that_is_driven(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    simulator = await EngineHere.start("laptop")
    session = Session(options(path, endpoint=Endpoint(base_url=simulator.base_url)))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 0)
        before = session.meta.info
        simulator = await outage(session, simulator, "l4-qwen2.5-0.5b")
        info = session.meta.info
        assert before is not None
        assert info is not None
        assert info.model != before.model
        frame = await until(session, lambda frame: frame.endpoint.model == info.model)
        assert frame.target.concurrency == 0
        assert frame.in_flight == 0
        told = next(event.text for event in frame.events if "is back" in event.text)
        assert f"model {before.model} → {info.model}" in told
        ok, errors = frame.totals.ok, frame.totals.errors
        await session.command(SetLoad(SHORT))
        frame = await until(session, lambda frame: frame.totals.ok > ok)
        assert frame.totals.errors == errors, "what is asked for is the model that is there"
    finally:
        await session.close()
        await simulator.close()
    totals = session.frame().totals
    assert totals.sent == totals.ok + totals.errors + totals.cancelled, "over both clients"
    with RunReader(path) as run:
        assert run.meta.info == info
        assert run.meta.endpoint.model == info.model


@pytest.mark.parametrize(
    "fresh",
    [
        {"dialect": Dialect.SGLANG, "max_num_seqs": 8},
        pytest.param({"max_num_seqs": 8}, marks=pytest.mark.faults),
        pytest.param({"max_model_len": 512}, marks=pytest.mark.faults),
    ],
)
async def test_what_a_server_is_after_an_outage_is_what_verdicts_rest_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: dict[str, Any]
) -> None:
    simulator = await EngineHere.start()
    session = Session(options(tmp_path / "run.llmtop", endpoint=Endpoint(base_url=simulator.base_url)))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 0)

        async def changed(endpoint: Endpoint, caps: Caps, reached: Any = None, **asked: Any) -> EndpointInfo:
            assert endpoint.dialect is None, "what was found out before is no order to the next probe"
            assert endpoint.model is None
            return msgspec.structs.replace(await probe(endpoint, caps), **fresh)

        monkeypatch.setattr("llmtop.session.finding.probe", changed)
        simulator = await outage(session, simulator)
        info = session.meta.info
        assert info is not None
        assert {name: getattr(info, name) for name in fresh} == fresh
        assert session._contact.client is not None
        assert session._contact.client.dialect is info.dialect
        facts = Facts()
        for batch in session.take_facts():
            facts.extend(batch)
        known = limits_of(facts, session.meta, SHORT)
        assert known.max_num_seqs == fresh.get("max_num_seqs")
        waits = Recent(
            polls=15, running=8.0, running_max=8.0, waiting=9.0, waiting_share=1.0, in_flight=17.0, requests=50.0
        )
        slots = str(DIALECTS[info.dialect].advice.more_slots)
        found = diagnose(waits, known, (), info.dialect)
        assert found.bound is Bound.QUEUE
        assert (known.max_num_seqs is None) is any(slots in text for text in found.evidence)
    finally:
        await session.close()
        await simulator.close()


async def test_of_an_endpoint_that_comes_back_as_it_was_nothing_else_is_said(tmp_path: Path) -> None:
    simulator = await EngineHere.start()
    session = Session(options(tmp_path / "run.llmtop", endpoint=Endpoint(base_url=simulator.base_url)))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 0)
        meta = session.meta
        simulator = await outage(session, simulator)
        assert session.meta == meta
        (text,) = [event.text for event in session.frame().events if "is back" in event.text]
        assert text.endswith(": nothing that it tells has changed; the load stays at 0 until you set it")
    finally:
        await session.close()
        await simulator.close()


@pytest.mark.parametrize(("taken", "told"), [(Dialect.OPENAI, None), (Dialect.SGLANG, Dialect.SGLANG)])
async def test_scraper_client_and_meta_agree_or_the_run_says_that_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Dialect, told: Dialect | None
) -> None:
    """A probe before the metrics page was there, and a user who is mistaken: the page is vLLM's."""

    async def blind(endpoint: Endpoint, caps: Caps, **asked: Any) -> EndpointInfo:
        return msgspec.structs.replace(await probe(endpoint, caps), dialect=taken)

    monkeypatch.setattr("llmtop.session.finding.probe", blind)
    simulator = await EngineHere.start()
    url = simulator.base_url
    endpoint = Endpoint(base_url=url, dialect=told, metrics_urls=(f"{url}/metrics",))
    session = Session(options(tmp_path / "run.llmtop", endpoint=endpoint))
    await session.start()
    try:
        frame = await until(session, lambda frame: any("metrics are" in event.text for event in frame.events))
        event = next(event for event in frame.events if "metrics are" in event.text)
        assert session._contact.client is not None
        assert session._contact.scraper is not None
        assert session.meta.info is not None
        assert session._contact.scraper.dialect is Dialect.VLLM
        assert session._contact.client.dialect is session.meta.info.dialect is session.meta.endpoint.dialect
        if told is None:
            assert session.meta.info.dialect is Dialect.VLLM
        else:
            assert session.meta.info.dialect is told
            assert event.severity == "warning"
            assert "SGLang" in event.text
    finally:
        await session.close()
        await simulator.close()


async def test_nothing_that_lets_somebody_in_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    simulator = await EngineHere.start(api_key="sk-very-secret")
    endpoint = Endpoint(base_url=simulator.base_url, headers=(("Authorization", "Bearer sk-very-secret"),))
    session = Session(options(path, endpoint=endpoint))
    await session.start()
    try:
        await until(session, lambda frame: frame.totals.ok > 0)
    finally:
        await session.close()
        await simulator.close()
    assert session.meta.endpoint.headers == (("Authorization", "…"),)
    assert b"sk-very-secret" not in path.read_bytes()
