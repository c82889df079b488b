"""Levels as a client saw them, made ready for a fit: what ran at once, who waited for what, and what is known then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, inf, isfinite, sqrt
from statistics import median

from llmtop.simulator.engine.twin_serving import Shape
from llmtop.simulator.engine.twin_steps import Seen
from llmtop.simulator.engine.twin_words import Known, Measured

LENGTH_APART = 1.25
"""Means of one length differ by less from level to level, those of two lengths by more."""
LOAD_APART = 1.15
"""Requests running at once differ by more between two loads that tell of a slope."""
FULL_KV = 0.97
"""KV usage from which it is the cache that lets no more in."""
TOLD_KV = 0.3
"""KV usage from which it tells how many tokens the cache holds."""
HELD = 1.1
"""Factor by which a KV cache may hold more requests than is reckoned from their mean lengths."""
MORE_LOAD, NO_MORE_RUN = 1.2, 1.05
"""A load more by the first factor, of which no more than by the second are given tokens, waits for slots."""
LATER = 2.5
"""Over what a load is more, that its first tokens come later where they wait for slots: of users who march in step they
come later by the load."""
THINKS = 0.15
"""Share by which users and the requests in flight may differ before it is the latter that count: users who think."""
_GROWTH = 0.6
"""Deviation of what of an answer is written, over its mean: 1/√3 where all are as long."""
_DRIFT, _CHANCE = 0.01, 0.1
"""Of a level's mean TPOT: what servers wander by, and the variance that one request has (2.8 % over 128 of them)."""
_PREEMPTED = 0.1
"""The same where the KV cache is full: requests that are put out of it are computed again."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level, made ready for a fit."""

    measured: Measured
    seen: Seen
    shape: Shape
    flying: float
    """Requests in flight, those that wait included."""
    decoding: float
    """Of these, those that are given tokens."""
    running: float
    """Those that the engine works on."""
    queued: bool
    """Some waited for a slot, or for the KV cache: the time to the first token says nothing of a step."""


def by_kv(kv_tokens: float | None, shape: Shape) -> float:
    """Requests that a KV cache holds at once: the first that waits must find room for its whole prompt, and leaves half
    of that free on the mean."""
    return max((kv_tokens - shape.prompt / 2.0) / shape.held, 1.0) if kv_tokens else inf


def shape_of(prompt: float, output: float, cached: float, known: Known, steps: float) -> Shape:
    """The request of these lengths: half of the output is written on the mean, more where lengths differ."""
    grown = output / 2.0 * (1.0 + known.output_cv**2)
    computed = max(prompt * (1.0 - cached), 1.0)
    held = computed + grown + known.block_tokens / 2.0
    held_cv = hypot(known.prompt_cv * computed, _GROWTH * grown) / held
    return Shape(computed, prompt + grown, steps, held, held_cv, known.axis == "concurrency")


def ready(levels: Sequence[Measured], known: Known) -> list[Level]:
    """The levels that tell of steps, in the order given."""
    able = [level for measured in levels if (level := _level(measured, known)) is not None]
    return [_waiting(level) if level.queued or any(_waits(level, low) for low in able) else level for level in able]


def _waits(high: Level, low: Level) -> bool:
    """More of the same load than at the other level, and no more tokens; or a first token much later."""
    more = high.flying / low.flying
    flat = more >= MORE_LOAD and high.decoding <= NO_MORE_RUN * low.decoding
    late = more > 1.0 and high.measured.ttft_s >= LATER * more * low.measured.ttft_s
    return (flat or late) and near(low.measured, high.measured)


def near(a: Measured, b: Measured) -> bool:
    """Of one length."""
    pairs = ((a.prompt_tokens, b.prompt_tokens), (a.output_tokens, b.output_tokens))
    return all(max(pair) < LENGTH_APART * min(pair) for pair in pairs)


def _level(m: Measured, known: Known) -> Level | None:
    figures = (m.load, m.n, m.prompt_tokens, m.tpot_s, m.ttft_s, m.e2e_s, m.requests_per_s, m.output_tokens_per_s)
    if not all(isfinite(figure) and figure > 0 for figure in figures) or m.output_tokens <= 1.0 or m.e2e_s <= m.ttft_s:
        return None
    shape = shape_of(m.prompt_tokens, m.output_tokens, m.cached, known, (m.e2e_s - m.ttft_s) / m.tpot_s)
    slots = m.slots or known.slots or inf
    flying = m.requests_per_s * m.e2e_s
    full = (m.kv_usage or 0.0) >= FULL_KV
    if known.axis == "concurrency" and abs(flying / m.load - 1.0) < THINKS:
        flying = m.load
    queued = flying > min(slots, HELD * by_kv(known.kv_tokens, shape))
    decoding = flying * (1.0 - m.ttft_s / m.e2e_s)
    off = sqrt(_DRIFT**2 + _CHANCE / m.n + (_PREEMPTED**2 if full else 0.0))
    running = min(flying, slots)
    return Level(m, Seen(shape.work(decoding), m.tpot_s, off), shape, flying, decoding, running, queued or full)


def _waiting(level: Level) -> Level:
    """The level of which some wait: what runs is what the server shows, its slots, or what is given tokens."""
    shown = level.measured.running
    running = shown or (level.running if level.running < level.flying else level.decoding)
    return replace(level, queued=True, running=max(running, level.decoding))


def completed(known: Known, levels: Sequence[Level]) -> Known:
    """With what the levels show of slots and KV cache, where the server does not say."""
    queued = [level.running for level in levels if level.queued and (level.measured.kv_usage or 0.0) < FULL_KV]
    slots = round(max(queued)) if queued and known.slots is None else known.slots
    told = [level for level in levels if (level.measured.kv_usage or 0.0) >= TOLD_KV]
    kv_tokens = known.kv_tokens
    if kv_tokens is None and told:
        fullest = max(told, key=lambda level: level.measured.kv_usage or 0.0)
        kv_tokens = fullest.running * fullest.shape.held / min(fullest.measured.kv_usage or 1.0, 1.0)
    return replace(known, slots=slots, kv_tokens=kv_tokens)


def loads_of(levels: Sequence[Level]) -> int:
    """That differ in what is given tokens at once, or in the length of prompts; 1 where nothing tells of a slope."""
    decoding = [level.decoding for level in levels]
    if len(clusters(decoding, LOAD_APART)) < 2:
        return min(len(levels), 1)
    lengths = clusters([level.measured.prompt_tokens for level in levels], LENGTH_APART)
    same = ([level.decoding for level in levels if level.measured.prompt_tokens in length] for length in lengths)
    return sum(len(clusters(group, LOAD_APART)) for group in same)


def kept(levels: Sequence[Level], known: Known) -> float:
    """Requests/s that are answered over those that are offered, where none wait: clients send late, and windows end."""
    answered = [level.measured.requests_per_s / level.measured.load for level in levels if not level.queued]
    return min(median(answered), 1.0) if known.axis == "rate" and answered else 1.0


def clusters(values: Sequence[float], apart: float) -> list[list[float]]:
    """Values in rising order, in groups that span less than the factor."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value < apart * groups[-1][0]:
            groups[-1].append(value)
        else:
            groups.append([value])
    return groups
