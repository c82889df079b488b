"""Load from worker processes against a loopback server: the same laws, and what happens when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter_ns

import pytest

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import SessionLost, UsersError
from llmtop.load import selftest
from llmtop.load.engine import LoadEngine
from llmtop.load.files import auto_workers
from llmtop.load.messages import Follow, WorkerSetup, facts, packed, receive
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.meter.client import ClientJudge
from llmtop.simulator.server import schedule

PATIENCE_S = 60.0


class Run:
    """A pool under test, with everything it has told."""

    def __init__(self, engine: LoadEngine) -> None:
        self.engine = engine
        self.bins, self.requests, self.events, self.client, self.calls = [], [], [], [], []
        self.judge = ClientJudge()

    def drain(self) -> None:
        batch = self.engine.take()
        self.bins += batch.bins
        self.requests += batch.requests
        self.events += batch.events
        self.calls += batch.calls
        self.client += [second.health for second in self.judge.take(batch.client)]
        if self.bins:
            ended = sum(b.ok + b.errors + b.cancelled for b in self.bins)
            assert sum(b.sent for b in self.bins) == ended + self.bins[-1].in_flight

    async def until(self, reached) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self.drain()
                await asyncio.sleep(0.02)

    @property
    def pids(self) -> list[int]:
        return [int(worker.post.name.rpartition(":")[2]) for worker in self.engine._hands._workers if worker.alive]


async def started(
    url: str, point: LoadPoint, workers: int, workload: Workload | None = None
) -> tuple[Run, asyncio.Task[None]]:
    origin_ns = perf_counter_ns()
    info = await probe(endpoint_from_url(url), Caps())
    setup = WorkerSetup(
        endpoint=endpoint_from_url(url),
        info=info,
        workload=workload or Workload(),
        caps=Caps(stop_error_ratio=None),
        origin_ns=origin_ns,
        seed=0,
        api="chat",
        workers=workers,
    )
    engine = LoadEngine(Workers(setup), Pacer.hold(point), setup.caps, setup.now)
    return Run(engine), asyncio.create_task(engine.run())


@contextlib.asynccontextmanager
async def known_times(tpot_ms: int, tokens: int) -> AsyncIterator[str]:
    """The server of known times, in the loop of the test."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    plan = schedule.Plan(ttft_ns=5_000_000, tpot_ns=tpot_ms * 1_000_000, tokens=tokens)
    serving = asyncio.create_task(schedule.serve(plan, stop, port.set_result))
    try:
        yield f"http://127.0.0.1:{await port}"
    finally:
        stop.set()
        await serving


async def test_a_worker_that_dies_is_reported_and_its_share_redistributed_and_without_any_the_load_is_over() -> None:
    async with known_times(3, 30) as url:
        run, running = await started(url, LoadPoint(concurrency=9, output_tokens=30), 3)
        await run.until(lambda: run.engine.in_flight == 9)
        await run.until(lambda: {record.worker for record in run.requests} == {0, 1, 2})
        os.kill(run.pids[1], signal.SIGKILL)
        await run.until(lambda: run.events)
        await run.until(lambda: run.engine.in_flight == 9)
        run.engine.command(LoadPoint(rate_rps=80.0, output_tokens=30))
        count = len(run.requests)
        await run.until(lambda: len(run.requests) > count + 30)
        run.engine.cut()
        await run.until(lambda: run.engine.in_flight == 0)
        await run.until(lambda: run.client and run.client[-1].workers == 2)
        await run.until(lambda: run.engine.in_flight == run.bins[-1].in_flight == 0)
        outcomes = Counter(record.outcome for record in run.requests)
        assert sum(b.sent for b in run.bins) == len(run.requests)
        run.engine.command(LoadPoint(concurrency=2, output_tokens=30))
        await run.until(lambda: run.engine.in_flight == 2)
        for pid in run.pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(SessionLost, match="signal 9"):
            await asyncio.wait_for(running, PATIENCE_S)
        run.drain()
    assert set(outcomes) == {Outcome.OK, Outcome.LOST, Outcome.CANCELLED}
    assert outcomes[Outcome.LOST] >= 3  # its requests in flight, and what had ended and was not told yet
    assert sum(b.sent for b in run.bins) == len(run.requests)
    assert run.bins[-1].in_flight == 0
    assert "signal 9" in run.events[0].text
    assert run.events[0].severity == "error"
    assert run.client[-1].workers_lost == 1


async def test_each_worker_renews_its_connections_and_nothing_is_lost() -> None:
    async with known_times(5, 4) as url:
        run, running = await started(url, LoadPoint(concurrency=4, output_tokens=4), 2)
        await run.until(lambda: {r.worker for r in run.requests if r.connect_ns == 0} == {0, 1})
        before = len(run.requests)
        assert run.engine.renew() is None
        await run.until(lambda: {r.worker for r in run.requests[before:] if r.connect_ns} == {0, 1})
        await run.until(lambda: len(run.requests) > before + 60)
        await run.engine.close()
        await running
        run.drain()
    assert {record.outcome for record in run.requests} <= {Outcome.OK, Outcome.CANCELLED}


async def test_a_worker_ends_when_its_parent_is_gone() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmtop.load.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    setup = WorkerSetup(
        endpoint=endpoint_from_url("http://127.0.0.1:9"),
        info=None,
        workload=Workload(),
        caps=Caps(),
        origin_ns=perf_counter_ns(),
        seed=0,
        api="chat",
    )
    follow = Follow(Pacer.hold(LoadPoint(concurrency=3)), 0)
    process.stdin.write(packed(setup) + packed(follow))
    records = []
    while not records:
        told = await asyncio.wait_for(receive(process.stdout, facts), PATIENCE_S)
        records += told.batch.requests
    assert records[0].outcome is Outcome.HTTP_ERROR
    process.stdin.close()
    process._transport.get_pipe_transport(1).close()  # the parent's end of the facts, as after kill -9
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_selftest_compares_every_token_of_a_level(monkeypatch) -> None:
    monkeypatch.setattr(selftest, "TOKENS", 8)
    monkeypatch.setattr(selftest, "SETTLE_S", 0.2)
    monkeypatch.setattr(selftest, "LEAST_SECONDS", 1.6)  # a whole second of the client's health
    rows = [row async for row in selftest.run((3,), seconds=0.0)]
    (row,) = rows
    assert row.streams == 3
    assert row.tokens >= 3 * selftest.TOKENS
    assert row.stamp_error_p50_us > 0
    assert "stream" in selftest.verdict(rows)
    assert len(str(row)) > 60


def row(streams: int, **changes) -> selftest.Row:
    figures = {
        "chunks_per_s": 20.0 * streams,
        "stamp_error_p50_us": 3.0,
        "stamp_error_p99_us": 12.0,
        "ttft_error_p50_ms": 0.1,
        "ttft_error_p99_ms": 0.4,
        "cpu": 0.2,
        "state": "green",
    }
    return selftest.Row(streams=streams, **{**figures, **changes})


def test_the_selftest_says_what_the_machine_drives_and_what_is_in_the_way() -> None:
    assert "more was not tried" in selftest.verdict([row(64), row(256)])
    busy = selftest.verdict([row(64), row(256, state="red", reason="load process at 97 % of its core", cpu=0.97)])
    assert "drives 64 streams" in busy
    assert "more workers" in busy
    shared = selftest.verdict([row(64), row(256, ttft_error_p99_ms=58.0), row(512)])
    assert "drives 64 streams" in shared
    assert "TTFT error 58.0 ms" in shared
    assert "something else" in shared
    assert "cannot drive" in selftest.verdict([row(1, state="red")])


def test_one_core_is_left_free() -> None:
    assert auto_workers(64) == 1
    assert 1 <= auto_workers(100_000) <= max(1, (os.cpu_count() or 1) - 1)


@pytest.mark.faults
async def test_users_of_a_python_file_visit_from_every_worker_and_their_error_ends_all(tmp_path: Path) -> None:
    users = tmp_path / "users.py"
    users.write_text(
        "VISITS = []\n"
        "async def run(user):\n"
        "    answer = await user.chat(user.text(30), name='ask')\n"
        "    await user.chat('why', after=answer, output_tokens=5)\n"
        "    assert (await user.http('GET', '/nowhere', name='look')).status\n"
        "    VISITS.append(1)\n"
        "    if len(VISITS) > 9 and user.number % 2:\n"
        "        raise KeyError(answer.text[:1] and 'enough')\n"
    )
    workload = Workload(source="python", file=str(users))
    async with known_times(5, 8) as url:
        run, running = await started(url, LoadPoint(concurrency=6, output_tokens=8), 2, workload)
        with pytest.raises(UsersError, match=r"users\.py:8 in run: KeyError: 'enough'"):
            await asyncio.wait_for(running, PATIENCE_S)
        run.drain()
    assert {record.worker for record in run.requests} == {0, 1}
    by_session: dict[int | None, set[int]] = {}
    for record in run.requests:
        by_session.setdefault(record.session, set()).add(record.worker)
    assert all(len(workers) == 1 for workers in by_session.values())
    assert {session % 2 for session in by_session if session is not None} == {0, 1}
    assert sum(b.sent for b in run.bins) == len(run.requests)
    assert run.bins[-1].in_flight == 0
    assert len(run.calls) >= 10
    assert {call.worker for call in run.calls} == {0, 1}
    assert Counter(record.name for record in run.requests)["ask"] > 10


@pytest.mark.faults
async def test_users_that_a_worker_cannot_import_end_the_run_before_it_begins(tmp_path: Path) -> None:
    users = tmp_path / "users.py"
    users.write_text("import nowhere_at_all\nasync def run(user):\n    await user.chat('x')\n")
    workload = Workload(source="python", file=str(users))
    async with known_times(5, 8) as url:
        _, running = await started(url, LoadPoint(concurrency=6), 2, workload)
        with pytest.raises(UsersError, match=r"users\.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'"):
            await asyncio.wait_for(running, PATIENCE_S)
