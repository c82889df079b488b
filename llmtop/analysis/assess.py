"""Opinions over facts: everything that the screen, the report and `llmtop assess` say about a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from llmtop.analysis import buffering
from llmtop.analysis.balance import replica_figures, rows_of
from llmtop.analysis.bends import curve_verdicts
from llmtop.analysis.capacity import capacity_of, worth_trying
from llmtop.analysis.case import Case
from llmtop.analysis.cause import cause_of
from llmtop.analysis.compared import comparison_of
from llmtop.analysis.cost import costs_of
from llmtop.analysis.cut import Cut, cut_of
from llmtop.analysis.fail_on import judge_thresholds, unjudged
from llmtop.analysis.failing import what_all_get, why_all_failed
from llmtop.analysis.findings import Findings, question_of
from llmtop.analysis.headline import failing_headline, headline
from llmtop.analysis.judgement import judge_run
from llmtop.analysis.kinds import By, by_kind, calls_of, visits_of
from llmtop.analysis.measured import Ledger
from llmtop.analysis.named import capacity_by_name, judge_kinds
from llmtop.analysis.noted import notes_of, path_note
from llmtop.analysis.partwise import by_part, capacity_as_held, planned_parts
from llmtop.analysis.points import shown_curve
from llmtop.analysis.recent import PROOF_S, as_counted, last_change_s, overloaded_now, slo_sample
from llmtop.analysis.scaling import scalings_of
from llmtop.analysis.slo import judge_named, judge_slo, with_named
from llmtop.analysis.soak import BY_ARRIVAL, drifts_of
from llmtop.analysis.spikes import recoveries_of
from llmtop.analysis.supply import gpus_told, supply_of_run
from llmtop.analysis.tested import found
from llmtop.analysis.votes import SETTLED_S
from llmtop.analysis.whatif import what_ifs
from llmtop.domain.assessment import Assessment
from llmtop.domain.cost import Costs
from llmtop.domain.foresight import WhatIf
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Metric, Slo
from llmtop.domain.thresholds import RunThreshold
from llmtop.domain.verdicts import Capacity, CliffVerdict, Diagnosis, Kind, SloVerdict
from llmtop.meter.facts import Facts
from llmtop.meter.replicas import imbalance
from llmtop.wording.between import no_verdict, prompts_cut
from llmtop.wording.sentences import CLIENT_SLOW, configuration, sentence

KINDS: dict[By, str] = {"name": "by_name", "model": "by_model"}
_DRIFT_FROM_S = 300.0
"""Shorter live runs are not searched for drift."""


def assess(
    facts: Facts,
    meta: RunMeta,
    slo: Slo,
    *,
    now_s: float,
    previous: Assessment | None = None,
    full: bool = True,
    ledger: Ledger | None = None,
    thresholds: Sequence[RunThreshold] = (),
) -> Assessment:
    """Judge a run so far, or a finished one (`meta.ended_s` set).

    Args:
        now_s: seconds since the start of the run.
        previous: the last assessment of the same run, for display hysteresis.
        full: False is for the live screen: fewer bootstrap draws, no tail verdicts, no drift.
        ledger: of the same run, kept by whoever asks again and again; without one all is reckoned anew.
        thresholds: what the run may not come to; judged once it is over.
    """
    case = Case(facts, meta, slo, now_s, previous, full, Ledger() if ledger is None else ledger)
    if not case.curves:
        return _before_any_curve(case, thresholds)
    cliffs, cliff, judged_requests = curve_verdicts(case)
    capacity, cut, over_time = _capacity(case, cliff), cut_of(facts), _over_time(case)
    cliff = worth_trying(cliff, capacity, failing=not case.over and case.recent.all_fail)
    findings = Findings(case.requests, case.current.levels, capacity, cliff, _configuration(case, cut), **over_time)
    verdict, judgement, findings = _answer(case, findings, thresholds)
    capacity = findings.capacity
    if not case.over:
        verdict = _slo_of_now(case)
        cliff = _nearer(cliff, capacity, verdict, case.point.value)
    diagnosis = cause_of(case, verdict, cliff, capacity, findings.drifts)
    kinds = _kinds(case, findings, judgement)
    replicas = replica_figures(facts) if previous is None or case.anew else previous.replicas
    figures_stand = case.arrival is None and not case.mute
    return Assessment(
        t_s=now_s,
        headline=_headline(case, verdict, capacity, cliff, diagnosis, judgement, cut),
        slo=buffering.with_spoilt(verdict, slo, case.arrival),
        cliff=cliff,
        cliffs=cliffs,
        diagnosis=diagnosis,
        capacity=capacity,
        curves=tuple(shown_curve(curve, case.slo, curve is not case.current, case.arrival) for curve in case.curves),
        **over_time,
        judgement=judgement,
        replicas=replicas,
        imbalance=imbalance(rows_of(replicas)),
        overloaded=_overloaded(case),
        judged_requests=judged_requests,
        failures=facts.failures.groups(),
        compared=comparison_of(case.curves, capacity, case.slo) if figures_stand and not capacity.lowered else None,
        what_if=_fewer_slots(case, cliff, capacity, diagnosis) if figures_stand and not judgement.void else (),
        **kinds,
        costs=_costs(case, capacity, judgement),
        path=path_note(case),
        notes=(
            *notes_of(case, cut, (*kinds["by_name"], *kinds["by_model"]), findings.drifts),
            *judgement.left_out,
        ),
    )


def _before_any_curve(case: Case, thresholds: Sequence[RunThreshold]) -> Assessment:
    """Of a run that has no level yet: what it waits for, or why it waits in vain."""
    facts, meta, over, now_s = case.facts, case.meta, case.over, case.now_s
    told = sentence(why_all_failed(facts)) if case.all_failed else _waiting_headline(facts, meta)
    limits = unjudged(thresholds) if over else ()
    question = question_of(facts, meta.profile)
    judgement = Judgement(question=question, sentence=told, final=over, thresholds=limits)
    kinds = _figures_by_kind(facts, meta, ())
    if not case.all_failed:
        return Assessment(t_s=now_s, headline=told, cliff=_nothing(meta), judgement=judgement, **kinds)
    line = failing_headline(None, what_all_get(facts), judgement)
    return Assessment(t_s=now_s, headline=line, judgement=judgement, failures=facts.failures.groups(), **kinds)


def _nothing(meta: RunMeta) -> CliffVerdict:
    top = meta.profile.caps.max_concurrency
    return CliffVerdict(kind=Kind.INSUFFICIENT, next_levels=tuple(level for level in (4, 8) if level <= top))


def _waiting_headline(facts: Facts, meta: RunMeta) -> str:
    """What to do where nothing has ended: nothing more while some load is on, or after the end."""
    if meta.ended_s is not None:
        return "no request has finished"
    loaded = bool(facts.changes) and facts.changes[-1].point.value > 0
    tried = "" if loaded else " then ".join(f": try {n}" for n in _nothing(meta).next_levels[:1])
    return f"no request has finished yet{tried}"


def _capacity(case: Case, cliff: CliffVerdict) -> Capacity:
    """How much is carried at the SLO, as a search tested it or the levels say; each name alone may lower it."""
    levels = case.current.levels
    capacity = found(case.facts, case.slo, case.embeds) or capacity_of(
        levels, case.slo, cliff, case.limits, case.driven
    )
    capacity = Capacity() if case.mute else buffering.unproven(capacity, case.whole_slo, case.arrival)
    return capacity_by_name(
        case.facts, case.meta, case.slo, Findings(case.requests, levels, capacity, cliff), case.now_s
    )


def _over_time(case: Case) -> dict[str, Any]:
    """Drifts, recoveries from spikes and how the deployment scaled, as fields; a live screen keeps those of before."""
    facts, previous, requests, now_s = case.facts, case.previous, case.requests, case.now_s
    before = () if previous is None else previous.scalings
    if not case.full:
        drifts, recoveries = ((), ()) if previous is None else (previous.drifts, previous.recoveries)
        return {"drifts": drifts, "recoveries": recoveries, "scalings": before}
    void = BY_ARRIVAL if case.arrival else ()
    recoveries = recoveries_of(facts, case.meta.profile.plan, case.slo, requests, now_s)
    return {
        "drifts": drifts_of(facts, now_s, requests, void=void) if now_s >= _DRIFT_FROM_S else (),
        "recoveries": recoveries,
        "scalings": scalings_of(facts, case.slo, requests, recoveries, now_s, before),
    }


def _configuration(case: Case, cut: Cut | None) -> str:
    """What was driven, in words: server, slots, cards and lengths, and what prompts were cut to."""
    info, limits, point = case.meta.info, case.limits, case.point
    server = info.server if info is not None else None
    slots = limits.own_slots if limits.gate is not None else limits.max_num_seqs
    several = len({part.key[1:3] for part in planned_parts(case.facts, case.meta)}) > 1
    counted = as_counted(case.driven, limits, own=case.meta.profile.workload.source != "synthetic")
    named = configuration(server or case.table.title, slots, limits.gpus, None if several else counted, gate=point.gate)
    return named if cut is None else f"{named} ({prompts_cut(cut.used, cut.sent)})"


def _answer(
    case: Case, findings: Findings, thresholds: Sequence[RunThreshold]
) -> tuple[SloVerdict, Judgement, Findings]:
    """The SLO over what the run's question is about, the answer, and the findings that it rests on in the end."""
    facts, meta, slo, now_s = case.facts, case.meta, case.slo, case.now_s
    findings = dataclasses.replace(findings, unjudged=_unjudged(case))
    parts = planned_parts(facts, meta)
    if case.over and parts:
        findings = by_part(parts, facts, meta, slo, findings, case.ledger, now_s, case.arrival)
    verdict, judgement = judge_run(facts, meta, slo, findings, now_s)
    if case.over and judgement.ok is False:
        findings = dataclasses.replace(findings, capacity=capacity_as_held(facts, meta, slo, findings, now_s))
    if case.over and thresholds:
        spoilt = "" if case.arrival is None else no_verdict(buffering.SPOILT, case.whole)
        told = judge_thresholds(thresholds, facts, meta, slo, findings, now_s, judgement, spoilt)
        judgement = msgspec.structs.replace(judgement, thresholds=told)
    return verdict, judgement, findings


def _unjudged(case: Case) -> str:
    """Why limits that were asked for cannot be judged; empty: all can."""
    asked = buffering.spoilt_limits(case.whole_slo, case.arrival)
    wanted = asked or (buffering.SPOILT if case.meta.profile.question is Question.SOAK else ())
    return "" if case.arrival is None or not wanted else no_verdict(wanted, case.whole)


def _slo_of_now(case: Case) -> SloVerdict:
    now = slo_sample(case.facts, case.meta, case.requests, case.now_s)
    return with_named(judge_slo(now, case.slo), judge_named(now, case.slo, case.facts.names), case.slo)


def _nearer(cliff: CliffVerdict, capacity: Capacity, verdict: SloVerdict, load: float) -> CliffVerdict:
    """What to try next, where the SLO fails at the load of now: nothing above."""
    if verdict.ok is not False or load <= 0:
        return cliff
    return worth_trying(cliff, msgspec.structs.replace(capacity, fails_at=min(capacity.fails_at or math.inf, load)))


def _kinds(case: Case, findings: Findings, judgement: Judgement) -> dict[str, Any]:
    """Figures by name, by model, of visits and of calls, with the limits that each breaks; else those of before."""
    if case.previous is not None and not case.anew:
        return {name: getattr(case.previous, name) for name in (*KINDS.values(), "sessions", "calls")}
    facts, meta = case.facts, case.meta
    kinds = _figures_by_kind(facts, meta, () if case.arrival is None else buffering.SPOILT)
    if not case.mute and not judgement.void:
        for by, name in KINDS.items():
            own = kinds[name]
            kinds[name] = judge_kinds(facts, meta, case.slo, findings, case.now_s, by, own) if own else ()
    return kinds


def _figures_by_kind(facts: Facts, meta: RunMeta, void: Sequence[Metric]) -> dict[str, Any]:
    """As fields of an `Assessment`."""
    model = meta.endpoint.model if meta.info is None else meta.info.model
    return {
        "by_name": by_kind(facts, "name", void),
        "by_model": by_kind(facts, "model", void, unnamed=model or ""),
        "sessions": visits_of(facts, void),
        "calls": calls_of(facts),
    }


def _headline(
    case: Case,
    verdict: SloVerdict,
    capacity: Capacity,
    cliff: CliffVerdict,
    diagnosis: Diagnosis,
    judgement: Judgement,
    cut: Cut | None,
) -> str:
    """The verdict under the header."""
    # the last load that a search tried is no news once it has found what it sought
    sought = not case.over and case.facts.searches and case.point.value == 0
    proven = None if sought else verdict
    if case.all_failed:
        return failing_headline(proven, what_all_get(case.facts), judgement)
    top = max((level.load for level in case.current.levels), default=None)
    buffered, cut_to = case.arrival is not None, "" if cut is None else prompts_cut(cut.used, cut.sent)
    settling = not case.over and _settles(case.facts, verdict, case.point, case.now_s)
    return headline(case.slo, proven, capacity, cliff, diagnosis, top, judgement, buffered, cut_to, settling)


def _settles(facts: Facts, verdict: SloVerdict, point: LoadPoint, now_s: float) -> bool:
    """Whether a live load has changed so lately that what fails, or is not known, is the move's doing."""
    since_s = now_s - last_change_s(facts, now_s)
    return point.value > 0 and (
        since_s < SETTLED_S if verdict.ok is False else verdict.ok is None and since_s < PROOF_S
    )


def _overloaded(case: Case) -> bool:
    requests, levels = case.current.requests, case.current.levels
    base_s = float(np.median(levels[0].ttft_s)) if levels and len(levels[0].ttft_s) else None
    before = case.before is not None and case.before.overloaded
    return overloaded_now(case.facts, case.requests, base_s, case.now_s, before, requests.service_s)


def _fewer_slots(case: Case, cliff: CliffVerdict, capacity: Capacity, diagnosis: Diagnosis) -> tuple[WhatIf, ...]:
    """What fewer slots would give."""
    curve = case.current
    return what_ifs(curve.levels, case.limits, case.slo, curve.axis, cliff, capacity, diagnosis)


def _costs(case: Case, capacity: Capacity, judgement: Judgement) -> Costs | None:
    facts, meta, curve = case.facts, case.meta, case.current
    told = curve.traits or (() if meta.info is None else meta.info.traits)
    supply = supply_of_run(facts, curve.levels, gpus_told(facts, told), by_ttft=case.arrival is None)
    void = CLIENT_SLOW if judgement.void else ""
    return costs_of(supply, meta.profile.stated_cost, capacity, curve.axis, void)
