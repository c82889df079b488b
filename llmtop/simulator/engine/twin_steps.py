"""A step's mean time, and how its few numbers are fitted: small dense least squares, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, expm1, log

CORNER = 2.2
"""Sharpness of the roofline's corner: presets fitted to measured cards have 1.8 to 3."""
SEQUENCE = 200.0
"""Tokens of context that a request costs beside those that it has: sampling, and the host's own work on it."""
_RIDGE, _RIDGE_SPREAD = 150.0, 0.6
"""New tokens of a step for which computing takes as long as reading the weights: 110 to 220 on the cards of the
presets. Spreads are those of a logarithm."""
_HOST, _HOST_SPREAD = 0.35, 0.7
"""What a step takes beside its matrices, over the reading of the weights."""
_CONTEXT, _CONTEXT_SPREAD = 1e-5, 1.0
"""Reading back a token of context over reading the weights: 2e-6 of a 70B model, 2e-5 of a 0.5B one."""
_SCALE_SPREAD = 2.0
_TURNS = 40
"""Of Gauss-Newton at most; it settles in about ten."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a request finds the engine at while it is given its tokens, on the mean."""

    others: float
    """Requests that are given tokens beside it."""
    prompt: float
    """Prompt tokens to compute of a request: those of its prompt that no cache holds."""
    context: float
    """Tokens that a decoding request reads back each step: its prompt, and what it has of its output by then."""
    output: float
    """Tokens after the first: so many steps lie between two prompts of one slot."""

    @property
    def decoding(self) -> float:
        return 1.0 + self.others

    @property
    def prompts(self) -> float:
        """That come a step."""
        return self.others / self.output


@dataclass(frozen=True, slots=True)
class Seen:
    """A mean time between two tokens, and under what work."""

    work: Work
    step_s: float
    off: float
    """Standard deviation of its logarithm, from one such level to another."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds."""

    tpot_s: float
    """From token to token."""
    rest_s: float
    """Of the step that a request finds running: longer than most, as long ones are met more."""
    prompt_s: float
    """Of the steps that compute its prompt, with those that come beside it by chance and fill the budget."""
    convoy_s: float
    """More, were the prompts of all who are given tokens computed together: users that have fallen into step."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step of T new tokens beside B contexts: `c + (w^p + (g·T)^p)^(1/p) + kv·B·(context + SEQUENCE)`.

    Weights are read once a step, until computing takes longer. Prompts come by chance, several in a step or none: a
    mean step is a mixture of steps with B tokens and of those with the prompts beside.
    """

    constant_s: float
    weights_s: float
    token_s: float
    context_s: float
    budget: float
    """Tokens of a step at most."""

    def times(self, factor: float) -> StepTime:
        """The same, all of it so many times as long."""
        constant_s, weights_s, token_s, context_s = (
            factor * number for number in (self.constant_s, self.weights_s, self.token_s, self.context_s)
        )
        return StepTime(constant_s, weights_s, token_s, context_s, self.budget)

    def seconds(self, work: Work) -> float:
        """Between two tokens of a request."""
        share, plain_s, full_s = self._kinds(work)
        return (1.0 - share) * plain_s + share * full_s

    def prompt_share(self, work: Work) -> float:
        """Of the engine's time, what steps take longer for the prompts in them."""
        share, plain_s, full_s = self._kinds(work)
        return share * (full_s - plain_s) / ((1.0 - share) * plain_s + share * full_s)

    def parts(self, work: Work) -> Parts:
        """What a request waits for until its first token, and from token to token."""
        share, plain_s, full_s = self._kinds(work)
        mean_s = (1.0 - share) * plain_s + share * full_s
        busy = 1.0 - exp(-2.0 * work.others)
        rest_s = busy * ((1.0 - share) * plain_s**2 + share * full_s**2) / mean_s
        room = max(self.budget - work.decoding, 1.0)
        used = min(work.prompt * work.prompts / room, _FULL)
        waiting = used * used / (2.0 * (1.0 - used))
        prompt_s = self._together(work, 1.0 + work.prompts, waiting)
        convoy_s = self._together(work, max(work.decoding, 1.0 + work.prompts), waiting)
        return Parts(mean_s, rest_s, prompt_s, convoy_s - prompt_s)

    def _together(self, work: Work, prompts: float, waiting: float) -> float:
        """Seconds of the steps that compute so many prompts, after so many more of the kind."""
        room = max(self.budget - work.decoding, 1.0)
        tokens = work.prompt * prompts
        steps = max(1.0, tokens / room)
        return self._step(work, work.decoding + tokens / steps) * (steps + waiting)

    def _kinds(self, work: Work) -> tuple[float, float, float]:
        """Share of the steps with prompts, and seconds of those without and with."""
        plain_s = self._step(work, work.decoding)
        tokens = work.prompt * work.prompts
        if tokens <= 0.0:
            return 0.0, plain_s, plain_s
        share = min(max(-expm1(-work.prompts), tokens / self.budget), 1.0)
        return share, plain_s, self._step(work, work.decoding + tokens / share)

    def _step(self, work: Work, tokens: float) -> float:
        gemm: float = (self.weights_s**CORNER + (self.token_s * tokens) ** CORNER) ** (1.0 / CORNER)
        return self.constant_s + gemm + self.context_s * work.decoding * (work.context + SEQUENCE)


_FULL = 0.9999
"""Share of the budget that prompts take at most where their wait for it is reckoned: it is thousands of steps then."""


def fitted(seen: Sequence[Seen], budget: float) -> StepTime:
    """The step time by least squares of logarithms, beside what is known of cards: what data does not tell stays there.

    Moved by one factor, so that it meets the busiest level.
    """
    least = min(seen, key=lambda s: s.work.others)

    def form(logs: Sequence[float]) -> StepTime:
        weights, host, ridge, context = (exp(min(max(log, -_FAR), _FAR)) for log in logs)
        weights_s = weights * unit_s
        return StepTime(
            _HOST * host * weights_s, weights_s, weights_s * ridge / _RIDGE, _CONTEXT * context * weights_s, budget
        )

    unit_s = 1.0
    unit_s = least.step_s / form([0.0] * 4).seconds(least.work)
    spreads = (_SCALE_SPREAD, _HOST_SPREAD, _RIDGE_SPREAD, _CONTEXT_SPREAD)

    def residuals(logs: Sequence[float]) -> list[float]:
        made = form(logs)
        misses = [log(made.seconds(s.work) / s.step_s) / s.off for s in seen]
        return misses + [value / spread for value, spread in zip(logs, spreads, strict=True)]

    found = form(gauss_newton(residuals, [0.0] * 4))
    edge = _TOP * max(s.work.others for s in seen)
    top = [s for s in seen if s.work.others >= edge]
    return found.times(exp(sum(log(s.step_s / found.seconds(s.work)) for s in top) / len(top)))


_FAR = 10.0
"""Of a logarithm, from what is known of cards, beyond which no fit looks."""
_TOP = 0.9
"""Of the most that ran at once: levels from there on are the busiest."""


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
