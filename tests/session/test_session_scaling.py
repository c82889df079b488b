"""A session over a simulated deployment that scales: what it saw, held against the deployment's own times."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_here import EngineHere
from msgspec.structs import replace

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Event, ScaleStep
from llmtop.endpoint.control import control
from llmtop.errors import SessionLost
from llmtop.load.selftest import known_times
from llmtop.recording.reader import RunReader
from llmtop.session import renewal, targets
from llmtop.session import scaling as scaling_module
from llmtop.session.options import SessionOptions
from llmtop.session.scaling import Scaling, source_of
from llmtop.session.session import Session
from llmtop.telemetry.kube_scaling import KubeDeployment
from llmtop.telemetry.kubectl import Kubectl
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.scaling import REPLICAS, Deployed, ScaleWatch, SimulatedDeployment, Standing

UP, DOWN = "replicas=3 created=0.1 ready=0.3", "replicas=2"
QUICK = {"step_ms": 1.0, "bandwidth_gb_s": 1e4, "peak_tflops": 1e4}


def options(path: Path, concurrency: int = 4, **knobs: Any) -> SessionOptions:
    point = LoadPoint(concurrency=concurrency, prompt_tokens=16, output_tokens=4)
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=point))
    return SessionOptions(profile=profile, run_file=str(path), knobs={**QUICK, **knobs})


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """When each look began and ended, on the run clock; there are five a second, and the engine is in this loop."""
    kept: list[tuple[float, float]] = []
    look = ScaleWatch.look

    async def timed(self: ScaleWatch, now_s: Callable[[], float], seen: Sequence[ReplicaSeen]) -> list[ScaleStep]:
        begun_s = now_s()
        told = await look(self, now_s, seen)
        kept.append((begun_s, now_s()))
        return told

    monkeypatch.setattr(targets, "SimulatorProcess", EngineHere)
    monkeypatch.setattr(ScaleWatch, "look", timed)
    monkeypatch.setattr(scaling_module, "LOOK_S", 0.2)
    return kept


class Told:
    """What a session has told."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.steps: list[ScaleStep] = []
        self.events: list[Event] = []

    async def until(self, kind: str, *names: str) -> None:
        """All of these have come so far."""
        async with asyncio.timeout(60):
            while not {(kind, name) for name in names} <= {(step.kind, step.name) for step in self.steps}:
                await asyncio.sleep(0.02)
                for batch in self._session.take_facts():
                    self.steps += batch.scaling
                    self.events += batch.events


async def scale(session: Session, wish: str) -> None:
    await control(session._target._let_in(), "POST", "/llmtop/control", {"autoscaling": {"scale": wish}})


def truths(told: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The true time of each step, by (kind, name)."""
    times = {("desired", ""): told["decided"][1]["t_s"]}
    for replica in (*told["replicas"], *told["gone"]):
        for kind in ("created", "ready", "serving", "gone"):
            if replica[f"{kind}_s"] is not None:
                times[kind, replica["name"]] = replica[f"{kind}_s"]
    return times


async def test_every_step_of_a_scale_up_is_seen_within_one_look_and_recorded(
    tmp_path: Path, looks: list[tuple[float, float]]
) -> None:
    session = Session(options(tmp_path / "run.llmtop"))
    await session.start()
    told = Told(session)
    try:
        async with asyncio.timeout(60):
            while not (looks and session.frame().totals.ok):
                await asyncio.sleep(0.02)
        await scale(session, UP)
        await told.until("serving", "pod-2", "pod-3")
        await scale(session, DOWN)
        await told.until("gone", "pod-3")
        asked_s = session.t_s
        listing: Any = await control(session._known.endpoint, "GET", REPLICAS)
        zero_s = asked_s - listing["t_s"], session.t_s - listing["t_s"]
    finally:
        await session.close(0.0)
    times = truths(listing)
    of_run: dict[tuple[str, str], ScaleStep] = {}
    for step in told.steps:
        if not step.since:
            of_run.setdefault((step.kind, step.name), step)
    replicas = ("pod-2", "pod-3")
    wanted = {("desired", ""), *((kind, name) for kind in ("created", "ready", "serving") for name in replicas)}
    assert wanted <= of_run.keys()
    for key in (*wanted, ("gone", "pod-3")):
        soonest_s, latest_s = (zero + times[key] for zero in zero_s)
        due_s = next(ended_s for begun_s, ended_s in looks if begun_s >= latest_s)
        assert soonest_s - 0.01 < of_run[key].t_s <= due_s, key
    assert {(step.kind, step.name) for step in told.steps if step.since} >= {("desired", ""), ("ready", "pod-1")}
    said = [event.text for event in told.events]
    assert "3 replicas are wanted, 1 until now" in said
    assert "replicas pod-2 and pod-3 are ready: 3 of 3" in said
    assert "replica pod-3 is gone: 2 left" in said
    assert not [text for text in said if "restarted" in text], "counters of one that goes do not fall"
    with RunReader(tmp_path / "run.llmtop") as run:
        recorded = [step for batch in run.batches() for step in batch.scaling]
    assert recorded[: len(told.steps)] == told.steps


def test_who_is_asked_for_replicas() -> None:
    info = EndpointInfo(dialect=Dialect.VLLM, model="m", server="vLLM 0.33.0")
    given, kubectl = Endpoint(base_url="http://127.0.0.1:1"), Kubectl()
    pods = replace(given, metrics_urls=("http://127.0.0.1:1/metrics", "k8s://prod/vllm?scale=sts/vllm"))
    assert source_of(given, info, kubectl) is None
    assert isinstance(source_of(pods, info, kubectl), KubeDeployment)
    assert isinstance(source_of(given, replace(info, server="vLLM 0.33.0+llmtop"), kubectl), SimulatedDeployment)


class Heard(Scaling):
    """What is said of looks at pages alone."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.watch = ScaleWatch(None)
        told = self.said
        super().__init__(None, lambda: 0.0, lambda: 0, lambda: 0.0, lambda _, text, how: told.append((text, how)))

    def look(self, t_s: float, **replicas: dict[str, Any]) -> list[tuple[str, str]]:
        """What is said of one look at these replicas."""
        self.said.clear()
        seen = [ReplicaSeen(name=name, **fields) for name, fields in replicas.items()]
        self.note(self.watch.take(t_s, None, seen))
        return list(self.said)


def test_what_is_said_of_pages_alone_is_no_more_than_is_news() -> None:
    heard, up = Heard(), {"answers": True}
    serves = {**up, "served": True}
    assert heard.look(1.0, a=up, b=up) == []
    assert heard.look(2.0, a=serves, b=up) == [], "those of before serve: no news"
    assert heard.look(3.0, a=serves, b=up, c=up) == [("replica c is ready: 3 of 3", "info")]
    assert heard.look(4.0, a=serves, b=up, c=serves) == [
        ("replica c has generated the first token: 2 of 3 serving", "info")
    ]
    assert heard.look(5.0, a={"gone": True}, b=up, c=serves) == [("replica a is gone: 2 left", "warning")]


def test_a_replica_that_crashes_and_comes_back_is_said_and_gets_connections_again() -> None:
    """Its process is another one, which has served nothing: it is awaited until it does, and is not said to be idle."""
    heard, up = Heard(), {"answers": True}
    pods = {name: Standing(name, True) for name in "abc"}

    def look(t_s: float, served: str, **changed: Standing) -> list[tuple[str, str]]:
        heard.said.clear()
        run = Deployed(desired=3, replicas=tuple((pods | changed).values()))
        seen = [ReplicaSeen(name=name, served=name in served, **up) for name in "abc"]
        heard.note(heard.watch.take(t_s, run, seen))
        return list(heard.said)

    assert look(1.0, "") == look(2.0, "abc") == []
    assert look(3.0, "abc", b=Standing("b", False)) == [("replica b is not ready any more: 2 of 3", "warning")]
    assert look(4.0, "ac", b=Standing("b", False)) == []
    assert look(5.0, "ac") == [("replica b is ready again: 3 of 3", "info")]
    assert [each.name for each in heard._renewals.due(5.0)] == ["b"]
    assert look(6.0, "abc") == [], "that it serves again is no news"
    assert heard._renewals.due(99.0) == heard._renewals.idle(99.0, 5.0) == []
    both = look(7.0, "abc", a=Standing("a", False), d=Standing("d", True))
    assert both == [
        ("replica a is not ready any more: 2 of 3", "warning"),
        ("replica d is ready: 3 of 3", "info"),
    ], "one goes and another comes at one look: two sentences"


async def test_without_kubectl_nothing_is_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with known_times("--ttft-ms=1", "--tpot-ms=1", "--tokens=4") as url:
        monkeypatch.setenv("PATH", "/nowhere")
        endpoint = Endpoint(base_url=url, metrics_urls=("k8s://prod/vllm",))
        session = Session(replace(options(tmp_path / "run.llmtop"), endpoint=endpoint, patient=False))
        try:
            with pytest.raises(SessionLost, match="k8s://prod/vllm: there is no kubectl on PATH") as refused:
                await session.start()
            assert refused.value.exit_code == 3
        finally:
            await session.close(0.0)
    assert not (tmp_path / "run.llmtop").exists()


async def test_a_deployment_that_does_not_scale_tells_nothing(tmp_path: Path, looks: list[tuple[float, float]]) -> None:
    session = Session(options(tmp_path / "run.llmtop"))
    await session.start()
    try:
        async with asyncio.timeout(60):
            while session.frame().totals.ok < 4 or len(looks) < 3:
                await asyncio.sleep(0.05)
    finally:
        await session.close(0.0)
    assert not [step for batch in session.take_facts() for step in batch.scaling]


async def balanced_by_connection(path: Path, monkeypatch: pytest.MonkeyPatch, renewals: int) -> tuple[Any, list[str]]:
    """The listing, and what was said, many requests after a second replica was seen to be ready."""
    monkeypatch.setattr(renewal, "MOST", renewals)
    session = Session(options(path / "run.llmtop", concurrency=6, balance="connection"))
    await session.start()
    told = Told(session)
    try:
        async with asyncio.timeout(60):
            while session.frame().totals.ok < 30:  # all have their connections
                await asyncio.sleep(0.02)
            await scale(session, "replicas=2 created=0 ready=0.1")
            await told.until("ready", "pod-2")
            before = session.frame().totals.ok
            while session.frame().totals.ok < before + 100:
                await asyncio.sleep(0.02)
        listing: Any = await control(session._known.endpoint, "GET", REPLICAS)
        assert not session.frame().totals.errors
    finally:
        await session.close(0.0)
    return listing, [event.text for event in (*told.events, *(e for b in session.take_facts() for e in b.events))]


@pytest.mark.usefixtures("looks")
async def test_kept_connections_keep_a_new_replica_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, said = await balanced_by_connection(tmp_path, monkeypatch, 0)
    assert (told["ready"], told["serving"]) == (2, 1)
    assert not [text for text in said if "renewed" in text]


@pytest.mark.usefixtures("looks")
async def test_renewed_connections_give_a_new_replica_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, said = await balanced_by_connection(tmp_path, monkeypatch, 6)
    assert told["serving"] == 2
    (text,) = [text for text in said if "renewed" in text]
    assert re.fullmatch(r"replica pod-2 is ready: \d kept connections renewed, so that it gets its share", text)
