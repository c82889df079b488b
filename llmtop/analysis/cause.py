"""What binds, with what to turn: what the curve says at rest, and while a load is driven what windows agree on."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.analysis.advice import advised, exhausted, explained
from llmtop.analysis.balance import with_balancer
from llmtop.analysis.case import Case
from llmtop.analysis.coming import with_coming
from llmtop.analysis.diagnosis import by_cliff, of_embeddings, on_this_machine
from llmtop.analysis.soak import leak
from llmtop.analysis.votes import FAILING, NOTHING, ballots, elected, lasting, renewed
from llmtop.domain.over_time import Drift
from llmtop.domain.run import LOST
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, SloVerdict


def cause_of(
    case: Case, verdict: SloVerdict, cliff: CliffVerdict, capacity: Capacity, drifts: Sequence[Drift]
) -> Diagnosis:
    """The bound with its advice, and how many of the windows that were asked agree on it."""
    found, votes = _found(case, verdict, cliff)
    agreed = sum(vote.bound is found.bound for vote in votes)
    told = found if case.all_failed else _with_advice(case, found, cliff, capacity, drifts)
    return replace(told, votes=(agreed, len(votes))) if votes and told.bound is not Bound.NONE else told


def _found(case: Case, verdict: SloVerdict, cliff: CliffVerdict) -> tuple[Diagnosis, list[Diagnosis]]:
    """What binds, and the votes for it; none where nobody was asked."""
    by_curve = on_this_machine(by_cliff(cliff)) if case.stands_here else by_cliff(cliff)
    if case.mute:
        return NOTHING, []
    if case.at_rest and by_curve.bound is not Bound.NONE:
        return by_curve, []
    facts, requests, held_s = case.facts, case.requests, case.held_s
    pressed = _pressed(verdict, case.slo)
    votes = ballots(facts, requests, case.point, case.limits, case.current.levels, case.dialect, pressed, held_s)
    votes = list(map(on_this_machine, votes)) if case.stands_here else votes
    shown = NOTHING if case.at_rest else _shown(case)
    if case.over and not lasting(facts, requests, held_s):
        votes = [NOTHING if vote.bound in FAILING else vote for vote in votes]
        shown = NOTHING if shown.bound in FAILING else shown
    return elected(shown, votes, by_curve), votes


def _with_advice(
    case: Case, found: Diagnosis, cliff: CliffVerdict, capacity: Capacity, drifts: Sequence[Drift]
) -> Diagnosis:
    """What to turn, and what that gives, of what binds; as it was shown while it stands."""
    levels = () if case.arrival else case.current.levels
    fresh = advised(found, levels, case.limits, case.whole_slo, cliff, capacity, case.dialect, here=case.stands_here)
    fresh = exhausted(fresh, case.facts, case.dialect)
    if case.embeds:
        fresh = of_embeddings(fresh, case.limits)
    told = explained(renewed(_shown(case), fresh), leak(drifts))
    if case.meta.ending in LOST:
        return told
    return with_coming(with_balancer(told, case.facts, case.held_s), case.facts, case.held_s)


def _shown(case: Case) -> Diagnosis:
    """What was shown of this server a moment ago."""
    return NOTHING if case.before is None else case.before.diagnosis


def _pressed(verdict: SloVerdict, slo: Slo) -> bool:
    """Whether a latency limit is missed: slow steps miss those of TPOT and E2E, and of TTFT while prompts are read."""
    latencies = {target.name for target in slo.targets if target.metric in LATENCIES}
    return any(each.ok is False for each in verdict.targets if each.name in latencies)
