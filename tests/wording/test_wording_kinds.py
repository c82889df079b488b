"""Tables by name, model and turn: shown where there is something to compare, and never wider than a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.cli.summary import kind_lines
from llmtop.domain.assessment import Assessment
from llmtop.domain.failures import MOST_NAMES, FailureGroup
from llmtop.domain.kinds import CallFigures, KindFigures, TurnFigures, VisitFigures
from llmtop.domain.request import Outcome
from llmtop.wording import kinds
from llmtop.wording.failures import failure, failure_seen
from llmtop.wording.figures import TEXT, TIGHT

ONE = KindFigures(name="answer", n=1200, ttft_p50_ms=120, ttft_p95_ms=480, tpot_p95_ms=31, e2e_p95_ms=2200, ok=True)
TWO = KindFigures(name="retrieve", n=88, errors=12, error_ratio=0.12, ttft_p95_ms=3520, ok=False, cached_share=0.5)
VISITS = VisitFigures(
    visits=240, failed=4, per_s=1.2, duration_p50_s=8.2, duration_p95_s=12.1, requests=3.0,
    turns=(TurnFigures(turn=1, n=240, ttft_p95_ms=600), TurnFigures(turn=2, n=240), TurnFigures(turn=3, n=240)),
)  # fmt: skip


def test_requests_of_one_kind_are_told_as_they_are_without_names() -> None:
    for told in (Assessment(), Assessment(by_name=(ONE,)), Assessment(by_model=(ONE,))):
        assert kinds.tables(told, TEXT) == ()
        assert kind_lines(told) == []


def test_two_names_are_a_table_with_who_breaks_the_slo() -> None:
    (told,) = kinds.tables(Assessment(by_name=(ONE, TWO)), TEXT, short=True)
    head, answer, retrieve = kinds.as_lines(told)
    assert head.split() == ["By", "name", "n", "errors", "TTFT", "p50", "p95", "TPOT", "p95", "E2E", "p95"]
    assert " ".join(answer.split()) == "answer 1 200 0 120 ms 480 ms 31.0 ms 2.20 s SLO OK"
    assert retrieve.endswith("SLO FAIL")
    assert len({line.index("SLO") for line in (answer, retrieve)}) == 1


def test_a_table_of_a_terminal_has_room_in_80_columns_whatever_the_name() -> None:
    long = KindFigures(
        name="n" * 300, n=99_999, errors=999, ttft_p50_ms=999, ttft_p95_ms=9990, tpot_p95_ms=999, e2e_p95_ms=99_900,
        output_tokens_per_s=12_400, ok=False,
    )  # fmt: skip
    for told in kinds.tables(Assessment(by_name=(ONE, long), by_model=(long, TWO)), TIGHT, short=True):
        assert max(map(len, kinds.as_lines(told))) <= 78


def test_a_name_keeps_16_characters_in_a_summary_and_what_there_is_room_for_on_a_screen() -> None:
    long = KindFigures(name="abcdefghijklmnopqrstuvwxyz", n=1)
    (told,) = kinds.tables(Assessment(by_name=(long, ONE)), TEXT, short=True)
    assert kinds.as_lines(told)[1].startswith("abcdefghijklmno…  ")
    assert kinds.as_lines(told, 94)[1].startswith(f"{long.name}  ")
    assert len(kinds.as_lines(told, 70)[2]) == 70


def test_a_wide_table_has_all_that_is_known() -> None:
    (told,) = kinds.tables(Assessment(by_model=(ONE, TWO)), TEXT)
    assert told.title == "By model"
    assert all(len(row) == len(told.heads) for row in told.rows)
    assert dict(zip(told.heads, told.rows[1], strict=True)) | {"errors": "12 (12.0 %)", "cached": "50.0 %"} == dict(
        zip(told.heads, told.rows[1], strict=True)
    )


@pytest.mark.parametrize(
    ("name", "others", "shown"),
    [("a", 0, "a"), ("", 0, "without a name"), ("", 18, "others (18)"), ("a\n\x1b[31m", 0, "a \\x1b[31m")],
)
def test_a_row_says_whose_it_is(name: str, others: int, shown: str) -> None:
    assert kinds.label(name, others) == shown


def test_turns_and_calls_are_tables_of_their_own() -> None:
    calls = (CallFigures(name="search", n=90, errors=9, p50_ms=12, p95_ms=30),)
    turns, called = kinds.tables(Assessment(sessions=VISITS, calls=calls), TEXT)
    assert [row[0] for row in turns.rows] == ["turn 1", "turn 2", "turn 3 and later"]
    assert called.rows == (("search", "90", "9 (10.0 %)", "12.0 ms", "30.0 ms"),)


@pytest.mark.parametrize(
    ("visits", "said"),
    [
        (VISITS, "240 visits of 3 requests, 1.20 visits/s, 8.20 s each (p95 12.1 s), a request failed in 4 (1.67 %)"),
        (VisitFigures(visits=1, requests=2.0), "1 visit of 2 requests, no request failed"),
        (VisitFigures(), "no visit is whole of those that count"),
    ],
)
def test_visits_are_one_sentence(visits: VisitFigures, said: str) -> None:
    assert kinds.visits(visits) == said


def group(**fields: Any) -> FailureGroup:
    return FailureGroup(outcome=Outcome.HTTP_ERROR, status=500, text="boom", first_s=1.0, last_s=1.0, **fields)


def test_a_failure_says_which_kinds_of_requests_it_met() -> None:
    assert failure(group()) == 'HTTP 500 "boom"'
    assert failure(group(names=("answer", "retrieve"))) == 'HTTP 500 "boom" (answer, retrieve)'
    assert "(answer) ×12" in failure_seen(group(names=("answer",), count=12))
    assert failure(group(names=("a",) * MOST_NAMES)).endswith(", ...)")
