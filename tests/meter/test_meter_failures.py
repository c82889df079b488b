"""Failures in groups: alike but for numbers and ids is one, the count is whole, and the size is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.meter.failures import MOST_GROUPS, SHOWN_CHARACTERS, failures_of, folded
from llmtop.wording.failures import all_failed, failure, failure_seen


def failed(
    error: str | None,
    at_s: float = 1.0,
    *,
    outcome: Outcome = Outcome.HTTP_ERROR,
    status: int | None = 429,
    wait_s: float | None = None,
) -> RequestRecord:
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=0,
        sent_ns=0,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None,
        first_answer_ns=None,
        last_token_ns=None,
        end_ns=round(at_s * 1e9),
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=1,
        prompt_tokens=1,
        output_tokens=0,
        outcome=outcome,
        status=status,
        error=error,
        retry_after_s=wait_s,
    )


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("request 123 failed", "request 124 failed"),
        ("request req_8Xk2a1 failed", "request req_9Yp7b failed"),
        ("id 0f6c8c1e-7f8e-4b6e-9b56-2c1a6f3a5d10: busy", "id 3c2a9d0e-1111-4b6e-9b56-000000000001: busy"),
        ("wait 1.5s", "wait 20s"),
        ("1200 tokens > 1024", "99 tokens > 1024"),
    ],
)
def test_texts_that_differ_in_numbers_and_ids_are_one_group(one: str, another: str) -> None:
    (group,) = failures_of([failed(one, 3.0), failed(another, 41.0)]).groups()
    assert (group.text, group.count, group.first_s, group.last_s) == (one, 2, 3.0, 41.0)


def test_another_text_status_or_outcome_is_another_group_and_the_most_frequent_comes_first() -> None:
    tally = failures_of(
        [
            failed("slow down"),
            failed("slow down", status=503),
            failed("go away"),
            failed("slow down", outcome=Outcome.STREAM_ERROR, status=200),
            failed("slow down", 9.0),
            failed(None, outcome=Outcome.OK, status=200),
            failed(None, outcome=Outcome.CANCELLED, status=None),
        ]
    )
    assert [(group.status, group.text, group.count) for group in tally.groups()] == [
        (429, "slow down", 2),
        (503, "slow down", 1),
        (429, "go away", 1),
        (200, "slow down", 1),
    ]
    assert tally.statuses == (429, 503)


@given(texts=st.lists(st.text(max_size=12), max_size=60))
def test_no_failure_is_lost_and_the_groups_are_few(texts: list[str]) -> None:
    groups = failures_of(map(failed, texts)).groups()
    assert sum(group.count for group in groups) == len(texts)
    assert len(groups) <= MOST_GROUPS + 1
    assert all(group.outcome is not None for group in groups[:MOST_GROUPS])


def test_a_server_that_says_something_else_each_time_costs_no_more_and_shows_no_more() -> None:
    words = ("".join(chr(97 + int(digit)) for digit in str(number)) for number in range(5000))
    tally = failures_of(failed(f"{word} {'x' * 1000}") for word in words)
    *told, others = tally.groups()
    assert len(told) == MOST_GROUPS
    assert others.outcome is None
    assert sum(group.count for group in told) + others.count == 5000
    assert all(len(group.text) <= SHOWN_CHARACTERS for group in told)
    assert failure(others) == "failures of other kinds"


@pytest.mark.parametrize("piece", ["a", "1", "-", "a1-", " ", "…"])
def test_a_text_is_folded_in_one_pass(piece: str) -> None:
    assert len(folded(piece * 200_000)) <= 200_000 * len(piece)


def test_a_group_is_told_with_status_words_count_times_and_the_wait() -> None:
    (group,) = failures_of(failed("slow down please", at_s, wait_s=at_s / 10) for at_s in (3.0, 20.0, 41.0)).groups()
    assert failure(group) == 'HTTP 429 "slow down please", the server asks to wait 4.1 s'
    told = 'HTTP 429 "slow down please" ×3, first 00:03, last 00:41, the server asks to wait 4.1 s'
    assert failure_seen(group) == told
    assert all_failed([group]) == f"all 3 requests failed: {failure(group)}"
    (nobody,) = failures_of([failed("connection refused", status=None)]).groups()
    assert failure_seen(nobody) == 'no answer "connection refused" ×1, at 00:01'
    (late,) = failures_of([failed(None, outcome=Outcome.TIMEOUT, status=None)]).groups()
    assert all_failed([late]) == "the one request failed: timeout"
    assert all_failed([group, late]) == f"all 4 requests failed, most often: {failure(group)}"
    assert all_failed([]) == "all requests failed"


def test_a_group_says_what_its_requests_were_called_up_to_a_few() -> None:
    answers = [replace(failed("boom"), name=name) for name in ("answer", "search", "answer", None)]
    many = [replace(failed("full", status=503), name=f"n{place}") for place in range(50)]
    boom, full = sorted(failures_of([*answers, *many]).groups(), key=lambda group: group.text)
    assert boom.names == ("answer", "search")
    assert full.names == ("n0", "n1", "n2", "n3")
