"""Which planted faults a soak of ten minutes names, and what it cries where there is none; and what that costs.

python tests/bench/bench_confusion.py [seeds [clean]]    seeds of each fault and server (1), clean soaks (40)
python tests/bench/bench_confusion.py cost               opinions at the end of an hour at 10 requests/s
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from soaks import FAULTS, SERVERS, soak  # noqa: E402
from virtual import VirtualSession  # noqa: E402

from llmtop.analysis import assess  # noqa: E402
from llmtop.analysis.soak import drifts_of  # noqa: E402
from llmtop.domain.assessment import Assessment  # noqa: E402
from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.slo import Slo  # noqa: E402
from llmtop.simulator.engine import load_preset  # noqa: E402


def told(found: Assessment) -> list[str]:
    """What drifts, by its first words; what the notes say; and what is said to bind."""
    drifts = [f"{each.metric} {each.shape}" for each in found.drifts if each.significant]
    notes = [note.split(":")[0] for note in found.notes]
    return [*drifts, *notes, f"[{found.diagnosis.bound}]"]


def table(seeds: int, clean: int) -> None:
    names = list(SERVERS)
    cried: Counter[str] = Counter()
    alarms = 0
    for seed in range(clean):
        found = soak(names[seed % len(names)], None, seed)
        cried.update(told(found))
        alarms += any(each.significant for each in found.drifts)
        if any(each.significant for each in found.drifts):
            print(names[seed % len(names)], seed, [each.text for each in found.drifts if each.significant])
    print(f"nothing planted: drift in {alarms} of {clean}; told: {dict(cried)}", flush=True)
    for fault, (_, named) in FAULTS.items():
        right, said = 0, Counter[str]()
        for name in names:
            for seed in range(seeds):
                found = soak(name, fault, seed)
                right += named(found)
                said.update(told(found))
        print(f"{fault:24s} named {right}/{seeds * len(names)}; told: {dict(said)}", flush=True)


def cost() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=20), client=True)
    session.run_until(3600.0)
    facts, meta = session.facts, session.end()
    for name, work in (
        ("what creeps", lambda: drifts_of(facts, 3600.0)),
        ("full opinion", lambda: assess(facts, meta, Slo(), now_s=3600.0)),
    ):
        times = []
        for _ in range(8):
            start = time.process_time()
            work()
            times.append(1e3 * (time.process_time() - start))
        print(f"{name}: first {times[0]:.0f} ms, then {np.median(times[1:]):.0f} ms ({session.finished} requests)")


if __name__ == "__main__":
    if sys.argv[1:] == ["cost"]:
        cost()
    else:
        given = [int(each) for each in sys.argv[1:]]
        table(*(given + [1, 40][len(given) :]))
