"""Forms of a step's mean time, and how their few numbers are fitted: small dense least squares, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

CORNER = 2.2
"""Sharpness of the roofline's corner: presets fitted to measured cards have 1.8 to 3."""
_TURNS = 40
"""Of Gauss-Newton at most; it settles in about ten."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the engine has on its hands, on the mean."""

    decoding: float
    """Requests that are given tokens."""
    prompt: float
    """Prompt tokens to compute of a request: those of its prompt that no cache holds."""
    context: float
    """Tokens that a decoding request reads back each step: its prompt, and what it has of its output by then."""
    output: float
    """Tokens after the first: so many steps lie between two prompts of one slot."""

    @property
    def tokens(self) -> float:
        """New tokens of a step: one a request, and the prompts of those that follow upon others."""
        return self.decoding * (1.0 + self.prompt / self.output)


@dataclass(frozen=True, slots=True)
class Seen:
    """A mean time between two tokens, and under what work."""

    work: Work
    step_s: float
    weight: float


class StepTime(Protocol):
    """Seconds between two tokens of a request."""

    def seconds(self, work: Work) -> float: ...


@dataclass(frozen=True, slots=True)
class Straight:
    """`a + B·(b + c·context + d·prompt/output)`: what a card does far from the corner of its roofline."""

    constant_s: float
    sequence_s: float
    context_s: float
    prompt_s: float

    def seconds(self, work: Work) -> float:
        slope = self.sequence_s + self.context_s * work.context + self.prompt_s * work.prompt / work.output
        return self.constant_s + work.decoding * slope


@dataclass(frozen=True, slots=True)
class Roofline:
    """`c + (w^p + (g·T)^p)^(1/p) + kv·B·context`: weights are read once a step, until computing takes longer."""

    constant_s: float
    weights_s: float
    token_s: float
    context_s: float

    def seconds(self, work: Work) -> float:
        gemm: float = (self.weights_s**CORNER + (self.token_s * work.tokens) ** CORNER) ** (1.0 / CORNER)
        return self.constant_s + gemm + self.context_s * work.decoding * work.context


@dataclass(frozen=True, slots=True)
class Scaled:
    """A form, moved so that it meets the busiest level."""

    form: StepTime
    factor: float

    def seconds(self, work: Work) -> float:
        return self.factor * self.form.seconds(work)


def straight(seen: Sequence[Seen], *, lengths: int) -> StepTime:
    """The line through what was seen; with one pair of lengths only two of its numbers can be told apart."""
    columns = [[1.0, s.work.decoding, 0.0, 0.0] for s in seen]
    if lengths > 1:
        for row, s in zip(columns, seen, strict=True):
            row[2] = s.work.decoding * s.work.context
            row[3] = s.work.decoding * s.work.prompt / s.work.output
    rows = [[x * s.weight / s.step_s for x in row] for row, s in zip(columns, seen, strict=True)]
    numbers = not_negative(rows, [s.weight for s in seen])
    return Straight(numbers[0], numbers[1], numbers[2], numbers[3])


def roofline(seen: Sequence[Seen], *, lengths: int) -> StepTime:
    """The roofline by least squares of the logarithms, beside weak priors: what data does not tell stays at those."""
    least = min(seen, key=lambda s: s.work.decoding)
    most = max(seen, key=lambda s: s.work.decoding)
    rise = max(most.step_s - least.step_s, 0.05 * least.step_s)
    start = [
        0.25 * least.step_s,
        0.7 * least.step_s,
        most.step_s / most.work.tokens,
        0.3 * rise / (most.work.decoding * most.work.context),
    ]
    spreads = (0.5, 0.3, 1.0, 1.0)

    def residuals(logs: Sequence[float]) -> list[float]:
        form = Roofline(*(value * _exp(log) for value, log in zip(start, logs, strict=True)))
        misses = [s.weight * _log(form.seconds(s.work) / s.step_s) / _NOISE for s in seen]
        return misses + [log / spread for log, spread in zip(logs, spreads, strict=True)]

    logs = gauss_newton(residuals, [0.0] * 4)
    form = Roofline(*(value * _exp(log) for value, log in zip(start, logs, strict=True)))
    top = [s for s in seen if s.work.tokens >= 0.95 * max(other.work.tokens for other in seen)]
    return Scaled(form, sum(s.step_s / form.seconds(s.work) for s in top) / len(top))


_NOISE = 0.01
"""Share by which the mean time of a level differs from run to run, about: windows of some hundred requests."""


def _exp(value: float) -> float:
    return float(2.718281828459045 ** min(max(value, -20.0), 20.0))


def _log(value: float) -> float:
    import math

    return math.log(value)


def solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float] | None:
    """The solution of a small square system; None: it has none, or no single one."""
    n = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        if abs(rows[pivot][i]) < 1e-300:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            for c in range(i, n + 1):
                rows[r][c] -= factor * rows[i][c]
    found = [0.0] * n
    for i in reversed(range(n)):
        found[i] = (rows[i][n] - sum(rows[i][c] * found[c] for c in range(i + 1, n))) / rows[i][i]
    return found


def not_negative(rows: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Least squares with no number below zero, of a handful: the best of all choices of which are zero."""
    count = len(rows[0])
    best, least = [0.0] * count, sum(value * value for value in right)
    used = [c for c in range(count) if any(row[c] for row in rows)]
    for size in range(1, min(len(used), len(rows)) + 1):
        for chosen in combinations(used, size):
            scale = [max(abs(row[c]) for row in rows) for c in chosen]
            part = [[row[c] / s for c, s in zip(chosen, scale, strict=True)] for row in rows]
            squares = [
                [sum(row[i] * row[j] for row in part) + (1e-9 if i == j else 0.0) for j in range(size)]
                for i in range(size)
            ]
            found = solved(squares, [sum(row[i] * y for row, y in zip(part, right, strict=True)) for i in range(size)])
            if found is None or min(found) < 0.0:
                continue
            misses = [
                sum(x * value for x, value in zip(row, found, strict=True)) - y
                for row, y in zip(part, right, strict=True)
            ]
            loss = sum(miss * miss for miss in misses)
            if loss < least * (1.0 - 1e-9):
                least, best = loss, [0.0] * count
                for c, s, value in zip(chosen, scale, found, strict=True):
                    best[c] = value / s
    return best


def gauss_newton(residuals: Callable[[Sequence[float]], list[float]], start: Sequence[float]) -> list[float]:
    """Where the sum of squared residuals is least, near `start`; damped, so that no turn makes it worse."""
    here, damping = list(start), 1e-3
    now = residuals(here)
    loss = sum(r * r for r in now)
    for _ in range(_TURNS):
        slopes = []
        for i in range(len(here)):
            moved = list(here)
            moved[i] += 1e-5
            slopes.append([(a - b) / 1e-5 for a, b in zip(residuals(moved), now, strict=True)])
        squares = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in slopes] for x in slopes]
        down = [-sum(a * b for a, b in zip(x, now, strict=True)) for x in slopes]
        while damping < 1e8:
            damped = [[v * (1.0 + damping) if i == j else v for j, v in enumerate(r)] for i, r in enumerate(squares)]
            step = solved(damped, down)
            there = [a + b for a, b in zip(here, step, strict=True)] if step else here
            then = residuals(there)
            after = sum(r * r for r in then)
            if after <= loss:
                break
            damping *= 10.0
        else:
            return here
        gain, here, now, loss, damping = loss - after, there, then, after, max(damping / 10.0, 1e-9)
        if gain < 1e-10 * (1.0 + loss):
            return here
    return here
