"""Guards of what is told: the line that says it all, the verdict that matters, and the verdicts over a prediction."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from test_analysis_guards_levels import cap, knee
from test_analysis_slo import level
from virtual import VirtualSession

from llmtop.analysis import Level, Limits, assess
from llmtop.analysis.advice import advised
from llmtop.analysis.bends import _judged, _main
from llmtop.analysis.capacity import worth_trying
from llmtop.analysis.cause import _pressed
from llmtop.analysis.diagnosis import Recent, _network, on_this_machine
from llmtop.analysis.headline import ACTION_WIDTH, SETTLING, WIDTH, headline
from llmtop.analysis.points import point_of as _point
from llmtop.analysis.predicted import assess_prediction
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Metric, Slo, SloTarget, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Kind, SloVerdict, TargetVerdict
from llmtop.simulator.engine import load_preset, predict
from llmtop.wording.sentences import CLIENT_LATE

NONE = CliffVerdict(kind=Kind.NONE)
OK = SloVerdict(ok=True)
NO_CAPACITY = Capacity()
NO_BOUND = Diagnosis(bound=Bound.NONE)
KNEE = CliffVerdict(kind=Kind.CLIFF, at=96.0, low=88.0, high=104.0)
SLOTS = Diagnosis(bound=Bound.QUEUE, advice="raise --max-num-seqs to about 110: about 80, then KV binds")


def line(
    slo: str = "ttft_p95<2s",
    *,
    verdict: SloVerdict = OK,
    capacity: Capacity = NO_CAPACITY,
    cliff: CliffVerdict = NONE,
    diagnosis: Diagnosis = NO_BOUND,
    top: float | None = None,
) -> str:
    return headline(parse_slo(slo), verdict, capacity, cliff, diagnosis, top, Judgement())


# -- the line ---------------------------------------------------------------------------------------------------------


def target(name: str, ok: bool | None, value: float | None = None, limit: float = 2.0) -> TargetVerdict:
    return TargetVerdict(name=name, limit=limit, value=value, ok=ok)


def test_the_line_names_the_limit_that_failed() -> None:
    known = (target("tpot_p95", None), target("e2e_p95", True, 1.0), target("ttft_p95", False, 3.52))
    assert line(verdict=SloVerdict(ok=False, targets=known)) == "SLO FAIL TTFT p95>2s · no cliff"
    assert line(verdict=SloVerdict(ok=None, targets=known[:2])) == "SLO -- · no cliff"
    assert line(verdict=SloVerdict(ok=True, targets=known[1:2])) == "SLO OK · no cliff"


@pytest.mark.parametrize(
    ("capacity", "text"),
    [
        (Capacity(), ""),
        (Capacity(at_slo=71), "≥71 users at the SLO (TTFT p95<2s) · "),
        (Capacity(at_slo=71, fails_at=80), "71 users at the SLO (TTFT p95<2s) · "),
        (Capacity(fails_at=4), "below 4 users at the SLO (TTFT p95<2s) · "),
    ],
)
def test_a_capacity_that_never_failed_is_told_as_a_lower_bound(capacity: Capacity, text: str) -> None:
    assert line(capacity=capacity) == f"SLO OK · {text}no cliff"


def test_the_limits_in_brackets_are_latencies_where_there_are_any() -> None:
    held = Capacity(at_slo=71)
    assert "(TTFT p95<2s TPOT p95<50ms)" in line("ttft_p95<2s,queue<9,tpot_p95<50ms", capacity=held)
    assert "(queue<9)" in line("queue<9", capacity=held)


@pytest.mark.parametrize(
    ("cliff", "text"),
    [
        (CliffVerdict(kind=Kind.INSUFFICIENT), "not enough data"),
        (CliffVerdict(kind=Kind.INSUFFICIENT, next_levels=(4, 8)), "not enough data: try 4, then 8"),
        (CliffVerdict(kind=Kind.UNSTABLE, at=4.0), "levels contradict each other: measure again"),
        (CliffVerdict(kind=Kind.NONE, at=4.0), "no cliff up to 64"),
        (CliffVerdict(kind=Kind.NONE, next_levels=(99, 8)), "no cliff up to 64, try 99"),
        (CliffVerdict(kind=Kind.CLIFF), "no cliff up to 64"),
        (CliffVerdict(kind=Kind.CLIFF, at=32.0, low=30.0, high=35.0), "cliff 32 (30 to 35)"),
        (CliffVerdict(kind=Kind.CLIFF, at=32.0, low=28.0, high=35.0), "cliff 32 (28 to 35)"),
        (CliffVerdict(kind=Kind.CLIFF, at=32.0), "cliff 32"),
        (CliffVerdict(kind=Kind.CLIFF, at=36.0, low=30.0, high=54.0), "cliff 36 (30 to 54)"),
        (CliffVerdict(kind=Kind.CLIFF, at=36.0, low=12.0, high=54.1), "cliff 12 to 54"),
        (CliffVerdict(kind=Kind.CLIFF, at=9.9, low=9.0, high=10.5), "cliff 10 (9 to 10)"),
        (CliffVerdict(kind=Kind.CLIFF, at=10.0, low=9.0, high=10.5), "cliff 10 (9 to 10)"),
        (CliffVerdict(kind=Kind.CLIFF, at=32.0, low=30.0, high=35.0, axis="rate"), "cliff 32 (30 to 35)"),
        (CliffVerdict(kind=Kind.CLIFF, at=3.25, low=3.0, high=3.5, axis="rate"), "cliff 3.25 (3 to 3.50)"),
        (
            CliffVerdict(kind=Kind.GRADUAL, at=32.0, low=30.0, high=35.0, next_levels=(4, 8)),
            "bend 32 (30 to 35), try 4 to be sure",
        ),
        (
            CliffVerdict(kind=Kind.GRADUAL, at=32.0, low=30.0, high=35.0, next_levels=(4,), confidence=Confidence.FIRM),
            "bend 32 (30 to 35)",
        ),
    ],
)
def test_a_place_is_told_with_its_interval_and_a_guess_with_what_to_try(cliff: CliffVerdict, text: str) -> None:
    assert line(cliff=cliff, top=64.0) == f"SLO OK · {text}"


def test_without_a_level_no_highest_one_is_told() -> None:
    assert line(top=None) == "SLO OK · no cliff"


@pytest.mark.parametrize("length", range(20, 140))
def test_the_line_gives_up_its_brackets_then_all_ways_to_turn_but_one_where_it_gets_too_long(length: int) -> None:
    advice = f"raise --flag, {'a' * length}"
    held = Capacity(at_slo=71, fails_at=80)
    ways = advice if len(f"SLO OK ·  · queue-bound: {advice}") <= ACTION_WIDTH else "raise --flag"
    full = f"SLO OK · queue-bound: {ways} · 71 users at the SLO (TTFT p95<2s) · no cliff"
    told = line(capacity=held, diagnosis=Diagnosis(bound=Bound.QUEUE, advice=advice))
    assert told == (full if len(full) <= WIDTH else full.replace(" (TTFT p95<2s)", ""))
    assert len(told) <= WIDTH + 20


def test_of_advice_the_line_has_what_to_turn_before_how_many_users_and_where_the_cliff_is() -> None:
    what = "queue-bound: raise --max-num-seqs to about 110"
    assert line(cliff=KNEE, diagnosis=SLOTS) == f"SLO OK · {what} · cliff 96 (88 to 104)"
    assert line(cliff=KNEE, diagnosis=Diagnosis(bound=Bound.QUEUE)) == "SLO OK · queue-bound · cliff 96 (88 to 104)"
    failed = SloVerdict(ok=False, targets=(target("ttft_p95", False, 3.52),))
    long = line(cliff=KNEE, diagnosis=SLOTS, verdict=failed, capacity=Capacity(at_slo=71, fails_at=80))
    assert long.startswith(f"SLO FAIL TTFT p95>2s · {what} · 71 users at the SLO")


def test_after_a_move_the_state_is_that_it_settles_and_a_late_machine_is_named_in_the_place_of_a_cause() -> None:
    failed = SloVerdict(ok=False, targets=(target("ttft_p95", False, 3.52),))
    late = Diagnosis(bound=Bound.NONE, evidence=(CLIENT_LATE,))
    told = headline(parse_slo("ttft_p95<2s"), failed, Capacity(), NONE, late, None, Judgement(), settling=True)
    assert told == f"{SETTLING} · {CLIENT_LATE} · no cliff"


# -- the verdict that matters -----------------------------------------------------------------------------------------


def said(metric: str, stat: str, kind: Kind) -> CliffVerdict:
    return CliffVerdict(kind=kind, metric=metric, stat=stat)


CLIFF_OF = {
    (metric, stat): said(metric, stat, Kind.CLIFF) for metric in ("ttft", "tpot", "e2e") for stat in ("p50", "p95")
}


@pytest.mark.parametrize("kind", Kind)
def test_the_verdict_that_matters_is_ttfts_its_tails_or_that_of_whole_requests(kind: Kind) -> None:
    """A tail cliff counts where the median has none, one of whole requests also where the median contradicts itself."""
    ttft = said("ttft", "p50", kind)
    calm = tuple(said(metric, stat, Kind.NONE) for metric, stat in CLIFF_OF)[1:]
    assert _main((ttft, *calm)) is ttft
    others = (CLIFF_OF["tpot", "p50"], CLIFF_OF["tpot", "p95"], CLIFF_OF["e2e", "p95"])
    assert _main((ttft, *others)) is ttft, "of tokens, and of the tail of whole requests, nothing follows"
    tail, whole = CLIFF_OF["ttft", "p95"], CLIFF_OF["e2e", "p50"]
    found = _main((ttft, *others, tail))
    if kind is Kind.NONE:
        told = ("tail cliff: p50 has none", *tail.evidence)
        assert found == msgspec.structs.replace(tail, evidence=told)
    else:
        assert found is ttft
    assert _main((ttft, *others, whole)) is (whole if kind in (Kind.NONE, Kind.UNSTABLE) else ttft)


@pytest.mark.parametrize(
    ("metric", "ok", "pressed"),
    [
        ("tpot", True, False),
        ("tpot", None, False),
        ("tpot", False, True),
        ("ttft", False, True),
        ("queue", False, False),
    ],
)
def test_an_slo_presses_where_a_latency_limit_is_missed(metric: Metric, ok: bool | None, pressed: bool) -> None:
    limits = Slo((SloTarget(metric, 50.0, "p95" if metric != "queue" else None, warn=45.0),))
    shown = SloVerdict(ok=False, targets=(target(f"{metric}_p95", ok, 49.0),))
    assert _pressed(shown, limits) is pressed


@pytest.mark.parametrize(
    ("full", "n", "count", "tails"), [(True, 60, 5, 3), (True, 59, 5, 0), (True, 60, 4, 0), (False, 60, 5, 0)]
)
def test_tails_are_judged_in_full_with_five_levels_of_sixty_requests(
    full: bool, n: int, count: int, tails: int
) -> None:
    levels = [Level(float(i), np.ones(n)) for i in range(count)] + [Level(99.0, np.ones(59))]
    judged = _judged(levels, full)
    assert judged[:3] == [("ttft", "p50"), ("tpot", "p50"), ("e2e", "p50")]
    assert judged[3:] == [("ttft", "p95"), ("tpot", "p95"), ("e2e", "p95")][:tails]


def test_a_point_shows_the_quantiles_of_its_level_in_milliseconds() -> None:
    values = np.arange(1.0, 102.0)
    slo = parse_slo("ttft_p95<50s")
    shown = _point(Level(8.0, values, values / 100, values + 1, errors=99, waiting=2.0, kv_usage=0.5), slo)
    assert (shown.ttft_p50_ms, shown.ttft_p95_ms) == pytest.approx((51e3, 96e3))
    assert (shown.tpot_p50_ms, shown.tpot_p95_ms, shown.e2e_p50_ms) == pytest.approx((510.0, 960.0, 52e3))
    assert (shown.load, shown.n, shown.errors, shown.waiting, shown.kv_usage) == (8.0, 101, 99, 2.0, 0.5)
    assert (shown.attainment, shown.faint) == (0.25, False)
    empty = _point(Level(8.0), slo)
    assert (empty.ttft_p50_ms, empty.ttft_p95_ms, empty.attainment, empty.faint) == (None, None, None, True)


# -- a capacity -------------------------------------------------------------------------------------------------------


def rated(*rates: float | None, gpus: int | None = None) -> str:
    levels = [dataclasses.replace(level(8.0 * 2**i, 0.2), output_tokens_per_s=rate) for i, rate in enumerate(rates)]
    return cap(levels, limits=Limits(gpus=gpus)).sentence.rpartition("; ")[2]


def test_the_most_tokens_are_told_at_the_lowest_load_that_gives_them() -> None:
    assert rated(100, 200, 200) == "most output tokens/s 200 at 16, past 16 a doubling gains < 5 %"
    assert rated(100, 200, 400) == "most output tokens/s 400 at 32"
    assert rated(100, 200, 400, gpus=4) == "most output tokens/s 400 (100 a GPU) at 32"
    assert rated(None, 200, 400) == "most output tokens/s 400 at 32"
    assert "most output" not in rated(None, None, 400)


def test_a_sentence_says_what_holds_what_fails_and_why() -> None:
    how = "concurrent users (512/128 tokens)"
    few = dataclasses.replace(level(4, 0.2), ttft_s=np.full(9, 0.2), output_tokens_per_s=None)
    bare = [dataclasses.replace(level(8, ttft_s), output_tokens_per_s=None) for ttft_s in (0.2, 3.0)]
    wall = "limited by TTFT p95 SLO"
    assert cap([bare[1]]).sentence == f"does not meet TTFT p95 < 2 s even at 8 {how}; {wall}"
    open_below = f"8 {how} break TTFT p95 < 2 s; below, too few requests to prove that it holds; {wall}"
    assert cap([few, bare[1]]).sentence == open_below
    held = f"supports at least 8 {how} at TTFT p95 < 2 s: pass 8, no failure yet"
    assert cap([bare[0]]).sentence == f"{held}; run it at 8, soak it at 6 (80 % of that)"
    assert cap([bare[0]], knee(20, Bound.NONE)).sentence == (
        f"{held}; knee 20 (cause unknown); run it at 8, soak it at 6 (80 % of that)"
    )
    assert cap([few]).sentence == cap([]).sentence == ""


# -- a prediction -----------------------------------------------------------------------------------------------------


def test_a_prediction_is_judged_by_its_own_axis_limits_and_lengths() -> None:
    """54.9 requests of 192 tokens and half of 64 fit 768 blocks of 16."""
    closed = predict("laptop", concurrency=[2, 4], requests_per_level=12)
    found = assess_prediction(closed, Slo())
    (curve,) = found.curves
    assert (curve.axis, [point.load for point in curve.points]) == ("concurrency", [2.0, 4.0])
    for shown, point in zip(curve.points, closed.points, strict=True):
        assert (shown.n, shown.output_tokens_per_s, shown.waiting) == (12, point.output_tokens_per_s, 0.0)
    assert found.capacity.limited_by is None, "its slots and its KV cache were not reached"
    rated = msgspec.structs.replace(
        closed,
        axis="rate",
        points=tuple(msgspec.structs.replace(each, concurrency=None, rate_rps=0.5 * each.n) for each in closed.points),
    )
    opened = assess_prediction(rated, Slo())
    assert (opened.curves[0].axis, [point.load for point in opened.curves[0].points]) == ("rate", [6.0, 6.0])
    assert opened.capacity.limited_by is None


# -- what to try, and what is said of this machine --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_slo", "fails_at", "wanted", "tried"),
    [
        (None, None, (96, 192), (96, 192)),
        (None, 48.0, (96, 192), (24, 12)),
        (32.0, 48.0, (96,), (40,)),
        (47.0, 48.0, (96,), ()),
        (None, 1.0, (2, 4), ()),
        (32.0, 64.0, (29, 72), (29,)),
        (None, 48.0, (), ()),
    ],
)
def test_nothing_is_tried_above_a_load_that_fails(
    at_slo: float | None, fails_at: float | None, wanted: tuple[int, ...], tried: tuple[int, ...]
) -> None:
    cliff = CliffVerdict(kind=Kind.INSUFFICIENT, next_levels=wanted)
    assert worth_trying(cliff, Capacity(at_slo=at_slo, fails_at=fails_at)).next_levels == tried
    assert worth_trying(cliff, Capacity(at_slo=at_slo, fails_at=fails_at), failing=True).next_levels == ()


def test_a_first_level_that_fails_is_followed_by_lower_ones() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=64))
    session.run_until(20.0)
    found = assess(session.facts, session.meta, parse_slo("ttft_p95<2s"), now_s=20.0, full=False)
    assert found.capacity.fails_at == 64
    assert all(level < 64 for level in found.cliff.next_levels)
    assert "try 32, then 16" in found.headline


@pytest.mark.parametrize("users", [48, 64, 96])
def test_while_the_slo_is_missed_no_higher_load_is_tried(users: int) -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=users))
    for second in range(2, 26):
        session.run_until(float(second))
        found = assess(session.facts, session.meta, parse_slo("ttft_p95<1s"), now_s=float(second), full=False)
        if found.slo.ok is False:
            assert all(level < users for level in found.cliff.next_levels), (second, found.headline)
    assert found.slo.ok is False


def test_on_one_machine_nobody_is_sent_to_a_proxy_or_to_buy_hardware() -> None:
    gap = _network(Recent(ttft_here_s=5.0, ttft_server_s=0.05))
    held = _network(Recent(in_flight=100.0, running=20.0, held=80.0))
    assert gap is not None
    assert held is not None
    assert (gap.bound, held.bound) == (Bound.NETWORK, Bound.NETWORK)
    assert on_this_machine(gap).evidence == (CLIENT_LATE, *gap.evidence)
    assert on_this_machine(held).evidence == held.evidence
    for each in (on_this_machine(gap), on_this_machine(held)):
        assert (each.bound, each.advice) == (Bound.NONE, None)
    assert on_this_machine(SLOTS) is SLOTS
    for bound in (Bound.COMPUTE, Bound.MEMORY):
        found = Diagnosis(bound=bound)
        here, there = (advised(found, (), Limits(), Slo(), NONE, Capacity(), None, here=here) for here in (True, False))
        assert "GPU" in str(there.advice)
        assert "GPU" not in str(here.advice)
