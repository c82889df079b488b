"""Opinions over facts: everything that the screen, the report and `llmtop assess` say about a run or a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from llmtop.analysis import buffering
from llmtop.analysis import cliff as cliffs
from llmtop.analysis.advice import advised, exhausted, explained
from llmtop.analysis.balance import replica_figures, rows_of, with_balancer
from llmtop.analysis.capacity import capacity_of, worth_trying
from llmtop.analysis.compared import comparison_of
from llmtop.analysis.cost import costs_of
from llmtop.analysis.cut import cut_of
from llmtop.analysis.diagnosis import by_cliff, of_embeddings, on_this_machine, trust_notes
from llmtop.analysis.display import NEW_REQUESTS, settled
from llmtop.analysis.fail_on import judge_thresholds, unjudged
from llmtop.analysis.failing import all_failed, what_all_get, why_all_failed
from llmtop.analysis.falls import of_this_start, restarts_of
from llmtop.analysis.gate import configured_s
from llmtop.analysis.headline import failing_headline, headline
from llmtop.analysis.judge import UNKNOWN, Limits, judge
from llmtop.analysis.judgement import Findings, judge_run, judge_table, question_of
from llmtop.analysis.kinds import By, by_kind, calls_of, visits_of
from llmtop.analysis.levels import FAINT_BELOW, MIN_REQUESTS_P95, Level, are_embeddings
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.named import capacity_by_name, judge_kinds
from llmtop.analysis.partwise import by_part, capacity_as_held, planned_parts
from llmtop.analysis.readings import driven_lengths, finished_requests, unseen_limits
from llmtop.analysis.recent import (
    PROOF_S,
    as_counted,
    as_ended,
    last_change_s,
    last_held_s,
    limits_of,
    measured_lengths,
    overloaded_now,
    recent_of,
    slo_sample,
)
from llmtop.analysis.scaling import scalings_of
from llmtop.analysis.segments import chapter_notes
from llmtop.analysis.sessions import SHOWN_FROM
from llmtop.analysis.slo import Sample, attainment, judge_named, judge_slo, with_named
from llmtop.analysis.soak import BY_ARRIVAL, drifts_of, leak, replicas
from llmtop.analysis.spikes import recoveries_of
from llmtop.analysis.supply import gpus_told, supply_of, supply_of_run
from llmtop.analysis.tested import found
from llmtop.analysis.votes import FAILING, NOTHING, SETTLED_S, ballots, elected, lasting, renewed
from llmtop.analysis.whatif import what_ifs
from llmtop.dialects import DIALECTS
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.run import LOST, RunMeta
from llmtop.domain.slo import LATENCIES, Latency, Slo, Stat
from llmtop.domain.thresholds import RunThreshold
from llmtop.domain.verdicts import (
    Assessment,
    Bound,
    Capacity,
    CliffVerdict,
    Curve,
    Diagnosis,
    Drift,
    Judgement,
    Kind,
    LevelPoint,
    SloVerdict,
    WhatIf,
)
from llmtop.meter.facts import Facts
from llmtop.meter.replicas import imbalance
from llmtop.wording.between import buffered, no_verdict, prompts_cut, prompts_cut_by
from llmtop.wording.failures import failure_seen
from llmtop.wording.gate import gate_idle
from llmtop.wording.over_time import part
from llmtop.wording.restarts import restart_note
from llmtop.wording.sentences import CLIENT_SLOW, TRANSIENTS, configuration, sentence

QUICK_REPLICATES = 24
"""Bootstrap draws of a live verdict between the full ones."""
TOLD_FAILURES = 3
"""Kinds of failures among the notes; `failures` has them all."""
LIVE_REQUESTS = 32768
"""The newest, which the SLO of now and the diagnosis of a live verdict rest on: a minute of 500 requests/s."""
KINDS: dict[By, str] = {"name": "by_name", "model": "by_model"}
_UNKNOWN = CliffVerdict(kind=Kind.INSUFFICIENT)
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
    over = meta.ended_s is not None
    meta = as_ended(facts, meta)
    requests = finished_requests(facts, None if full or over else LIVE_REQUESTS)
    ledger = Ledger() if ledger is None else ledger
    curves = ledger.curves(facts, meta, requests, now_s)
    if not curves:
        return _before_any_curve(facts, meta, now_s, thresholds)
    requests = of_this_start(facts, requests, over=over)
    hopeless = all_failed(facts)
    current = curves[-1]
    limits = measured_lengths(limits_of(facts, meta, current.point), current.requests)
    arrival = None if hopeless else buffering.arrival_of(facts)
    whole_slo, slo = slo, buffering.judged_by(slo, arrival)
    verdicts, shown, judged = ((), _UNKNOWN, 0) if hopeless else _verdicts(current, limits, previous, full, arrival)
    dialect = meta.info.dialect if meta.info is not None else meta.endpoint.dialect
    table = DIALECTS[dialect or Dialect.OPENAI]
    embeds = meta.profile.workload.api == "embeddings"
    driven = driven_lengths(current.point, embeds)
    capacity = found(facts, slo, embeds) or capacity_of(current.levels, slo, shown, limits, driven)
    capacity = buffering.unproven(capacity, whole_slo, arrival)
    if meta.ending in LOST or hopeless:
        capacity = Capacity()
    capacity = capacity_by_name(facts, meta, slo, Findings(requests, current.levels, capacity, shown), now_s)
    answers = over or current.point.value == 0
    held_s = last_held_s(facts, now_s) if answers else now_s
    recent = recent_of(facts, requests, current.point, held_s if over else now_s)
    shown = worth_trying(shown, capacity, failing=not over and recent.all_fail)
    drifts, recoveries, scalings = (
        ((), (), ()) if previous is None else (previous.drifts, previous.recoveries, previous.scalings)
    )
    if full:
        drifts = drifts_of(facts, now_s, requests, void=BY_ARRIVAL if arrival else ()) if now_s >= _DRIFT_FROM_S else ()
        recoveries = recoveries_of(facts, meta.profile.plan, slo, requests, now_s)
        scalings = scalings_of(facts, slo, requests, recoveries, now_s, scalings)
    server = meta.info.server if meta.info is not None else None
    point = as_counted(driven, limits, own=meta.profile.workload.source != "synthetic")
    slots = limits.own_slots if limits.gate is not None else limits.max_num_seqs
    parts = planned_parts(facts, meta)
    told = None if len({part.key[1:3] for part in parts}) > 1 else point
    named = configuration(server or table.title, slots, limits.gpus, told, gate=current.point.gate)
    cut = cut_of(facts)
    cut_to = "" if cut is None else prompts_cut(cut.used, cut.sent)
    named = f"{named} ({cut_to})" if cut_to else named
    path = "" if arrival is None else buffered(arrival is buffering.Arrival.WHOLE)
    spoilt = buffering.spoilt_limits(whole_slo, arrival)
    wanted = spoilt or (buffering.SPOILT if meta.profile.question is Question.SOAK else ())
    unjudged = "" if arrival is None or not wanted else no_verdict(wanted, arrival is buffering.Arrival.WHOLE)
    grounds = Findings(
        requests, current.levels, capacity, shown, named, drifts, recoveries, scalings=scalings, unjudged=unjudged
    )
    if over and parts:
        grounds = by_part(parts, facts, meta, slo, grounds, ledger, now_s, arrival)
    answered, judgement = judge_run(facts, meta, slo, grounds, now_s)
    if over and judgement.ok is False:
        capacity = capacity_as_held(facts, meta, slo, grounds, now_s)
        grounds = dataclasses.replace(grounds, capacity=capacity)
    verdict = answered
    if over and thresholds:
        spoilt_why = "" if arrival is None else no_verdict(buffering.SPOILT, arrival is buffering.Arrival.WHOLE)
        told_of = judge_thresholds(thresholds, facts, meta, slo, grounds, now_s, judgement, spoilt_why)
        judgement = msgspec.structs.replace(judgement, thresholds=told_of)
    if not over:
        now = slo_sample(facts, meta, requests, now_s)
        verdict = with_named(judge_slo(now, slo), judge_named(now, slo, facts.names), slo)
    if not over and verdict.ok is False and current.point.value > 0:
        failing_now = min(capacity.fails_at or math.inf, current.point.value)
        shown = worth_trying(shown, msgspec.structs.replace(capacity, fails_at=failing_now))
    agreed, votes = 0, list[Diagnosis]()
    here = meta.endpoint.stands_here
    by_curve = on_this_machine(by_cliff(shown)) if here else by_cliff(shown)
    if meta.ending in LOST or hopeless:
        diagnosis = NOTHING
    elif answers and by_curve.bound is not Bound.NONE:
        diagnosis = by_curve
    else:
        pressed = _pressed(verdict, slo)
        votes = ballots(facts, requests, current.point, limits, current.levels, dialect, pressed, held_s)
        votes = list(map(on_this_machine, votes)) if here else votes
        before_now = NOTHING if answers else _shown_before(facts, previous)
        if over and not lasting(facts, requests, held_s):
            votes = [NOTHING if vote.bound in FAILING else vote for vote in votes]
            before_now = NOTHING if before_now.bound in FAILING else before_now
        diagnosis = elected(before_now, votes, by_curve)
        agreed = sum(vote.bound is diagnosis.bound for vote in votes)
    if not hopeless:
        fresh = advised(
            diagnosis, () if arrival else current.levels, limits, whole_slo, shown, capacity, dialect, here=here
        )
        fresh = exhausted(fresh, facts, dialect)
        if embeds:
            fresh = of_embeddings(fresh, limits)
        diagnosis = explained(renewed(_shown_before(facts, previous), fresh), leak(drifts))
        diagnosis = diagnosis if meta.ending in LOST else with_balancer(diagnosis, facts, held_s)
    anew = full or over or previous is None
    kinds = _kinds(facts, meta, previous, anew, arrival)
    if anew and not hopeless and not judgement.void and meta.ending not in LOST:
        for by, name in KINDS.items():
            kinds[name] = judge_kinds(facts, meta, slo, grounds, now_s, by, kinds[name]) if kinds[name] else ()
    unknown = arrival is not None or hopeless or meta.ending in LOST
    fewer: tuple[WhatIf, ...] = ()
    if not unknown and not judgement.void:
        fewer = what_ifs(current.levels, limits, slo, current.axis, shown, capacity, diagnosis)
    compared = None if unknown or capacity.lowered else comparison_of(curves, capacity, slo)
    if votes and diagnosis.bound is not Bound.NONE:
        diagnosis = msgspec.structs.replace(diagnosis, votes=(agreed, len(votes)))
    base_s = float(np.median(current.levels[0].ttft_s)) if current.levels and len(current.levels[0].ttft_s) else None
    overloaded = previous is not None and previous.overloaded and configured_s(facts) < previous.t_s
    proven: SloVerdict | None = verdict
    settling = not over and _settles(facts, verdict, current.point, now_s)
    if not over and facts.searches and current.point.value == 0:
        proven = None  # the last load that a search tried is no news once it has found what it sought
    top = _top(current.levels)
    carried = replica_figures(facts) if anew or previous is None else previous.replicas
    return Assessment(
        t_s=now_s,
        headline=failing_headline(proven, what_all_get(facts), judgement)
        if hopeless
        else headline(slo, proven, capacity, shown, diagnosis, top, judgement, arrival is not None, cut_to, settling),
        slo=buffering.with_spoilt(verdict, whole_slo, arrival),
        cliff=shown,
        cliffs=verdicts,
        diagnosis=diagnosis,
        capacity=capacity,
        curves=tuple(shown_curve(curve, slo, curve is not current, arrival) for curve in curves),
        drifts=drifts,
        recoveries=recoveries,
        scalings=scalings,
        judgement=judgement,
        replicas=carried,
        imbalance=imbalance(rows_of(carried)),
        overloaded=overloaded_now(facts, requests, base_s, now_s, overloaded, current.requests.service_s),
        judged_requests=judged,
        failures=facts.failures.groups(),
        compared=compared,
        what_if=fewer,
        **kinds,
        costs=costs_of(
            supply_of_run(facts, current.levels, gpus_told(facts, _traits(meta, current)), by_ttft=arrival is None),
            meta.profile.stated_cost,
            capacity,
            current.axis,
            CLIENT_SLOW if judgement.void else "",
        ),
        path=path,
        notes=(
            *filter(None, (path,)),
            *(() if cut is None else (prompts_cut_by(cut.used, cut.sent, table.advice.max_model_len),)),
            *trust_notes(recent),
            *_idle(current.point.gate, limits),
            *(restart_note(each.text, each.t_s) for each in restarts_of(facts)[-1:]),
            *chapter_notes(facts, meta),
            *replicas(facts),
            *_in_turn(facts),
            *(unseen_limits(facts, meta, whole_slo) if over else ()),
            *(sentence(each.alone) for each in (*kinds["by_name"], *kinds["by_model"]) if each.alone),
            *map(failure_seen, facts.failures.groups()[:TOLD_FAILURES]),
            *_part(drifts, meta, now_s),
            *judgement.left_out,
        ),
    )


def _kinds(
    facts: Facts, meta: RunMeta, previous: Assessment | None, anew: bool, arrival: buffering.Arrival | None
) -> dict[str, Any]:
    """Figures by name, by model, of visits and of calls, as fields of an `Assessment`; else those of before."""
    if not anew and previous is not None:
        return {name: getattr(previous, name) for name in ("by_name", "by_model", "sessions", "calls")}
    void = () if arrival is None else buffering.SPOILT
    model = meta.endpoint.model if meta.info is None else meta.info.model
    return {
        "by_name": by_kind(facts, "name", void),
        "by_model": by_kind(facts, "model", void, unnamed=model or ""),
        "sessions": visits_of(facts, void),
        "calls": calls_of(facts),
    }


def _traits(meta: RunMeta, curve: MeasuredCurve) -> tuple[tuple[str, str], ...]:
    """What the server tells of itself at the time of a curve."""
    return curve.traits or (() if meta.info is None else meta.info.traits)


def _idle(gate: int | None, limits: Limits) -> tuple[str, ...]:
    slots = limits.own_slots
    return (gate_idle(gate, slots),) if gate is not None and slots is not None and slots <= gate else ()


def _in_turn(facts: Facts) -> tuple[str, ...]:
    """What was said when several servers were found to answer in turn."""
    since_s = facts.in_turn_s
    said = [] if since_s is None else [each for each in facts.events if each.kind == "server" and each.t_s >= since_s]
    return tuple(each.text for each in said if each.severity == "warning")[:1]


def _before_any_curve(facts: Facts, meta: RunMeta, now_s: float, thresholds: Sequence[RunThreshold] = ()) -> Assessment:
    """Of a run that has no level yet: what it waits for, or why it waits in vain."""
    over, question, failed = meta.ended_s is not None, question_of(facts, meta.profile), all_failed(facts)
    told = sentence(why_all_failed(facts)) if failed else _waiting_headline(facts, meta)
    judgement = Judgement(question=question, sentence=told, final=over, thresholds=unjudged(thresholds) if over else ())
    kinds = _kinds(facts, meta, None, True, None)
    if not failed:
        return Assessment(t_s=now_s, headline=told, cliff=_nothing(meta), judgement=judgement, **kinds)
    line = failing_headline(None, what_all_get(facts), judgement)
    return Assessment(t_s=now_s, headline=line, judgement=judgement, failures=facts.failures.groups(), **kinds)


def assess_levels(
    levels: Sequence[Level],
    *,
    slo: Slo | None = None,
    axis: Axis = "concurrency",
    metric: Latency = "ttft",
    stat: Stat = "p50",
    limits: Limits = UNKNOWN,
    point: LoadPoint | None = None,
    dialect: Dialect | None = None,
    cost: Cost = UNSTATED,
) -> Assessment:
    """Judge a table of levels, or a predicted curve. `cliff` is the verdict for `metric` and `stat`.

    Args:
        levels: of a table, or made of the samples of a prediction.
        axis: what `Level.load` is, concurrency or rate.
        point: lengths and think time, for the sentence; None: not known.
    """
    ordered = tuple(sorted(levels, key=lambda level: level.load))
    main = judge(ordered, axis=axis, metric=metric, stat=stat, limits=limits)
    others: list[CliffVerdict] = []
    if all(level.has_samples or level.stated for level in ordered):
        others = [
            judge(ordered, axis=axis, metric=other, stat="p50", limits=limits)
            for other in ("ttft", "tpot", "e2e")
            if (other, "p50") != (metric, stat)
        ]
    slo = Slo() if slo is None else slo
    measured = [level for level in ordered if level.given is None]
    capacity = capacity_of(measured, slo, main, limits, point) if measured else Capacity(knee=main.at)
    main = worth_trying(main, capacity)
    sampled = [level for level in measured if level.has_samples]
    diagnosis = advised(by_cliff(main), sampled, limits, slo, main, capacity, dialect)
    judgement = judge_table(capacity, main)
    curve = Curve(label="table", axis=axis, points=tuple(_point(level, slo) for level in ordered))
    return Assessment(
        headline=headline(slo, SloVerdict(), capacity, main, diagnosis, _top(ordered), judgement),
        cliff=main,
        cliffs=(main, *others),
        diagnosis=diagnosis,
        capacity=capacity,
        curves=(curve,),
        judgement=judgement,
        judged_requests=sum(level.n for level in ordered),
        costs=costs_of(supply_of(measured, gpus=limits.gpus), cost, capacity, axis),
        notes=main.evidence,
    )


def _verdicts(
    curve: MeasuredCurve, limits: Limits, previous: Assessment | None, full: bool, arrival: buffering.Arrival | None
) -> tuple[tuple[CliffVerdict, ...], CliffVerdict, int]:
    """All verdicts of this computation, the one to show, and the requests they rest on."""
    count = sum(level.n + level.errors for level in curve.levels)
    same = previous is not None and bool(previous.curves) and previous.curves[-1].label == curve.label
    known = previous if same else None
    if known is not None and known.cliffs and known.cliff.kind is not Kind.INSUFFICIENT:
        fresh = abs(count - known.judged_requests) >= NEW_REQUESTS
    else:
        fresh = True
    if known is not None and not fresh:
        return known.cliffs, known.cliff, known.judged_requests
    replicates = cliffs.REPLICATES if full else QUICK_REPLICATES
    judged = (
        judge(curve.levels, axis=curve.axis, metric=metric, stat=stat, limits=limits, replicates=replicates)
        for metric, stat in _judged(curve.levels, full)
        if arrival is None or metric not in buffering.SPOILT
    )
    verdicts = tuple(_with_transients(verdict, curve) for verdict in judged)
    raw = _with_crossover(_main(verdicts), verdicts)
    if known is not None and known.cliffs:
        return verdicts, settled(known.cliff, _main(known.cliffs), raw), count
    return verdicts, raw, count


def _with_transients(verdict: CliffVerdict, curve: MeasuredCurve) -> CliffVerdict:
    """Levels without a bend say nothing of a wall while a queue stood that is not in them."""
    if verdict.kind is not Kind.NONE or curve.explains_queue:
        return verdict
    return msgspec.structs.replace(verdict, kind=Kind.INSUFFICIENT, evidence=(TRANSIENTS, *verdict.evidence))


def _judged(levels: Sequence[Level], full: bool) -> list[tuple[Latency, Stat]]:
    metrics: tuple[Latency, ...] = ("e2e",) if are_embeddings(levels) else LATENCIES
    chosen: list[tuple[Latency, Stat]] = [(metric, "p50") for metric in metrics]
    if full and sum(level.n >= MIN_REQUESTS_P95 for level in levels) >= cliffs.MIN_LEVELS:
        chosen += [(metric, "p95") for metric in metrics]
    return chosen


def _main(verdicts: Sequence[CliffVerdict]) -> CliffVerdict:
    """The verdict that matters: a TTFT cliff, then a tail cliff of TTFT, then anything gradual, else what TTFT says."""
    ttft = verdicts[0]
    if ttft.kind is Kind.CLIFF:
        return ttft
    tail = next((v for v in verdicts if v.metric == "ttft" and v.stat == "p95" and v.kind is Kind.CLIFF), None)
    if tail is not None and ttft.kind is Kind.NONE:
        return msgspec.structs.replace(tail, evidence=("tail cliff: p50 has none", *tail.evidence))
    if ttft.kind in (Kind.NONE, Kind.UNSTABLE):
        e2e = next((v for v in verdicts if v.metric == "e2e" and v.stat == "p50" and v.kind is Kind.CLIFF), None)
        return ttft if e2e is None else e2e
    return ttft


def _with_crossover(main: CliffVerdict, verdicts: Sequence[CliffVerdict]) -> CliffVerdict:
    """The verdict that matters; where there is no wall, with what tokens say of how users share."""
    if main.kind is not Kind.NONE or main.metric == "tpot":
        return main
    told = next((v.evidence for v in verdicts if (v.metric, v.stat, v.kind) == ("tpot", "p50", Kind.NONE)), ())
    return msgspec.structs.replace(main, evidence=(*main.evidence, *told)) if told else main


def _pressed(verdict: SloVerdict, slo: Slo) -> bool:
    """Whether a latency limit is missed: slow steps miss those of TPOT and E2E, and of TTFT while prompts are read."""
    latencies = {target.name for target in slo.targets if target.metric in LATENCIES}
    return any(each.ok is False for each in verdict.targets if each.name in latencies)


def _shown_before(facts: Facts, previous: Assessment | None) -> Diagnosis:
    """What was shown of this server: with a chapter, or another gate, begins another."""
    if previous is None or configured_s(facts) >= previous.t_s:
        return NOTHING
    return previous.diagnosis


def _settles(facts: Facts, verdict: SloVerdict, point: LoadPoint, now_s: float) -> bool:
    """Whether a live load has changed so lately that what fails, or is not known, is the move's doing."""
    since_s = now_s - last_change_s(facts, now_s)
    return point.value > 0 and (
        since_s < SETTLED_S if verdict.ok is False else verdict.ok is None and since_s < PROOF_S
    )


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


def _top(levels: Sequence[Level]) -> float | None:
    return max((level.load for level in levels), default=None)


def shown_curve(curve: MeasuredCurve, slo: Slo, ghost: bool, arrival: buffering.Arrival | None) -> Curve:
    """The levels of a curve that charts show; `arrival` not None: without what a buffering path spoilt."""
    shown = [level for level in curve.levels if level.n + level.errors >= SHOWN_FROM]
    points = tuple(level.remembered(slo, partial(_point, level, slo)) for level in shown)
    return Curve(label=curve.label, axis=curve.axis, points=buffering.without_spoilt(points, arrival), ghost=ghost)


def _point(level: Level, slo: Slo) -> LevelPoint:
    def quantile_ms(metric: Latency, q: float) -> float | None:
        if level.stated is not None:
            told = level.stated.figure(metric, "p50" if q == 0.5 else "p95")
            return None if told is None else told * 1e3
        values = level.samples(metric)
        if len(values) < (FAINT_BELOW if q > 0.5 else 1):
            return None
        return float(np.quantile(values, q)) * 1e3

    given = level.given.y * 1e3 if level.given is not None else None
    return LevelPoint(
        load=level.load,
        n=level.n,
        errors=level.errors,
        ttft_p50_ms=given if given is not None else quantile_ms("ttft", 0.5),
        ttft_p95_ms=quantile_ms("ttft", 0.95),
        tpot_p50_ms=quantile_ms("tpot", 0.5),
        tpot_p95_ms=quantile_ms("tpot", 0.95),
        e2e_p50_ms=quantile_ms("e2e", 0.5),
        output_tokens_per_s=level.output_tokens_per_s,
        requests_per_s=level.requests_per_s,
        waiting=level.waiting,
        kv_usage=level.kv_usage,
        attainment=attainment(Sample.of_level(level), slo) if level.has_samples else None,
        faint=level.n < FAINT_BELOW,
    )


def _part(drifts: Sequence[Drift], meta: RunMeta, now_s: float) -> tuple[str, ...]:
    """Which part of the run the drifts are told of, where somebody asks for them or there are some."""
    asked = meta.profile.asks is Question.SOAK or any(each.significant for each in drifts)
    told = part(drifts, now_s) if asked else ""
    return (told,) if told else ()
