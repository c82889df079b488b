"""The verdict under the header: segments with ` · ` between them, what is to be done before what is known."""

from __future__ import annotations

import re

from llmtop.domain.judgement import Judgement
from llmtop.domain.load import Axis
from llmtop.domain.profile import Question
from llmtop.domain.run import LOST
from llmtop.domain.slo import LATENCIES, Slo, metric_of
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Kind, SloVerdict, TargetVerdict
from llmtop.wording.between import BRIEFLY
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import bound_adjective, knee_name, short_unit, target_name
from llmtop.wording.sentences import CLIENT_LATE, CONTRADICTION, VOID, fails_from, tries

SEPARATOR = " · "
WIDTH = 150
"""Two lines of 80 columns, less what breaking them between words costs."""
ACTION_WIDTH = 128
"""The same, where they are broken at the longest of words: so far reaches what is never cut."""
WIDE = 0.5
"""Half of an interval over its place from which the ends are told: one in the middle of them is not known."""


def headline(
    slo: Slo,
    verdict: SloVerdict | None,
    capacity: Capacity,
    cliff: CliffVerdict,
    diagnosis: Diagnosis,
    top: float | None,
    judgement: Judgement,
    buffered: bool = False,
    cut: str = "",
    settling: bool = False,
) -> str:
    """`SLO OK · queue-bound: raise --max-num-seqs to about 110 · 71 users at the SLO · cliff 96 (88 to 104)`

    Of the advice it has what to turn, all ways of it or, where they leave no room for anything else, the first. Where
    the line would get longer than `WIDTH` the limits in brackets go. `top` is the highest level measured. Once
    `judgement` is final it gives the first clause; before, the SLO of now does (`verdict` None: there is nothing to say
    of now), or that it is `settling` after a move. That a path buffers takes the place of all but the SLO, for it makes
    the figures void; that prompts are cut (`cut`) comes next.
    """
    if judgement.ending in LOST:
        return SEPARATOR.join(("SLO not known", ENDED_BY[judgement.ending]))
    if judgement.void:
        return SEPARATOR.join(("SLO --", f"{bound_adjective(Bound.CLIENT)}: {VOID}"))
    if buffered:
        failed = judgement.ok is False if judgement.final else verdict is not None and verdict.ok is False
        return SEPARATOR.join((slo_state(verdict or SloVerdict()) if failed else "SLO --", *BRIEFLY))
    long_capacity, short_capacity = _capacity(slo, capacity, cliff.axis)
    if judgement.final and judgement.question in _OF_ONE_LOAD:
        long_capacity = short_capacity = ""
    state = ""
    if judgement.final:
        state = "" if verdict is None else _answered(judgement, verdict)
    elif settling:
        state = SETTLING
    elif verdict is not None:
        state = slo_state(verdict)
    place = "" if judgement.final and cliff.at is None and judgement.question in _OF_ONE_LOAD else _cliff(cliff, top)
    action = _action(diagnosis)
    if len(SEPARATOR.join((state, cut, action))) > ACTION_WIDTH:
        action = _action(diagnosis, 1)
    whole = (state, cut, action)
    if len(SEPARATOR.join(whole)) > ACTION_WIDTH:
        whole = (state, action, cut)
    for capacity_text in (long_capacity, short_capacity):
        text = SEPARATOR.join(filter(None, (*whole, capacity_text, place)))
        if len(text) <= WIDTH:
            break
    return text


def failing_headline(verdict: SloVerdict | None, why: str, judgement: Judgement) -> str:
    """`SLO FAIL · all fail: HTTP 429 "slow down please"`: there is nothing else to tell, and no room for it."""
    if judgement.ending in LOST:
        return SEPARATOR.join(("SLO not known", ENDED_BY[judgement.ending], why))
    state = "SLO FAIL" if verdict is not None and verdict.ok is False else "SLO --"
    return SEPARATOR.join((state, why))


SETTLING = "settling…"
"""In the place of the SLO's state: what is seen is still of two loads."""


def slo_state(verdict: SloVerdict) -> str:
    """`SLO OK`, `SLO --` where it is not known, or `SLO FAIL` with the first limit that is missed; failures first."""
    if verdict.ok:
        return "SLO OK"
    missed = [target for target in verdict.targets if target.ok is False]
    failed = min(missed, key=lambda target: target.name != "error_ratio", default=None)
    return "SLO --" if failed is None else f"SLO FAIL {_miss(failed)}"


def _answered(judgement: Judgement, verdict: SloVerdict) -> str:
    """The answer in two words, with what it broke on; of where the wall is, the figures that follow are the answer."""
    if judgement.ok is None:
        return "SLO not known"
    if judgement.ok:
        return "" if judgement.question in (Question.CAPACITY, Question.CLIFF) else "SLO OK"
    return slo_state(verdict) if verdict.ok is False else f"SLO FAIL {_BROKEN[judgement.question]}"


_OF_ONE_LOAD = (Question.HOLD, Question.SOAK, Question.SPIKE)
"""Questions that ask for no cliff."""
_BROKEN = {
    Question.HOLD: "not held",
    Question.PEAK: "below the peak",
    Question.CAPACITY: "not reached",
    Question.SOAK: "it creeps",
    Question.SPIKE: "not recovered",
    Question.CLIFF: "not held",
}


def _miss(target: TargetVerdict) -> str:
    """`TTFT p95>2s`: the limit, which stands; what is measured moves every second and is told beside."""
    return f"{target_name(target.name)}>{TIGHT.limit(metric_of(target.name), target.limit)}"


def _capacity(slo: Slo, capacity: Capacity, axis: Axis) -> tuple[str, str]:
    load = capacity.fails_at if capacity.at_slo is None else capacity.at_slo
    if load is None:
        return "", ""
    if capacity.at_slo is None and axis == "concurrency" and load <= 1:
        return f"no user at the SLO ({_limits(slo)})", "no user at the SLO"
    sign = "below " if capacity.at_slo is None else "" if capacity.fails_at is not None else "≥"
    text = f"{sign}{TIGHT.load(load, axis)} {short_unit(axis, load)} at the SLO"
    return f"{text} ({_limits(slo)})", text


def _limits(slo: Slo) -> str:
    """The latency limits in the least room; all limits of an SLO that has none."""
    latencies = [target for target in slo.limits if target.metric in LATENCIES]
    return " ".join(TIGHT.target(target) for target in latencies or slo.limits)


def _cliff(cliff: CliffVerdict, top: float | None) -> str:
    if cliff.kind is Kind.INSUFFICIENT:
        if not cliff.next_levels:
            return "not enough data"
        return "not enough data: " + tries(cliff.next_levels)
    if cliff.kind is Kind.UNSTABLE:
        return CONTRADICTION
    if cliff.fails:
        return fails_from(cliff, TIGHT)
    if cliff.kind is Kind.NONE or cliff.at is None:
        reached = "no cliff" if top is None else f"no cliff up to {TIGHT.load(top, cliff.axis)}"
        return reached + (f", {tries(cliff.next_levels[:1])}" if cliff.next_levels else "")
    name = knee_name(cliff.kind)
    at, low, high = (TIGHT.load(end, cliff.axis) for end in (cliff.at, cliff.low or cliff.at, cliff.high or cliff.at))
    half = max((cliff.high or cliff.at) - cliff.at, cliff.at - (cliff.low or cliff.at))
    text = f"{name} {at}" if low == high else f"{name} {at} ({low} to {high})"
    text = f"{name} {low} to {high}" if half > WIDE * cliff.at else text
    if cliff.confidence is Confidence.PROVISIONAL and cliff.next_levels:
        return f"{text}, {tries(cliff.next_levels[:1])} to be sure"
    return text


def _action(diagnosis: Diagnosis, ways: int | None = None) -> str:
    """`queue-bound: raise --max-num-seqs to about 110`: what binds, and what to turn.

    Without what that gives and the doubts. `ways`: so many of several ways to turn; None: all.
    """
    if diagnosis.bound is Bound.NONE and CLIENT_LATE in diagnosis.evidence:
        return CLIENT_LATE
    bound, advice = bound_adjective(diagnosis.bound), re.split(r": | \(|; ", diagnosis.advice or "", maxsplit=1)[0]
    if ways is not None:
        advice = ", ".join(advice.split(", ")[:ways])
    return f"{bound}: {advice}" if advice else bound
