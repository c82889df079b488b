"""Which level a search asks for next, and what it concludes, level by level, on answers given by hand."""

from __future__ import annotations

import math

import pytest
from facts_by_hand import record
from msgspec.structs import replace

from llmtop.analysis import CapacitySearch
from llmtop.analysis.bracket import Bracket
from llmtop.analysis.tested import capacity_of_tested
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import ChangeReason, Chapter, FactBatch, JudgedLevel, LoadChange, SearchEnded
from llmtop.domain.samples import LoadBin
from llmtop.domain.slo import parse_slo
from llmtop.domain.steering import Step
from llmtop.meter.facts import Facts

BIN_S = 0.25
LIMIT_S = 0.5
"""Of TTFT; short enough to be judged by the requests that ended."""


class Lab:
    """A search whose every level is answered by hand."""

    def __init__(self, slo: str = "ttft_p95<500ms", **options: float) -> None:
        self.facts = Facts()
        self.search = CapacitySearch(parse_slo(slo), LoadPoint(concurrency=0), **options)
        self.now_s = 0.0
        self.progress = self.search.next(self.facts, 0.0)

    @property
    def load(self) -> int | None:
        return None if self.progress.point is None else self.progress.point.concurrency

    def answer(
        self, ttft_s: float = 0.1, *, n: int = 70, errors: int = 0, waiting: int = 0, tpot_s: float = 0.01
    ) -> Step:
        """Eight seconds of the level: `n` requests of ten tokens, sent evenly from its second second to its last."""
        assert self.load is not None
        sent_s = [self.now_s + 1.0 + 6.0 * i / max(1, n) for i in range(n)]
        requests = [record(t, ttft_s=ttft_s, e2e_s=ttft_s + 9 * tpot_s, tokens=10) for t in sent_s]
        requests += [record(self.now_s + 1.0, outcome=Outcome.TIMEOUT) for _ in range(errors)]
        bins = [
            LoadBin(
                t_s=self.now_s + BIN_S * (i + 1),
                span_s=BIN_S,
                target=float(self.load),
                in_flight=self.load,
                prefilling=waiting,
                sent=n // 32,
                output_tokens=10 * n // 32,
            )
            for i in range(32)
        ]
        self.now_s += 8.0
        ended = tuple(sorted(requests, key=lambda each: each.end_ns))
        self.facts.extend(FactBatch(t_s=self.now_s, requests=ended, bins=tuple(bins)))
        self.progress = self.search.next(self.facts, self.now_s)
        return self.progress


def asked(*answers: float, **options: float) -> list[int | None]:
    """The level after each TTFT."""
    lab = Lab(**options)
    return [(lab.answer(ttft_s), lab.load)[1] for ttft_s in answers]


def test_levels_double_or_quadruple_far_from_every_limit() -> None:
    assert asked(0.12) == [16]
    assert asked(0.13) == [8], "not four times below the limit"
    assert asked(0.12, 0.12, 0.12) == [16, 64, 128], "past 16 only twice"
    assert asked(0.13, first=5) == [10]
    assert asked(0.12, 0.12, first=8) == [32, 64]


def test_the_highest_load_allowed_ends_the_doubling() -> None:
    assert asked(0.13, 0.13, 0.13, max_concurrency=6) == [6, 6, None], "the highest is proved"
    assert Lab(max_concurrency=3).load == 3


def test_a_bracket_is_closed_where_a_line_in_log_log_meets_the_limit() -> None:
    """0.2 s at 4, 0.8 s at 8: 0.5 s at 6.3; 5 % before that is 6."""
    lab = Lab()
    lab.answer(0.2)
    assert lab.progress.phase == "double"
    lab.answer(0.8)
    assert (lab.load, lab.progress.phase) == (6, "confirm")
    lab.answer(0.3)
    assert lab.load == 7
    lab.answer(0.8)
    assert (lab.load, lab.progress.phase) == (None, "done")
    found = lab.search.capacity
    assert (found.at_slo, found.fails_at, found.recommended, found.soak) == (6, 7, 6, 4)
    assert found.limited_by == "TTFT p95 SLO"
    assert lab.progress.done_levels == 4
    assert lab.progress.left_s == 0.0


def test_a_wide_bracket_ends_at_five_percent() -> None:
    lab = Lab(first=100, requests=5000)
    lab.answer(0.2, n=200)
    assert lab.load == 200
    lab.answer(0.8, n=200)
    assert lab.load == 150, "2^0.66 times 100, less 5 %"
    while lab.load is not None:
        lab.answer(0.2 if lab.load < 141 else 0.6, n=600)
    found = lab.search.capacity
    assert found.at_slo is not None
    assert found.fails_at is not None
    assert found.at_slo < 141 <= found.fails_at <= 1.05 * found.at_slo


def test_a_lowest_level_that_fails_is_halved_geometrically() -> None:
    lab = Lab(slo="ttft_p95<500ms,error_ratio<1%", first=8)
    lab.answer(n=0, errors=4)
    assert lab.load == 3
    lab.answer(n=0, errors=4)
    assert lab.load == 2
    lab.answer(n=0, errors=4)
    assert lab.load == 1
    lab.answer(n=0, errors=4)
    assert lab.load == 1, "a fault may have passed"
    lab.answer(n=0, errors=4)
    assert lab.load is None
    assert lab.search.capacity.fails_at == 1
    assert lab.search.capacity.at_slo is None
    assert lab.search.capacity.limited_by == "errors SLO"


def test_a_tpot_that_grows_is_forecast_by_its_last_two_levels() -> None:
    """20 ms at 4, 30 ms at 8: a limit of 51 ms lies past 16, where doubling goes; one of 40 ms at 12."""
    for limit_ms, wanted, phase in ((51, 16, "double"), (40, 12, "confirm")):
        lab = Lab(slo=f"tpot_p95<{limit_ms}ms")
        lab.answer(0.1, tpot_s=0.02)
        assert lab.load == 8
        lab.answer(0.1, tpot_s=0.03)
        assert (lab.load, lab.progress.phase) == (wanted, phase)


def test_a_level_forecast_to_fail_at_once_is_still_passed_by_five_percent() -> None:
    """30 ms at 8 and 2.5 ms a user: 31 ms lie at 8.4, and 9 is the next level."""
    lab = Lab(slo="tpot_p95<31ms")
    lab.answer(0.1, tpot_s=0.02)
    lab.answer(0.1, tpot_s=0.03)
    assert (lab.load, lab.progress.phase) == (9, "confirm")


def test_while_doubling_no_request_need_end() -> None:
    """First tokens are read from the bins; the length of an answer is that of the level before."""
    lab = Lab(slo="ttft_p95<2s")
    lab.answer(0.1)
    assert lab.load == 16
    calm = {"target": 16.0, "in_flight": 16, "prefilling": 1, "oldest_prefill_s": 0.2, "sent": 2, "output_tokens": 40}
    bins = [LoadBin(t_s=lab.now_s + BIN_S * (i + 1), span_s=BIN_S, **calm) for i in range(16)]
    lab.facts.extend(FactBatch(t_s=lab.now_s + 4, bins=tuple(bins)))
    assert lab.search.next(lab.facts, lab.now_s + 4).done_levels == 2


def test_the_tail_of_tpot_is_taken_over_its_mean_where_few_requests_have_ended() -> None:
    """Four in service and twelve tokens a second: a third of a second each."""
    lab = Lab(slo="tpot_p95<1s")
    lab.answer(n=10)
    assert dict(lab.search.tested[0].worst) == {"tpot_p95": pytest.approx(1.2 / 3)}


def test_a_queue_that_held_is_forecast_by_littles_law() -> None:
    """Four in service, 32 requests/s: TTFT gains a second for 32 waiting. 4 + 0.95 x 32 x (0.5 - 0.13) is 15.2."""
    lab = Lab()
    lab.answer(0.13)
    lab.answer(0.2, n=256, waiting=4)
    assert (lab.load, lab.progress.phase) == (15, "confirm")
    far = Lab()
    far.answer(0.13)
    far.answer(0.2, n=320, waiting=4)
    assert (far.load, far.progress.phase) == (16, "double")
    whole = Lab(slo="e2e_p95<500ms")
    whole.answer(0.13)
    assert whole.load == 8
    whole.answer(0.2, n=256, waiting=4)
    assert (whole.load, whole.progress.phase) == (15, "confirm"), "0.95 x 0.5 x 32"


def test_a_queue_that_failed_is_crossed_on_a_straight_line() -> None:
    """80 in service of 200: from 0.2 s at 80 to 0.8 s at 200 the limit lies at 140, and 5 % before it at 133."""
    lab = Lab(first=100, requests=5000)
    lab.answer(0.2, n=200)
    lab.answer(0.8, n=200, waiting=120)
    assert lab.load == 133


def test_a_search_ends_with_what_it_knows_when_its_time_is_up() -> None:
    """Some 8 requests/s: 140 are 17 s of them, and the next look is at 24 s."""
    lab = Lab(requests=140, least_s=1.0)
    assert lab.progress.left_s == 600.0
    assert lab.answer(0.2).left_s == pytest.approx(9.0, abs=0.1)
    lab.answer(0.2)
    assert lab.load is None
    assert lab.search.capacity.at_slo == 8
    assert "the time of the search was up" in lab.progress.text
    assert lab.progress.learned[-1] == SearchEnded(16.0, "budget")


def test_a_search_is_given_its_least_time_whatever_its_requests() -> None:
    lab = Lab(requests=10, least_s=30.0)
    assert lab.answer(0.2).left_s == pytest.approx(22.0)
    assert lab.answer(0.2).left_s == pytest.approx(14.0)


def test_a_promise_is_only_ever_shortened() -> None:
    lab = Lab(least_s=1.0)
    lefts = [lab.progress.left_s]
    for n in (256, 64, 32):
        lefts.append(lab.answer(0.2, n=n).left_s)
    ends_s = [8.0 * i + left_s for i, left_s in enumerate(lefts) if left_s is not None]
    assert ends_s[0] == 600.0
    assert ends_s == sorted(ends_s, reverse=True)


def test_a_level_cut_short_by_the_time_is_judged_by_what_it_has() -> None:
    """32 clean requests are no proof, but more than nothing."""
    lab = Lab(requests=250, least_s=1.0)
    lab.answer(0.2, n=64)
    lab.answer(0.8, n=64)
    assert (lab.load, lab.progress.phase) == (6, "confirm")
    lab.answer(0.3, n=32)
    assert lab.load is None
    assert lab.search.capacity.at_slo == 6


@pytest.mark.parametrize(
    ("reasons", "phase", "load"),
    [
        (("search", "brake"), "confirm", 5),
        (("search", "stop"), "done", None),
        (("stop", "search"), "double", 8),
        (("brake",), "double", 8),
    ],
)
def test_a_load_that_is_taken_down_fails_its_level_or_ends_the_search(
    reasons: tuple[ChangeReason, ...], phase: str, load: int | None
) -> None:
    """What was commanded before the search had its way says nothing of it."""
    lab = Lab()
    lab.answer(0.2)
    point = LoadPoint(concurrency=1)
    changes = tuple(LoadChange(lab.now_s + 0.1 * (i + 1), point, reason) for i, reason in enumerate(reasons))
    lab.facts.extend(FactBatch(t_s=lab.now_s + 1.0, changes=changes))
    lab.progress = lab.search.next(lab.facts, lab.now_s + 1.0)
    assert (lab.progress.phase, lab.load) == (phase, load)
    assert lab.search.capacity.at_slo == 4
    assert lab.search.capacity.limited_by == ("errors SLO" if load == 5 else None)


def test_another_configuration_is_searched_from_the_start() -> None:
    lab = Lab()
    lab.answer(0.2)
    lab.facts.extend(FactBatch(t_s=lab.now_s, chapters=(Chapter(lab.now_s, "max_num_seqs 8", "8"),)))
    lab.progress = lab.search.next(lab.facts, lab.now_s + 1.0)
    assert (lab.load, lab.progress.done_levels, lab.progress.phase) == (4, 0, "double")


def test_a_level_that_says_nothing_is_kept() -> None:
    lab = Lab()
    lab.answer(n=3)
    assert lab.load == 4
    assert lab.progress.done_levels == 0


def between(bottom_s: float, top_s: float, in_service: float = 30.0) -> float:
    """Where a limit of 2 s is guessed between 32, that held with this p95, and 64, that failed; both have a queue."""
    slo = parse_slo("ttft_p95<2s")

    def level(load: int, mean_s: float, p95_s: float, *failed: str) -> JudgedLevel:
        known = {"in_service": in_service, "requests_per_s": 10.0, "ttft_mean_s": mean_s}
        return JudgedLevel(t_s=1.0, load=load, slo=str(slo), failed=failed, worst=(("ttft_p95", p95_s),), **known)

    low, high = level(32, 1.0, bottom_s), level(64, 3.0, top_s, "ttft_p95")
    return Bracket([level(4, 0.1, 0.1), low, high], slo).between(low, high)


def test_a_guess_lies_between_the_levels_whatever_these_say() -> None:
    assert between(1.0, 3.0) == pytest.approx(48.0), "on a line"
    assert between(3.0, 3.0) == pytest.approx(math.sqrt(32 * 64)), "a tail of few requests is past the limit as well"
    assert between(5.0, 3.0) == pytest.approx(math.sqrt(32 * 64))
    assert between(1.0, 3.0, in_service=70.0) == pytest.approx(48.0), "from the level that held"


# -- what it concludes of the levels it tested ------------------------------------------------------------------------


def chosen(low: int, high: int, limit: str = "ttft_p95<200ms") -> int | None:
    """The level after one that held with 0.1 s and one that failed with 9 s."""
    levels = [
        JudgedLevel(t_s=1.0, load=load, slo=limit, failed=failed, worst=(("ttft_p95", p95_s),))
        for load, failed, p95_s in ((low, (), 0.1), (high, ("ttft_p95",), 9.0))
    ]
    return Bracket(levels, parse_slo(limit)).choose(1024)[0]


def test_a_level_is_tried_only_where_it_narrows_the_bracket() -> None:
    """Three percent of a level from either side, one user at least; 5 % apart is near enough."""
    assert chosen(100, 110) == 103
    assert chosen(100, 110, "ttft_p95<8900ms") == 107
    assert chosen(100, 106) == 103
    assert chosen(100, 105) is None
    assert chosen(4, 6) == 5
    assert chosen(4, 5) is None
    assert chosen(4, 8, "ttft_p95<8900ms") == 7
    assert chosen(10, 40, "ttft_p95<8900ms") == 35, "five percent before the place, where it is far"


def test_without_a_mean_or_a_rate_no_queue_is_seen() -> None:
    slo = parse_slo("ttft_p95<2s")
    known = done(4)
    queued = replace(known, load=8, ttft_mean_s=1.0)
    assert Bracket([known], slo).queues(queued)
    assert not Bracket([known], slo).queues(replace(queued, ttft_mean_s=None))
    assert not Bracket([known], slo).queues(replace(queued, requests_per_s=None))
    assert not Bracket([replace(known, ttft_mean_s=None)], slo).queues(queued)


def test_tpot_is_out_of_sight_once_there_is_a_queue() -> None:
    """45 ms at 32 after 22 ms at 16 point at 35 users for 50 ms; where 24 are served at once they point nowhere."""
    slo = parse_slo("tpot_p95<50ms")
    half = replace(done(16, in_service=16.0), worst=(("tpot_p95", 0.022),))
    full = replace(done(32, in_service=32.0), worst=(("tpot_p95", 0.045),))
    assert Bracket([half, full], slo).choose(1024) == (35, "confirm")
    assert Bracket([half, replace(full, in_service=24.0)], slo).choose(1024) == (64, "double")


def test_before_the_first_level_nothing_is_learned() -> None:
    search = CapacitySearch(parse_slo("ttft_p95<2s"), LoadPoint(concurrency=0))
    assert search.capacity.sentence == "nothing learned yet"
    search.stop()
    assert search.next(Facts(), 1.0).text == "nothing learned yet; ended before it knew"


def done(load: int, *failed: str, in_service: float | None = None) -> JudgedLevel:
    known = {"in_service": in_service, "requests_per_s": 4.0, "ttft_mean_s": 0.1}
    return JudgedLevel(t_s=1.0, load=load, slo="", failed=failed, n=60, **known)


@pytest.mark.parametrize(
    ("levels", "at_slo", "fails_at", "knee", "recommended"),
    [
        ([], None, None, None, None),
        ([done(8)], 8, None, None, 8),
        ([done(8), done(16), done(32, "ttft_p95", in_service=24.4)], 16, 32, 24.4, 16),
        ([done(8), done(16), done(32, "ttft_p95", in_service=12.4)], 16, 32, 12.4, 12),
        ([done(8), done(16), done(32, "tpot_p95", in_service=12.4)], 16, 32, None, 16),
        ([done(8), done(16, "ttft_p95"), done(32)], 8, 16, None, 8),
        ([done(1), done(2, "ttft_p95", in_service=0.2)], 1, 2, 0.2, 1),
    ],
)
def test_capacity_is_the_highest_level_that_held_below_every_failure(
    levels: list[JudgedLevel],
    at_slo: float | None,
    fails_at: float | None,
    knee: float | None,
    recommended: float | None,
) -> None:
    found = capacity_of_tested(levels, None, parse_slo("ttft_p95<2s,tpot_p95<50ms"), LoadPoint(concurrency=0))
    assert (found.at_slo, found.fails_at, found.knee, found.recommended) == (at_slo, fails_at, knee, recommended)
    assert found.soak == (None if recommended is None else max(1, int(0.8 * recommended)))
