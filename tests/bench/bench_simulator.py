"""How late the simulated engine's tokens leave, what a stream costs, and how true real time is to virtual time.

    python tests/bench/bench_simulator.py [late] [cost] [virtual] [schedule]

late      256 streams at about 30 ms a step: token lateness p99 (the server's own gauge), CPU of its core
cost      the same at 64 to 1024 streams
virtual   the arrivals of a real-time run, played to the same engine in virtual time: difference of token times
schedule  the server of known times: 1000 streams at 50 ms, CPU of its core and how late it writes
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from time import perf_counter_ns

import psutil

from llmtop.simulator.engine import Engine, SimRequest, load_preset
from llmtop.simulator.server.guard import TOKEN_HEADER
from llmtop.simulator.server.loop import new_event_loop
from llmtop.simulator.server.process import ScheduleProcess, SimulatorProcess
from llmtop.simulator.server.replica import Replica


class Reader(asyncio.Protocol):
    """Sends one request and counts what comes back."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request = request
        self._done = done
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-8:]
        if self._tail.endswith(b"0\r\n\r\n") and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the stream"))


async def get(port: int, path: str, token: str = "") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"{TOKEN_HEADER}: {token}", "connection: close"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def cpu_s(port: int) -> float:
    page = (await get(port, "/metrics")).decode()
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith("process_cpu_seconds_total ")))


async def drive(port: int, streams: int, tokens: int) -> list[asyncio.Future[None]]:
    loop = asyncio.get_running_loop()
    body = json.dumps({"prompt": "one two three four", "max_tokens": tokens, "ignore_eos": True, "stream": True})
    request = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    done = [loop.create_future() for _ in range(streams)]
    for future in done:
        await loop.create_connection(lambda future=future: Reader(request, future), "127.0.0.1", port)
    return done


async def measure(streams: int, seconds: float, step_ms: float) -> tuple[list[float], float, float]:
    """(p99 lateness of each second in ms, CPU share, mean step in ms)."""
    knobs = {
        "max_num_seqs": 2048,
        "num_gpu_blocks": 131072,
        "max_num_batched_tokens": 8192,
        "step_ms": step_ms,
        "per_sequence_us": 0.0,
        "peak_tflops": 1000.0,
        "bandwidth_gb_s": 10000.0,
        "jitter": 0.0,
    }
    process = await SimulatorProcess.start("laptop", knobs)
    try:
        done = await drive(process.port, streams, int(seconds * 1e3 / step_ms) + 40)
        await asyncio.sleep(1.0)
        start_cpu_s, start_s = await cpu_s(process.port), time.perf_counter()
        late_ms = []
        while time.perf_counter() - start_s < seconds - 2:
            await asyncio.sleep(1.0)
            late_ms.append(json.loads(await get(process.port, "/llmtop/control", process.control_token))["late_ms"])
        cpu = (await cpu_s(process.port) - start_cpu_s) / (time.perf_counter() - start_s)
        await asyncio.gather(*done)
        return late_ms, cpu, step_ms
    finally:
        await process.close()


def report(streams: int, late_ms: list[float], cpu: float) -> None:
    median, worst = statistics.median(late_ms), max(late_ms)
    print(
        f"{streams:5d} streams at 30 ms: lateness p99 {median:6.2f} ms (median second), {worst:6.2f} ms (worst), "
        f"CPU {cpu:5.1%} of a core, {cpu * 30e-3 / streams * 1e6:5.1f} us a token"
    )


async def measure_schedule(streams: int, tokens: int, *, burst: bool) -> None:
    process = await ScheduleProcess.start(ttft_ms=500.0, tpot_ms=50.0, tokens=tokens, burst=burst)
    try:
        done = await drive(process.port, streams, tokens)
        watched = psutil.Process(process.pid)
        await asyncio.sleep(1.0)
        start_s, cpu = time.perf_counter(), watched.cpu_times()
        await asyncio.sleep(4.0)
        now = watched.cpu_times()
        share = (now.user + now.system - cpu.user - cpu.system) / (time.perf_counter() - start_s)
        await asyncio.gather(*done)
        late_ms: list[float] = []
        for stream in json.loads(await get(process.port, "/stamps")):
            due_ns = stream["received_ns"] + 500_000_000
            due_ns = -(-due_ns // 50_000_000) * 50_000_000 if burst else due_ns
            late_ms += [(before - due_ns) / 1e6 - 50 * index for index, before in enumerate(stream["before_ns"])]
        late_ms.sort()
        mode = "burst" if burst else "smooth"
        print(f"schedule {mode:6s} {streams} streams at 50 ms: CPU {share:5.1%} of a core,", end=" ")
        print(f"{share * 5e4 / streams:5.1f} us a token, late by", end=" ")
        print(f"p50 {late_ms[len(late_ms) // 2]:.2f} ms, p99 {late_ms[len(late_ms) * 99 // 100]:.2f} ms")
    finally:
        await process.close()


class Listener:
    """Stands where a generation would: notes when its tokens came."""

    def __init__(self, stamps: list[int]) -> None:
        self.stamps = stamps
        self.answer = self
        self.cached_tokens = 0
        self.tokens = 0
        self.finished = asyncio.Event()

    def token(self) -> None:
        self.tokens += 1
        self.stamps.append(perf_counter_ns())

    def last_token(self, reason: str, *, has_token: bool = True) -> None:
        self.token()
        self.finished.set()


async def measure_virtual() -> None:
    """Poisson arrivals at the laptop preset for ten seconds, in real time; then the same in virtual time."""
    preset = load_preset("laptop")
    out_ns = round(preset.overhead.api_out_ms * 1e6)
    spacing = random.Random(1)
    stamps: list[int] = []
    replica = Replica(Engine(preset.config, preset.step_model, 5), out_ns, lambda: True)
    requests, listeners = [], []
    for number in range(100):
        arrival_ns = perf_counter_ns() + 4_000_000
        request = SimRequest(id=str(number), arrival_ns=arrival_ns, prompt_tokens=192, max_tokens=64)
        requests.append(request)
        listeners.append(Listener(stamps))
        replica.start(request, listeners[-1])  # type: ignore[arg-type]
        await asyncio.sleep(spacing.expovariate(10))
    for listener in listeners:
        await listener.finished.wait()
    engine = Engine(preset.config, preset.step_model, 5)
    virtual: list[int] = []
    now_ns = requests[0].arrival_ns
    while requests or engine.has_work:
        while requests and requests[0].arrival_ns <= now_ns:
            engine.submit(requests.pop(0))
        plan = engine.plan(now_ns)
        if plan is None:
            now_ns = requests[0].arrival_ns
            continue
        now_ns = plan.end_ns
        virtual += [now_ns + out_ns] * len(engine.commit(plan))
    assert len(virtual) == len(stamps)
    apart_ms = sorted(abs(a - b) / 1e6 for a, b in zip(stamps, virtual, strict=True))
    print(
        f"virtual against real time, {len(stamps)} tokens: apart by p50 {apart_ms[len(apart_ms) // 2]:.2f} ms, "
        f"p95 {apart_ms[len(apart_ms) * 95 // 100]:.2f} ms, max {apart_ms[-1]:.2f} ms"
    )


async def main(parts: list[str]) -> None:
    if "late" in parts:
        for _ in range(3):
            late_ms, cpu, _step = await measure(256, 10.0, 30.0)
            report(256, late_ms, cpu)
    if "cost" in parts:
        for streams in (64, 256, 512, 1024):
            late_ms, cpu, _step = await measure(streams, 6.0, 30.0)
            report(streams, late_ms, cpu)
    if "virtual" in parts:
        await measure_virtual()
    if "schedule" in parts:
        for burst in (False, True):
            await measure_schedule(1000, 140, burst=burst)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1:] or ["late", "cost", "virtual", "schedule"]))
