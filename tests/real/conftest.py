"""Real servers for the tests marked `real`: one that runs already, or one that is started here.

    LLMTOP_REAL_LLAMACPP      URL of a llama.cpp server with --metrics and --slots, 8 slots of 2048 tokens
    LLMTOP_REAL_LLAMACPP_DIR  or: a directory with venv/ (pip install xllamacpp gguf) and tiny.gguf (by tiny_gguf.py)
    LLMTOP_REAL_VLLM          URL of a vLLM server with --max-num-seqs 8 and --max-model-len 2048
    LLMTOP_REAL_VLLM_DIR      or: a directory with venv/ (vLLM) and tiny-llama/ (config.json and tokenizer.json)

Tests that need a server of their own (other numbers of slots, a small KV cache, one that is killed) want the directory.
Run with `pytest tests/real -m real`. A missing variable is a failure, not a skip. The tests of cliffs want a
machine that does nothing else: where server and client wait for the CPU, so do the curves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct

from llmtop.analysis import assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.domain.load import Caps, LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile, Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import LoadEngine
from llmtop.load.here import Here
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.meter.facts import Facts
from llmtop.recording.reader import RunReader
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.telemetry.scraper import Scraper
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

START_LIMIT_S = 300
LLAMACPP_MAIN = Path(__file__).with_name("llamacpp_server.py")


class RunningServer:
    """A server process that this test run has started."""

    def __init__(self, command: list[str], port: int, log: Path, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command, self._log, self._environment = command, log, os.environ | environment
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """As the kernel's OOM killer would: no farewell."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                pytest.fail(f"the server ended while starting:\n{self._log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.2)
        self.stop()
        pytest.fail(f"the server does not answer after {START_LIMIT_S} s:\n{self._log.read_text()[-3000:]}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def directory(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"set {variable} to a directory with the server (see tests/real/conftest.py)")
    return Path(path)


@contextmanager
def llamacpp(log: Path, *options: str) -> Iterator[RunningServer]:
    """llama.cpp's HTTP server with the tiny random model; `options` as in llamacpp_server.py."""
    place, port = directory("LLMTOP_REAL_LLAMACPP_DIR"), free_port()
    command = [str(place / "venv/bin/python"), str(LLAMACPP_MAIN), "--model", str(place / "tiny.gguf")]
    server = RunningServer([*command, "--port", str(port), *options], port, log, {})
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def vllm(log: Path, *options: str) -> Iterator[RunningServer]:
    """vLLM with a small random Llama; `options` as of `vllm serve`."""
    place, port = directory("LLMTOP_REAL_VLLM_DIR"), free_port()
    # Its threads take every core for a whole prefill; on one machine with its client, the client must come first.
    command = ["nice", "-n", "15", str(place / "venv/bin/vllm"), "serve", str(place / "tiny-llama")]
    command += ["--served-model-name", "tiny-llama"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load-format", "dummy", "--dtype", "bfloat16"]
    command += ["--max-model-len", "2048", "--kv-cache-memory-bytes", "67108864", "--enforce-eager", *options]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_SERVER_DEV_MODE": "1"}
    server = RunningServer(command, port, log, quiet | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")})
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def llamacpp_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A llama.cpp server with 8 slots of 2048 tokens."""
    given = os.environ.get("LLMTOP_REAL_LLAMACPP")
    if given:
        yield given
        return
    with llamacpp(tmp_path_factory.mktemp("llamacpp") / "log") as server:
        yield server.url


@pytest.fixture(scope="session")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server with 8 slots and 32768 tokens of KV cache."""
    given = os.environ.get("LLMTOP_REAL_VLLM")
    if given:
        yield given
        return
    with vllm(tmp_path_factory.mktemp("vllm") / "log", "--max-num-seqs", "8") as server:
        yield server.url


class Driven(Struct):
    """What came of a load that was held for some seconds."""

    info: EndpointInfo
    requests: tuple[RequestRecord, ...]
    snapshots: tuple[ServerSnapshot, ...]
    left_after_s: float | None
    """How long after everything was cancelled the server still ran something; None: until the end of the wait."""

    def ok(self) -> list[RequestRecord]:
        return [request for request in self.requests if request.outcome is Outcome.OK]

    def failed(self) -> list[RequestRecord]:
        return [request for request in self.requests if request.outcome.is_error]


async def hold(url: str, seconds: float, *, api: str = "completions", **load: Any) -> Driven:
    """Hold one load, cancel what is in flight, and watch the server let go of it."""
    origin_ns = time.perf_counter_ns()
    caps = Caps(stop_error_ratio=None)
    endpoint = endpoint_from_url(url)
    info = await probe(endpoint, caps)
    client = EndpointClient(endpoint, info, caps, origin_ns)
    scraper = Scraper(endpoint, info.dialect, origin_ns)
    script = OneShot(PromptSource(Workload(api=api), max_model_len=info.max_model_len, salt=origin_ns))
    setup = Setup(client=client, script=script, caps=caps, origin_ns=origin_ns, seed=0, api=api)
    engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(**load)), caps, setup.now)
    running = asyncio.create_task(engine.run())
    requests: list[RequestRecord] = []
    snapshots: list[ServerSnapshot] = []
    try:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(0.5)
            snapshots.append(await scraper.scrape())
            requests.extend(engine.take().requests)
        engine.cut()
        left_after_s = await _until_idle(scraper)
        await engine.close()
        await running
        requests.extend(engine.take().requests)
    finally:
        running.cancel()
        await scraper.close()
        await client.close()
    return Driven(info, tuple(requests), tuple(snapshots), left_after_s)


async def _until_idle(scraper: Scraper) -> float | None:
    started_s = time.monotonic()
    while time.monotonic() < started_s + 10:
        snapshot = await scraper.scrape()
        if snapshot.running == 0 and not snapshot.waiting:
            return time.monotonic() - started_s
        await asyncio.sleep(0.1)
    return None


async def send(url: str, prompt: Any, output_tokens: int, api: str = "completions") -> Trace:
    """One request."""
    endpoint = endpoint_from_url(url)
    client = EndpointClient(endpoint, await probe(endpoint, Caps()), Caps(), time.perf_counter_ns())
    try:
        trace = Trace()
        await client.generate(prompt, output_tokens, api, trace, Deaf())
    finally:
        await client.close()
    return trace


async def send_blindly(url: str) -> Trace:
    """One request without a look at the server before."""
    endpoint = endpoint_from_url(url, dialect=Dialect.VLLM, model="tiny-llama")
    client = EndpointClient(endpoint, None, Caps(), time.perf_counter_ns())
    trace = Trace()
    await client.generate("hello", 4, "completions", trace, Deaf())
    await client.close()
    return trace


class Deaf:
    """A sink that does not listen."""

    def first_token(self, trace: Trace) -> None: ...

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None: ...


async def climb(url: str, levels: Sequence[int], level_s: float, run_file: Path, **load: Any) -> Assessment:
    """Hold each level for `level_s` through a whole session, as `llmtop run` does, and judge the run file."""
    stage = Stage(name="climb", duration_s=level_s * len(levels), shape=Steps(tuple(float(level) for level in levels)))
    plan = LoadPlan(stages=(stage,), base=LoadPoint(concurrency=1, **load))
    profile = Profile(name="climb", plan=plan)
    session = Session(
        SessionOptions(endpoint=endpoint_from_url(url), profile=profile, run_file=str(run_file), patient=False)
    )
    try:
        await session.start()
        while not session.frame().finished:
            await asyncio.sleep(0.25)
            if session.failed.done():
                session.failed.result()
    finally:
        await session.close()
    return judge(run_file)


def judge(run_file: Path) -> Assessment:
    """The assessment of a recording."""
    facts, now_s = Facts(), 0.0
    with RunReader(run_file) as reader:
        for batch in reader.batches():
            facts.extend(batch)
            now_s = batch.t_s
        return assess(facts, reader.meta, Slo(), now_s=now_s)


@pytest.fixture(scope="session")
def real() -> SimpleNamespace:
    """The functions above, for the tests of this folder."""
    return SimpleNamespace(
        hold=hold, send=send, send_blindly=send_blindly, climb=climb, judge=judge, llamacpp=llamacpp, vllm=vllm
    )
