"""How near the contour of an explored map comes to the truth, in virtual time: `bench_map.py [SEEDS] [SERVER ...]`.

Prints for each server and seed the levels and seconds that it took, and for each prompt length the users that were
found, the truth (as `llmtop predict` tells it), and the error; lengths in brackets lie between the measured ones.
"""

from __future__ import annotations

import itertools
import math
import sys
from functools import cache
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]


from mapped import SERVERS, explored, session_of, truth  # noqa: E402

NEAR = 0.10


@cache
def true_users(name: str, prompt_tokens: int, start: int) -> float:
    return truth(name, prompt_tokens, start)


def mapped(name: str, seed: int) -> tuple[int, int]:
    """(lengths within 10 % and half a user, lengths)."""
    session, base, slo = session_of(name, seed)
    explorer, step = explored(session, base, slo)
    known = explorer.map
    assert known is not None
    lengths = list(known.lengths)
    between = [round(math.sqrt(a * b)) for a, b in itertools.pairwise(lengths)]
    errors = []
    print(f"{name}, seed {seed}: {explorer.levels} levels, {session.now_s:.0f} s: {step.text}")
    for length in sorted({*lengths, *between}):
        users = known.users_at(length)
        if users is None:
            print(f"  {length:5d} tokens: not known")
            errors.append(math.inf)
            continue
        right = true_users(name, length, 1 << round(math.log2(max(1.0, users.value))))
        errors.append(abs(users.value - right) / (right + 0.5 / NEAR))
        shown = f"[{length}]" if length in between else str(length)
        spread = f"({users.low:.0f}-{users.high:.0f})"
        found = f"found {users.value:6.1f} {spread:10s} truth {right:4.0f}  {users.value / right - 1:+.1%}"
        print(f"  {shown:>7s} tokens: {found}", flush=True)
    return sum(each <= NEAR for each in errors), len(errors)


def main(arguments: list[str]) -> None:
    names = [name for name in SERVERS if not arguments[1:] or name in arguments[1:]]
    for name in names:
        near, count = (
            sum(column)
            for column in zip(*(mapped(name, seed) for seed in range(int((arguments or ["3"])[0]))), strict=True)
        )
        print(f"{name}: {near}/{count} lengths within 10 %\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
