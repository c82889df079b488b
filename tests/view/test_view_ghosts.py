"""Curves of before: which are drawn, what the legend says of all of them, and their figures at a load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.foresight import ForeseenPoint, Foresight, Interval
from llmtop.domain.frame import Frame
from llmtop.domain.gain import Baseline, Comparison, Gain
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.verdicts import Curve, LevelPoint
from llmtop.view import card
from llmtop.view.condition import Condition
from llmtop.view.ghosts import Ghosts, ghosts_of, legend, readings, twin_of, value_at
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.verdict import verdict
from llmtop.view.why import why
from llmtop.wording.answers import COMPARED

POINTS = (
    LevelPoint(load=4, n=99, ttft_p50_ms=80, ttft_p95_ms=100),
    LevelPoint(load=16, n=99, ttft_p50_ms=300, ttft_p95_ms=400),
)
MEDIANS = (LevelPoint(load=4, n=99, ttft_p50_ms=80),)


def curve(
    label: str, points: tuple[LevelPoint, ...] = POINTS, *, axis: Axis = "concurrency", ghost: bool = True
) -> Curve:
    return Curve(label=label, axis=axis, points=points, ghost=ghost)


def baseline(label: str, what: str = "", apart: str = "", points: tuple[LevelPoint, ...] = POINTS) -> Baseline:
    return Baseline(curve=Curve(label=label, points=points, ghost=True, what=what, apart=apart))


def opinion(*baselines: Baseline, own: tuple[Curve, ...] = ()) -> Assessment:
    return Assessment(baselines=baselines, curves=(*own, curve("192/64 tok · start 2", ghost=False)))


def words(ghosts: Ghosts, width: int = 200, glyphs: Glyphs = UNICODE) -> str:
    return "".join(text for text, _ in legend(ghosts, glyphs, width))


def test_those_that_were_asked_for_come_first_then_what_the_run_drove_the_newest_first() -> None:
    own = (curve("192/64 tok · start 1"), curve("512/64 tok · start 2"))
    ghosts = ghosts_of(opinion(baseline("before", "max_num_seqs 32"), own=own), "ttft", UNICODE)
    assert words(ghosts) == "◊ before max_num_seqs 32   ▵ 512/64 tok   ▿ start 1"


def test_one_that_only_lacks_what_was_turned_is_how_the_run_began() -> None:
    turned = Assessment(curves=(curve("192/64 tok"), curve("192/64 tok · max_num_seqs=12", ghost=False)))
    assert words(ghosts_of(turned, "ttft", UNICODE)) == "◊ as it began"


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_each_that_is_drawn_has_a_sign_of_its_own_and_those_that_have_none_are_counted(glyphs: Glyphs) -> None:
    ghosts = ghosts_of(opinion(*(baseline(f"b{at}") for at in range(5))), "ttft", glyphs)
    signs = [ghost.sign for ghost in ghosts.drawn]
    assert len(set(signs)) == len(signs) == len(glyphs.ghosts)
    assert not {*signs} & {glyphs.knob, glyphs.ghost_line, glyphs.dots}
    assert ghosts.hidden == 2
    assert words(ghosts, glyphs=glyphs).endswith("+2 not shown")


def test_what_is_on_other_axes_is_named_with_the_reason() -> None:
    ghosts = ghosts_of(
        opinion(baseline("long", apart="other lengths (512/64)"), own=(curve("192/64 tok", axis="rate"),)),
        "ttft",
        UNICODE,
    )
    assert not ghosts.drawn
    assert words(ghosts) == "long: other lengths (512/64)   as it began: driven by rate"


def test_medians_say_that_they_are_and_what_lacks_the_metric_says_so() -> None:
    ghosts = ghosts_of(opinion(baseline("theirs", points=MEDIANS)), "ttft", UNICODE)
    assert words(ghosts) == "◊ theirs (p50)"
    assert words(ghosts_of(opinion(baseline("theirs", points=MEDIANS)), "tpot", UNICODE)) == "theirs: no TPOT is known"


def test_without_an_opinion_there_are_none() -> None:
    assert not ghosts_of(None, "ttft", UNICODE)
    assert not ghosts_of(opinion(), "ttft", UNICODE)


def test_verdict_card_and_grounds_say_the_same_of_an_earlier_run() -> None:
    compared = Comparison(changed="", gain=Gain.MORE, against="b", text="+18 % users at the SLO against `b`: 49 → 58")
    found = replace(opinion(), headline="SLO OK", baselines=(Baseline(curve=curve("b"), compared=compared),))
    now = Frame(seq=0, t_s=1.0, endpoint=EndpointStatus(state=EndpointState.UP), target=LoadPoint(concurrency=1))
    shown = "".join(text for row in verdict(now, found, Condition(), UNICODE, 120, 2) for text, _ in row)
    assert compared.text in shown
    assert compared.text in [fact.text for fact in card.facts(now, found, Condition(), UNICODE, "", None)]
    assert dict(why(found, Condition()))[COMPARED] == [compared.text]


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=50)
EACH = st.builds(baseline, NAMES, st.sampled_from(["", "max_num_seqs 32"]), st.sampled_from(["", "driven by rate"]))


@given(st.lists(EACH, max_size=7), st.integers(16, 130), st.sampled_from([UNICODE, ASCII]))
def test_a_legend_fits_and_accounts_for_all(found: list[Baseline], width: int, glyphs: Glyphs) -> None:
    ghosts = ghosts_of(opinion(*found), "ttft", glyphs)
    assert len(ghosts.drawn) + len(ghosts.apart) + ghosts.hidden == len(found)
    told = words(ghosts, width, glyphs)
    assert len(told) <= width
    entries = told.split("   ") if told else []
    counted = [entry for entry in entries if entry.endswith(" not shown")]
    hidden = int(counted[0].split()[0]) if counted else 0
    assert len(entries) - len(counted) + hidden == len(found)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (4, ["before: TTFT p95 100ms"]),
        (16, ["before: TTFT p95 400ms"]),
        (8, ["before: TTFT p95 ≈200ms"]),
        (3, []),
        (17, []),
        (0, []),
        (None, []),
    ],
)
def test_at_a_load_that_was_driven_the_figure_is_read_between_two_levels_about(
    load: float | None, said: list[str]
) -> None:
    assert readings(ghosts_of(opinion(baseline("before")), "ttft", UNICODE), "ttft", load, UNICODE) == said


@given(st.floats(4, 16))
def test_between_two_levels_a_figure_lies_between_theirs(load: float) -> None:
    value, _ = value_at(curve("before"), "ttft", "p95", load)
    assert value is not None
    assert 100 - 1e-6 <= value <= 400 + 1e-6


# -- what is foreseen -------------------------------------------------------------------------------------------------


def foreseen(*, asked: bool = True, axis: Axis = "concurrency", ttft: Interval | None = None) -> Foresight:
    at = Interval(100.0, 91.0, 110.0)
    point = ForeseenPoint(
        load=8,
        ttft_p50_ms=ttft,
        ttft_p95_ms=ttft,
        tpot_p50_ms=at,
        tpot_p95_ms=at,
        output_tokens_per_s=at,
        requests_per_s=at,
    )
    settings = (("max_num_seqs", 64.0),) if asked else ()
    return Foresight(
        settings=settings, label="max_num_seqs 64", axis=axis, points=(point,), off=0.03, band=0.1, levels=9
    )


TTFT = Interval(300.0, 273.0, 330.0)


def test_what_is_foreseen_is_drawn_with_its_band_only_while_somebody_asks_about_settings() -> None:
    told = twin_of(replace(opinion(), foreseen=foreseen(ttft=TTFT)), "ttft")
    assert told is not None
    assert (told.line, told.low, told.high) == (((8, 300),), ((8, 273),), ((8, 330),))
    assert twin_of(replace(opinion(), foreseen=foreseen(asked=False, ttft=TTFT)), "ttft") is None
    assert twin_of(opinion(), "ttft") is None
    assert twin_of(None, "ttft") is None


def test_what_is_foreseen_over_other_loads_or_not_at_all_is_not_drawn() -> None:
    assert twin_of(replace(opinion(), foreseen=foreseen(axis="rate", ttft=TTFT)), "ttft") is None
    assert twin_of(replace(opinion(), foreseen=foreseen(ttft=None)), "ttft") is None
    assert twin_of(replace(opinion(), foreseen=foreseen(ttft=TTFT)), "e2e") is None


@pytest.mark.parametrize(
    ("glyphs", "told"), [(UNICODE, "◦ twin: max_num_seqs 64 (±10%)"), (ASCII, ": twin: max_num_seqs 64 (+-10%)")]
)
def test_the_legend_names_what_is_foreseen_first_and_no_curve_of_before_loses_its_sign(
    glyphs: Glyphs, told: str
) -> None:
    asked = replace(opinion(baseline("before")), foreseen=foreseen(ttft=TTFT))
    ghosts = ghosts_of(asked, "ttft", glyphs)
    shown = "".join(text for text, _ in legend(ghosts, glyphs, 200, twin_of(asked, "ttft")))
    assert shown == f"{told}   {words(ghosts, glyphs=glyphs)}"
    assert ghosts == ghosts_of(opinion(baseline("before")), "ttft", glyphs)
    narrow = "".join(text for text, _ in legend(ghosts, glyphs, len(told), twin_of(asked, "ttft")))
    assert len(narrow) <= len(told)


def test_a_band_that_is_wider_somewhere_is_said_to_begin_at_what_it_is_at_least() -> None:
    wide = replace(opinion(), foreseen=foreseen(ttft=Interval(300.0, 80.0, 330.0)))
    told = twin_of(wide, "ttft")
    assert told is not None
    assert told.name == "twin: max_num_seqs 64 (from ±10%)"
