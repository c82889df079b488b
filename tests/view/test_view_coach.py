"""The coach says what just happened, twice at most, long enough to be read, and nothing that the verdict does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.client import ClientHealth
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Distribution, Frame, Offer, ReplayPosition, Window
from llmtop.domain.gain import Comparison, Gain
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.shown import Wheel
from llmtop.domain.verdicts import Bound, CliffVerdict, Diagnosis, Forecast, Kind, SloVerdict, Turn
from llmtop.view.coach import LEAST_S, MOST, STANDS_S, Coach
from llmtop.view.condition import Condition
from llmtop.wording.replicas import wait_for

KEYS = {
    "slider.double": "PgUp", "slider.half": "PgDn", "slider.up": "→", "slider.load": "c", "view.knobs": "k",
    "view.back": "Esc", "app.edge": "h", "app.search": "s", "app.map": "n", "app.why": "w", "app.export": "e",
    "app.profile": "f", "app.leave": "q", "app.freeze": "space", "load.stop": "x", "load.hold": "Enter", "panel.9": "9",
    "replay.back": "[", "replay.forward": "]", "replay.before": "{", "replay.next": "}",
}  # fmt: skip
UP = EndpointStatus(state=EndpointState.UP, label="127.0.0.1:8000")
ROOM = 77


def frame(t_s: float, load: int = 4, *, hand_s: float | None = None, before: int = 4, **fields: Any) -> Frame:
    changes = [LoadChange(0.0, LoadPoint(concurrency=before))]
    changes += [] if hand_s is None else [LoadChange(hand_s, LoadPoint(concurrency=load))]
    made = {"endpoint": UP, "target": LoadPoint(concurrency=load), "changes": tuple(changes), **fields}
    return Frame(seq=round(t_s * 10), t_s=t_s, **made)


CALM = Condition()


def said(now: Frame, found: Assessment | None = None, condition: Condition = CALM) -> str:
    return Coach(KEYS.__getitem__).see(now, found, condition)


def bound(cause: Bound, *turns: Turn) -> Assessment:
    forecast = Forecast(turns=turns, capacity_now=30, capacity_then=50) if turns else None
    return Assessment(diagnosis=Diagnosis(bound=cause, prediction=forecast), overloaded=True)


def server(running: float) -> ServerSnapshot:
    return ServerSnapshot(t_s=1.0, running=running)


def test_before_anything_is_driven_it_says_how_to_begin_and_stays() -> None:
    coach = Coach(KEYS.__getitem__)
    texts = {coach.see(frame(t_s), None, Condition()) for t_s in range(1, 200)}
    assert texts == {"add load until it breaks: PgUp doubles the users, → adds a few"}


def test_a_raised_load_is_given_its_time_then_more_is_offered() -> None:
    coach, well = Coach(KEYS.__getitem__), Assessment(slo=SloVerdict(ok=True))
    coach.see(frame(1), well, Condition())
    assert "ten seconds" in coach.see(frame(9, 8, hand_s=8), well, Condition())
    assert "all is well at 8: PgUp doubles" in coach.see(frame(20, 8, hand_s=8), well, Condition())
    assert coach.see(frame(20 + STANDS_S, 8, hand_s=8), well, Condition()) == ""


def test_slots_are_told_with_what_runs_and_the_number_of_the_advice() -> None:
    coach = Coach(KEYS.__getitem__)
    calm, slow = (Window(ttft=Distribution(n=50, p50=ms)) for ms in (50.0, 110.0))
    live = replace(UP, knobs={"max_num_seqs": 32.0})
    coach.see(frame(1, window=calm), Assessment(), Condition())
    found = bound(Bound.QUEUE, Turn(knob="slots", now=32, then=64))
    now = frame(40, 48, hand_s=20, window=slow, server=server(32), endpoint=live)
    assert coach.see(now, found, Condition()) == (
        "TTFT has doubled with 32 running: the slot limit; press k, give it 64"
    )


def test_figures_of_a_line_stand_still_while_it_stands() -> None:
    coach = Coach(KEYS.__getitem__)
    coach.see(frame(1, window=Window(ttft=Distribution(n=50, p50=50.0))), Assessment(), Condition())
    texts = {
        coach.see(
            frame(
                40 + at,
                48,
                hand_s=20,
                window=Window(ttft=Distribution(n=50, p50=1300.0 + 60 * (at % 2)), preemptions_per_s=float(at % 2)),
                server=server(32 - at % 2),
            ),
            bound(Bound.KV),
            Condition(),
        )
        for at in range(10)
    }
    assert texts == {"TTFT is x26: the KV cache is full; k asks what more gives"}


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (Bound.QUEUE, "the slot limit; k asks what more gives"),
        (Bound.KV, "the KV cache is full; k asks"),
        (Bound.TOKEN_BUDGET, "prompts wait for tokens of a step"),
        (Bound.COMPUTE, "computes for all; PgDn"),
        (Bound.MEMORY, "memory bandwidth; PgDn"),
        (Bound.NETWORK, "between here and there; PgDn"),
    ],
)
def test_each_limit_has_its_words_and_a_key(cause: Bound, words: str) -> None:
    text = said(frame(40, 48, hand_s=20, server=server(32)), bound(cause))
    assert words in text
    assert len(text) <= ROOM


def test_a_knob_that_is_to_be_kept_is_not_advised_against_the_verdict() -> None:
    live = replace(UP, knobs={"max_num_seqs": 32.0})
    now = frame(40, 48, hand_s=20, server=server(32), endpoint=live)
    best = bound(Bound.QUEUE)
    best = replace(best, diagnosis=replace(best.diagnosis, prediction=Forecast(capacity_now=9, capacity_then=9)))
    assert said(now, best).endswith("the slot limit; PgDn halves the load")
    leak = bound(Bound.KV)
    leak = replace(leak, diagnosis=replace(leak.diagnosis, advice="restart the server, and report the leak"))
    assert "k" not in said(now, leak).rpartition("; ")[2].split()
    wait = replace(best, diagnosis=replace(leak.diagnosis, bound=Bound.QUEUE, advice=wait_for(2, 91.0, 1, 3)))
    assert said(now, wait).endswith("the slot limit; more replicas are coming")
    other = bound(Bound.KV, Turn(knob="slots", now=32, then=12))
    assert said(now, other).endswith("k turns the named knob")


def test_a_knob_that_turned_is_told_as_the_comparison_says_it() -> None:
    known = Comparison(changed="max_num_seqs 32 → 64", gain=Gain.MORE, text="max_num_seqs 32 → 64: 28 → 50 users")
    assert said(frame(90, hand_s=20), Assessment(compared=known)) == known.text
    open_ = Assessment(compared=replace(known, gain=Gain.OPEN))
    assert said(frame(90, hand_s=20), open_) == "max_num_seqs 32 → 64: drive the same loads again"
    by_demo = Condition(note="shows the slots", pilot="demo")
    assert "drive" not in said(frame(90, hand_s=20), open_, by_demo)
    known = Comparison(changed="64/32 → 96/48 tok", gain=Gain.MORE, text="64/32 → 96/48 tok: 28 → 50 users")
    assert known.text not in said(frame(90, hand_s=20), Assessment(compared=known), by_demo), "its captions tell"


@pytest.mark.parametrize(
    ("fields", "condition", "words"),
    [
        ({"endpoint": replace(UP, state=EndpointState.DOWN)}, Condition(), "x stops the load"),
        ({"endpoint": replace(UP, awaited="no token yet")}, Condition(), "q leaves"),
        ({"client": ClientHealth(t_s=1, state="red")}, Condition(), "the limit is this machine"),
        ({"braked": "too many errors"}, Condition(), "PgUp tries again"),
        ({}, Condition(offer=Offer(3.0, LoadPoint(concurrency=8), "back")), "Enter drives the load of before, Esc"),
        ({}, Condition(note="testing 8", pilot="search"), "s ends it"),
        ({}, Condition(note="holds 8", pilot="hold"), "h ends it"),
        ({}, Condition(note="explores", pilot="map"), "n s ends it"),
        ({"stage": "ramp"}, Condition(), "any slider takes the wheel"),
        ({"replay": ReplayPosition(60, 1, True)}, Condition(), "space plays and pauses; [ ] go 10 s, { } to marks"),
    ],
)
def test_states_and_wheels_have_their_words(fields: dict[str, Any], condition: Condition, words: str) -> None:
    text = said(frame(40, hand_s=20, **fields), Assessment(), condition)
    assert words in text
    assert len(text) <= ROOM + 3


def test_trouble_takes_the_line_at_once_and_goes_with_its_reason() -> None:
    coach = Coach(KEYS.__getitem__)
    coach.see(frame(1), None, Condition())
    down = replace(UP, state=EndpointState.DOWN)
    assert "does not answer" in coach.see(frame(1.5, endpoint=down), None, Condition())
    assert "does not answer" not in coach.see(frame(2, hand_s=1), None, Condition())


def test_a_missed_slo_and_a_found_cliff_follow_each_other() -> None:
    coach = Coach(KEYS.__getitem__)
    missed = Assessment(slo=SloVerdict(ok=False), headline="settling… · not enough data")
    assert "SLO" not in coach.see(frame(30, hand_s=20), missed, Condition())
    found = Assessment(
        headline="SLO FAIL TTFT p95>2s",
        slo=SloVerdict(ok=False),
        cliff=CliffVerdict(kind=Kind.CLIFF, at=32, low=30, high=34),
    )
    assert "h holds" in coach.see(frame(60, hand_s=20), found, Condition())
    assert "w tells why, e writes a report, f saves" in coach.see(frame(61 + STANDS_S, hand_s=20), found, Condition())
    assert coach.see(frame(62 + 2 * STANDS_S, hand_s=20), found, Condition()) == ""


@pytest.mark.parametrize(
    "condition",
    [Condition(lost="gone"), Condition(draining=True), Condition(frozen=True), Condition(wheel=Wheel(mine=False))],
)
def test_it_is_silent_where_its_keys_would_do_nothing(condition: Condition) -> None:
    assert said(frame(40), bound(Bound.QUEUE), condition) == ""


SITUATIONS = st.sampled_from([*Bound])


@given(st.lists(st.tuples(st.floats(0.2, 30), SITUATIONS, st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_it_never_names_a_cause_that_the_house_has_not_found(happens: list[tuple[float, Bound, bool, bool]]) -> None:
    """Nor says a lesson more than twice, nor takes a line away before it could be read, but where it is so no more."""
    names = {
        Bound.QUEUE: "slot limit", Bound.KV: "KV cache", Bound.TOKEN_BUDGET: "tokens of a step",
        Bound.COMPUTE: "computes for all", Bound.MEMORY: "memory bandwidth", Bound.NETWORK: "between here",
    }  # fmt: skip
    coach, t_s, told, since = Coach(KEYS.__getitem__), 1.0, "", 0.0
    begun: dict[str, int] = {}
    for lasts, cause, late, ok in happens:
        t_s += lasts
        found = replace(bound(cause), slo=SloVerdict(ok=ok), headline="SLO OK" if ok else "SLO FAIL")
        text = coach.see(frame(t_s, 48, hand_s=2, server=server(32)), found, Condition(late=late))
        for name, words in names.items():
            if words in text:
                assert name is cause
                assert not late
        if text != told:
            if text:
                begun[text] = begun.get(text, 0) + 1
            if told and t_s - since < LEAST_S:
                assert told not in ("", text)
                assert any(words in told for words in names.values()) or "SLO" in told or "all is well" in told
            told, since = text, t_s
    assert all(count <= MOST for count in begun.values())
