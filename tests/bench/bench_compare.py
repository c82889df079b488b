"""How often a comparison is wrong: pairs of runs that differ in nothing but their seed, and pairs of which the other
is really slower by a tenth. Sixty seconds a level in virtual time.

python tests/bench/bench_compare.py [SERVER ...] [--pairs N] [--slower SHARE] [--tell]
bars: of 100 equal pairs at most 5 say anything but `same`; a slowdown of 0.1 is found in at least 90 of 100
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from comparisons import SERVERS, found_different, measured  # noqa: E402

from llmtop.analysis.comparing import compare  # noqa: E402
from llmtop.domain.compared import Compared, Verdict  # noqa: E402


def tell(told: Compared) -> None:
    print(f"  {told.verdict}: {told.sentence}")
    for name, where, delta in found_different(told):
        print(f"    {name} {where}: {delta.before} -> {delta.after}, {delta.low}..{delta.high}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("servers", nargs="*", default=list(SERVERS))
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--slower", type=float, default=0.1)
    parser.add_argument("--tell", action="store_true")
    asked = parser.parse_args()
    for server in asked.servers:
        equal: Counter[Verdict] = Counter()
        false = found = 0
        figures: Counter[Verdict] = Counter()
        for pair in range(asked.pairs):
            before = measured(server, 2 * pair)
            told = compare(before, measured(server, 2 * pair + 1))
            equal[told.verdict] += 1
            false += bool(found_different(told))
            figures.update(delta.verdict for level in told.levels for delta in level.deltas)
            if asked.tell and (told.verdict is not Verdict.SAME or found_different(told)):
                tell(told)
            changed = compare(before, measured(server, 2 * pair + 1, 1 + asked.slower))
            found += changed.verdict is Verdict.WORSE
            if asked.tell and changed.verdict is not Verdict.WORSE:
                tell(changed)
        whole = ", ".join(f"{count} {verdict}" for verdict, count in equal.most_common())
        each = ", ".join(f"{count} {verdict}" for verdict, count in figures.most_common())
        print(f"{server:24s} equal: {whole}; {false} with a figure that differs; figures: {each}", flush=True)
        print(f"{server:24s} slower by {asked.slower:.0%}: found in {found} of {asked.pairs}", flush=True)


if __name__ == "__main__":
    main()
