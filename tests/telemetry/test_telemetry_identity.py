"""Who answers at one address: the laws of a restart and of replicas that take turns."""

from __future__ import annotations

import itertools
import random

import pytest

from llmtop.telemetry.identity import STAYS, STAYS_BY_COUNTS, TURNS, WITHIN, Answering, Identity
from llmtop.telemetry.signals import START_BLUR_S, PageValues

SAME, UNSURE, RESTARTED, SEVERAL = Answering.SAME, Answering.UNSURE, Answering.RESTARTED, Answering.SEVERAL


def page(tokens: float, start_s: float | None = None) -> PageValues:
    gauges = {} if start_s is None else {"process_start_s": start_s}
    return PageValues(gauges, {"generation_tokens_total": tokens}, {}, {})


def heard(*pages: PageValues | None) -> list[Answering]:
    """What is said of each page; None: a scrape without an answer."""
    who, said = Identity(), []
    for each in pages:
        if each is None:
            who.miss()
        else:
            said.append(who.take(each))
    return said


def in_turn(order: list[int], *, started: bool) -> list[PageValues]:
    """Pages of replicas that answer in this order; each counts on, and all counts differ."""
    counts = {each: 1000.0 * (each + 1) for each in order}
    pages = []
    for each in order:
        counts[each] += 10
        pages.append(page(counts[each], 1e9 + 60 * each if started else None))
    return pages


def turns_of(order: list[int]) -> int:
    """Times that a replica answered once more after another had."""
    seen: set[int] = set()
    count = 0
    for before, after in itertools.pairwise([-1, *order]):
        count += after in seen and after != before
        seen.add(after)
    return count


@pytest.mark.parametrize("start_s", [None, 1e9])
def test_one_server_stays_the_same(start_s: float | None) -> None:
    assert heard(*(page(10.0 * i, start_s) for i in range(50))) == [SAME] * 50


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("before", [1, 2, 30])
def test_a_restart_is_told_once_as_soon_as_the_new_process_has_stayed(started: bool, before: int) -> None:
    stays = STAYS if started else STAYS_BY_COUNTS
    old = [page(1000.0 + i, 1e9 if started else None) for i in range(before)]
    new = [page(3.0 * i, 1e9 + 300 if started else None) for i in range(20)]
    assert heard(*old, *new) == [SAME] * before + [UNSURE] * (stays - 1) + [RESTARTED] + [SAME] * (20 - stays)


@pytest.mark.parametrize("started", [True, False])
def test_a_restart_is_told_at_once_where_nobody_answered_in_between(started: bool) -> None:
    old, new = page(1000.0, 1e9 if started else None), page(0.0, 1e9 + 300 if started else None)
    assert heard(old, None, new, new) == [SAME, RESTARTED, SAME]


def test_each_of_many_restarts_is_one() -> None:
    said = heard(
        *itertools.chain.from_iterable([page(5.0, 1e9 + 60 * n), page(9.0, 1e9 + 60 * n), None] for n in range(9))
    )
    assert said == [SAME, SAME, *[RESTARTED, SAME] * 8]


@pytest.mark.parametrize("seed", range(40))
def test_replicas_with_start_times_are_several_from_the_first_return_in_any_order(seed: int) -> None:
    draw = random.Random(seed)
    order = [draw.randrange(2 + seed % 7) for _ in range(60)]
    who = Identity()
    for number, each in enumerate(in_turn(order, started=True), start=1):
        said = who.take(each)
        seen = set(order[:number])
        assert said is SEVERAL or turns_of(order[:number]) == 0
        if said is SEVERAL:
            assert len(who.starts) == len(seen)


@pytest.mark.parametrize("k", range(2, 9))
def test_replicas_in_turn_without_start_times_are_several_after_they_came_round(k: int) -> None:
    said = heard(*in_turn([*range(k)] * 4, started=False))
    assert RESTARTED not in said
    assert said.index(SEVERAL) < 3 * k + 1
    assert set(said[said.index(SEVERAL) :]) == {SEVERAL}


@pytest.mark.parametrize("seed", range(40))
def test_replicas_in_any_order_make_no_count_fall_and_hardly_a_restart(seed: int) -> None:
    draw = random.Random(seed)
    order = [draw.randrange(2 + seed % 7) for _ in range(60)]
    pages = in_turn(order, started=False)
    said = heard(*pages)
    assert said[-1] is SEVERAL
    assert said.count(RESTARTED) <= 2
    kept = [each.counters["generation_tokens_total"] for each, who in zip(pages, said, strict=True) if who is SAME]
    falls = sum(after < before for before, after in itertools.pairwise(kept))
    assert falls <= said.count(RESTARTED)


def test_turns_that_lie_far_apart_are_no_replicas() -> None:
    once = [page(1000.0), page(5.0), page(1000.0)]
    calm = [page(1000.0)] * (WITHIN - 3)
    assert SEVERAL not in heard(*once, *calm, *once)
    assert heard(*once, *calm[1:], *once)[-1] is SEVERAL
    assert (TURNS, STAYS, STAYS_BY_COUNTS) == (2, 3, 9)


def test_start_times_of_one_process_may_blur() -> None:
    assert heard(page(1.0, 1e9), page(2.0, 1e9 + START_BLUR_S), page(3.0, 1e9)) == [SAME] * 3
    assert heard(page(1.0, 1e9), page(2.0, 1e9 + 0.6), page(3.0, 1e9)) == [SAME, UNSURE, SEVERAL]
