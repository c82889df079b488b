"""The client's own gate as judgements see it: what it holds back is the queue of a server with so many slots.

A gate of M lets M requests through at once, so that the server shows M running and none waiting, whatever the load.
Everything that judges counts those before the gate among the waiting, and the gate among the walls.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.meter.facts import Facts


def gates_at(facts: Facts, t_s: Array) -> Array:
    """What the gate let through at once at each instant; inf where none stood, and before any load."""
    changes = tuple(facts.changes)  # they may become more in another thread meanwhile
    if all(change.point.gate is None for change in changes):
        return np.full(len(t_s), np.inf)
    gates = [np.inf, *(np.inf if change.point.gate is None else change.point.gate for change in changes)]
    changed_s = [change.t_s for change in changes]
    return np.array(gates)[np.searchsorted(changed_s, t_s, side="right")]


def configured_s(facts: Facts, now_s: float = math.inf) -> float:
    """Since when, as known at `now_s`, the server and the gate before it are what they are; -inf: ever since.

    A request that began before has waited at another gate, or for another server. While no load is commanded nobody
    comes to the gate: what stood then is none.
    """
    turned_s = [chapter.t_s for chapter in tuple(facts.chapters) if chapter.t_s <= now_s]
    loaded = [change for change in tuple(facts.changes) if change.t_s <= now_s and change.point.value > 0]
    moved_s = [after.t_s for before, after in itertools.pairwise(loaded) if before.point.gate != after.point.gate]
    return max([*turned_s, *moved_s], default=-math.inf)


def at_gate(facts: Facts, t_s: Array) -> Array:
    """Requests that waited at the gate at each instant: those in flight beyond what it let through."""
    gates = gates_at(facts, t_s)
    bins_s, in_flight = np.array(facts.bins.column("t_s")), np.array(facts.bins.column("in_flight"))
    if len(bins_s) == 0 or not np.isfinite(gates).any():
        return np.zeros(len(t_s))
    return np.asarray(np.maximum(0.0, np.interp(t_s, bins_s, in_flight[: len(bins_s)]) - gates))
