"""How often a tune finds the best number of slots, and how near it comes: `bench_tune.py [SEEDS] [SERVER ...]`.

Prints for each server and way of starting it how often the best was found (or one that carries as many within 2 %), how
often its capacity is within 10 % of the truth, the starts, the seconds beside them, and the drift that was measured.
`bench_tune.py truth [SERVER ...]` finds the truths again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).parents[2]),
    *(str(Path(__file__).parents[1] / room) for room in ("analysis", "host")),
]

from tuned import SERVERS, TRUTHS, FakeServer, true_users, tuned  # noqa: E402

WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "serve": ({}, {}),
    "apply": ({}, {"live": True}),
    "serve, tells nothing": ({"tells": False}, {}),
}
TIE = 0.02


def tuned_often(name: str, way: str, seeds: int) -> None:
    truths = TRUTHS[name]
    best = max(truths.values())
    right = near = void = 0
    starts, took_s, drifts, errors = [], [], [], []
    for seed in range(seeds):
        server = FakeServer(name, seed, **WAYS[way][0])
        tune = tuned(server, **WAYS[way][1]).tune
        starts.append(len(server.starts))
        took_s.append(server.now_s - len(server.starts) * server.start_s)
        drifts.append(abs(tune.drift or 0.0))
        void += tune.void
        row = next((row for row in tune.rows if row.values == tune.winner), None)
        if row is None or row.users is None:
            continue
        slots = int(row.values[0][1])
        right += truths[slots] >= (1 - TIE) * best
        errors.append(row.users.value / truths[slots] - 1)
        near += abs(errors[-1]) <= 0.1
    print(
        f"{name:14s} {way:21s} right {right}/{seeds}  within 10 %: {near}/{seeds} "
        f"[{min(errors, default=0):+.0%}, {max(errors, default=0):+.0%}]  void {void}  starts {max(starts)}  "
        f"{sum(took_s) / seeds:.0f} s (most {max(took_s):.0f} s)  drift at most {max(drifts):.1%}",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    names = [name for name in SERVERS if not arguments[1:] or name in arguments[1:]]
    if arguments[:1] == ["truth"]:
        for name in names:
            print(f"{name:14s} { {slots: true_users(name, slots) for slots in SERVERS[name][4]} }", flush=True)
        return
    for name in names:
        for way in WAYS:
            tuned_often(name, way, int(arguments[0]) if arguments else 20)


if __name__ == "__main__":
    main(sys.argv[1:])
