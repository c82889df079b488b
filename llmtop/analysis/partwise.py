"""What is found of each configuration and each load that a plan drove."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from llmtop.analysis import buffering
from llmtop.analysis.capacity import capacity_of, lowered_to
from llmtop.analysis.findings import Findings, Run, question_of
from llmtop.analysis.judge import judge
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.parts import Part, configurations
from llmtop.analysis.recent import limits_of, measured_lengths
from llmtop.analysis.segments import asked_for
from llmtop.analysis.slo import judge_slo
from llmtop.domain.profile import Question
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind
from llmtop.meter.facts import Facts
from llmtop.wording import answers


def planned_parts(facts: Facts, meta: RunMeta) -> tuple[Part, ...]:
    """The configurations that a plan drove, where it drove several; () once a hand has taken the wheel."""
    if any(change.reason == "hand" for change in facts.changes):
        return ()
    parts = configurations(facts.changes, meta.profile.plan)
    return parts if len(parts) > 1 else ()


def by_part(
    parts: tuple[Part, ...],
    facts: Facts,
    meta: RunMeta,
    slo: Slo,
    found: Findings,
    ledger: Ledger,
    now_s: float,
    arrival: buffering.Arrival | None = None,
) -> Findings:
    """The findings of a run, with those of each part. `found` is of the configuration that was driven last."""
    curves: dict[tuple[object, ...], MeasuredCurve] = {}
    for each in ledger.curves(facts, meta, found.requests, now_s, every=True):
        curves[asked_for(each.point)] = each
    own = []
    for part in parts:
        requests, curve = found.requests.pick(part.during(found.requests.sent_s)), curves.get(part.key)
        cliff, capacity = CliffVerdict(kind=Kind.INSUFFICIENT, axis=part.point.axis), Capacity()
        if curve is not None and curve.levels:
            limits = measured_lengths(limits_of(facts, meta, curve.point), curve.requests)
            cliff = judge(curve.levels, axis=curve.axis, limits=limits)
            capacity = buffering.unproven(capacity_of(curve.levels, slo, cliff, limits, curve.point), slo, arrival)
        levels = () if curve is None else curve.levels
        own.append(replace(found, requests=requests, levels=levels, capacity=capacity, cliff=cliff, part=part))
    return replace(found, parts=tuple(own))


def capacity_as_held(facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> Capacity:
    """The capacity that the levels have, lowered to below each load that a plan held and that broke the SLO there.

    A level leaves out the first moments of its load, and the answer to a hold does not: what is said to be carried must
    not be what was just said not to be kept.
    """
    capacity, axis = found.capacity, found.cliff.axis
    if capacity.at_slo is None or found.parts or question_of(facts, meta.profile) is not Question.HOLD:
        return capacity
    run, broken = Run(facts, meta, slo, found, now_s), []
    for load in run.loads:
        if load.low == load.top <= capacity.at_slo and load.point.axis == axis:
            there = run.of(load)
            verdict = there.with_named(judge_slo(there.everything, slo), there.all_of)
            broken += [(load.top, there.why.misses(verdict))] if verdict.ok is False else []
    if not broken or run.void:
        return capacity
    fails_at, missed = min(broken, key=lambda each: each[0])
    held = max((level.load for level in found.levels if level.load < fails_at), default=None)
    lowered = lowered_to(capacity, held, fails_at, axis, "the first moments of a load")
    return structs.replace(lowered, sentence=answers.carried_as_held(held, fails_at, axis, missed))
