"""The one judgement of a run: the answer to its question, which every screen, report and exit code renders.

The SLO is held against the span that the question is about: all of a hold or a soak, the level at the expected peak,
the level that a capacity names, what lies outside of a spike. Errors count wherever they came in the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmtop.analysis.answer import Answer
from llmtop.analysis.by_level import at_capacity, of_bend, of_capacity, of_cliff, of_peak
from llmtop.analysis.failing import all_failed, why_all_failed
from llmtop.analysis.findings import NEAR_PEAK, Findings, Run, question_of
from llmtop.analysis.slo import judge_slo
from llmtop.analysis.spans import of_hold, of_soak, of_spike
from llmtop.domain.judgement import Judgement, PartVerdict
from llmtop.domain.profile import Question
from llmtop.domain.run import LOST, RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, SloVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers
from llmtop.wording.sentences import CLIENT_BOUND, sentence

OF_LEVELS = (Question.PEAK, Question.CAPACITY, Question.CLIFF)
"""Questions that are answered by levels, which are of one configuration."""


def judge_run(facts: Facts, meta: RunMeta, slo: Slo, found: Findings, now_s: float) -> tuple[SloVerdict, Judgement]:
    """The SLO over the span that the run's question is about, and the answer so far, or at the end (`meta.ended_s`)."""
    question = question_of(facts, meta.profile)
    run = Run(facts, meta, slo, found, now_s)
    answer = _by_configuration(run, question) if question in OF_LEVELS and found.parts else _ANSWERS[question](run)
    ok, reasons = answer.ok, answer.reasons
    verdict, early, more = answer.verdict, run.early, tuple[str, ...]()
    text = answer.told()
    if mostly := run.why.unsaid(verdict, text):
        reasons, more = (*reasons, mostly), (mostly,)
        text = answer.told(mostly)
    if run.void:
        ok, reasons, text = None, (CLIENT_BOUND,), CLIENT_BOUND
    elif all_failed(facts) and meta.ending not in LOST:
        verdict, why = run.with_named(judge_slo(run.everything, slo), run.all_of), why_all_failed(facts)
        ok, reasons = verdict.ok, tuple(filter(None, (why, early)))
        text = answers.with_reasons(why, reasons[1:])
    elif meta.ending in LOST:  # what failed while the server fell away says nothing of the load it fell at
        verdict, ok, reasons, text = SloVerdict(), None, (early or "",), answers.unanswered(early or "")
    elif found.unjudged and ok is not False:
        place = (answers.bends_at(found.cliff),) if found.cliff.at is not None else ()
        ok, reasons = None, (found.unjudged,)
        text = "; ".join((found.unjudged, *place))
    elif early is not None and not (answer.reach and ok is True):
        reasons = (*reasons, early)
        text = answer.told(*more, early)
        if ok:
            ok, text = None, answers.until_then(early, answer.told())
    told = sentence(text) if run.void or not found.configuration else answers.configured(found.configuration, text)
    return verdict, Judgement(
        question=question,
        ok=ok,
        sentence=told,
        reasons=reasons,
        left_out=run.left_out,
        void=run.void,
        ending=meta.ending,
        final=meta.ended_s is not None,
        parts=() if run.void or all_failed(facts) or meta.ending in LOST else answer.parts,
        client_bound=run.client_bound,
    )


def over_span(run: Run, question: Question) -> tuple[SloVerdict, tuple[str, ...]]:
    """The limits of `run.slo` over the span that the answer to the question is about, and what decides."""
    if question in (Question.HOLD, Question.SOAK):
        held = of_hold(run)
        return held.verdict, held.reasons
    if question is Question.SPIKE:
        verdict = of_spike(run).verdict
    elif question is Question.PEAK and run.meta.profile.peak is not None:
        verdict = of_peak(run).verdict
    else:
        verdict = run.with_named(at_capacity(run, run.slo), run.near_capacity)
    return verdict, run.why.of(verdict)


def judge_table(capacity: Capacity, cliff: CliffVerdict) -> Judgement:
    """Of levels without a run behind them: where latency bends, and how many at the SLO."""
    answer = of_bend(capacity, cliff, SloVerdict())
    return Judgement(question=Question.CLIFF, ok=answer.ok, sentence=sentence(answer.text), final=True)


def _by_configuration(run: Run, question: Question) -> Answer:
    """Each configuration that the plan drove, by itself: yes only if it is for all of them.

    A load that is asked for is asked of those that were driven so far: 8 users say nothing of 8 requests/s.
    """
    judged: list[tuple[str, Answer]] = []
    for name, there, asks in configurations_of(run, question):
        judged.append((name, _without_levels(there, _ANSWERS[asks](there))))
    parts = tuple(PartVerdict(name=name, ok=answer.ok, text=answer.told()) for name, answer in judged)
    judged.sort(key=lambda each: (False, None, True).index(each[1].ok))
    first = judged[0][1]
    text = "; ".join(answers.of_configuration(name, answer.told()) for name, answer in judged)
    reach = all(answer.reach for _, answer in judged)
    return Answer(first.verdict, first.ok, text, first.reasons, reach=reach, said=True, parts=parts)


def configurations_of(run: Run, question: Question) -> list[tuple[str, Run, Question]]:
    """Each configuration that the plan drove: its name, what of the run is of it, and what is asked of it."""
    profile, parts = run.meta.profile, run.found.parts
    wanted = {Question.PEAK: profile.peak, Question.CAPACITY: profile.at_least}.get(question)
    tops = [found.part.top for found in parts if found.part is not None]
    asked = wanted if wanted is not None and max(tops) >= NEAR_PEAK * wanted else None
    otherwise = Question.HOLD if question is Question.PEAK else Question.CLIFF
    points = [found.part.point for found in parts if found.part is not None]
    told = []
    for found, name in zip(parts, answers.configurations(points), strict=True):
        assert found.part is not None
        asks = question if asked is None or found.part.top >= NEAR_PEAK * asked else otherwise
        told.append((name, Run(run.facts, run.meta, run.slo, found, run.now_s), asks))
    return told


def _without_levels(run: Run, answer: Answer) -> Answer:
    """The answer; where no level could be judged, what all requests of the part say against it, or what they lack."""
    if answer.ok is not None:
        return answer
    whole = of_hold(run)
    return whole if whole.ok is False else replace(answer, reasons=() if whole.ok else whole.reasons)


_ANSWERS: dict[Question, Callable[[Run], Answer]] = {
    Question.HOLD: of_hold,
    Question.SOAK: of_soak,
    Question.PEAK: of_peak,
    Question.CAPACITY: of_capacity,
    Question.SPIKE: of_spike,
    Question.CLIFF: of_cliff,
}
