"""From levels as a client saw them to step time, time to the first token, and how far off both are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt

from llmtop.simulator.engine.twin_serving import First, Server, Shape, asked_of
from llmtop.simulator.engine.twin_steps import Seen, StepTime, gauss_newton
from llmtop.simulator.engine.twin_steps import fitted as step_fitted
from llmtop.simulator.engine.twin_words import Known, Measured

LENGTH_APART = 1.25
"""Means of one length differ by less from level to level, those of two lengths by more."""
LOAD_APART = 1.15
"""Requests running at once differ by more between two loads that tell of a slope."""
FULL_KV = 0.97
"""KV usage from which it is the cache that lets no more in."""
_KEPT_UP = 0.95
"""Share of the requests/s offered that are answered where no queue grows."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level, made ready for a fit."""

    measured: Measured
    seen: Seen
    shape: Shape
    running: float
    """At once."""
    queued: bool
    """Some waited for a slot, or for the KV cache: the time to the first token says nothing of a step."""


def shape_of(prompt: float, output: float, cached: float, known: Known, steps: float | None = None) -> Shape:
    """The request of these lengths: half of the output is written on the mean, more where lengths differ."""
    grown = output / 2.0 * (1.0 + known.output_cv**2)
    held = prompt * (1.0 - cached) + grown + known.block_tokens / 2.0
    computed = max(prompt * (1.0 - cached), 1.0)
    return Shape(computed, prompt + grown, steps or max(output - 1.0, 1.0), held, known.axis == "concurrency")


def ready(levels: Sequence[Measured], known: Known) -> list[Level]:
    """The levels that tell of steps, in the order given."""
    return [level for measured in levels if (level := _ready(measured, known)) is not None]


def _ready(m: Measured, known: Known) -> Level | None:
    figures = (m.load, m.n, m.prompt_tokens, m.tpot_s, m.ttft_s, m.e2e_s, m.requests_per_s, m.output_tokens_per_s)
    if not all(isfinite(figure) and figure > 0 for figure in figures) or m.output_tokens <= 1.0 or m.e2e_s <= m.ttft_s:
        return None
    slots = m.slots or known.slots or inf
    flying = m.requests_per_s * m.e2e_s
    kv_full = (m.kv_usage or 0.0) >= FULL_KV
    if known.axis == "rate":
        queued = kv_full or m.requests_per_s < _KEPT_UP * m.load or (m.running or 0.0) >= FULL_KV * slots
    else:
        queued = kv_full or m.load > slots
        flying = m.load if abs(flying / m.load - 1.0) < _THINKS else flying
    decoding = flying * (1.0 - m.ttft_s / m.e2e_s)
    shape = shape_of(m.prompt_tokens, m.output_tokens, m.cached, known, (m.e2e_s - m.ttft_s) / m.tpot_s)
    running = flying
    if queued:
        running = m.running or (slots if slots < inf and not kv_full else decoding)
    seen = Seen(shape.work(decoding), m.tpot_s, sqrt(_DRIFT**2 + _CHANCE / m.n))
    return Level(m, seen, shape, max(running, decoding), queued)


_THINKS = 0.15
"""Share by which users and the requests in flight may differ before it is the latter that count: users who think."""
_DRIFT, _CHANCE = 0.01, 0.1
"""Of a level's mean TPOT: what servers wander by, and the variance that one request has (2.8 % over 128 of them)."""


def clusters(values: Sequence[float], apart: float) -> list[list[float]]:
    """Values in rising order, in groups whose neighbours differ by less than the factor."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value < apart * groups[-1][0]:
            groups[-1].append(value)
        else:
            groups.append([value])
    return groups


@dataclass(frozen=True, slots=True)
class Fitted:
    """A server's step time and first token, and by what share it misses."""

    step: StepTime
    first: First
    off: float
    """The busiest level, left out: the worse of TPOT and tokens/s."""
    far_off: float | None
    """The same, where all levels with more than half as many at once are left out; None: too few are left."""
    first_off: float
    """Its time to the first token."""
    unexplained: float
    """The worst of its own levels."""


def fitted(levels: Sequence[Level], known: Known) -> Fitted:
    """Fitted to all levels, and to all but the busiest, to see how far off that one is then."""
    off, first_off = _left_out(levels, known, LOAD_APART) or (inf, inf)
    far = _left_out(levels, known, 2.0 / _ABOUT)
    step = _step(levels, known)
    unexplained = max(abs(step.seconds(level.seen.work) / level.seen.step_s - 1.0) for level in levels)
    off = max(off, far[0]) if far else off
    return Fitted(step, _first(levels, step), off, far[0] if far else None, first_off, unexplained)


_ABOUT = 1.1
"""Factor by which half as many may be more than half."""


def _left_out(levels: Sequence[Level], known: Known, apart: float) -> tuple[float, float] | None:
    """How a fit to the levels with so many times fewer at once misses the busiest; None: of less than two loads."""
    busiest = max(levels, key=lambda level: level.seen.work.decoding)
    edge = busiest.seen.work.decoding / apart
    rest = [level for level in levels if level.seen.work.decoding <= edge]
    if len(clusters([level.seen.work.decoding for level in rest], LOAD_APART)) < 2:
        return None
    step = _step(rest, known)
    return missed(Server(step, _first(rest, step), busiest.running, busiest.shape), busiest, known)


def _step(levels: Sequence[Level], known: Known) -> StepTime:
    return step_fitted([level.seen for level in levels], float(known.budget_tokens or inf))


def missed(server: Server, level: Level, known: Known) -> tuple[float, float]:
    """Share by which a level is missed: the worse of TPOT and tokens/s, and the time to the first token."""
    m = level.measured
    state = asked_of(server, m.load, known.axis)
    first = 0.0 if level.queued else abs(state.first_s / m.ttft_s - 1.0)
    return max(abs(state.tpot_s / m.tpot_s - 1.0), abs(state.requests_per_s / m.requests_per_s - 1.0)), first


def _first(levels: Sequence[Level], step: StepTime) -> First:
    """From the levels where nobody waits for a slot, beside what schedulers do; of none of them, from that alone."""
    free = [level for level in levels if not level.queued]
    least_s = min((level.measured.ttft_s for level in free), default=0.0)
    parts = [(*step.three(level.seen.work)[1:], level.measured.ttft_s) for level in free]

    def residuals(numbers: Sequence[float]) -> list[float]:
        away, rest, prompt = numbers
        misses = [
            (away * least_s + rest * rest_s + prompt * prompt_s - ttft_s) / ttft_s / _FIRST_OFF
            for rest_s, prompt_s, ttft_s in parts
        ]
        priors = ((away, _AWAY), (rest, _REST), (prompt, _PROMPT))
        return misses + [(value - mean) / spread for value, (mean, spread) in priors]

    away, rest, prompt = gauss_newton(residuals, [_AWAY[0], _REST[0], _PROMPT[0]])
    return First(max(away, 0.0) * least_s, max(rest, 0.0), max(prompt, 0.0))


_FIRST_OFF = 0.10
"""Share by which the mean time to the first token differs from level to level, beside its cause: arrivals fall into
step with the engine."""
_AWAY = (0.2, 0.4)
"""Of the least time to the first token, that is spent outside of the engine: mean and spread."""
_REST = (1.0, 0.4)
"""Of a running step that is waited for: half of it, and one more where the next is planned meanwhile."""
_PROMPT = (1.0, 0.15)
