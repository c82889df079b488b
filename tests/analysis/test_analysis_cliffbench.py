"""The labelled curves and sessions: the score table, against the least that is asked of it."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
from cliffbench import SESSIONS, Case, cases, score, session

from llmtop.analysis import assess_levels, judge
from llmtop.analysis.sessions import session_levels
from llmtop.domain.verdicts import CliffVerdict, Kind


@pytest.fixture(scope="module")
def judged() -> list[tuple[Case, CliffVerdict]]:
    return [
        (case, judge(case.levels, axis=case.truth["axis"], metric=case.truth["metric"], replicates=60))
        for case in cases()
    ]


def test_curves_score_what_is_asked(
    judged: list[tuple[Case, CliffVerdict]], capsys: pytest.CaptureFixture[str]
) -> None:
    result = score(judged)
    with capsys.disabled():
        print("\n" + "  ".join(f"{name} {value:.3g}" for name, value in asdict(result).items()))
    assert result.hard_level >= 0.95
    assert result.hard_10 >= 0.85
    assert result.hard_25 >= 0.93
    assert result.soft >= 0.80
    assert result.covered >= 0.85
    assert result.false_cliffs <= result.nulls // 30
    assert result.cause >= 0.95
    real = [(case, verdict) for case, verdict in judged if case.truth["set"] == "real"]
    assert all(v.kind is Kind.CLIFF for case, v in real if case.kind == "hard"), "a published cliff was missed"


@pytest.mark.parametrize("until_s", [90.0, 120.0, 180.0, math.inf])
@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_find_their_knee_from_90_s_on(name, until_s):
    knee = SESSIONS[name]
    if until_s == math.inf:
        until_s = float(session(name, math.inf)[0].sent_s[-1])
    requests, in_flight, gauges, waiting_s = session(name, until_s)
    levels = session_levels(requests, in_flight, gauges=gauges, censored_s=waiting_s, now_s=until_s)
    verdict = judge(levels, replicates=40)
    if knee is None:
        assert verdict.kind is Kind.NONE
        assert verdict.at is None
    else:
        assert verdict.kind is Kind.CLIFF
        assert verdict.at == pytest.approx(knee, rel=0.10)
        assert verdict.low <= knee <= verdict.high


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_say_when_they_know_too_little(name):
    requests, in_flight, gauges, _ = session(name, 30.0)
    verdict = judge(session_levels(requests, in_flight, gauges=gauges))
    assert verdict.kind is Kind.INSUFFICIENT
    assert verdict.next_levels


def test_the_highest_level_is_never_the_cliff(judged: list[tuple[Case, CliffVerdict]]) -> None:
    for case, verdict in judged:
        if verdict.kind is Kind.CLIFF:
            assert verdict.at < max(level.load for level in case.levels)


def test_a_table_is_assessed_with_sentence_and_evidence():
    case = next(case for case in cases() if case.name == "cap_s7_0")
    found = assess_levels(case.levels)
    assert found.cliff.kind is Kind.CLIFF
    assert found.cliff.cause == "queue"
    assert "max_num_seqs suspected" in " ".join(found.cliff.evidence)
    assert found.headline.count(" · ") >= 1
    assert "concurrent users" in found.capacity.sentence
    assert {(v.metric, v.stat) for v in found.cliffs} == {("ttft", "p50"), ("tpot", "p50"), ("e2e", "p50")}
    assert found == assess_levels(case.levels), "the same table gives the same answer"
