"""Answers about loads: at the expected peak, at the SLO, and where latency bends."""

from __future__ import annotations

from dataclasses import replace

from llmtop.analysis.answer import Answer, with_errors_of
from llmtop.analysis.capacity import judge_level
from llmtop.analysis.findings import AT_PEAK, NEAR_PEAK, Run
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.slo import Sample, judge_slo, overall
from llmtop.domain.run import JudgedLevel
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind, SloVerdict, TargetVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers

NOTHING = Sample(EMPTY, EMPTY, EMPTY)


def of_peak(run: Run) -> Answer:
    """Levels up to the peak keep their latencies, and all requests sent up to there the limit on errors."""
    peak = run.meta.profile.peak
    if peak is None:
        return of_cliff(run)
    axis, target = run.found.cliff.axis, run.load_at(run.found.requests.sent_s)
    near = run.sample(
        (target >= NEAR_PEAK * peak) & (target <= AT_PEAK * peak), run.spans(NEAR_PEAK * peak, AT_PEAK * peak)
    )
    pooled = judge_slo(run.sample(target <= AT_PEAK * peak), run.slo)
    judged = [(level, judge_level(level, run.slo).ok) for level in run.found.levels]
    broken = next((level for level, ok in judged if ok is False and level.load <= peak), None)
    above = next((level for level, ok in judged if ok and level.load > AT_PEAK * peak), None)
    at, verdict = peak, judge_slo(near, run.slo)
    speaks = broken if broken is not None else above if verdict.ok is None else None
    if speaks is not None:
        at, verdict = speaks.load, judge_slo(Sample.of_level(speaks), run.slo)
    verdict = run.with_named(with_errors_of(pooled, verdict, run.slo), run.near(peak))
    ok = verdict.ok
    reasons = run.why.of(verdict)
    if ok is None and run.found.capacity.at_slo is not None:
        reasons = (answers.between(run.found.capacity.at_slo, run.found.capacity.fails_at, axis), *reasons)
    if ok is not None:
        errors = {
            run.why.miss(each, run.why.limits[each.name])
            for each in verdict.targets
            if each.ok is False and run.why.limits[each.name].metric == "error_ratio"
        }
        there = tuple(reason for reason in reasons if reason not in errors)
        reasons = (*((answers.at_level(at, axis, there),) if there else ()), *sorted(errors))
    text = answers.up_to_peak(peak, axis, ok)
    if ok:
        highest = max((level.load for level in run.found.levels), default=peak)
        text = f"{text}; {answers.breaks_from(run.found.capacity.fails_at, highest, axis)}"
    return Answer(verdict, ok, text, reasons, reach=True)


def of_capacity(run: Run) -> Answer:
    """How many at the SLO; with `at_least`, whether so many."""
    capacity, wanted = run.found.capacity, run.meta.profile.at_least
    verdict, axis = run.with_named(at_capacity(run), run.near_capacity), run.found.cliff.axis
    unproven = _unproven(run, verdict)
    at_slo, fails_at = capacity.at_slo, capacity.fails_at
    ok: bool | None
    if verdict.ok is False or (at_slo is None and fails_at is not None):
        ok = False
    elif at_slo is None:
        ok = None
    elif wanted is None:
        ok = True if _search_ended(run.facts) else None
    else:
        ok = reached(capacity, wanted)
    ok = None if ok and unproven else ok
    text = capacity.sentence or answers.nothing_known()
    if at_slo is not None and verdict.ok is False:
        text = _fails(run, verdict, at_slo)
    if wanted is not None:
        text = f"{answers.reaches(wanted, axis, ok)}; {text}"
    reasons = run.why.misses(verdict) if at_slo is not None and verdict.ok is False else ()
    if ok is None and at_slo is None:
        reasons = run.why.doubts(verdict)
    elif ok is None and unproven:
        reasons = unproven
    if ok is None and run.facts.tested and not _search_ended(run.facts):
        reasons = (answers.search_cut_short(),)
    return Answer(verdict, ok, text, reasons)


def reached(capacity: Capacity, wanted: float) -> bool | None:
    """Whether a capacity is as large as is wanted; between a load that held and one that broke nobody knows."""
    if capacity.at_slo is not None and capacity.at_slo >= wanted:
        return True
    return False if capacity.fails_at is not None and capacity.fails_at <= wanted else None


def of_cliff(run: Run) -> Answer:
    """Where latency bends, and how many at the SLO so far."""
    answer, at_slo = (
        of_bend(run.found.capacity, run.found.cliff, run.with_named(at_capacity(run), run.near_capacity)),
        run.found.capacity.at_slo,
    )
    if answer.ok is False and at_slo is not None:
        text = _fails(run, answer.verdict, at_slo)
        return replace(answer, text=text, reasons=run.why.misses(answer.verdict))
    if answer.ok and (unproven := _unproven(run, answer.verdict)):
        return replace(answer, ok=None, reasons=unproven)
    return replace(answer, reasons=run.why.doubts(answer.verdict)) if answer.ok is None else answer


def _unproven(run: Run, verdict: SloVerdict) -> tuple[str, ...]:
    """What is missing to know the limits on one name alone, at a load that the others name."""
    return run.why.doubts(run.named(verdict))


def _fails(run: Run, verdict: SloVerdict, at_slo: float) -> str:
    """Why a load that levels have kept the SLO at is none that keeps it: errors, or one name alone."""
    if all(run.why.limits[each.name].kind for each in verdict.targets if each.ok is False):
        return answers.kept_but_by_name(at_slo, run.found.cliff.axis)
    return answers.fails_anyway()


def of_bend(capacity: Capacity, cliff: CliffVerdict, verdict: SloVerdict) -> Answer:
    located = cliff.kind in (Kind.CLIFF, Kind.GRADUAL)
    ok: bool | None = None
    if verdict.ok is False or (capacity.at_slo is None and capacity.fails_at is not None):
        ok = False
    elif capacity.at_slo is not None or located or cliff.kind is Kind.NONE:
        ok = True
    place = answers.bends_at(cliff) if located else answers.straight() if cliff.kind is Kind.NONE else ""
    if ok is None:
        place = answers.nothing_known()
    return Answer(verdict, ok, "; ".join(filter(None, (place, capacity.sentence))), reach=True)


def at_capacity(run: Run, slo: Slo | None = None) -> SloVerdict:
    """What users feel at the load that the capacity names, or at the lowest that broke; errors of all up to there.

    Args:
        slo: limits that are judged there; None: those of the run that users feel.
    """
    felt = Slo(run.slo.felt) if slo is None else Slo(slo.targets)
    capacity = run.found.capacity
    load = capacity.at_slo if capacity.at_slo is not None else capacity.fails_at
    if load is None:
        most = max(run.found.levels, key=lambda level: level.n, default=None)
        doubt = judge_slo(NOTHING if most is None else Sample.of_level(most), felt)
        return SloVerdict(targets=tuple(each for each in doubt.targets if each.ok is None))
    sent_at = run.load_at(run.found.requests.sent_s)
    up_to = sent_at <= AT_PEAK * load
    if capacity.at_slo is not None and capacity.fails_at is not None:
        up_to &= sent_at < capacity.fails_at
    pooled = judge_slo(run.sample(up_to), felt)
    tested = _tested(run.facts, run.slo, load)
    if tested is not None:
        return with_errors_of(pooled, _of_test(tested, felt), felt)
    level = min(run.found.levels, key=lambda level: abs(level.load - load))
    return with_errors_of(pooled, judge_slo(Sample.of_level(level), felt), felt)


def _tested(facts: Facts, slo: Slo, load: float) -> JudgedLevel | None:
    """What a search found at this load, by this SLO."""
    return next((each for each in reversed(facts.tested) if each.load == load and each.slo == str(slo)), None)


def _search_ended(facts: Facts) -> bool:
    """Whether the search came to its own end; True where none drove."""
    return not facts.tested or any(end.reason not in ("hand", "client") for end in facts.searches)


def _of_test(tested: JudgedLevel, slo: Slo) -> SloVerdict:
    worst = dict(tested.worst)
    targets = tuple(
        TargetVerdict(
            name=target.name,
            limit=target.limit,
            value=worst.get(target.name),
            n=tested.n,
            ok=target.name not in tested.failed,
            text=answers.at_search(target, worst.get(target.name), tested.load),
        )
        for target in slo.targets
    )
    return overall(targets, slo)
