"""Whether the balancer is the limit: one replica queues while another has room; and what each replica carried."""

from __future__ import annotations

import math

import numpy as np
from msgspec import structs

from llmtop.analysis.fits import Array
from llmtop.analysis.sessions import Mask, known_mean
from llmtop.domain.balance import Imbalance, ReplicaFigures, Row
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.meter.facts import Facts
from llmtop.meter.replicas import imbalance, is_uneven
from llmtop.wording.replicas import NO_FLAG_YET, SHARE_OUT, balancer_binds

UNEVEN_S = 30.0
"""How long the load must have been spread unevenly before it is said: one long request is no fault of a balancer's."""
SOON_S, SOON_KNOWN_S = 10.0, 5.0
"""Over so long a look, and from so much of it on, no flag of an engine is advised any more."""
QUEUES = 1.0
"""Mean of the requests that wait from which on a replica queues."""
HAS_ROOM = 0.5
"""Mean of the requests that wait below which one has room."""
_QUEUES = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET)
_HELD = 0.9
"""Share of the time that must be known."""


def replica_figures(facts: Facts) -> tuple[ReplicaFigures, ...]:
    """Means of each replica under load, in the order in which they came; (): there was one alone."""
    table = facts.replicas
    chosen = _under_load(facts, table.column("t_s"))
    return _means(facts, chosen)


def balancer(facts: Facts, at_s: float) -> Imbalance | None:
    """How unevenly the load was spread over the last `UNEVEN_S`, where that is the limit; None: it is not.

    It is where the fullest has `UNEVEN` times the mean or more, requests wait there, and another one has room.
    """
    return _uneven(facts, at_s, UNEVEN_S, _HELD * UNEVEN_S)


def _uneven(facts: Facts, at_s: float, span_s: float, known_s: float) -> Imbalance | None:
    """The same over another span, of which `known_s` must be known."""
    t_s = facts.replicas.column("t_s")
    chosen = (t_s > at_s - span_s) & (t_s <= at_s)
    chosen &= _under_load(facts, t_s)
    if not chosen.any() or np.ptp(t_s[chosen]) < known_s:
        return None
    figures = _means(facts, chosen)
    last = set(facts.replicas.column("replica")[t_s == t_s[chosen][-1]])
    there = [each for each in figures if facts.replica_names.known(each.name) in last]
    found = imbalance(rows_of(there))
    if found is None or not is_uneven(found):
        return None
    queues = any(each.name == found.name and (each.waiting or 0.0) >= QUEUES for each in there)
    room = any(each.name != found.name and (each.waiting or 0.0) < HAS_ROOM for each in there)
    return found if queues and room else None


def with_balancer(diagnosis: Diagnosis, facts: Facts, at_s: float) -> Diagnosis:
    """What binds, and before all other evidence that the balancer does: no flag of an engine helps a queue then.

    None is advised as soon as the load is spread unevenly, long before that is said to be the balancer's.
    """
    found = balancer(facts, at_s)
    uneven = found is not None or _uneven(facts, at_s, SOON_S, SOON_KNOWN_S) is not None
    if uneven and diagnosis.bound in _QUEUES:
        diagnosis = structs.replace(diagnosis, advice=NO_FLAG_YET if found is None else SHARE_OUT, prediction=None)
    if found is None:
        return diagnosis
    return structs.replace(diagnosis, evidence=(balancer_binds(found.name, found.ratio), *diagnosis.evidence))


def rows_of(figures: list[ReplicaFigures] | tuple[ReplicaFigures, ...]) -> list[Row]:
    return [(each.name, each.running, each.waiting, each.kv_usage) for each in figures]


def _means(facts: Facts, chosen: Mask) -> tuple[ReplicaFigures, ...]:
    table = facts.replicas
    codes = table.column("replica")[chosen]
    found = []
    for code in np.unique(codes[codes >= 0]):
        own = codes == code
        means = {name: known_mean(table.column(name)[chosen][own]) for name in ("running", "waiting", "kv_usage")}
        found.append(ReplicaFigures(name=facts.replica_names.texts[int(code)], scrapes=int(own.sum()), **means))
    return tuple(found)


def _under_load(facts: Facts, t_s: Array) -> Mask:
    """Of instants, whether a load was commanded then."""
    changed_s = np.array([-math.inf, *(change.t_s for change in facts.changes)])
    loads = np.array([0.0, *(change.point.value for change in facts.changes)])
    return np.asarray(loads[np.searchsorted(changed_s, t_s, side="right") - 1] > 0)
