"""From levels as a client saw them to step time, time to the first token, and how far off both are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from llmtop.simulator.engine.twin_serving import First, Server, Shape, State
from llmtop.simulator.engine.twin_steps import Seen, StepTime, not_negative, roofline, straight
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


def shape_of(prompt: float, output: float, cached: float, known: Known) -> Shape:
    """The request of these lengths: half of the output is written on the mean, more where lengths differ."""
    steps = max(output - 1.0, 1.0)
    grown = output / 2.0 * (1.0 + known.output_cv**2)
    held = prompt * (1.0 - cached) + grown + known.block_tokens / 2.0
    return Shape(prompt * (1.0 - cached), prompt + grown, steps, held)


def ready(levels: Sequence[Measured], known: Known) -> list[Level]:
    """The levels that tell of steps, in the order given."""
    return [level for measured in levels if (level := _ready(measured, known)) is not None]


def _ready(m: Measured, known: Known) -> Level | None:
    figures = (m.load, m.n, m.prompt_tokens, m.tpot_s, m.e2e_s, m.requests_per_s, m.output_tokens_per_s)
    if not all(isfinite(figure) and figure > 0 for figure in figures) or m.output_tokens <= 1.0:
        return None
    decoding = m.requests_per_s * (m.e2e_s - m.ttft_s)
    if not isfinite(decoding) or decoding <= 0.0:
        return None
    slots = m.slots or known.slots or inf
    shape = shape_of(m.prompt_tokens, m.output_tokens, m.cached, known)
    if known.axis == "rate":
        queued = m.requests_per_s < _KEPT_UP * m.load or (m.running or 0.0) >= FULL_KV * slots
        flying = m.requests_per_s * m.e2e_s
    else:
        queued = m.load > slots
        flying = m.load
    queued = queued or (m.kv_usage or 0.0) >= FULL_KV
    running = flying
    if queued:
        running = m.running or (slots if slots < inf and (m.kv_usage or 0.0) < FULL_KV else decoding)
    return Level(m, Seen(shape.work(decoding), m.tpot_s, 1.0), shape, max(running, decoding), queued)


def clusters(values: Sequence[float], apart: float) -> list[list[float]]:
    """Values in rising order, in groups whose neighbours differ by less than the factor."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value < apart * groups[-1][0]:
            groups[-1].append(value)
        else:
            groups.append([value])
    return groups


Form = Callable[..., StepTime]
FORMS: tuple[Form, ...] = (roofline, straight)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A server's step time and first token, and by what share it misses."""

    step: StepTime
    first: First
    off: float
    """The level that was left out."""
    first_off: float
    """Its time to the first token."""
    unexplained: float
    """The worst of its own levels."""


def fitted(levels: Sequence[Level], known: Known) -> Fitted:
    """The form of step time that foretells the busiest level best from the others, fitted to all."""
    lengths = len(clusters([level.measured.prompt_tokens for level in levels], LENGTH_APART))
    busiest = max(levels, key=lambda level: level.seen.work.decoding)
    edge = busiest.seen.work.decoding / LOAD_APART
    rest = [level for level in levels if level.seen.work.decoding <= edge]
    trials = []
    for form in FORMS:
        server = Server(form([level.seen for level in rest], lengths=lengths), _first(rest), busiest.running)
        trials.append((*missed(server, busiest, known), form))
    off, first_off, form = min(trials, key=lambda trial: trial[0])
    step = form([level.seen for level in levels], lengths=lengths)
    unexplained = max(abs(step.seconds(level.seen.work) / level.seen.step_s - 1.0) for level in levels)
    return Fitted(step, _first(levels), off, first_off, unexplained)


def missed(server: Server, level: Level, known: Known) -> tuple[float, float]:
    """Share by which a level is missed: the worse of TPOT and tokens/s, and the time to the first token."""
    m = level.measured
    state = asked_of(server, m.load, level.shape, known)
    tokens = state.requests_per_s * m.output_tokens
    first = 0.0 if level.queued else abs(state.first_s / m.ttft_s - 1.0)
    return max(abs(state.tpot_s / m.tpot_s - 1.0), abs(tokens / m.output_tokens_per_s - 1.0)), first


def asked_of(server: Server, load: float, shape: Shape, known: Known) -> State:
    """What a load on either axis comes to."""
    return server.rate(load, shape) if known.axis == "rate" else server.users(load, shape)


def _first(levels: Sequence[Level]) -> First:
    """From the levels where nobody waits for a slot; of none of them, what one prompt in a step would take."""
    free = [level for level in levels if not level.queued]
    if not free:
        return First(min(level.seen.step_s for level in levels), 0.0, 0.0)
    lengths = len(clusters([level.shape.prompt for level in free], LENGTH_APART))
    rows = []
    for level in free:
        work = level.seen.work
        row = [1.0, work.prompt if lengths > 1 else 0.0, work.prompt * work.decoding]
        rows.append([x / level.measured.ttft_s for x in row])
    numbers = not_negative(rows, [1.0] * len(rows))
    return First(numbers[0], numbers[1], numbers[2])
