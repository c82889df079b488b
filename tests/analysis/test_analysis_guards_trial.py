"""One level of a search: what it may say, and from how many requests on."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import facts_of, record

from llmtop.analysis.trial import Trial, statistic
from llmtop.domain.request import Outcome
from llmtop.domain.samples import LoadBin
from llmtop.domain.slo import Slo, parse_slo
from llmtop.meter.facts import Facts

TTFT = parse_slo("ttft_p95<2s")
TPOT = parse_slo("tpot_p95<50ms")


def judged(slo: Slo = TTFT, quick: bool = True, **more: object) -> tuple[str, ...] | None:
    """What a warm level of 8 says with these samples."""
    known = {"warm_s": 1.0, "requests_per_s": 4.0}
    return Trial(load=8, before=4, start_s=0.0, **{**known, **more}).failed(slo, quick)


def ttfts(n: int, slow: int = 0) -> np.ndarray:
    return np.append(np.full(n - slow, 0.5), np.full(slow, 9.0))


@pytest.mark.parametrize(
    ("n", "slow", "answer"),
    [
        (14, 0, None),
        (15, 0, ()),
        (15, 1, None),
        (29, 2, None),
        (30, 2, ()),
        (20, 1, ()),
        (15, 3, None),
        (15, 4, ("ttft_p95",)),
        (20, 4, None),
    ],
)
def test_a_quick_answer_is_clear_or_waits_for_thirty(n: int, slow: int, answer: tuple[str, ...] | None) -> None:
    assert judged(ttft_s=ttfts(n, slow)) == answer


def test_a_confirmed_answer_is_walds() -> None:
    assert judged(quick=False, ttft_s=ttfts(55)) is None
    assert judged(quick=False, ttft_s=ttfts(56)) == ()
    assert judged(quick=False, ttft_s=ttfts(30, 20)) == ("ttft_p95",)


def test_nothing_is_said_before_the_level_is_warm_and_its_rate_is_known() -> None:
    assert judged(ttft_s=ttfts(15)) == ()
    assert judged(ttft_s=ttfts(15), warm_s=None) is None
    assert judged(ttft_s=ttfts(15), requests_per_s=None) is None


def test_a_standing_queue_fails_at_once_if_ttft_has_a_limit() -> None:
    assert judged(standing=True, warm_s=None) == ("ttft_p95",)
    assert judged(TPOT, standing=True, warm_s=None) is None


@pytest.mark.parametrize(("errors", "failed"), [(4, True), (3, False), (0, False)])
def test_four_errors_past_their_limit_fail_before_anything_is_warm(errors: int, failed: bool) -> None:
    slo = parse_slo("ttft_p95<2s,error_ratio<1%")
    answer = judged(slo, errors=errors, ended=10, warm_s=None)
    assert answer == (("error_ratio",) if failed else None)
    assert judged(slo, errors=4, ended=396, warm_s=None) is None, "one percent"


def test_tpot_far_below_its_limit_needs_no_ended_request() -> None:
    assert judged(TPOT, tpot_mean_s=0.0357) == ()
    assert judged(TPOT, tpot_mean_s=0.0358) is None
    assert judged(TPOT, tpot_mean_s=0.01, tpot_s=np.append(np.full(8, 0.01), 0.06)) is None, "1 of 9 missed"
    assert judged(TTFT, tpot_mean_s=0.01) is None


def test_answers_of_one_token_pass_a_limit_on_tpot() -> None:
    assert judged(TPOT, ended=15) == ()
    assert judged(TPOT, ended=14) is None
    assert judged(TPOT, ended=15, tpot_s=np.full(15, 0.09)) == ("tpot_p95",), "these have one"


def test_a_level_with_a_queue_borrows_tpot_from_those_that_serve_as_many() -> None:
    target = TPOT.targets[0]
    pool = ((7.0, np.full(9, 0.03)), (9.0, np.full(5, 0.04)))

    def borrowed(in_service: float, load: int = 8) -> int:
        return len(Trial(load=load, before=4, start_s=0.0, pool=pool, in_service=in_service).values(target))

    assert borrowed(7.0) == 9
    assert borrowed(6.75) == 9, "4 % off"
    assert borrowed(6.7) == 0
    assert borrowed(7.0, load=7) == 0, "no queue"
    assert borrowed(9.0, load=16) == 5


@pytest.mark.parametrize(
    ("values", "quick", "answer"),
    [
        (np.full(14, 1.0), True, None),
        (np.full(15, 1.0), True, ()),
        (np.full(15, 3.0), True, ("ttft_mean",)),
        (np.tile([1.0, 2.9], 20), False, None),
        (np.tile([1.0, 2.9], 20), True, ()),
        (np.tile([1.0, 2.9], 100), False, ()),
        (np.tile([1.0, 1.6], 20), False, ()),
    ],
)
def test_a_mean_is_clear_off_its_limit_or_waits(
    values: np.ndarray, quick: bool, answer: tuple[str, ...] | None
) -> None:
    assert judged(parse_slo("ttft_mean<2s"), quick, ttft_s=values) == answer


@pytest.mark.parametrize(
    ("limit", "answer"), [("2.2s", None), ("2.26s", ()), ("1.7s", None), ("1.64s", ("ttft_mean",))]
)
def test_a_mean_is_clear_past_its_95_percent_interval(limit: str, answer: tuple[str, ...] | None) -> None:
    """Forty values of mean 1.95 and standard deviation 0.95: 0.29 to either side."""
    values = np.tile([1.0, 2.9], 20)
    assert judged(parse_slo(f"ttft_mean<{limit}"), False, ttft_s=values) == answer


def test_how_far_a_level_is_from_the_one_before() -> None:
    assert Trial(load=8, before=4, start_s=0.0).moved == 0.5
    assert Trial(load=4, before=8, start_s=0.0).moved == 0.5


def test_the_statistic_of_a_limit() -> None:
    assert statistic([], "p95") is None
    assert statistic([1.0, 2.0, 6.0], "mean") == 3.0
    assert statistic(np.arange(101.0), "p90") == pytest.approx(90.0)


# -- what a level sees of the facts -----------------------------------------------------------------------------------


def seen(bins: list[dict[str, float]], trial: Trial, slo: Slo = TTFT, **more: object) -> Trial:
    """The trial after bins of a second; missing fields are calm."""
    calm = {"span_s": 1.0, "target": float(trial.load), "in_flight": trial.load, "sent": 1, "ok": 1}
    rows = [LoadBin(t_s=i + 1.0, **{**calm, "output_tokens": 10, **row}) for i, row in enumerate(bins)]
    trial.watch(facts_of(bins=rows, **more), slo, float(len(bins)))
    return trial


def lone(load: int = 8, before: int = 4, **more: object) -> Trial:
    return Trial(load=load, before=before, start_s=0.5, **more)


@pytest.mark.parametrize(("load", "there", "arrived"), [(8, 7, True), (8, 6, False), (100, 97, True), (100, 96, False)])
def test_a_level_has_arrived_within_one_or_three_percent(load: int, there: int, arrived: bool) -> None:
    assert (seen([{"in_flight": there}], lone(load)).arrived_s is not None) is arrived


def test_requests_sent_since_it_was_asked_for_are_counted() -> None:
    assert seen([{"sent": 5}, {"sent": 3}], Trial(8, 4, start_s=1.0)).sent == 3


def test_a_level_is_warm_once_those_who_came_have_their_first_token_and_enough_have_ended() -> None:
    still = [{}, {"prefilling": 2, "oldest_prefill_s": 1.0}, {"prefilling": 2, "oldest_prefill_s": 2.0}]
    assert seen(still, lone()).warm_s is None
    assert seen([*still, {"prefilling": 1, "oldest_prefill_s": 2.5}], lone()).warm_s == 4.0
    assert seen([{}, {}], lone()).warm_s == 2.0
    ended = [record(t, e2e_s=0.5) for t in (1.0, 2.0)]
    assert seen([{}, {}, {}], lone(warm_up=3), requests=ended).warm_s is None
    assert seen([{}, {}, {}], lone(warm_up=2), requests=ended).warm_s == 2.5


def rates(bins: list[dict[str, float]], **more: object) -> Trial:
    return seen(bins, lone(**more), requests=[record(float(i), e2e_s=0.5, tokens=10) for i in range(len(bins))])


def test_rates_are_those_of_the_last_seconds() -> None:
    old, new = {"output_tokens": 100}, {"output_tokens": 40, "prefilling": 2}
    found = rates([{}, {}, old, old, new, new, new])
    assert found.requests_per_s == pytest.approx(4.0)
    assert found.in_service == pytest.approx(6.0)
    assert found.tpot_mean_s == pytest.approx(6.0 / 40)
    assert found.ttft_mean_s == pytest.approx(2 / 4.0)
    wide = rates([{}, {}, old, old, new, new, new], usual_s=4.5)
    assert wide.requests_per_s == pytest.approx(6.4), "five bins past 2.5 s"


def standing(*rows: tuple[int, float], load: int = 10, limit_s: float = 2.0) -> bool:
    """(waiting, age of the oldest) at each second of a level."""
    bins = [{"prefilling": waiting, "oldest_prefill_s": oldest} for waiting, oldest in rows]
    return seen(bins, lone(load), parse_slo(f"ttft_p95<{limit_s}s")).standing


def test_a_queue_stands_if_it_is_long_and_old_and_does_not_shrink() -> None:
    assert standing((3, 1.0), (3, 2.0), (3, 2.5))
    assert not standing((3, 1.0), (3, 2.0), (3, 2.3)), "not 1.2 times the limit"
    assert not standing((3, 1.0), (2, 2.0), (2, 2.5)), "two wait"
    assert not standing((9, 1.0), (9, 2.0), (8, 2.5)), "it shrinks"
    assert not standing((3, 1.0), (3, 2.5)), "the limit has not passed since it arrived"
    assert not standing((4, 1.0), (4, 2.0), (4, 2.5), load=50), "a tenth of the load"
    assert standing((5, 1.0), (5, 2.0), (5, 2.5), load=50)


def test_whether_a_queue_shrinks_is_seen_over_half_its_limit_but_a_second_at_least() -> None:
    before = [(10, float(i)) for i in range(1, 7)]
    assert not standing(*before, (10, 7.0), (8, 7.1), (8, 7.2), (8, 7.3), limit_s=6.0), "10 three seconds ago"
    assert standing(*before, (8, 7.0), (8, 7.1), (8, 7.2), (8, 7.3), limit_s=6.0)
    assert not standing((10, 1.0), (10, 1.2), (8, 1.3), limit_s=1.0), "10 a second ago"
    assert standing((10, 1.0), (9, 1.2), (9, 1.3), limit_s=1.0)


def ended_at(moved_from: int, sent_s: list[float], **more: object) -> Trial:
    bins: list[dict[str, float]] = [{} for _ in range(12)]
    requests = [record(t, e2e_s=4.0, ttft_s=0.1 + t / 100) for t in sent_s]
    return seen(bins, lone(before=moved_from), requests=requests, **more)


def test_a_request_counts_if_it_lived_here_long_enough() -> None:
    """Warm at 2 s: a request of 4 s needs 90 % of its life after that if the level is far from the one before."""
    assert ended_at(4, [1.5, 1.7, 3.0]).ended == 2
    assert ended_at(8, [0.0, 1.7, 3.0]).ended == 3, "the same load: any"
    assert len(ended_at(4, [1.7, 3.0]).e2e_s) == 2


@pytest.mark.parametrize(
    ("load", "before", "e2e_s", "counts"),
    [(100, 85, 20.0, True), (100, 85, 19.0, False), (200, 185, 3.7, True), (200, 185, 3.6, False)],
    ids=["far", "far, too short", "half as far", "half as far, too short"],
)
def test_a_level_is_far_from_fifteen_percent_on_and_less_is_asked_below(
    load: int, before: int, e2e_s: float, counts: bool
) -> None:
    """Sent at 0 s and warm at 2 s: 90 % of its life here are 18 of 20 s, 45 % are 1.7 of 3.7 s."""
    found = seen([{} for _ in range(21)], lone(load, before), requests=[record(0.0, e2e_s=e2e_s)])
    assert (found.ended == 1) is counts


@pytest.mark.parametrize(("count", "known"), [(4, False), (5, True)])
def test_rates_are_taken_over_three_bins_of_a_warm_level(count: int, known: bool) -> None:
    bins = [
        LoadBin(t_s=0.25 * (i + 1), span_s=0.25, target=8.0, in_flight=8, sent=1, output_tokens=10)
        for i in range(count)
    ]
    trial = Trial(load=8, before=4, start_s=0.0)
    trial.watch(facts_of(bins=bins, requests=[record(0.1, e2e_s=0.1)]), TTFT, 0.25 * count)
    assert trial.warm_s == 0.5
    assert (trial.requests_per_s is not None) is known


def test_errors_count_and_what_the_client_held_up_does_not() -> None:
    requests = [
        record(3.0, outcome=Outcome.TIMEOUT),
        record(3.0, outcome=Outcome.TIMEOUT, client_limited=True),
        record(3.0, client_limited=True),
        record(3.0),
    ]
    found = seen([{} for _ in range(6)], lone(), requests=requests)
    assert (found.errors, found.ended) == (1, 1)


def test_what_ended_as_the_level_came_belongs_to_the_one_before() -> None:
    for end_s, errors in ((1.0, 0), (1.01, 1)):
        failed = [record(0.0, e2e_s=end_s, outcome=Outcome.TIMEOUT)]
        assert seen([{}, {}, {}], lone(), requests=failed).errors == errors


def first_tokens(bins: list[dict[str, float]], limit: str = "ttft_p95<20s") -> list[float]:
    ok = [record(0.0, e2e_s=0.5, tokens=10)]
    rows = [{}, {}, *bins]
    return seen(rows, lone(), parse_slo(limit), requests=ok).ttft_s.round(3).tolist()


def test_first_tokens_are_read_from_the_bins() -> None:
    """Those that leave the queue in a bin are its oldest: as old as a bin ago, and half a gap between two of them."""
    queue = {"prefilling": 4, "oldest_prefill_s": 0.5}
    assert first_tokens([queue | {"sent": 4}, queue | {"sent": 2}])[-2:] == [0.75, 0.75]
    assert first_tokens([queue | {"sent": 4}, queue | {"sent": 3, "errors": 2}])[-1:] == [1.0]
    for oldest_s, age_s in ((0.9, 1.4), (2.0, 0.5)):  # by Little's law one that waits of two a second waits 0.5 s
        slow = {"prefilling": 1, "oldest_prefill_s": oldest_s, "sent": 1, "output_tokens": 20}
        assert first_tokens([slow] * 6)[-1] == age_s, "past twice that and half a second they are not served in order"
    emptied = [queue | {"sent": 4}, {"sent": 3}]
    assert first_tokens(emptied) == [0.571] * 7
    assert first_tokens(emptied, limit="ttft_p95<4s") == [0.571] * 7
    assert first_tokens(emptied, limit="ttft_p95<3s") == [], "a limit of three bins is judged by ended requests"


def test_a_search_of_nothing_sees_nothing() -> None:
    trial = lone()
    trial.watch(Facts(), TTFT, 1.0)
    assert (trial.arrived_s, trial.sent, trial.ended, trial.errors) == (None, 0, 0, 0)


def test_of_embeddings_the_rate_is_that_of_answers_and_all_in_flight_is_in_service() -> None:
    bins = [{"ok": 3, "output_tokens": 0, "prefilling": 8, "oldest_prefill_s": 0.1}] * 6
    found = seen(bins, lone(), requests=[record(float(i), e2e_s=0.5, tokens=0) for i in range(len(bins))])
    assert found.requests_per_s == pytest.approx(3.0)
    assert found.in_service == pytest.approx(8.0)
    assert (found.ttft_mean_s, found.tpot_mean_s) == (None, None)
