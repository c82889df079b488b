"""What the limits say of one name at a time: who breaks those of all, and how many users keep those of each alone."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.capacity import lowered_to
from llmtop.analysis.findings import About, Findings, Run, question_of
from llmtop.analysis.kinds import By
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.sessions import Gauges, Mask
from llmtop.analysis.slo import Sample, judge_target, overall
from llmtop.domain.kinds import KindFigures
from llmtop.domain.profile import Question
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.verdicts import Capacity, TargetVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers
from llmtop.wording.kinds import label


def capacity_by_name(facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> Capacity:
    """The capacity that the levels have, lowered to where each name keeps its own limits, too.

    Only a limit that is broken lowers it: of what is not known the answer says so.
    """
    capacity, axis = found.capacity, found.cliff.axis
    if not slo.named or capacity.at_slo is None:
        return capacity
    run = Run(facts, meta, slo, found, now_s)
    loads = sorted({level.load for level in found.levels if level.load <= capacity.at_slo})
    told = [(load, run.by_name(run.near(load))) for load in loads]
    broken = next(((load, each) for load, each in told if any(verdict.ok is False for verdict in each)), None)
    if broken is None:
        return capacity
    fails_at, verdicts = broken
    held = [load for load, each in told if load < fails_at and all(verdict.ok for verdict in each)]
    missed = [answers.miss(each, run.why.limits[each.name]) for each in verdicts if each.ok is False]
    lowered = lowered_to(capacity, max(held, default=None), fails_at, axis, "a limit on one name")
    sentence = answers.carried_by_name(lowered.at_slo, fails_at, capacity.at_slo, axis, missed)
    return replace(lowered, sentence=sentence)


def _about(run: Run) -> About:
    """What the run's question is about."""
    question, peak = question_of(run.facts, run.meta.profile), run.meta.profile.peak
    if question in (Question.HOLD, Question.SOAK):
        return run.all_of
    if question is Question.SPIKE:
        worst = run.worst_spike
        return run.near(None) if worst is None else (run.outside(worst)[0], run.all_of[1])
    return run.near(peak) if question is Question.PEAK and peak is not None else run.near_capacity


def judge_kinds(
    facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float, by: By, kinds: tuple[KindFigures, ...]
) -> tuple[KindFigures, ...]:
    """Figures of names, or of models, with which limits each breaks in the span that the run's answer is about.

    A limit on one name alone stands in the place of that on all requests together. Where limits cannot be judged of the
    whole, nothing that the others say is a yes of a part.
    """
    run, codes = Run(facts, meta, slo, found, now_s), facts.names if by == "name" else facts.models
    column, about = getattr(found.requests, by), _about(run)
    own = [code for each in kinds if (code := codes.known(each.name)) is not None and not each.others]
    whole = {target.name: _judged(run, target, about, np.ones(len(column), dtype=bool)) for target in slo.felt}
    told = []
    for each in kinds:
        code = codes.known(each.name)
        chosen = column == code if code is not None else np.isnan(column)
        if each.others:
            chosen = ~np.isin(column, own) & ~np.isnan(column)
        limits = slo.felt_by(each.name if by == "name" and not each.others else "")
        verdicts = [(target, _judged(run, target, about, chosen)) for target in limits]
        broken = [(target, verdict) for target, verdict in verdicts if verdict.ok is False]
        hidden = [pair for pair in broken if (of_all := whole.get(pair[0].name)) is not None and of_all.ok]
        ok = overall(tuple(verdict for _, verdict in verdicts), Slo(limits)).ok if limits else None
        told.append(
            replace(
                each,
                ok=None if ok and found.unjudged else ok,
                breaks=tuple(answers.miss(verdict, target) for target, verdict in broken),
                alone=answers.alone_breaks(
                    label(each.name, each.others), [answers.miss(verdict, target) for target, verdict in hidden]
                )
                if hidden and len(kinds) > 1
                else "",
            )
        )
    return tuple(told)


def _judged(run: Run, target: SloTarget, about: About, chosen: Mask) -> TargetVerdict:
    """One limit that is felt against the requests `chosen` among those that the answer is about."""
    latency, errors = about
    chosen = (
        chosen & (errors if target.metric == "error_ratio" else latency) & (run.found.requests.sent_s >= run.since_s)
    )
    sample = Sample.of_window(run.found.requests.pick(chosen), Gauges(), EMPTY, run.now_s)
    return judge_target(sample, target)
