"""Runs in virtual time that are compared, by server and seed."""

from __future__ import annotations

from functools import cache

from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.analysis.sides import Side, sides_of
from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.simulator.engine import load_preset

SLO = Slo()
SERVERS = {
    "laptop": (4, 16, 32),
    "laptop past its slots": (16, 32, 48, 64),
    "l4-llama-3.1-8b": (2, 8, 16),
    "rtx4090-llama-3.1-8b": (4, 16, 48),
    "laptop by rate": (2, 4, 6),
}
"""Which loads are driven for a minute each, in order."""


@cache
def measured(server: str, seed: int, slower: float = 1.0) -> Side:
    """The last side of such a run. `slower`: the factor of every step's time."""
    loads = SERVERS[server]
    by_rate = server.endswith(" by rate")
    points = [LoadPoint(rate_rps=float(load)) if by_rate else LoadPoint(concurrency=load) for load in loads]
    session = VirtualSession(load_preset(server.partition(" ")[0]), points[0], seed=seed)
    session.engine.step_time_factor = slower
    for point in points:
        session.command(point)
        session.run_until(session.now_s + 60)
    opinion = assess(session.facts, session.meta, SLO, now_s=session.now_s)
    return sides_of(f"seed {seed}", session.facts, session.meta, SLO, opinion)[-1]


def found_different(told: Compared) -> list[tuple[str, str, Delta]]:
    """(metric, where, delta) of each figure that is said to be better or worse."""
    placed = [(f"at {level.load:g}", delta) for level in told.levels for delta in level.deltas]
    placed += [("over all", delta) for delta in (*told.over_all, told.capacity, told.cliff)]
    wrong = (Verdict.BETTER, Verdict.WORSE)
    return [(delta.metric, where, delta) for where, delta in placed if delta.verdict in wrong]
