"""Answers about times: a load that is held, a soak, what lies outside of a spike."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from llmtop.analysis.answer import Answer, with_errors_of
from llmtop.analysis.findings import Run
from llmtop.analysis.slo import judge_slo
from llmtop.analysis.soak import creeping, long_enough, visible
from llmtop.analysis.spikes import recovered_within
from llmtop.domain.judgement import PartVerdict
from llmtop.domain.verdicts import SloVerdict
from llmtop.wording import answers
from llmtop.wording.over_time import owed
from llmtop.wording.scaled import too_slow
from llmtop.wording.sentences import listed


def of_hold(run: Run) -> Answer:
    """All requests, and where the plan holds several loads those of each by themselves."""
    whole = _pooled(run)
    return whole if len(run.loads) < 2 else _each_load(run, whole)


def _pooled(run: Run) -> Answer:
    verdict, held, cliff = run.with_named(judge_slo(run.everything, run.slo), run.all_of), run.held, run.found.cliff
    plural = held is not None and not (held.axis == "concurrency" and held.value == 1)
    text = answers.kept(answers.driven_load(held), verdict.ok, plural)
    bend = (answers.bends_at(cliff),) if held is None and cliff.at is not None else ()
    return Answer(verdict, verdict.ok, text, (*run.why.of(verdict), *bend))


def _each_load(run: Run, whole: Answer) -> Answer:
    """Each load that the plan holds keeps the SLO, and so do all requests together."""
    several = len({load.key[1:3] for load in run.loads}) > 1
    by_answer: dict[bool | None, list[tuple[answers.Load, Run, SloVerdict]]] = {False: [], None: [], True: []}
    for load in run.loads:
        there = run.of(load)
        verdict = there.with_named(judge_slo(there.everything, run.slo), there.all_of)
        by_answer[verdict.ok].append((answers.Load(load.point, load.low, load.top), there, verdict))
    ok = False if by_answer[False] else None if by_answer[None] else True
    if ok and not whole.ok:
        return whole
    names = {answer: answers.loads([load for load, _, _ in of], several) for answer, of in by_answer.items()}
    decided = by_answer[ok]
    if ok:
        decided = [max(decided, key=lambda each: _strain(each[2]))]
    reasons = [
        answers.at_load(load, several, there.why.of(verdict)) for load, there, verdict in decided if verdict.targets
    ]
    text = answers.each_kept(names[False], names[None], names[True])
    parts = tuple(
        PartVerdict(name=answers.loads([load], several), ok=verdict.ok, text=listed(there.why.of(verdict)))
        for of in by_answer.values()
        for load, there, verdict in of
    )
    return Answer(decided[0][2], ok, text, tuple(reasons), parts=parts)


def _strain(verdict: SloVerdict) -> float:
    """The largest share of its limit that a latency took."""
    taken = (each.value / each.limit for each in verdict.targets if each.value and each.limit and "_" in each.name)
    return max(taken, default=0.0)


def of_soak(run: Run) -> Answer:
    held = of_hold(run)
    worse, drifts = creeping(run.found.drifts), run.found.drifts
    texts = tuple(drift.text for drift in worse)
    if worse:
        broken = held.reasons if held.ok is False else ()
        return replace(held, ok=False, text=answers.creeps(held.text, held.ok), reasons=(*broken, *texts))
    if held.ok and run.meta.ended_s is not None and not long_enough(drifts):
        return replace(held, ok=None, text=answers.creeps(held.text, None), reasons=(visible(drifts),))
    if held.ok:
        return replace(
            held, text=f"{held.text}{answers.calm()}", reasons=(*held.reasons, *filter(None, (visible(drifts),)))
        )
    return held


def of_spike(run: Run) -> Answer:
    """Recovered in time, the SLO kept outside of the spike, and errors counted wherever they came.

    Where the deployment scaled about it, more replicas served, and the SLO was missed for no longer than that: a load
    that falls again makes good whatever never came.
    """
    within_s = run.meta.profile.recover_within_s
    recovery = run.worst_spike
    if recovery is None:
        whole = judge_slo(run.everything, run.slo)
        broken = [target for target in whole.targets if target.name == "error_ratio" and target.ok is False]
        verdict = msgspec.structs.replace(whole, ok=False if broken else None, targets=tuple(broken))
        verdict = run.with_named(verdict, run.near(None))
        return Answer(verdict, verdict.ok, answers.no_spike(verdict.ok), run.why.misses(verdict))
    outside, spans = run.outside(recovery)
    calm = judge_slo(run.sample(outside, spans), run.slo)
    for load in run.loads:  # what else the plan holds is not made good by the calm around the spike
        there = judge_slo(run.sample(outside & load.during(run.found.requests.sent_s), load.spans), run.slo)
        calm = there if there.ok is False and calm.ok is not False else calm
    verdict = with_errors_of(judge_slo(run.everything, run.slo), calm, run.slo)
    verdict = run.with_named(verdict, (outside, run.all_of[1]))
    ok = recovered_within((recovery,), within_s)
    told, slow = run.scaling_of(recovery), tuple[str, ...]()
    if ok and told is not None:
        slow = too_slow(told, within_s)
    text = answers.but_too_slow(answers.recovered(recovery, within_s, ok), slow)
    text = "; ".join(filter(None, (text, owed(recovery) if told is None else told.text)))
    reasons = run.why.of(verdict) if verdict.ok is not True else ()
    if slow:
        return Answer(verdict, False, answers.with_reasons(text, reasons), (*slow, *reasons), said=True)
    if ok and verdict.ok is not True:
        ok = verdict.ok
    return Answer(verdict, ok, text, reasons)
