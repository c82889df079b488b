"""The second line of the screen: one sentence in segments that can be cut off from the right at ` · `."""

from __future__ import annotations

import re

from llmtop.domain.load import Axis
from llmtop.domain.profile import Question
from llmtop.domain.run import LOST
from llmtop.domain.slo import LATENCIES, Slo, metric_of
from llmtop.domain.verdicts import (
    Bound,
    Capacity,
    CliffVerdict,
    Confidence,
    Diagnosis,
    Judgement,
    Kind,
    SloVerdict,
    TargetVerdict,
)
from llmtop.wording.between import BRIEFLY
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import bound_adjective, knee_name, target_name
from llmtop.wording.sentences import CONTRADICTION, VOID, fails_from, tries

SEPARATOR = " · "
WIDTH = 78
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
) -> str:
    """E.g. `SLO OK · 71 at SLO (TTFT p95<2s) · cliff ~96 ±8 · queue-bound: raise --max-num-seqs to about 110`.

    Of the advice it has what to turn. Where the line would get longer than 78 characters the limits in brackets go,
    then the advice becomes a segment of its own. `top` is the highest level measured. Once `judgement` is final it
    gives the first clause; before, the SLO of now does (`verdict` None: there is nothing to say of now). That a path
    buffers takes the place of all but the SLO, for it makes the figures void; that prompts are cut (`cut`) comes next.
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
    if verdict is not None:
        state = _answered(judgement, verdict) if judgement.final else slo_state(verdict)
    state = SEPARATOR.join(filter(None, (state, cut)))
    place = "" if judgement.final and cliff.at is None and judgement.question in _OF_ONE_LOAD else _cliff(cliff, top)
    bound, advice = bound_adjective(diagnosis.bound), _brief(diagnosis.advice or "")
    brief = f"{bound}: {advice}" if advice else bound
    for capacity_text in (long_capacity, short_capacity):
        text = SEPARATOR.join(filter(None, (state, capacity_text, place, brief)))
        if len(text) <= WIDTH:
            return text
    return SEPARATOR.join(filter(None, (state, short_capacity, place, bound, advice)))


def failing_headline(verdict: SloVerdict | None, why: str, judgement: Judgement) -> str:
    """`SLO FAIL · all fail: HTTP 429 "slow down please"`: there is nothing else to tell, and no room for it."""
    if judgement.ending in LOST:
        return SEPARATOR.join(("SLO not known", ENDED_BY[judgement.ending], why))
    state = "SLO FAIL" if verdict is not None and verdict.ok is False else "SLO --"
    return SEPARATOR.join((state, why))


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
    if capacity.at_slo is None:
        if capacity.fails_at is None:
            return "", ""
        text = f"below {TIGHT.load(capacity.fails_at, axis)} at SLO"
    else:
        text = f"{'' if capacity.fails_at is not None else '≥'}{TIGHT.load(capacity.at_slo, axis)} at SLO"
    return f"{text} ({_limits(slo)})", text


def _limits(slo: Slo) -> str:
    """The latency limits in the least room; all limits of an SLO that has none."""
    latencies = [target for target in slo.targets if target.metric in LATENCIES]
    return " ".join(TIGHT.target(target) for target in latencies or slo.targets)


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
    half = max((cliff.high or cliff.at) - cliff.at, cliff.at - (cliff.low or cliff.at))
    digits = 0 if cliff.axis == "concurrency" and cliff.at >= 10 else 1
    text = f"{knee_name(cliff.kind)} ~{cliff.at:.{digits}f} ±{half:.{digits}f}"
    if half > WIDE * cliff.at:
        text = f"{knee_name(cliff.kind)} {cliff.low or 0.0:.{digits}f} to {cliff.high or cliff.at:.{digits}f}"
    if cliff.confidence is Confidence.PROVISIONAL and cliff.next_levels:
        return f"{text}?, {tries(cliff.next_levels[:1])}"
    return text


def _brief(advice: str) -> str:
    """What to turn, without what it gives, the doubts and the other ways."""
    return re.split(r": | \(|, |; ", advice, maxsplit=1)[0]
