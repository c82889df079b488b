"""How unevenly replicas are loaded: one pure function, for a scrape, a window and a whole run alike."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.balance import Imbalance, Row

UNEVEN = 1.5
"""Max over mean of running + waiting from which on the load is spread unevenly enough to say so. Two replicas that are
chosen at random with 16 requests in flight differ by less in 9 of 10 scrapes."""
LEAST = 2.0
"""Mean load from which on the spread tells of the balancer: of fewer requests one has to be somewhere."""


def imbalance(rows: Sequence[Row]) -> Imbalance | None:
    """Max over mean of the loads, with the name of the fullest; None: fewer than two are there, or nothing runs."""
    loads = [(running + (waiting or 0.0), name) for name, running, waiting, _ in rows if running is not None]
    total = sum(load for load, _ in loads)
    if len(loads) < 2 or total <= 0:
        return None
    most, name = max(loads, key=lambda each: each[0])
    mean = total / len(loads)
    return Imbalance(name, most / mean, mean)


def is_uneven(found: Imbalance | None) -> bool:
    """Whether it is worth a word."""
    return found is not None and found.ratio >= UNEVEN and found.mean >= LEAST
