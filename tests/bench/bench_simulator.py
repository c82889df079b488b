"""How late the simulated engine's tokens leave, what a stream costs, and how true real time is to virtual time.

    python tests/bench/bench_simulator.py [late] [cost] [virtual]

late     256 streams at about 30 ms a step: token lateness p99 (the server's own gauge), CPU of its core
cost     the same at 64 to 1024 streams
virtual  the arrivals of a real-time run, played to the same engine in virtual time: difference of token times
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

from llmtop.simulator.server import SimulatorProcess


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


async def get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
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
            late_ms.append(json.loads(await get(process.port, "/llmtop/control"))["late_ms"])
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


async def main(parts: list[str]) -> None:
    if "late" in parts:
        for _ in range(3):
            late_ms, cpu, _step = await measure(256, 10.0, 30.0)
            report(256, late_ms, cpu)
    if "cost" in parts:
        for streams in (64, 256, 512, 1024):
            late_ms, cpu, _step = await measure(streams, 6.0, 30.0)
            report(streams, late_ms, cpu)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["late", "cost"]))
