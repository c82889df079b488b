"""Sides: what a run, or a table of levels, brings to a comparison."""

from __future__ import annotations

import numpy as np
from test_analysis_ledger import drive, laptop
from virtual import VirtualSession

from llmtop.analysis import Level, assess
from llmtop.analysis.comparing import WORKLOAD
from llmtop.analysis.sides import side_of_levels, sides_of
from llmtop.domain.profile import HangUp, ModelShare, Workload
from llmtop.domain.slo import Slo
from llmtop.wording.compared import carried_text

SLO = Slo()


def _driven() -> VirtualSession:
    session = drive(laptop(4), (8, 8), (16, 10))
    session.turn(max_num_seqs=12)
    return drive(session, (8, 10), (16, 14))


def test_a_run_has_a_side_for_each_configuration_and_the_last_is_what_its_own_verdict_is_about() -> None:
    session = _driven()
    opinion = assess(session.facts, session.meta, SLO, now_s=session.facts.t_s)
    sides = sides_of("mine", session.facts, session.meta, SLO, opinion)
    assert [(side.part, side.of) for side in sides] == [(0, 2), (1, 2)]
    assert sides[-1].capacity == opinion.capacity
    assert sides[-1].cliff == opinion.cliff
    assert [point.load for point in sides[-1].curve.points] == [point.load for point in opinion.curves[-1].points]
    assert "12" in sides[-1].traits["max_num_seqs"]
    assert sides[0].traits["max_num_seqs"] != sides[1].traits["max_num_seqs"]
    assert sides[0].traits["model"] == sides[1].traits["model"] == "sim"


def test_a_table_has_one_side_in_the_order_of_its_loads() -> None:
    ttft_s = np.full(30, 0.1)
    side = side_of_levels("theirs", [Level(8, ttft_s=ttft_s), Level(2, ttft_s=ttft_s)], SLO, traits={"tool": "theirs"})
    assert [level.load for level in side.levels] == [2, 8]
    assert [point.load for point in side.curve.points] == [2, 8]
    assert side.curve.ghost
    assert side.traits == {"tool": "theirs"}


def test_what_requests_carry_tells_one_workload_from_another() -> None:
    long = '{"system":"' + "x" * 200 + '"}'
    workloads = [
        Workload(),
        Workload(body='{"temperature":0}'),
        Workload(body=long),
        Workload(body=long.replace('x"', 'y"')),
        Workload(stop=("a",)),
        Workload(models=(ModelShare(name="a"), ModelShare(name="b"))),
        Workload(cancel=HangUp(share=0.01, after_s=2.0)),
    ]
    told = [carried_text(workload) for workload in workloads]
    assert len({tuple(each.items()) for each in told}) == len(workloads)
    assert not any(told[0].values())
    assert set(told[0]) <= set(WORKLOAD)
    assert all(len(text) < 100 for each in told for text in each.values())
