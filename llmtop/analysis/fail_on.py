"""The thresholds of --fail-on against a run that is over: each over the span that the answer to its question is about.

They are judged as the limits of the SLO are, each by itself: of several loads, or configurations, the worst decides.
They steer nothing, and change no other opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmtop.analysis.buffering import SPOILT
from llmtop.analysis.by_level import NOTHING, reached
from llmtop.analysis.failing import all_failed
from llmtop.analysis.findings import AT_PEAK, NEAR_PEAK, Findings, Run, question_of
from llmtop.analysis.judgement import OF_LEVELS, configurations_of, over_span
from llmtop.analysis.percentiles import Parts
from llmtop.analysis.slo import Sample, attainment
from llmtop.domain.judgement import Judgement, ThresholdVerdict
from llmtop.domain.profile import OF_CAPACITY, Question
from llmtop.domain.run import LOST, RunMeta
from llmtop.domain.slo import Slo, SloTarget, slo_of
from llmtop.domain.thresholds import RunThreshold
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.meter.facts import Facts
from llmtop.wording import answers
from llmtop.wording import thresholds as words
from llmtop.wording.sentences import CLIENT_BOUND, listed


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one configuration comes to against one threshold."""

    ok: bool | None
    why: str
    value: float | None = None
    n: int = 0


def judge_thresholds(
    thresholds: Sequence[RunThreshold],
    facts: Facts,
    meta: RunMeta,
    slo: Slo,
    found: Findings,
    now_s: float,
    judgement: Judgement,
    spoilt: str,
) -> tuple[ThresholdVerdict, ...]:
    """Each threshold of a run that is over.

    Args:
        slo: what a capacity is held against.
        judgement: of the run, without its thresholds.
        spoilt: why TTFT and TPOT say nothing of the server; empty: they do.
    """
    question = question_of(facts, meta.profile)
    run = Run(facts, meta, slo, _without_bend(found), now_s)
    nothing = CLIENT_BOUND if judgement.void else answers.ended_by(meta.ending) if meta.ending in LOST else ""
    told = []
    for limit in thresholds:
        metric = None if limit.target is None else limit.target.metric
        why = nothing or (spoilt if metric in SPOILT or limit.name == "goodput" else "")
        told.append(_told(limit, _Measured(None, why) if why else _worst(run, question, limit)))
    return tuple(told)


def unjudged(thresholds: Sequence[RunThreshold]) -> tuple[ThresholdVerdict, ...]:
    """Those of a run in which nothing was measured."""
    return tuple(_told(limit, _Measured(None, answers.nothing_known())) for limit in thresholds)


def _told(limit: RunThreshold, measured: _Measured) -> ThresholdVerdict:
    shown = words.limit_text(limit.name, limit.limit)
    return ThresholdVerdict(
        name=limit.name,
        limit=limit.limit,
        measured=measured.value,
        n=measured.n,
        ok=measured.ok,
        text=words.threshold_text(shown, measured.ok, measured.why),
    )


def _without_bend(found: Findings) -> Findings:
    """Where latency bends is no part of what a threshold comes to."""
    cliff = CliffVerdict(kind=Kind.INSUFFICIENT, axis=found.cliff.axis)
    return replace(found, cliff=cliff, parts=tuple(map(_without_bend, found.parts)))


def _worst(run: Run, question: Question, limit: RunThreshold) -> _Measured:
    """Of the configurations that the plan drove the one that is furthest from a yes."""
    if all_failed(run.facts):
        question = Question.HOLD  # no level, no spike and no peak is told of such a run
    elif run.found.parts and (question in OF_LEVELS or limit.name == "capacity"):
        if limit.name == "capacity" and len({found.cliff.axis for found in run.found.parts}) > 1:
            return _Measured(None, words.TWO_AXES)
        named = [(name, _measured(there, asks, limit)) for name, there, asks in configurations_of(run, question)]
        name, worst = min(named, key=lambda each: (False, None, True).index(each[1].ok))
        return replace(worst, why=words.of_configuration(name, worst.why)) if worst.why else worst
    return _measured(run, question, limit)


def _measured(run: Run, question: Question, limit: RunThreshold) -> _Measured:
    if limit.name == "capacity":
        return _capacity(run, limit)
    told = _rate(run, question, limit) if limit.target is None else _against(run, question, limit.target)
    of_capacity = question in OF_CAPACITY or (question is Question.PEAK and run.meta.profile.peak is None)
    load = _capacity_load(run) if of_capacity else None
    pooled = limit.target is not None and limit.target.metric == "error_ratio"  # of all loads up to there
    if load is None or told.value is None or pooled:
        return told
    return replace(told, why=answers.at_level(load, run.found.cliff.axis, (told.why,)))


def _capacity_load(run: Run) -> float | None:
    """The load that the capacity names, or the lowest that broke."""
    capacity = run.found.capacity
    return capacity.fails_at if capacity.at_slo is None else capacity.at_slo


def _against(run: Run, question: Question, target: SloTarget) -> _Measured:
    """A figure that the SLO can limit, judged as a limit of it."""
    alone = Run(run.facts, run.meta, slo_of((target,)), run.found, run.now_s)
    verdict, reasons = over_span(alone, question)
    if run.found.part is not None and verdict.ok is None:  # no level of the configuration could be judged
        whole = over_span(alone, Question.HOLD)
        verdict, reasons = whole if whole[0].ok is False else (verdict, reasons)
    each = next(iter(verdict.targets), None)
    if each is None:
        return _Measured(None, answers.nothing_known())
    gauge = target.metric in ("queue", "kv")
    return _Measured(each.ok, listed(reasons) or (answers.NOT_SHOWN if gauge else each.text), each.value, each.n)


def _capacity(run: Run, limit: RunThreshold) -> _Measured:
    """By the same rule as `at_least` of a profile: a load between one that held and one that broke is not known."""
    capacity, axis = run.found.capacity, run.found.cliff.axis
    ok = reached(capacity, limit.limit)
    return _Measured(ok, words.capacity_told(capacity.at_slo, capacity.fails_at, axis), capacity.at_slo)


def _rate(run: Run, question: Question, limit: RunThreshold) -> _Measured:
    """A throughput over all of the span; of a level its own."""
    requests_per_s, tokens_per_s, sample = _rates(run, question)
    value = tokens_per_s if limit.name == "output_tokens_per_s" else requests_per_s
    if limit.name == "goodput" and value is not None:
        good, ended = attainment(sample, run.slo), sample.ended
        value = None if good is None or ended == sample.errors else value * good * ended / (ended - sample.errors)
        value = 0.0 if ended and ended == sample.errors else value
    if value is None:
        return _Measured(None, words.NO_SECONDS)
    return _Measured(value >= limit.limit, words.rate_told(limit.name, value), value)


def _rates(run: Run, question: Question) -> tuple[float | None, float | None, Sample]:
    """(requests/s that ended well, output tokens/s, the requests) of the span that the answer is about."""
    peak, spike = run.meta.profile.peak, run.worst_spike
    if question in (Question.HOLD, Question.SOAK):
        spans = ((run.since_s, run.now_s),) if run.found.part is None else tuple(run.found.part.spans)
        return *Parts(run.facts).rates(spans), run.everything
    if question is Question.SPIKE and spike is not None:
        chosen, spans = run.outside(spike)
        return *Parts(run.facts).rates(spans), run.sample(chosen, spans)
    if question is Question.PEAK and peak is not None:
        spans = run.spans(NEAR_PEAK * peak, AT_PEAK * peak)
        return *Parts(run.facts).rates(spans), run.sample(run.near(peak)[0], spans)
    load = _capacity_load(run)
    level = None if load is None else min(run.found.levels, key=lambda each: abs(each.load - load), default=None)
    if level is None or question is Question.SPIKE:
        return None, None, NOTHING
    return level.requests_per_s, level.output_tokens_per_s, Sample.of_level(level)
