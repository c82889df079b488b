"""Pages of metrics with mistakes, by the million: no crash, no page that a parser reads otherwise because it knows
others, and, of every fifth, none that prometheus-client reads otherwise.

    python tests/bench/bench_fuzz_exposition.py [PAGES] [SEED]

Prints how many pages were read, the time of the slowest, the growth of memory, and the smallest page of each
disagreement.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

from llmtop.telemetry.exposition import ExpositionParser

sys.path.insert(0, str(Path(__file__).parents[1] / "telemetry"))

from test_telemetry_exposition import disagreement, mutant


def main() -> int:
    pages, seed = (int(text) for text in (sys.argv[1:] + ["100000", "1"][len(sys.argv) - 1 :])[:2])
    rng, warm = random.Random(seed), ExpositionParser()
    smallest: dict[str, str] = {}
    slowest_s, began = 0.0, time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(pages):
        page = mutant(rng)
        started = time.thread_time()
        warm.parse(page)
        slowest_s = max(slowest_s, time.thread_time() - started)
        found = disagreement(page, warm, asks_oracle=number % 5 == 0)
        if found is not None and len(page) < len(smallest.get(found, page + " ")):
            smallest[found] = page
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    took_s = time.perf_counter() - began
    print(f"{pages} pages in {took_s:.0f} s, the slowest {slowest_s * 1e3:.1f} ms CPU, memory +{grown:.0f} MB")
    for what, page in smallest.items():
        print(f"{what}: {page!r}")
    return 1 if smallest else 0


if __name__ == "__main__":
    sys.exit(main())
