"""What is found of each configuration that a plan drove."""

from __future__ import annotations

from dataclasses import replace

from llmtop.analysis import buffering
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.judge import judge
from llmtop.analysis.judgement import Findings
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.parts import Part, configurations
from llmtop.analysis.recent import limits_of, measured_lengths
from llmtop.analysis.segments import asked_for
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind
from llmtop.meter.facts import Facts


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
