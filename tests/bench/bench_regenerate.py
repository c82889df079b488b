"""Traffic, its profile, and the load that the profile drives: how far one is from the other, over services and seeds.

python tests/bench/bench_regenerate.py [--seeds N] [--hours N]
bars: mean rate 2 %, peak 5 %, CV 15 %, p50 to p99 of lengths 5 %
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "traffic")]

from made import SERVICES, made, off  # noqa: E402

BARS = {"rate": 0.02, "peak": 0.05, "cv": 0.15, "lengths": 0.05}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hours", type=float, default=6.0)
    arguments = parser.parse_args()
    broken = 0
    print(
        f"{'worst of ' + str(arguments.seeds) + ' seeds':24}{'rate':>8}{'peak':>8}{'CV':>8}{'lengths':>9}{'means':>8}"
    )
    for name, service in SERVICES.items():
        found = [off(made(service, arguments.hours, seed), seed, 3600.0, 4000) for seed in range(arguments.seeds)]
        worst = {field: max(getattr(each, field) for each in found) for field in (*BARS, "means")}
        cells = "".join(f"{worst[field]:{width}.2%}" for field, width in zip(worst, (8, 8, 8, 9, 8), strict=True))
        wrong = [field for field, bar in BARS.items() if worst[field] > bar]
        broken += len(wrong)
        print(f"{name:24}{cells}  {'' if not wrong else 'BROKEN: ' + ', '.join(wrong)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
