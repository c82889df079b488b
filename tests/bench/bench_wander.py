"""How calm the words stay while a hand wanders over a server: four servers, six seeds, 240 s each in virtual time.

python tests/bench/bench_wander.py [SERVER ...] [--seeds N] [--tell]     bars: bound <= 3 changes, headline <= 15
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from wandering import WALLS, Wander, wander  # noqa: E402


def line(name: str, seed: int, found: Wander) -> str:
    wrong = found.foreign_bounds
    cliff = "" if found.wall.knee is None else f"  right cliff after {found.found_after_s} s"
    end = found.said[-1].cliff
    at = "" if end.at is None else f" {end.at:.1f} [{end.low:.1f}, {end.high:.1f}]"
    named = f"  foreign {len(wrong)} s {sorted({bound.value for _, bound in wrong})}" if wrong else ""
    return (
        f"{name:8s} {seed}  bound {found.bound_changes:2d}  headline {found.headline_changes:3d}"
        f"{cliff}  end {end.kind}{at}{named}"
    )


def tell(found: Wander) -> None:
    """Each change of the headline, beside what was commanded."""
    last = ""
    for said in found.said:
        if said.headline != last:
            point = [point for t_s, point in found.commanded if t_s < said.t_s][-1]
            print(f"  {said.t_s:6.1f} {point.concurrency:3d}/{point.prompt_tokens}  {said.headline}")
            last = said.headline


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("servers", nargs="*", default=list(WALLS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--tell", action="store_true")
    asked = parser.parse_args()
    calm = total = 0
    for name in asked.servers:
        for seed in range(asked.seeds):
            found = wander(name, seed)
            print(line(name, seed, found), flush=True)
            if asked.tell:
                tell(found)
            total += 1
            calm += found.bound_changes <= 3 and found.headline_changes <= 15 and not found.foreign_bounds
    print(f"calm {calm}/{total}")


if __name__ == "__main__":
    main()
