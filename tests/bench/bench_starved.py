"""A client that does not get its time: are the requests that verdicts rest on still true?

    flock /tmp/llmtop-bench.lock python tests/bench/bench_starved.py [CASE ...] [--streams 32] [--tpot-ms 20]

A server of known times (first token after 50 ms) on one core, a run of `llmtop` on the other. CASE is `calm`, `loops=N`
(N busy processes on the run's core) or `stop=S` (the load's process is stopped for S seconds, again and again, running
a second and more in between). For each case: requests, how many are void, how many seconds are red, and for the rest
TTFT p50 and p95 and TPOT p95 against what the server itself did (bar: within 2 %, and no single TTFT far above the
longest that the server let wait). The server reads a request as late as its timer wakes it, which is no part of its
own account: where its timer is late, so much may be added to TTFT without any fault of the client.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil

from llmtop.meter.facts import Column, Facts
from llmtop.recording.reader import RunReader

CASES = ("calm", "loops=1", "loops=3", "stop=0.2", "stop=0.5", "stop=1", "stop=2", "stop=5")
TTFT_MS = 50
TOKENS = 64
BURN = "import time\nend = time.time() + {0}\nwhile time.time() < end: sum(range(10000))"
PROFILE = """
[load]
concurrency = {streams}
prompt_tokens = 64
output_tokens = 64
[[stage]]
name = "hold"
duration = "{seconds}s"
shape = "hold"
concurrency = {streams}
"""


def pinned(core: int, *words: str, **options: object) -> subprocess.Popen[str]:
    cores = psutil.cpu_count() or 1
    return subprocess.Popen(["taskset", "-c", str(core % cores), *words], text=True, **options)  # type: ignore[call-overload,no-any-return]


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stop_and_go(run: subprocess.Popen[str], stop_s: float, over: threading.Event) -> None:
    """Stop the session below `run` for so long, again and again, at moments that follow no beat of the load."""
    rng = np.random.default_rng(1)
    parent, children = psutil.Process(run.pid), []
    while not children and not over.wait(0.2):
        children = parent.children()
    while not over.wait(rng.uniform(1.0, 2.5)) and children[0].is_running():
        children[0].send_signal(signal.SIGSTOP)
        time.sleep(stop_s)
        children[0].send_signal(signal.SIGCONT)


def measured(case: str, streams: int, tpot_ms: float, seconds: int, folder: Path) -> str:
    kind, _, value = case.partition("=")
    path, profile = folder / f"{case}.llmtop", folder / "hold.toml"
    path.unlink(missing_ok=True)
    profile.write_text(PROFILE.format(streams=streams, seconds=seconds))
    server_words = ["--ttft-ms", str(TTFT_MS), "--tpot-ms", str(tpot_ms), "--tokens", str(TOKENS)]
    with ExitStack() as stack:
        words = [sys.executable, "-m", "llmtop.simulator.server.schedule", *server_words]
        server = stack.enter_context(ended(pinned(1, *words, stdout=subprocess.PIPE)))
        assert server.stdout is not None
        url = f"http://127.0.0.1:{msgspec.json.decode(server.stdout.readline())['port']}"
        for _ in range(int(value) if kind == "loops" else 0):
            stack.enter_context(ended(pinned(0, sys.executable, "-c", BURN.format(seconds + 8))))
        words = [sys.executable, "-m", "llmtop", "run", str(profile), url, "--record", str(path)]
        run = stack.enter_context(ended(pinned(0, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
        over = threading.Event()
        if kind == "stop":
            threading.Thread(target=stop_and_go, args=(run, float(value), over), daemon=True).start()
        code = run.wait(timeout=10 * seconds + 60)
        over.set()
        with urllib.request.urlopen(f"{url}/stamps", timeout=30) as answer:
            told = msgspec.json.decode(answer.read())
    whole = [each for each in told if min(each["after_ns"]) > 0]
    ttft_s = np.array([each["after_ns"][0] - each["received_ns"] for each in whole]) / 1e9
    tpot_s = np.array([each["after_ns"][-1] - each["after_ns"][0] for each in whole]) / 1e9 / (TOKENS - 1)
    with RunReader(path) as reader:
        facts = Facts.of(reader.batches())
    return f"{case:<9} exit {code}  {compared(facts, ttft_s, tpot_s)}"


def compared(facts: Facts, ttft_s: Column, tpot_s: Column) -> str:
    """What is left in verdicts against what the server did."""
    requests = facts.requests
    ok, void = requests.column("ok") > 0, requests.column("client_limited") > 0
    kept = ok & ~void
    parts = [
        f"{ok.sum():5d} requests, void {void[ok].mean():4.0%}, red {facts.client.column('red').mean():4.0%} of seconds"
    ]
    for name, own_s, q in (("ttft_s", ttft_s, 0.5), ("ttft_s", ttft_s, 0.95), ("tpot_s", tpot_s, 0.95)):
        seen_s, true_s = np.quantile(requests.column(name)[kept], q) if kept.any() else np.nan, np.quantile(own_s, q)
        label = f"{name[:4].upper()} p{q * 100:.0f}"
        parts.append(f"{label} {seen_s * 1e3:.1f} ms ({seen_s / true_s - 1:+.1%})")
    far = (requests.column("ttft_s")[kept] > 1.02 * ttft_s.max()).sum()
    parts.append(f"{far} TTFT above the server's longest ({ttft_s.max() * 1e3:.0f} ms)")
    late_ms = np.quantile(ttft_s * 1e3 - TTFT_MS, (0.5, 0.95))
    parts.append(f"server late by {late_ms[0]:.1f} ms, p95 {late_ms[1]:.1f} ms")
    return " | ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tpot-ms", type=float, default=20.0)
    parser.add_argument("--seconds", type=int, default=12)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for place in ("DATA", "STATE", "CONFIG"):
            os.environ[f"XDG_{place}_HOME"] = folder
        for case in asked.cases:
            print(measured(case, asked.streams, asked.tpot_ms, asked.seconds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
