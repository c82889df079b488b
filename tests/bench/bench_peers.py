"""How much llmtop, GuideLLM and AIPerf overstate the latencies of one and the same server.

    python tests/bench/bench_peers.py --guidellm PATH --aiperf PATH [--rounds 5] [--streams 64,256] [--lock FILE]

All drive the same loopback server in turn, in a closed loop: `llmtop.simulator.server.schedule`, in a process of its
own, which notes by the system-wide clock when each request had arrived and when each token left. So for every single
request it is known what a client should have measured:

    true TTFT = departure of the first token - arrival of the request
    true TPOT = (departure of the last token - departure of the first) / (tokens - 1)
    true gap  = time between the departures of two tokens of one stream
    overstated = percentile as the client reports it / the same percentile of the true ones, of the same requests, - 1

The peers' percentiles are those of their own reports. GuideLLM calls the TPOT `inter_token_latency_ms` (its
`time_per_output_token_ms` contains the TTFT) and reports no gaps; AIPerf calls it `inter_token_latency` and the gaps
`inter_chunk_latency`. Requests are matched by the id of the response (GuideLLM), x-request-id (AIPerf) or the beginning
of the prompt (llmtop).

A second table leaves out each client's first wave, in which all streams start and open their connections, and says
where the rest of the error comes from (p95 of each, so they don't add up):

    sent late      arrival of the request at the server - start as the client stamped it. The server takes some 50 us
                   to read and begin each request, so requests that come together wait for each other a little: that
                   is in here too, for every client
    received late  stamp of the first token at the client - its departure

A client that shares a machine with its server takes CPU time from it. Where allowed (Linux, root), the server runs at
real-time priority, as if it had a machine of its own: it uses well below half a core, and its times stay true under any
client. The line above the table says whether it did. Cores are those of all the client's processes between the first
arrival and the last departure, without the time it takes to start and to report. "N void" behind the requests: llmtop
itself says of N that it was the bottleneck; they are among its percentiles here, though not in its verdicts.

All clients run as they come, but for what makes it lighter for them: AIPerf takes token counts from the server and
scrapes neither /metrics nor GPUs, GuideLLM's live display is off. Settings in the environment, such as
GUIDELLM__MAX_WORKER_PROCESSES, reach them. Nothing is downloaded: a tokenizer of 256 bytes is written for them.

The peers are installed in environments of their own, they need not share one with llmtop:

    python3.11 -m venv peers/guidellm && peers/guidellm/bin/pip install torch guidellm==0.8.1
    python3.11 -m venv peers/aiperf && peers/aiperf/bin/pip install aiperf==0.13.0

and found by --guidellm and --aiperf or $LLMTOP_GUIDELLM and $LLMTOP_AIPERF (paths of the executables), else on $PATH; a
peer that is not there is left out. (GuideLLM needs any torch; a CPU build will do.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
import psutil

TTFT_MS = 50.0
TOKENS = 64
LEVELS = {64: (20.0, 10), 256: (50.0, 5)}
"""Streams: time per token in ms, requests of each stream. 13 s and 16 s when all goes well."""
PROMPT_CHARACTERS = 512
PATIENCE_S = 170
CPU_PERIOD_S = 0.5
TOKENIZER = "local/bytes"
REVISION = "0" * 40


class Told(NamedTuple):
    """What a client tells of one request that ended well. Times on the system-wide clock."""

    key: str
    start_ns: float
    first_ns: float
    ttft_ms: float
    tpot_ms: float


class Report(NamedTuple):
    """What a client tells of a run."""

    requests: list[Told]
    failed: int
    ttft_ms: tuple[float, float]
    """p50 and p95, as in all below."""
    tpot_ms: tuple[float, float]
    gap_ms: tuple[float, float] | None
    void: int = 0
    """Requests that the client itself says not to trust."""


# llmtop, in a process of its own: what it measured goes to a file


async def drive_llmtop(url: str, streams: int, seconds: float) -> dict[str, Any]:
    from llmtop.domain.load import Caps, LoadPoint
    from llmtop.domain.profile import Workload
    from llmtop.domain.request import Outcome
    from llmtop.domain.run import FactBatch
    from llmtop.endpoint.client import EndpointClient
    from llmtop.endpoint.probe import probe
    from llmtop.endpoint.urls import endpoint_from_url
    from llmtop.load.engine import LoadEngine
    from llmtop.load.here import Here
    from llmtop.load.pacer import Pacer
    from llmtop.load.setup import Setup
    from llmtop.meter.facts import Facts
    from llmtop.workload.prompts import PromptSource
    from llmtop.workload.script import OneShot

    class Listener(EndpointClient):
        """Remembers which trace belongs to which prompt, and all gaps that the load was told of."""

        async def generate(self, prompt, output_tokens, api, trace, sink, caller=None, **carried) -> None:
            sent.append((trace, str(prompt)[:120]))
            await super().generate(prompt, output_tokens, api, trace, Ear(sink))

    class Ear:
        def __init__(self, sink) -> None:
            self.first_token, self._tokens = sink.first_token, sink.tokens

        def tokens(self, trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
            if gap_ns is not None:
                gaps_ns.append(gap_ns)
            self._tokens(trace, n, stamp_ns, gap_ns)

    sent: list[tuple[Any, str]] = []
    gaps_ns: list[int] = []
    origin_ns = perf_counter_ns()
    caps = Caps(max_concurrency=streams)
    endpoint = endpoint_from_url(url)
    info = await probe(endpoint, caps)
    client = Listener(endpoint, info, caps, origin_ns)
    script = OneShot(PromptSource(Workload()))
    setup = Setup(client=client, script=script, caps=caps, origin_ns=origin_ns, seed=0, api="chat")
    engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=0)), caps, setup.now)
    running = asyncio.create_task(engine.run())
    await asyncio.sleep(0.5)
    point = LoadPoint(concurrency=streams, prompt_tokens=PROMPT_CHARACTERS // 4, output_tokens=TOKENS)
    told = []
    engine.command(point)
    stop_ns = perf_counter_ns() + int(seconds * 1e9)
    while perf_counter_ns() < stop_ns:
        await asyncio.sleep(0.2)
        told.append(engine.take())
    engine.command(LoadPoint(concurrency=0))
    while engine.in_flight:
        await asyncio.sleep(0.2)
        told.append(engine.take())
    await engine.close()
    await running
    told.append(engine.take())
    await client.close()
    keys = {trace.sent_ns: head for trace, head in sent}
    # Without a TPOT: a stream that came in one read, so starved was the client.
    records = [record for drained in told for record in drained.requests]
    good = [record for record in records if record.outcome is Outcome.OK and record.tpot_s is not None]
    client = tuple(sample for drained in told for sample in drained.client)
    facts = Facts.of([FactBatch(t_s=0.0, client=client, requests=tuple(good))])
    return {
        "requests": [
            (
                keys[record.sent_ns],
                record.sent_ns + origin_ns,
                record.first_token_ns + origin_ns,
                record.ttft_s * 1e3,
                record.tpot_s * 1e3,
            )
            for record in good
        ],
        "failed": len(records) - len(good),
        "void": int((facts.requests.column("client_limited") > 0).sum()),
        "gap_ms": [float(gap) / 1e6 for gap in np.percentile(gaps_ns, (50, 95))],
    }


def child(options: argparse.Namespace) -> None:
    from llmtop.endpoint.clock import StampingLoop

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        found = runner.run(drive_llmtop(options.url, int(options.streams), options.seconds))
    Path(options.child).write_text(json.dumps(found))


def read_llmtop(folder: Path, _: int) -> Report:
    found = json.loads((folder / "llmtop.json").read_text())
    told = [Told(*request) for request in found["requests"]]
    ttft, tpot = ([getattr(one, name) for one in told] for name in ("ttft_ms", "tpot_ms"))
    return Report(told, found["failed"], _percentiles(ttft), _percentiles(tpot), tuple(found["gap_ms"]), found["void"])


# The peers: their own commands and reports


def read_guidellm(folder: Path, wall_ns: int) -> Report:
    (benchmark,) = json.loads((folder / "guidellm.json").read_text())["benchmarks"]
    told = []
    for one in benchmark["requests"]["successful"]:
        start, first = (one["info"]["timings"][name] for name in ("request_start", "first_token_iteration"))
        told.append(
            Told(
                one["response_id"],
                start * 1e9 - wall_ns,
                first * 1e9 - wall_ns,
                one["time_to_first_token_ms"],
                one["inter_token_latency_ms"],
            )
        )
    ttft, tpot = (
        benchmark["metrics"][name]["successful"]["percentiles"]
        for name in ("time_to_first_token_ms", "inter_token_latency_ms")
    )
    failed = len(benchmark["requests"]["errored"]) + len(benchmark["requests"]["incomplete"])
    return Report(told, failed, (ttft["p50"], ttft["p95"]), (tpot["p50"], tpot["p95"]), None)


def read_aiperf(folder: Path, wall_ns: int) -> Report:
    told, failed = [], 0
    for line in (folder / "aiperf" / "profile_export.jsonl").read_text().splitlines():
        one = json.loads(line)
        if one.get("error") or one["metadata"]["was_cancelled"]:
            failed += 1
            continue
        ttft_ms, tpot_ms = (one["metrics"][name]["value"] for name in ("time_to_first_token", "inter_token_latency"))
        start_ns = one["metadata"]["request_start_ns"] - wall_ns
        told.append(Told(one["metadata"]["x_request_id"], start_ns, start_ns + ttft_ms * 1e6, ttft_ms, tpot_ms))
    summary = json.loads((folder / "aiperf" / "profile_export_aiperf.json").read_text())
    ttft, tpot, gap = (
        (summary[name]["p50"], summary[name]["p95"])
        for name in ("time_to_first_token", "inter_token_latency", "inter_chunk_latency")
    )
    return Report(told, failed, ttft, tpot, gap)


READERS = {"llmtop": read_llmtop, "guidellm": read_guidellm, "aiperf": read_aiperf}


def command_of(client: str, program: str, url: str, streams: int, folder: Path) -> list[str]:
    tpot_ms, each = LEVELS[streams]
    seconds = each * (TTFT_MS + (TOKENS - 1) * tpot_ms) / 1e3
    if client == "llmtop":
        command = [program, __file__, "--child", str(folder / "llmtop.json"), "--url", url]
        return [*command, "--streams", str(streams), "--seconds", str(seconds)]
    if client == "guidellm":
        tokenizer = folder / "hf" / "hub" / f"models--{TOKENIZER.replace('/', '--')}" / "snapshots" / REVISION
        return [
            *(program, "run", "--disable-progress"),
            *("--backend", f"kind=openai_http,target={url},model=known-times"),
            *("--profile", f"kind=concurrent,streams={streams}"),
            *("--constraint", f"kind=max_requests,count={streams * each}"),
            *("--constraint", f"kind=max_duration,seconds={4 * seconds:.0f}"),
            *("--tokenizer", f"kind=huggingface_auto,model={tokenizer}"),
            *("--data", f"kind=synthetic_text,prompt_tokens={PROMPT_CHARACTERS},output_tokens={TOKENS}"),
            *("--output", f"kind=json,path={folder / 'guidellm.json'}"),
        ]
    return [
        *(program, "profile", "--ui", "none", "--model", "known-times", "--url", url),
        *("--endpoint-type", "chat", "--streaming", "--concurrency", str(streams)),
        *("--request-count", str(streams * each), "--isl", str(PROMPT_CHARACTERS), "--osl", str(TOKENS)),
        *("--tokenizer", TOKENIZER, "--use-server-token-count", "--no-server-metrics", "--no-gpu-telemetry"),
        *("--artifact-dir", str(folder / "aiperf")),
    ]


def write_tokenizer(hub: Path) -> None:
    """One token per byte (byte-level BPE without merges), laid out as the Hugging Face hub's cache."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in kept] + [chr(256 + place) for place in range(256 - len(kept))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "vocab": {letter: place for place, letter in enumerate(letters)}, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level, "model": model}
    folder = hub / f"models--{TOKENIZER.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    (snapshot / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (snapshot / "tokenizer_config.json").write_text(json.dumps(settings))


# One run


class Server:
    """The schedule server as a child process."""

    def __init__(self, tpot_ms: float) -> None:
        command = [sys.executable, "-m", "llmtop.simulator.server.schedule", f"--ttft-ms={TTFT_MS}"]
        command += [f"--tpot-ms={tpot_ms}", f"--tokens={TOKENS}", "--die-with-parent"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"
        self.real_time = sys.platform == "linux"
        try:
            if self.real_time:
                os.sched_setscheduler(self._process.pid, os.SCHED_RR, os.sched_param(1))
        except PermissionError:
            self.real_time = False

    def stamps(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self.url + "/stamps") as answer:
            return json.load(answer)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class CpuClock(threading.Thread):
    """Reads the CPU time of a process and all its descendants twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._stop_asked = threading.Event()
        self._spent: dict[int, float] = {}
        self._readings: list[tuple[int, float]] = []

    def run(self) -> None:
        while not self._stop_asked.wait(CPU_PERIOD_S):
            with contextlib.suppress(psutil.Error):
                for process in (self._root, *self._root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = process.cpu_times()
                        self._spent[process.pid] = times.user + times.system
                self._readings.append((perf_counter_ns(), sum(self._spent.values())))

    def cores(self, start_ns: float, stop_ns: float) -> float:
        """Mean number of cores used between two instants."""
        self._stop_asked.set()
        self.join()
        if not self._readings:
            return float("nan")
        at_ns, spent_s = zip(*self._readings, strict=True)
        first, last = np.interp((start_ns, stop_ns), at_ns, spent_s)
        return float((last - first) / (stop_ns - start_ns) * 1e9)


def measure(client: str, program: str, streams: int) -> dict[str, float]:
    """One run. Raises RuntimeError with the end of the client's output if it failed."""
    with tempfile.TemporaryDirectory(prefix="llmtop-bench-") as name, Server(LEVELS[streams][0]) as server:
        folder = Path(name)
        write_tokenizer(folder / "hf" / "hub")
        hub = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        log = folder / "log"
        wall_ns = time.time_ns() - perf_counter_ns()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command_of(client, program, server.url, streams, folder),
                cwd=folder if client != "llmtop" else None,
                env=os.environ | hub,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            clock = CpuClock(process.pid)
            clock.start()
            try:
                status = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                status = f"no end within {PATIENCE_S} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        wall_ns = (wall_ns + time.time_ns() - perf_counter_ns()) // 2
        try:
            report = READERS[client](folder, wall_ns)
        except (OSError, ValueError, KeyError) as error:
            text = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"ended with {status} and without a report ({error!r}):\n{text}") from error
        return figures(report, server.stamps(), streams, clock) | {"real_time": float(server.real_time)}


def figures(report: Report, stamps: list[dict[str, Any]], streams: int, clock: CpuClock) -> dict[str, float]:
    """Medians of these make the tables."""
    known = {stream[name]: stream for stream in stamps for name in ("id", "request_id", "head")}
    pairs = [(told, known[told.key]) for told in report.requests if told.key in known]
    pairs = sorted((pair for pair in pairs if min(pair[1]["before_ns"]) > 0), key=lambda pair: pair[1]["received_ns"])
    if len(pairs) < 0.9 * len(report.requests) or len(pairs) <= streams:
        raise RuntimeError(f"only {len(pairs)} of {len(report.requests)} requests could be compared")
    left = np.array([true["before_ns"] for _, true in pairs]) / 1e6
    arrived = np.array([true["received_ns"] for _, true in pairs]) / 1e6
    start, first = (np.array([getattr(told, name) for told, _ in pairs]) / 1e6 for name in ("start_ns", "first_ns"))
    ttft, tpot = left[:, 0] - arrived, (left[:, -1] - left[:, 0]) / (TOKENS - 1)
    told_ttft = np.array([told.ttft_ms for told, _ in pairs])
    found = {
        "chunks_per_s": left.size / (left.max() - arrived.min()) * 1e3,
        "requests": len(report.requests),
        "failed": report.failed,
        "void": report.void,
        "cores": clock.cores(arrived.min() * 1e6, left.max() * 1e6),
        "wave_ms": arrived[streams - 1] - arrived[0],
        "sent_late": float(np.percentile((arrived - start)[streams:], 95)),
        "received_late": float(np.percentile((first - left[:, 0])[streams:], 95)),
    }
    compared = {
        "ttft": (ttft, report.ttft_ms),
        "tpot": (tpot, report.tpot_ms),
        "gap": (np.diff(left, axis=1).ravel(), report.gap_ms),
        "later": (ttft[streams:], _percentiles(told_ttft[streams:])),
    }
    for name, (truth, told) in compared.items():
        for percent, true, reported in zip(("50", "95"), _percentiles(truth), told or (np.nan, np.nan), strict=True):
            found |= {f"{name}{percent}_true": true, f"{name}{percent}_told": reported}
            found[f"{name}{percent}_over"] = (reported / true - 1) * 100
    return found


def _percentiles(values: Any) -> tuple[float, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return float(p50), float(p95)


# All runs


@contextlib.contextmanager
def alone(lock: str | None) -> Iterator[None]:
    """While no other benchmark runs that takes the same lock."""
    if lock is None:
        yield
        return
    with Path(lock).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def programs(options: argparse.Namespace) -> dict[str, str]:
    found = {"llmtop": sys.executable}
    for peer in ("guidellm", "aiperf"):
        asked = getattr(options, peer) or os.environ.get(f"LLMTOP_{peer.upper()}") or peer
        path = shutil.which(asked)
        if path is None:
            print(f"{peer} is left out: no program {asked} (install: see --help)")
        else:
            found[peer] = str(Path(path).absolute())
    return {client: path for client, path in found.items() if client in options.clients.split(",")}


def tables(streams: int, rounds: dict[str, list[dict[str, float]]]) -> None:
    tpot_ms, each = LEVELS[streams]
    real_time = all(run["real_time"] for runs in rounds.values() for run in runs)
    priority = "real-time" if real_time else "equal"
    print(
        f"\n── {streams} streams, {each} requests each of {TOKENS} tokens; TTFT {TTFT_MS:g} ms, TPOT {tpot_ms:g} ms; "
        f"medians of {max(map(len, rounds.values()))} rounds; server at {priority} priority"
        "\n   in ms: true -> reported, overstated by (in the worst round)"
    )
    whole = [("client", "requests", "chunks/s", "cores", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "gap p95")]
    later = [("after the first wave", "TTFT p50", "TTFT p95", "sent late", "received late", "first wave within")]
    for client, runs in rounds.items():
        mid = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        worst = {name: f" ({max(run[f'{name}_over'] for run in runs):+.1f} %)" for name in ("ttft95", "later95")}
        whole.append(
            (
                *(client, f"{mid['requests']:.0f}{_flaws(mid)}", f"{mid['chunks_per_s']:.0f}", f"{mid['cores']:.2f}"),
                *(_triple(mid, "ttft50"), _triple(mid, "ttft95") + worst["ttft95"]),
                *(_triple(mid, name) for name in ("tpot50", "tpot95", "gap95")),
            )
        )
        later.append(
            (
                *(client, _triple(mid, "later50"), _triple(mid, "later95") + worst["later95"]),
                *(f"{mid['sent_late']:.2f} ms", f"{mid['received_late']:.2f} ms", f"{mid['wave_ms']:.0f} ms"),
            )
        )
    for rows in (whole, later):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        print()


def _flaws(found: dict[str, float]) -> str:
    return "".join(f", {found[name]:.0f} {name}" for name in ("failed", "void") if found[name])


def _triple(mid: dict[str, float], name: str) -> str:
    if np.isnan(mid[f"{name}_told"]):
        return "not reported"
    return f"{mid[f'{name}_true']:.2f} -> {mid[f'{name}_told']:.2f} {mid[f'{name}_over']:+.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guidellm", help="path of GuideLLM's executable")
    parser.add_argument("--aiperf", help="path of AIPerf's executable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", default=",".join(map(str, LEVELS)), help="levels to run (default: %(default)s)")
    parser.add_argument("--clients", default="llmtop,guidellm,aiperf")
    parser.add_argument("--lock", help="file that is locked (flock) during each run, on machines with other benchmarks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    clients = programs(options)
    for streams in map(int, options.streams.split(",")):
        rounds: dict[str, list[dict[str, float]]] = {}
        for number in range(1, options.rounds + 1):
            for client, program in clients.items():
                try:
                    with alone(options.lock):
                        found = measure(client, program, streams)
                except RuntimeError as error:
                    print(f"{client}, {streams} streams, round {number}: {error}", flush=True)
                    continue
                rounds.setdefault(client, []).append(found)
                text = f"TTFT p95 {_triple(found, 'ttft95')}{_flaws(found)}"
                print(f"   {client}, {streams} streams, round {number}: {text}", flush=True)
        if rounds:
            tables(streams, rounds)


if __name__ == "__main__":
    main()
