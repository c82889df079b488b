"""Users who think between two requests: a load is their number, and all of Little's law is about them."""

from __future__ import annotations

import pytest
from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Kind
from llmtop.simulator.engine import load_preset

LOADS = (8, 16, 24, 32, 48, 64, 80)


def driven(think_s: float) -> Assessment:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=LOADS[0], think_time_s=think_s), seed=2)
    for i, users in enumerate(LOADS):
        session.command(LoadPoint(concurrency=users, think_time_s=think_s))
        session.run_until(16.0 * (i + 1))
    return assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)


@pytest.mark.parametrize("think_s", [0.5, 2.0])
def test_levels_bear_the_users_and_the_cliff_is_where_their_requests_fill_the_slots(think_s: float) -> None:
    found = driven(think_s)
    points = found.curves[-1].points
    assert {point.load for point in points} <= set(LOADS)
    most = max(point.requests_per_s or 0.0 for point in points if point.load > 48)
    assert (found.cliff.kind, found.cliff.cause) == (Kind.CLIFF, Bound.QUEUE)
    assert found.cliff.at == pytest.approx(32 + most * think_s, rel=0.1), "32 slots, and who thinks meanwhile"
    assert not any("delivered" in text for text in found.cliff.evidence)


def test_what_the_server_runs_at_once_is_no_number_of_users_who_think() -> None:
    found = driven(2.0)
    assert found.capacity.limited_by != "max_num_seqs"
    assert found.capacity.knee == found.cliff.at
    assert found.capacity.fails_at is not None
    assert found.capacity.fails_at > 48, "more users than are in flight"
    assert found.diagnosis.prediction is None
    assert "to about" not in str(found.diagnosis.advice), "no number of slots is told in users"
