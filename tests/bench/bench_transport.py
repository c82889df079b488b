"""What the endpoint client costs and how true its stamps are, against a server with known times.

    python tests/bench/bench_transport.py [--rounds 5]

Prints, from medians over rounds:

    stamp error     arrival as the client stamps it - the server's clock right before it wrote that token
    TTFT error      the same for the first token (sent is stamped right before the request is written)
    CPU per chunk   of the client process for each event that the server wrote, against aiohttp and stock httpx in the
                    same round. "aiohttp" and "httpx" read every event's JSON as a load client must (and as vLLM's
                    benchmark does); "aiohttp-raw" and "httpx-raw" only read bytes and take the time

Each client runs in a process of its own; the server is `llmtop.simulator.server.schedule`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns, process_time
from typing import Any

TTFT_MS = 50.0
PATH = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
BRACKET_NS = 100_000
"""Tokens whose write took the server longer are not used for stamp errors: it was put aside in the middle."""
CLIENTS = ("llmtop", "aiohttp", "aiohttp-raw", "httpx", "httpx-raw")


class Run:
    """What one client run saw: (id, sent, stamps of its tokens) per stream, all on perf_counter_ns."""

    def __init__(self) -> None:
        self.streams: list[tuple[str, int, list[int]]] = []
        self.failed = 0
        self.unstamped = 0
        self.coalesced = 0.0
        self.lag_p99_ms = 0.0


async def drive_llmtop(url: str, streams: int, requests: int, tokens: int, run: Run) -> None:
    from llmtop.domain.endpoint import Dialect, EndpointInfo
    from llmtop.domain.load import Caps
    from llmtop.domain.request import Outcome
    from llmtop.endpoint.client import EndpointClient
    from llmtop.endpoint.trace import Trace
    from llmtop.endpoint.urls import endpoint_from_url

    class Ear:
        def __init__(self) -> None:
            self.stamps: list[int] = []

        def first_token(self, trace: Trace) -> None:
            pass

        def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
            self.stamps.extend([stamp_ns] * n)

    info = EndpointInfo(dialect=Dialect.VLLM, model="known-times")
    client = EndpointClient(endpoint_from_url(url), info, Caps(), 0)

    async def user(number: int) -> None:
        for turn in range(requests):
            trace, ear = Trace(), Ear()
            name = f"{number}-{turn} "
            await client.generate(name + "x" * 200, tokens, "chat", trace, ear)
            if trace.outcome is not Outcome.OK:
                run.failed += 1
                continue
            run.streams.append((name, trace.sent_ns or 0, ear.stamps))

    await asyncio.gather(*(user(number) for number in range(streams)))
    run.unstamped = client.stamper.unstamped
    lag = client.take_lag()
    run.coalesced, run.lag_p99_ms = lag.coalesced / max(lag.reads, 1), lag.p99_ms or 0.0
    await client.close()


def _body(name: str, tokens: int) -> bytes:
    messages = [{"role": "user", "content": name + "x" * 200}]
    fields = {"model": "m", "messages": messages, "max_tokens": tokens, "stream": True}
    return json.dumps(fields | {"stream_options": {"include_usage": True}}).encode()


class Events:
    """What a peer makes of the bytes: stamps of its tokens, by JSON or by a mere count."""

    def __init__(self, raw: bool) -> None:
        self.stamps: list[int] = []
        self._raw = raw
        self._rest = b""

    def take(self, data: bytes, now_ns: int) -> None:
        if self._raw:
            self.stamps.extend([now_ns] * data.count(b'"content":"'))
            return
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            payload = event.removeprefix(b"data: ")
            if payload == b"[DONE]":
                continue
            choices = json.loads(payload)["choices"]
            if choices and choices[0]["delta"].get("content"):
                self.stamps.append(now_ns)


async def drive_aiohttp(url: str, streams: int, requests: int, tokens: int, run: Run, raw: bool = False) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def user(number: int) -> None:
            for turn in range(requests):
                name, events = f"{number}-{turn} ", Events(raw)
                sent = perf_counter_ns()
                async with session.post(url + PATH, data=_body(name, tokens), headers=HEADERS) as response:
                    async for data in response.content.iter_any():
                        events.take(data, perf_counter_ns())
                run.streams.append((name, sent, events.stamps))

        await asyncio.gather(*(user(number) for number in range(streams)))


async def drive_httpx(url: str, streams: int, requests: int, tokens: int, run: Run, raw: bool = False) -> None:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(None)) as client:

        async def user(number: int) -> None:
            for turn in range(requests):
                name, events = f"{number}-{turn} ", Events(raw)
                sent = perf_counter_ns()
                async with client.stream("POST", url + PATH, content=_body(name, tokens), headers=HEADERS) as response:
                    async for data in response.aiter_raw():
                        events.take(data, perf_counter_ns())
                run.streams.append((name, sent, events.stamps))

        await asyncio.gather(*(user(number) for number in range(streams)))


DRIVERS: dict[str, Callable[[str, int, int, int, Run], Awaitable[None]]] = {
    "llmtop": drive_llmtop,
    "aiohttp": drive_aiohttp,
    "aiohttp-raw": partial(drive_aiohttp, raw=True),
    "httpx": drive_httpx,
    "httpx-raw": partial(drive_httpx, raw=True),
}


def child(options: argparse.Namespace) -> None:
    """Run one client and print one JSON line."""
    loop_factory = None
    if options.client == "llmtop":
        from llmtop.endpoint.clock import StampingLoop

        loop_factory = StampingLoop
    run = Run()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        drive = DRIVERS[options.client]
        runner.run(drive(options.url, min(options.streams, 8), 1, options.tokens, Run()))  # imports and caches
        urllib.request.urlopen(options.url + "/stamps").read()
        gc.collect()
        gc.freeze()
        cpu, wall = process_time(), time.perf_counter()
        runner.run(drive(options.url, options.streams, options.requests, options.tokens, run))
        cpu, wall = process_time() - cpu, time.perf_counter() - wall
    truth = json.load(urllib.request.urlopen(options.url + "/stamps"))
    print(json.dumps(_figures(run, truth, cpu, wall)))


def _figures(run: Run, truth: list[dict[str, Any]], cpu_s: float, wall_s: float) -> dict[str, float]:
    known = {stream["head"].split("x")[0]: stream for stream in truth}
    token_errors, ttft_errors, inflated = [], [], []
    skipped = 0
    chunks = sum(len(stamps) for _, _, stamps in run.streams)
    for name, sent, stamps in run.streams:
        before, after = known[name]["before_ns"], known[name]["after_ns"]
        if len(stamps) < len(before):
            run.failed += 1
            continue
        errors = [
            stamp - early
            for stamp, early, late in zip(stamps, before, after, strict=False)
            if 0 <= late - early < BRACKET_NS
        ]
        token_errors += errors
        skipped += len(before) - len(errors)
        ttft_errors.append(abs(stamps[0] - before[0]))
        inflated.append((stamps[0] - sent) - (before[0] - known[name]["received_ns"]))
    return {
        "token_p50_us": _quantile(token_errors, 0.50) / 1e3,
        "token_p99_us": _quantile(token_errors, 0.99) / 1e3,
        "token_max_us": max(token_errors, default=0) / 1e3,
        "ttft_p50_ms": _quantile(ttft_errors, 0.50) / 1e6,
        "ttft_p99_ms": _quantile(ttft_errors, 0.99) / 1e6,
        "ttft_server_p50_ms": _quantile(inflated, 0.50) / 1e6,
        "ttft_server_p99_ms": _quantile(inflated, 0.99) / 1e6,
        "cpu_us": cpu_s / max(chunks, 1) * 1e6,
        "core": cpu_s / wall_s,
        "chunks_per_s": chunks / wall_s,
        "skipped": skipped / max(skipped + len(token_errors), 1),
        "failed": run.failed,
        "unstamped": run.unstamped,
        "coalesced": run.coalesced,
        "lag_p99_ms": run.lag_p99_ms,
    }


def _quantile(values: list[int], share: float) -> float:
    values = sorted(values)
    return float(values[min(int(share * len(values)), len(values) - 1)]) if values else float("nan")


class Server:
    """The schedule server as a child process."""

    def __init__(self, tpot_ms: float, tokens: int, burst: bool) -> None:
        command = [sys.executable, "-m", "llmtop.simulator.server.schedule", "--ttft-ms", str(TTFT_MS)]
        command += ["--tpot-ms", str(tpot_ms), "--tokens", str(tokens), "--die-with-parent"]
        self._process = subprocess.Popen(
            command + ["--burst"] * burst, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def measure(client: str, server: Server, streams: int, requests: int, tokens: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--client", client, "--url", server.url, "--streams", str(streams)]
    command += ["--requests", str(requests), "--tokens", str(tokens)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=110)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}


def row(label: str, f: dict[str, float]) -> None:
    print(
        f"{label:34} token p50/p99/max {f['token_p50_us']:7.1f} {f['token_p99_us']:8.1f} {f['token_max_us']:9.1f} us | "
        f"TTFT p50/p99 {f['ttft_p50_ms']:7.3f} {f['ttft_p99_ms']:8.3f} ms "
        f"(with the server's own queue {f['ttft_server_p50_ms']:.2f} {f['ttft_server_p99_ms']:.2f}) | "
        f"{f['cpu_us']:6.1f} us/chunk {f['core'] * 100:5.1f} % of a core {f['chunks_per_s']:7.0f} chunks/s"
        + f" ({f['skipped'] * 100:.1f} % of tokens not used)"
        + (f"  lag p99 {f['lag_p99_ms']:.2f} ms, coalesced {f['coalesced'] * 100:.2f} %" if f["lag_p99_ms"] else "")
        + (f"  {f['unstamped']:.0f} reads without a stamp of the kernel" if f["unstamped"] else "")
        + (f"  {f['failed']:.0f} FAILED" if f["failed"] else ""),
        flush=True,
    )


SCENES = {
    # name: streams, TPOT ms, tokens, requests per stream, burst, clients
    "64 x 20 ms smooth": (64, 20, 64, 3, False, CLIENTS),
    "64 x 20 ms burst": (64, 20, 64, 3, True, CLIENTS),
    "256 x 50 ms, burst start": (256, 50, 32, 1, True, CLIENTS),
    "1000 x 50 ms": (1000, 50, 128, 1, False, ("llmtop", "aiohttp")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="scenes whose name contains this")
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--streams", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        child(options)
        return
    for name, (streams, tpot_ms, tokens, requests, burst, clients) in SCENES.items():
        if options.only and options.only not in name:
            continue
        rounds: dict[str, list[dict[str, float]]] = {}
        wanted = [client for client in clients if client in options.clients.split(",")]
        with Server(tpot_ms, tokens, burst) as server:
            for _ in range(options.rounds):
                for client in wanted:
                    rounds.setdefault(client, []).append(measure(client, server, streams, requests, tokens))
        medians = {client: median(figures) for client, figures in rounds.items()}
        for client, figures in medians.items():
            row(f"{name} {client}", figures)
        for peer in wanted[1:]:
            ratio = medians["llmtop"]["cpu_us"] / medians[peer]["cpu_us"]
            print(f"{name} CPU per chunk, llmtop / {peer}: {ratio:.2f}")


if __name__ == "__main__":
    main()
