"""From levels to step time, time to the first token, and how far off both are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from llmtop.simulator.engine.twin_levels import LOAD_APART, Level, clusters, near
from llmtop.simulator.engine.twin_serving import First, Server, asked_of
from llmtop.simulator.engine.twin_steps import StepTime, gauss_newton
from llmtop.simulator.engine.twin_steps import fitted as step_fitted
from llmtop.simulator.engine.twin_words import Known


@dataclass(frozen=True, slots=True)
class Fitted:
    """A server's step time and first token, and by what share it misses."""

    step: StepTime
    first: First
    off: float
    """The busiest level, left out: the worse of TPOT and tokens/s; or one of its own levels, where that is missed by
    more."""
    far_off: float | None
    """The same, where all levels nearby are left out with it; None: too few are left."""
    first_off: float
    """The same of the time to the first token."""
    unexplained: float
    """The worst of its own levels."""


def fitted(levels: Sequence[Level], known: Known) -> Fitted:
    """Fitted to all levels, and to all but the busiest, to see how far off that one is then."""
    busiest = max(levels, key=lambda level: level.decoding)
    edge = busiest.decoding / LOAD_APART
    others = [level for level in levels if level.decoding <= edge or not near(level.measured, busiest.measured)]
    off, first_off = _missed_by(others, busiest, known) or (inf, inf)
    proofs = ([level for level in levels if level.decoding <= share * busiest.decoding] for share in PROOF)
    far = next((miss for rest in proofs if (miss := _missed_by(rest, busiest, known))), None)
    step = _step(levels, known)
    first = _first(levels, step, known)
    unexplained = max(abs(step.seconds(level.seen.work) / level.seen.step_s - 1.0) for level in levels)
    first_unexplained = [
        abs((first.away_s + first.inside_s(step.parts(level.seen.work))) / level.measured.ttft_s - 1.0)
        for level in levels
        if not level.queued
    ]
    off = max(off, far[0] if far else 0.0, unexplained)
    return Fitted(step, first, off, far[0] if far else None, max([first_off, *first_unexplained]), unexplained)


PROOF = (0.55, 0.8)
"""Of the busiest level, up to which levels are a proof that it can be foretold from afar: half of it, about; where
there are too few of these, four fifths."""


def _missed_by(rest: Sequence[Level], busiest: Level, known: Known) -> tuple[float, float] | None:
    """How a fit to the rest misses the busiest; None: these are of less than two loads."""
    if len(clusters([level.decoding for level in rest], LOAD_APART)) < 2:
        return None
    step = _step(rest, known)
    return missed(Server(step, _first(rest, step, known), busiest.running, busiest.shape), busiest, known)


def _step(levels: Sequence[Level], known: Known) -> StepTime:
    return step_fitted([level.seen for level in levels], float(known.budget_tokens or inf))


def missed(server: Server, level: Level, known: Known) -> tuple[float, float]:
    """Share by which a level is missed: the worse of TPOT and tokens/s, and the time to the first token."""
    m = level.measured
    answered = known.axis == "rate" and not level.queued
    state = asked_of(server, m.requests_per_s if answered else m.load, known.axis)
    first = 0.0 if level.queued else abs(state.first_s / m.ttft_s - 1.0)
    rate = level.decoding / (level.shape.steps * m.tpot_s)
    return max(abs(state.tpot_s / m.tpot_s - 1.0), abs(state.requests_per_s / rate - 1.0)), first


def _first(levels: Sequence[Level], step: StepTime, known: Known) -> First:
    """From the levels where nobody waits for a slot, beside what schedulers do; of none of them, from that alone."""
    free = [level for level in levels if not level.queued]
    least_s = min((level.measured.ttft_s for level in free), default=0.0)
    seen = [(step.parts(level.seen.work), level.measured.ttft_s) for level in free]
    priors = (_AWAY, _REST, _PROMPT, _IN_STEP if alike(known) and known.axis == "concurrency" else _BY_CHANCE)

    def first(numbers: Sequence[float]) -> First:
        away, rest, prompt, convoy = (max(number, 0.0) for number in numbers)
        return First(away * least_s, rest, prompt, convoy)

    def residuals(numbers: Sequence[float]) -> list[float]:
        made = first(numbers)
        misses = [((made.away_s + made.inside_s(parts)) / ttft_s - 1.0) / _FIRST_OFF for parts, ttft_s in seen]
        return misses + [(value - mean) / spread for value, (mean, spread) in zip(numbers, priors, strict=True)]

    return first(gauss_newton(residuals, [mean for mean, _ in priors]))


def alike(known: Known) -> bool:
    """Answers are so much of a length that those who are prefilled together end together, and return together."""
    return known.output_cv < ALIKE


ALIKE = 0.2
"""Deviation of the lengths of answers over their mean, below which users may come to march in step."""
_FIRST_OFF = 0.10
"""Share by which the mean time to the first token differs from level to level, beside its cause: arrivals fall into
step with the engine."""
_AWAY = (0.2, 0.4)
"""Of the least time to the first token, that is spent outside of the engine: mean and spread."""
_REST = (1.0, 0.4)
"""Of a running step that is waited for: half of it, and one more where the next is planned meanwhile."""
_PROMPT = (1.0, 0.15)
_IN_STEP, _BY_CHANCE = (0.2, 0.4), (0.02, 0.05)
"""Of the others, that are prefilled in the same steps beyond those that are by chance."""
