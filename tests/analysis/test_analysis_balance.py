"""Whether the balancer is the limit, and what each replica carried."""

from __future__ import annotations

import pytest

from llmtop.analysis.balance import HAS_ROOM, QUEUES, UNEVEN_S, balancer, replica_figures, with_balancer
from llmtop.domain.balance import Row
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.meter.facts import Facts
from llmtop.wording.replicas import NO_FLAG_YET, balancer_of

LOAD = LoadPoint(concurrency=16)
FULL: Row = ("pod-2", 8, 6, 0.9)
FREE: Row = ("pod-1", 4, 0, 0.2)


def facts_of(*spans: tuple[float, tuple[Row, ...]], load_from_s: float = 0.0) -> Facts:
    """Scrapes once a second; each span until a time, with its rows."""
    snapshots, t_s = [], 0.0
    for until_s, rows in spans:
        while t_s < until_s:
            t_s += 1.0
            snapshots.append(ServerSnapshot(t_s=t_s, replicas=rows))
    changes = (LoadChange(load_from_s, LOAD),)
    return Facts.of([FactBatch(t_s=t_s, server=tuple(snapshots), changes=changes)])


def test_one_queues_while_another_has_room_for_half_a_minute_and_the_balancer_is_the_limit() -> None:
    assert (UNEVEN_S, QUEUES, HAS_ROOM) == (30.0, 1.0, 0.5)
    facts = facts_of((40.0, (FREE, FULL)))
    found = balancer(facts, 40.0)
    assert found is not None
    assert (found.name, found.ratio) == ("pod-2", pytest.approx(14 / 9))
    told = with_balancer(Diagnosis(bound=Bound.QUEUE, evidence=("waiting 6",)), facts, 40.0)
    assert told.evidence == ("pod-2 has 1.6 x the mean: the balancer, not the engine, is the limit", "waiting 6")
    assert told.bound is Bound.QUEUE
    assert (told.advice or "").startswith("have the balancer share out"), "no flag of an engine helps"
    other = with_balancer(Diagnosis(bound=Bound.CLIENT, advice="lower the load"), facts, 40.0)
    assert (other.advice, len(other.evidence)) == ("lower the load", 1)
    assert balancer_of(told.evidence) == told.evidence[0]
    assert balancer_of(("waiting 6",)) == ""


@pytest.mark.parametrize(
    ("spans", "flag"),
    [
        (((5.0, (FREE, FULL)),), True),
        (((6.0, (FREE, FULL)),), False),
        (((20.0, (FREE, FULL)),), False),
        (((20.0, (FREE, FULL)), (30.0, (FULL, ("pod-1", 8, 6, 0.9)))), True),
        (((20.0, (("pod-1", 4, 0, None), ("pod-2", 14, 0, None))),), True),
    ],
    ids=["too short to tell", "soon", "not yet the balancer's", "even by now", "none queues"],
)
def test_no_flag_is_advised_as_soon_as_one_queues_while_another_has_room(
    spans: tuple[tuple[float, tuple[Row, ...]], ...], flag: bool
) -> None:
    before = Diagnosis(bound=Bound.QUEUE, evidence=("waiting 6",), advice="raise --max-num-seqs")
    at_s = spans[-1][0]
    told = with_balancer(before, facts_of(*spans), at_s)
    assert told.evidence == ("waiting 6",), "that the balancer is the limit takes half a minute"
    assert told.advice == ("raise --max-num-seqs" if flag else NO_FLAG_YET)


@pytest.mark.parametrize(
    ("rows", "uneven_s"),
    [
        ((FREE, FULL), 25.0),
        ((("pod-1", 5, 0, None), ("pod-2", 8, 6, None)), 40.0),
        ((("pod-1", 4, 0, None), ("pod-2", 14, 0, None)), 40.0),
        ((("pod-1", 3, 1, None), ("pod-2", 8, 6, None)), 40.0),
        ((FULL,), 40.0),
        ((FULL, ("pod-1", None, None, None)), 40.0),
    ],
    ids=["too short", "1.47 x", "no queue", "no room", "alone", "the other has gone"],
)
def test_otherwise_it_is_not(rows: tuple[Row, ...], uneven_s: float) -> None:
    assert balancer(facts_of((uneven_s, rows)), uneven_s) is None


def test_a_single_half_minute_is_judged_by_its_means() -> None:
    """Ups and downs of both sides even out: that is a load that is spread well."""
    other = (("pod-1", 8, 6, None), ("pod-2", 4, 0, None))
    spans = [(float(end), (FREE, FULL) if end % 2 else other) for end in range(1, 41)]
    assert balancer(facts_of(*spans), 40.0) is None


def test_without_load_nothing_is_said() -> None:
    assert balancer(facts_of((40.0, (FREE, FULL)), load_from_s=20.0), 40.0) is None


def test_one_that_has_gone_is_no_room() -> None:
    gone = (FULL, ("pod-1", None, None, None), ("pod-3", 8, 5, None))
    both = (FULL, FREE, ("pod-3", 8, 5, None))
    assert balancer(facts_of((39.0, both), (40.0, gone)), 40.0) is None


def test_figures_are_means_under_load_while_it_was_there() -> None:
    early: tuple[Row, ...] = (("a", 100, 100, 1.0), ("b", 100, 100, 1.0))
    one: tuple[Row, ...] = (("a", 2, 0, 0.5), ("b", None, None, None))
    both: tuple[Row, ...] = (("a", 4, 2, None), ("b", 6, 4, 0.75))
    facts = facts_of((9.0, early), (19.0, one), (29.0, both), load_from_s=9.5)
    a, b = replica_figures(facts)
    assert (a.name, a.scrapes, a.running, a.waiting, a.kv_usage) == ("a", 20, 3.0, 1.0, 0.5)
    assert (b.name, b.scrapes, b.running, b.waiting, b.kv_usage) == ("b", 10, 6.0, 4.0, 0.75)
    assert replica_figures(facts_of((9.0, ()))) == ()
