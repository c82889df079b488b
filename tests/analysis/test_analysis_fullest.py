"""A limit on the KV cache is held against the fullest replica: the mean of all hides one that is full."""

from __future__ import annotations

import numpy as np
import pytest
from virtual import VirtualSession

from llmtop.analysis.measured import Ledger
from llmtop.analysis.readings import finished_requests, server_gauges
from llmtop.analysis.sessions import Gauges
from llmtop.analysis.slo import MORE_ROOM, Sample, judge_slo
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

KV = parse_slo("kv<80%")


def gauges_of(*usages: tuple[float | None, ...], seconds: int = 10) -> Gauges:
    """Of a deployment whose replicas use so much, the mean as it is told."""
    snapshots = []
    for t in range(seconds):
        rows = tuple((f"pod-{at}", 1.0, 0.0, each) for at, each in enumerate(usages[t % len(usages)]))
        known = [each for each in usages[t % len(usages)] if each is not None]
        snapshots.append(ServerSnapshot(t_s=float(t + 1), kv_usage=sum(known) / len(known), replicas=rows))
    return server_gauges(Facts.of([FactBatch(t_s=float(seconds), server=tuple(snapshots))]))


def sample_of(gauges: Gauges) -> Sample:
    return Sample.of_window(finished_requests(Facts()), gauges, np.empty(0), 10.0)


@pytest.mark.parametrize(
    ("usages", "ok", "text"),
    [
        ((1.0, 0.6, 0.6, 0.6), False, "100 % at the fullest replica"),
        ((0.79, 0.1), True, "at the fullest replica"),
        ((0.81, 0.1), False, "at the fullest replica"),
        ((0.7, 0.7), True, "70"),
        ((0.9, None), False, "90"),
    ],
)
def test_one_full_replica_breaks_the_limit_however_much_room_the_others_have(
    usages: tuple[float | None, ...], ok: bool, text: str
) -> None:
    verdict = judge_slo(sample_of(gauges_of(usages)), KV)
    (target,) = verdict.targets
    assert target.ok is ok
    assert text in target.text
    known = [each for each in usages if each is not None]
    assert target.value == pytest.approx(max(known))
    assert ("fullest" in target.text) is (max(known) - sum(known) / len(known) > MORE_ROOM)


def test_a_server_alone_is_judged_by_its_own_page() -> None:
    snapshots = tuple(ServerSnapshot(t_s=float(t), kv_usage=0.5) for t in range(1, 9))
    gauges = server_gauges(Facts.of([FactBatch(t_s=9.0, server=snapshots)]))
    assert np.isnan(gauges.kv_fullest).all()
    (target,) = judge_slo(sample_of(gauges), KV).targets
    assert (target.ok, "fullest" in target.text) == (True, False)


def test_replicas_that_come_while_it_is_driven_are_levels_like_others() -> None:
    """At first one is alone and tells of no replicas: what was read then and later is one column all the same."""
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=4))
    ledger = Ledger()
    for count in (4, 8, 16):
        session.command(LoadPoint(concurrency=count))
        for _ in range(12):
            session.run_until(session.now_s + 1)
            pods = tuple((f"pod-{at}", 2.0, 0.0, 0.4) for at in range(2 if count > 4 else 0))
            session.facts.extend(
                FactBatch(t_s=session.now_s, server=(ServerSnapshot(t_s=session.now_s + 0.01, replicas=pods),))
            )
            (curve,) = ledger.curves(session.facts, session.meta, finished_requests(session.facts), session.now_s) or (
                None,
            )
    assert curve is not None
    assert [level.load for level in curve.levels] == [4, 8, 16]
    gauges = server_gauges(session.facts)
    assert {len(getattr(gauges, name)) for name in Gauges.__slots__} == {len(gauges.t_s)}


def test_the_fullest_is_that_of_each_scrape() -> None:
    gauges = gauges_of((0.2, 0.9), (0.8, 0.1), seconds=6)
    assert gauges.kv_fullest.tolist() == [0.9, 0.8] * 3
    assert gauges.pick(np.arange(6) % 2 == 0).kv_fullest.tolist() == [0.9] * 3
