"""A plan of several loads is a yes only if each of them is one, on whatever axis and at whatever lengths."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from facts_by_hand import facts_of, record
from msgspec import Struct
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis.assess import assess
from llmtop.analysis.parts import BORDER_S, configurations, held_loads
from llmtop.analysis.segments import segments_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import Axis, Hold, LoadPlan, LoadPoint, Ramp, Replay, Shape, Stage, Steps
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome
from llmtop.domain.run import Ending, LoadChange
from llmtop.domain.samples import LoadBin
from llmtop.domain.slo import parse_slo
from llmtop.meter.facts import Facts

SLO = parse_slo("ttft_p95<2s,error_ratio<1%")
SECONDS = 60.0
OK_S, LATE_S, ANSWER_S = 0.1, 3.0, 0.4


class Driven(Struct, frozen=True):
    """A stage of a minute at one load, and what its requests met."""

    axis: Axis
    load: float
    ttft_s: float = OK_S
    prompt_tokens: int = 192
    refused: bool = False
    begins_late_s: float = 0.0
    """So long after its beginning the first token is late."""

    @property
    def per_s(self) -> float:
        """Requests that it made, by Little's law."""
        return self.load if self.axis == "rate" else self.load / (self.ttft_s + ANSWER_S)


def users(load: float, ttft_s: float = OK_S, **more: object) -> Driven:
    return Driven("concurrency", load, ttft_s, **more)  # type: ignore[arg-type]


def rate(load: float, ttft_s: float = OK_S, **more: object) -> Driven:
    return Driven("rate", load, ttft_s, **more)  # type: ignore[arg-type]


def facts_and_plan(stages: Sequence[Driven]) -> tuple[Facts, LoadPlan]:
    base, requests, bins, changes, planned = LoadPoint(concurrency=1), [], [], [], []
    for i, stage in enumerate(stages):
        start_s, name = i * SECONDS, f"stage {i}"
        point = replace(base.at(stage.axis, stage.load), prompt_tokens=stage.prompt_tokens)
        changes.append(LoadChange(start_s, point, "stage", name))
        shape = Hold(point.concurrency, point.rate_rps)
        planned.append(Stage(name=name, duration_s=SECONDS, shape=shape, prompt_tokens=stage.prompt_tokens))
        sent_s = start_s + np.arange(0.01, SECONDS - 5, 1 / stage.per_s)
        outcome = Outcome.HTTP_ERROR if stage.refused else Outcome.OK
        felt_s = np.where(sent_s < start_s + stage.begins_late_s, LATE_S, stage.ttft_s)
        requests += [
            record(float(t), ttft_s=float(ttft_s), e2e_s=float(ttft_s) + ANSWER_S, outcome=outcome)
            for t, ttft_s in zip(sent_s, felt_s, strict=True)
        ]
        flying = max(1, round(stage.per_s * (stage.ttft_s + ANSWER_S)))
        edges_s = start_s + 0.25 * np.arange(1, round(4 * SECONDS) + 1)
        bins += [LoadBin(t_s=float(t), span_s=0.25, target=stage.load, in_flight=flying) for t in edges_s]
    facts = facts_of(requests=requests, bins=bins)
    facts.changes = list(changes)
    return facts, LoadPlan(stages=tuple(planned), base=base)


def answered(stages: Sequence[Driven], question: Question | None = None, peak: float | None = None) -> Assessment:
    facts, plan = facts_and_plan(stages)
    profile = Profile(name="p", plan=plan, question=question, peak=peak, slo=SLO)
    ended_s = SECONDS * len(stages)
    meta = replace(meta_of(), profile=profile, ended_s=ended_s, ending=Ending.PLAN)
    return assess(facts, meta, SLO, now_s=ended_s)


HOLD, PEAK, CAPACITY = Question.HOLD, Question.PEAK, Question.CAPACITY


@pytest.mark.parametrize("question", [None, HOLD, PEAK, CAPACITY])
@pytest.mark.parametrize(
    ("stages", "names"),
    [
        ([users(4), rate(8, LATE_S)], "8 requests/s"),
        ([rate(8, LATE_S), users(4)], "8 requests/s"),
        ([users(8, LATE_S), rate(4)], "8 concurrent users"),
        ([rate(4), users(8, LATE_S)], "8 concurrent users"),
        ([users(4), rate(8, refused=True)], "8 requests/s"),
        ([rate(8, refused=True), users(4)], "8 requests/s"),
        ([users(8, LATE_S, prompt_tokens=900), users(4, prompt_tokens=100)], "900/64 tokens"),
    ],
)
def test_one_stage_that_fails_is_a_no_that_names_it(
    stages: list[Driven], names: str, question: Question | None
) -> None:
    judgement = answered(stages, question, peak=4.0 if question is PEAK else None).judgement
    assert judgement.ok is False
    assert names in judgement.sentence
    assert judgement.reasons or question in (None, CAPACITY)


@pytest.mark.parametrize(("late_s", "kept"), [(0.2, True), (0.6, True), (1.0, False)])
def test_what_is_said_to_be_carried_is_not_what_was_just_said_not_to_be_kept(
    late_s: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late at first, of 15 s: 5 % are 0.75 s. A level leaves out the first moments of its load, and has none late."""
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 20.0)
    found = answered([users(4), users(8, begins_late_s=late_s)], HOLD)
    capacity = found.capacity
    assert found.judgement.ok is kept
    assert (capacity.at_slo, capacity.fails_at, capacity.lowered) == ((8, None, False) if kept else (4, 8, True))
    assert capacity.recommended == capacity.at_slo
    if not kept:
        assert capacity.sentence.startswith(
            "supports 4 concurrent users at the SLO: 8, from the first moment on, missed"
        )
    alone = answered([users(8, begins_late_s=late_s)], HOLD)
    assert (alone.judgement.ok, alone.capacity.at_slo) == (kept, 8 if kept else None)


@pytest.mark.parametrize("question", [None, HOLD, PEAK, CAPACITY])
def test_stages_that_hold_on_both_axes_are_a_yes_that_tells_of_both(question: Question | None) -> None:
    judgement = answered([users(4), rate(8)], question, peak=8.0 if question is PEAK else None).judgement
    assert judgement.ok is True
    assert "4 concurrent users" in judgement.sentence
    assert "8 requests/s" in judgement.sentence


@pytest.mark.parametrize(("question", "at"), [(HOLD, "0.100 requests/s"), (None, "open loop: too few")])
def test_a_stage_of_too_few_requests_is_no_yes(question: Question | None, at: str) -> None:
    judgement = answered([rate(0.1), users(4)], question).judgement
    assert judgement.ok is None
    assert at in judgement.sentence
    assert "TTFT p95 needs 59 requests, 6 came" in judgement.sentence


HOUR, AT, BEYOND = 2.0, 4.0, 5.0
"""The mean of the busiest hour, the peak of ten minutes, and a quarter more."""


@pytest.mark.parametrize(
    ("late_from", "question", "ok", "told"),
    [
        (9.0, HOLD, True, "the SLO is kept at 2, 4 and 5 requests/s"),
        (9.0, PEAK, True, "kept up to the expected peak of 4 requests/s; no break as far as was driven, to 5"),
        (9.0, None, True, "supports at least 5 requests/s"),
        (AT, HOLD, False, "the SLO is not kept at 4 and 5 requests/s, kept at 2 requests/s"),
        (AT, PEAK, False, "not kept up to the expected peak of 4 requests/s"),
        (AT, None, True, "pass 2, fail 4"),
        (BEYOND, HOLD, False, "the SLO is not kept at 5 requests/s, kept at 2 and 4 requests/s"),
        (BEYOND, PEAK, True, "kept up to the expected peak of 4 requests/s; it breaks at 5"),
        (BEYOND, None, True, "pass 4, fail 5"),
    ],
)
def test_mean_hour_peak_and_a_quarter_more_are_told_in_requests_a_second(
    late_from: float, question: Question | None, ok: bool, told: str
) -> None:
    stages = [rate(load, LATE_S if load >= late_from else OK_S) for load in (HOUR, AT, BEYOND)]
    judgement = answered(stages, question, peak=AT if question is PEAK else None).judgement
    assert judgement.ok is ok
    assert told in judgement.sentence
    assert "users" not in judgement.sentence


def test_a_calm_hour_of_many_requests_does_not_make_up_for_a_peak_that_failed() -> None:
    calm, peak = rate(40), rate(2, LATE_S)
    judgement = answered([calm, peak], HOLD).judgement
    assert judgement.ok is False
    assert "not kept at 2 requests/s, kept at 40 requests/s" in judgement.sentence


def changes_of(*moves: tuple[float, LoadPoint, str]) -> list[LoadChange]:
    return [LoadChange(t_s, point, "stage", stage) for t_s, point, stage in moves]


def planned(*stages: tuple[str, Shape]) -> LoadPlan:
    return LoadPlan(stages=tuple(Stage(name=name, duration_s=10.0, shape=shape) for name, shape in stages))


def test_a_ramp_holds_no_load_and_asks_for_its_configuration() -> None:
    eight = LoadPoint(concurrency=8)
    changes = changes_of((0.0, LoadPoint(concurrency=4), "up"), (5.0, eight, "up"), (10.0, eight, "stay"))
    plan = planned(("up", Ramp(0, 8)), ("stay", Hold(concurrency=8)))
    (held,) = held_loads(changes, plan)
    (configured,) = configurations(changes, plan)
    assert held.spans == [(10.0, np.inf)]
    assert (configured.spans, configured.top) == ([(0.0, np.inf)], 8)


def test_the_levels_of_one_stage_are_judged_together_as_a_smoke_test_has_few_requests_at_each() -> None:
    plan = planned(("steps", Steps((4, 8))), ("stay", Hold(concurrency=8)))
    four, eight = LoadPoint(concurrency=4), LoadPoint(concurrency=8)
    changes = changes_of((0.0, four, "steps"), (5.0, eight, "steps"), (10.0, eight, "stay"))
    steps, stay = held_loads(changes, plan)
    assert (steps.low, steps.top, steps.spans) == (4, 8, [(0.0, 10.0)])
    assert (stay.low, stay.top) == (8, 8)


def test_what_repeats_a_hand_asks_only_of_where_it_ends() -> None:
    long, short = LoadPoint(concurrency=8, prompt_tokens=900), LoadPoint(concurrency=8)
    plan = planned(("replay", Replay(((0.0, long), (5.0, short)))))
    assert configurations(changes_of((0.0, long, "replay"), (5.0, short, "replay")), plan) == ()


def test_what_is_sent_while_the_next_load_is_not_yet_told_is_of_neither() -> None:
    plan = planned(("a", Hold(concurrency=4)), ("b", Hold(concurrency=8)))
    changes = changes_of((0.0, LoadPoint(concurrency=4), "a"), (10.0, LoadPoint(concurrency=8), "b"))
    first, second = held_loads(changes, plan)
    times_s = np.array([10.0 - BORDER_S - 0.01, 10.0 - 0.01, 10.0])
    assert first.during(times_s).tolist() == [True, False, False]
    assert second.during(times_s).tolist() == [False, False, True]


@pytest.mark.parametrize("question", [HOLD, PEAK, CAPACITY])
def test_the_end_of_a_load_of_rates_is_no_load_of_users(question: Question) -> None:
    facts, plan = facts_and_plan([rate(4), rate(8)])
    ended_s = 2 * SECONDS
    facts.changes.append(LoadChange(ended_s, plan.base.at("concurrency", 0), "stage"))
    profile = Profile(name="p", plan=plan, question=question, peak=8.0 if question is PEAK else None, slo=SLO)
    meta = replace(meta_of(), profile=profile, ended_s=ended_s + 1, ending=Ending.PLAN)
    assert len({segment.key for segment in segments_of(facts, meta)}) == 1
    judgement = assess(facts, meta, SLO, now_s=ended_s + 1).judgement
    assert judgement.ok is True
    assert "8 requests/s" in judgement.sentence
