"""What an opinion costs, and how often the search and the intervals are right.

python tests/bench/bench_analysis.py            costs: a verdict, a live assessment after 100k requests
python tests/bench/bench_analysis.py search     capacity searches against simulated engines of known capacity
python tests/bench/bench_analysis.py coverage   causes and intervals against simulated engines and known laws
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from capacities import CAUSES, SERVERS, cause_run, search_run, true_capacity  # noqa: E402
from virtual import VirtualSession  # noqa: E402

from llmtop.analysis import Level, assess, judge, stats  # noqa: E402
from llmtop.analysis.measured import Ledger  # noqa: E402
from llmtop.analysis.trend import trend_of  # noqa: E402
from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.slo import Slo  # noqa: E402
from llmtop.domain.verdicts import Bound, Kind  # noqa: E402
from llmtop.meter.facts import Facts  # noqa: E402
from llmtop.simulator.engine import load_preset  # noqa: E402


def median_ms(work: Callable[[], object], repeats: int = 9) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def costs() -> None:
    rng = np.random.default_rng(0)
    levels = []
    for load in np.geomspace(1, 256, 20):
        ttft_s = (0.1 + max(0.0, load - 60) / 20) * rng.lognormal(0, 0.3, 200)
        e2e_s = ttft_s + 3 * rng.lognormal(0, 0.2, 200)
        levels.append(Level(float(load), ttft_s, e2e_s / 100, e2e_s, requests_per_s=load / e2e_s.mean()))
    quick = median_ms(lambda: judge(levels, replicates=0))
    print(f"verdict, 20 levels x 200 requests, no interval  {quick:7.1f} ms  (bar 20)")
    print(f"verdict, with interval                          {median_ms(lambda: judge(levels)):7.1f} ms  (bar 150)")
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=4), seed=0)
    ledger = Ledger()
    while session.finished < 100_000:
        session.command(LoadPoint(concurrency=int(rng.integers(4, 80))))
        session.run_until(session.now_s + 60)
        assess(session.facts, session.meta, Slo(), now_s=session.now_s, full=False, ledger=ledger)
    facts, now_s = session.facts, session.now_s
    assert isinstance(facts, Facts)

    def once(full: bool) -> object:
        return assess(facts, session.meta, Slo(), now_s=now_s, full=full, ledger=ledger)

    shown = assess(facts, session.meta, Slo(), now_s=now_s, ledger=ledger)
    print(f"{session.finished} requests, {len(facts.bins)} bins: {shown.headline}")
    print(f"live assessment, first or after new requests    {median_ms(lambda: once(False)):7.1f} ms  (bar 40)")
    again = median_ms(
        lambda: assess(facts, session.meta, Slo(), now_s=now_s, previous=shown, full=False, ledger=ledger)
    )
    print(f"live assessment, fewer than ten new requests    {again:7.1f} ms")
    anew = median_ms(lambda: assess(facts, session.meta, Slo(), now_s=now_s, full=False), 1)
    print(f"live assessment, with nothing kept              {anew:7.1f} ms")
    print(f"full assessment                                 {median_ms(lambda: once(True), 3):7.1f} ms")


def searches(seeds: int = 5) -> None:
    print(f"{'server':12s} {'truth':>6s}  found (seconds)")
    near = quick = total = 0
    for name in SERVERS:
        truth = true_capacity(name)
        runs = [search_run(name, seed) for seed in range(seeds)]
        near += sum(abs(found - truth) <= 0.1 * truth + 0.5 for found, _ in runs)
        quick += sum(took_s <= 120 for _, took_s in runs)
        total += seeds
        print(
            f"{name:12s} {truth:6d}  " + "  ".join(f"{found:.0f} ({took_s:.0f})" for found, took_s in runs), flush=True
        )
    print(f"within 10 %: {near}/{total} = {near / total:.2f} (bar 0.90); at most 120 s: {quick}/{total}")


def coverage(seeds: int = 6) -> None:
    right = total = covered = capped = 0
    for name in CAUSES:
        for seed in range(seeds):
            found, cap = cause_run(name, seed)
            total += 1
            right += found.cause == CAUSES[name]
            if found.cause is Bound.QUEUE and found.kind is Kind.CLIFF:
                capped += 1
                covered += found.low <= cap <= found.high
    print(f"cause right: {right}/{total} = {right / total:.3f} (bar 0.95)")
    print(f"cliff interval holds max_num_seqs: {covered}/{capped} = {covered / capped:.3f}")
    rng = np.random.default_rng(1)
    trials = 2000
    p95 = float(np.exp(1.6449 * 0.5))
    bounds = [stats.quantile_with_bounds(rng.lognormal(0, 0.5, 200), 0.95) for _ in range(trials)]
    print(f"p95 upper bound, n 200: {np.mean([b.high >= p95 for b in bounds]):.3f} (nominal 0.95, one-sided)")
    for share, n in ((0.02, 200), (0.05, 480), (0.3, 60)):
        above = [stats.share_bound(int(k), n) >= share for k in rng.binomial(n, share, trials)]
        print(f"share {share}, n {n}: upper bound {np.mean(above):.3f}")
    t_s = np.arange(60) * 60.0
    inside = 0
    for _ in range(400):
        found = trend_of(t_s, (1 + 0.08 * t_s / 3600) * rng.lognormal(0, 0.1, 60), 0.01)
        inside += found is not None and found.low * 3600 <= 0.08 <= found.high * 3600
    print(f"drift of 8 %/h, 60 windows: {inside / 400:.3f}")


if __name__ == "__main__":
    {"search": searches, "coverage": coverage}.get(sys.argv[1] if len(sys.argv) > 1 else "", costs)()
