"""The cliff: where latency goes non-linear with load, found by tests that a straight line cannot pass.

A curve is called a cliff only if a hinge or a step explains it and neither a straight line nor a power does. The place
of a hinge in a closed loop is then read from Little's law: at an overloaded level of N requests in flight,
N (1 - W / R) are really in service, W being mean TTFT minus mean TTFT at low load and R the mean end-to-end latency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmtop.analysis import fits
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, MIN_REQUESTS, Level
from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import Kind
from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import CONTRADICTION, shared_from

QUEUE_SHARE = 0.12
"""Queue share W / R from which a level counts as overloaded."""
QUEUED_TTFT = 2.0
"""TTFT over that of the lowest level from which, with `QUEUE_SHARE`, a queue that stands makes it."""
DELIVERED = 0.6
"""A level whose X R is below this share of its load was held back by the load generator."""
SUSTAINED = 0.95
"""Share of its capacity above which an open loop is not told to hold: TTFT p95 goes on growing for minutes."""
MIN_LEVELS = 5
REPLICATES = 120
_LEVEL_NOISE = 0.05
MIN_HALF_WIDTH = 0.05
"""Of a place, to either side: no smaller interval is believed."""


@dataclass(frozen=True, slots=True)
class Gates:
    """How much better a hinge must explain the levels than a straight line."""

    gain: float = 20.0
    """chi2 of the line minus chi2 of the hinge."""
    ratio: float = 8.0
    """The same per chi2 a degree of freedom of the hinge."""
    growth: float = 1.5
    """Hinge at the last level / its straight part there."""
    elasticity: float = 1.2
    """d ln y / d ln x just past the hinge; a straight line never exceeds 1."""


TPOT_GATES = Gates(gain=12.0, growth=1.25, elasticity=0.25)

BENDS_LATE = 2.9
"""Exponent of the best power from which it is no rival of a hinge: to the steepest one of the family any curve that is
flat and then rises looks alike."""
BETTER_THAN_POWER = 2.0
"""chi2 by which a hinge must beat a power: its one more parameter wins so much by chance."""
CONTRADICTING = 12.0
"""chi2 a level of the best curve that never falls, from which the levels are no curve at all: about 3.5 standard errors
each, more than noise and one bad level give."""
SLOW = 1.8
"""Latency over its base from which a level is past a wall: the gentle growth below one stays under it."""


@dataclass(frozen=True, slots=True)
class StepGates:
    """What a jump between two levels must show before it is called one.

    A batch cap that is crossed between two levels far apart looks like a step; so does one level spoiled by noise.
    """

    gain: float = 20.0
    """chi2 of the line minus chi2 of the step: one noisy level does not reach it."""
    height: float = 1.5
    """Height of the jump over the straight part just below: a small one is no wall."""
    slow: float = SLOW
    """Lowest level past the jump over the highest before it: they must not overlap."""
    steepness: float = 1.2
    """d ln y / d ln x across the jump: levels far apart on a straight line differ as well, by 1 at most."""
    better: float = 6.0
    """chi2 by which it must beat hinge and power: those tell where the wall is, a step only between which levels."""


STEP_GATES = StepGates()


@dataclass(frozen=True, slots=True)
class PlaceGates:
    """Which readings may refine the place of a hinge, and how far from it they may lie before the hinge is believed."""

    saturated: float = 0.93
    """Delivered over offered rate below which a level of an open loop is at capacity."""
    honest: float = 0.95
    """The same, of the levels below the hinge: with less the load generator is slow, and its rate tells no capacity."""
    rate: float = 1.5
    """Factor between the hinge and a capacity read from the rate."""
    little: float = 1.7
    """Factor between the hinge and a capacity read by Little's law, which the levels near the knee blur more."""


PLACE_GATES = PlaceGates()


@dataclass(frozen=True, slots=True)
class Bend:
    """What one curve of one statistic says."""

    kind: Kind
    at: float | None = None
    low: float | None = None
    high: float | None = None
    form: str = ""
    """hinge, step, power, plateau, little, rate, gauge, errors or refusals."""
    notes: tuple[str, ...] = ()
    status: int | None = None
    """HTTP status of errors and refusals."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The levels of one curve that can be judged for one statistic, as columns (NaN: not known)."""

    levels: tuple[Level, ...]
    x: Array
    y: Array
    se: Array
    ttft_mean: Array
    e2e_mean: Array
    """With what users think between two requests: the time that Little's law of users is about."""
    rate: Array
    """Requests/s, or output tokens/s where those are not known."""
    axis: Axis
    metric: Latency
    stat: Stat
    notes: tuple[str, ...] = ()

    @property
    def has_requests_per_s(self) -> bool:
        return all(level.requests_per_s is not None for level in self.levels)


def prepare(levels: Sequence[Level], *, axis: Axis, metric: Latency, stat: Stat) -> Sweep:
    """Levels with enough requests, lowest load first, without those that the load generator or a cold start spoiled."""
    kept = []
    sound = (level for level in levels if not level.broken)
    delivered, notes = _delivered(sorted(sound, key=lambda each: each.load), axis)
    for level in delivered:
        statistic = level.statistic(metric, stat)
        if statistic is not None and statistic.y > 0:
            kept.append((level, statistic))
    if len(kept) > MIN_LEVELS:
        first, second = kept[0][1], kept[1][1]
        drop = math.log(first.y / second.y)
        if first.y > 1.25 * second.y and drop > 2 * math.hypot(first.se, second.se):
            notes.append(f"cold start at {TEXT.load(kept[0][0].load, axis)} left out")
            del kept[0]
    return _series(kept, axis, metric, stat, tuple(notes))


def _delivered(levels: Sequence[Level], axis: Axis) -> tuple[list[Level], list[str]]:
    """Levels whose load really was in flight by Little's law, X R = N, and what is to be said of the others.

    Without requests/s, output tokens/s stands for it: tokens a request = X_tok R / N must not fall. Without R as well,
    a last level with the throughput and the latency of the one before cannot have held more requests. How many of users
    who think should be in flight, nobody knows.
    """
    if axis != "concurrency" or any(level.thinking for level in levels):
        return list(levels), []
    shares = [level.little_residual for level in levels]
    if not any(share is not None for share in shares):
        tokens = [_tokens_per_request(level) for level in levels]
        known = [each for each in tokens if each is not None][:3]
        usual = float(np.median(known)) if known else 1.0
        shares = [each / usual if each is not None and usual > 0 else None for each in tokens]
    if len(levels) > MIN_LEVELS and shares[-1] is None and _stands_still(levels[-2], levels[-1]):
        shares[-1] = levels[-2].load / levels[-1].load
    kept, notes = [], []
    for level, share in zip(levels, shares, strict=True):
        if level.asked is not None and level.load < DELIVERED * level.asked:
            notes.append(f"delivered {level.load:.0f} of {level.asked:.0f} in flight")
        if share is not None and share < DELIVERED:
            notes.append(f"load generator delivered only {share * level.load:.0f} of {level.load:.0f}")
        else:
            kept.append(level)
    return kept, notes


def _tokens_per_request(level: Level) -> float | None:
    mean = level.mean("e2e")
    if mean is None or level.output_tokens_per_s is None:
        return None
    return level.output_tokens_per_s * mean / level.load


def _stands_still(before: Level, last: Level) -> bool:
    rates = before.output_tokens_per_s, last.output_tokens_per_s
    if before.given is None or last.given is None or rates[0] is None or rates[1] is None:
        return False
    return last.load > before.load / DELIVERED and rates[1] < 1.05 * rates[0] and last.given.y < 1.05 * before.given.y


def _series(
    kept: Sequence[tuple[Level, object]], axis: Axis, metric: Latency, stat: Stat, notes: tuple[str, ...]
) -> Sweep:
    levels = tuple(level for level, _ in kept)
    whole = [level.requests_per_s for level in levels]
    rates = whole if all(rate is not None for rate in whole) else [level.output_tokens_per_s for level in levels]
    return Sweep(
        levels=levels,
        x=np.array([level.load for level in levels]),
        y=np.array([statistic.y for _, statistic in kept]),  # type: ignore[attr-defined]
        se=np.array([statistic.se for _, statistic in kept]),  # type: ignore[attr-defined]
        ttft_mean=_column([level.mean("ttft") for level in levels]),
        e2e_mean=_column([level.cycle_s for level in levels]),
        rate=_column(rates),
        axis=axis,
        metric=metric,
        stat=stat,
        notes=notes,
    )


def _column(values: Sequence[float | None]) -> Array:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def find(series: Sweep, *, gates: Gates = Gates(), replicates: int = REPLICATES, seed: int = 0) -> Bend:
    """Judge one curve. `replicates` 0: no bootstrap, the interval is the smallest believed (5 %)."""
    if len(series.x) < MIN_LEVELS:
        return provisional(series)
    x, y, w = series.x, series.y, fits.weights(series.se)
    line, hinge, power, step = (
        fits.fit_line(x, y, w),
        fits.fit_hinge(x, y, w),
        fits.fit_power(x, y, w),
        fits.fit_step(x, y, w),
    )
    if step is not None and is_step(series, line, hinge, power, step):
        return _at_step(series, step.index)
    bends = is_hinge(x, line, hinge, gates)
    if bends and series.metric == "tpot":
        finding = _located(series, hinge.at, replicates, seed)
        return replace(finding, kind=Kind.GRADUAL, notes=(*series.notes, "compute onset: each token takes longer"))
    if bends and (hinge.chi2 + BETTER_THAN_POWER <= power.chi2 or power.at >= BENDS_LATE):
        return _located(series, hinge.at, replicates, seed)
    finding = Bend(Kind.NONE, notes=series.notes)
    if fits.isotonic_chi2(y, w) / len(x) > CONTRADICTING:
        finding = Bend(Kind.UNSTABLE, notes=(*series.notes, CONTRADICTION))
    elif bends or is_power(len(x), line, power):
        finding = _gradual(series, power, replicates, seed)
    if finding.kind in (Kind.NONE, Kind.UNSTABLE) and series.metric != "tpot":
        plateau = _plateau(series)
        if plateau is not None:
            return plateau
    if finding.kind is Kind.NONE and series.metric == "tpot":
        return replace(finding, notes=(*finding.notes, *_crossover(series, line)))
    return finding


def _crossover(series: Sweep, line: fits.Shape) -> tuple[str, ...]:
    """Where users begin to share, of TPOT = a + b N without a bend: N / TPOT is half of its limit at a / b."""
    last = float(series.x[-1])
    at = line.base / line.slope * last if line.slope > 0 else math.inf
    if series.axis != "concurrency" or not series.x[0] < at < last:
        return ()
    return (shared_from(at),)


def _at_step(series: Sweep, i: int) -> Bend:
    """Between the levels on either side; at the lower one, or before it, if throughput falls from there on."""
    low, high = float(series.x[i]), float(series.x[i + 1])
    if series.rate[i + 1] < series.rate[i]:
        return Bend(Kind.CLIFF, low, float(series.x[i - 1]), high, "step", series.notes)
    return Bend(Kind.CLIFF, math.sqrt(low * high), low, high, "step", series.notes)


def is_step(series: Sweep, line: fits.Shape, hinge: fits.Shape, power: fits.Shape, step: fits.Shape) -> bool:
    """Whether the levels jump, by each of `STEP_GATES`."""
    gates, i, x, y = STEP_GATES, step.index, series.x, series.y
    below = step.base + step.slope * x[i] / x[-1]
    return bool(
        line.chi2 - step.chi2 >= gates.gain
        and step.extra >= gates.height * below
        and y[i + 1 :].min() >= gates.slow * y[: i + 1].max()
        and math.log(y[i + 1] / y[i]) > gates.steepness * math.log(x[i + 1] / x[i])
        and step.chi2 + gates.better < min(hinge.chi2, power.chi2)
    )


def is_hinge(x: Array, line: fits.Shape, hinge: fits.Shape, gates: Gates) -> bool:
    """Whether the levels bend, by each of `gates`."""
    gain = line.chi2 - hinge.chi2
    k = hinge.at / x[-1]
    straight = hinge.base + hinge.slope
    at_hinge = hinge.base + hinge.slope * k
    elasticity = k * (hinge.slope + hinge.extra) / at_hinge if at_hinge > 0 else math.inf
    return bool(
        gain >= gates.gain
        and gain / max(1.0, hinge.chi2 / (len(x) - 4)) >= gates.ratio
        and straight + hinge.extra * (1 - k) >= gates.growth * straight
        and elasticity > gates.elasticity
    )


def is_power(count: int, line: fits.Shape, power: fits.Shape) -> bool:
    """Whether a power explains `count` levels so much better than a line as a hinge must."""
    gates, gain = Gates(), line.chi2 - power.chi2
    return gain >= gates.gain and gain / max(1.0, power.chi2 / (count - 3)) >= gates.ratio


def _gradual(series: Sweep, power: fits.Shape, replicates: int, seed: int) -> Bend:
    """The point where elasticity passes 1: a = b (p - 1) x^p."""
    at = _power_knee(power, series.x[-1])
    if at is None:
        return Bend(Kind.NONE, notes=series.notes)
    ends = []
    if replicates:
        rng = np.random.default_rng(seed)
        w = fits.weights(series.se)
        for again in fits.fit_powers(series.x, resampled(series, min(replicates, 40), rng)[0], w):
            knee = _power_knee(again, series.x[-1])
            ends.append(series.x[-1] if knee is None else knee)
    low, high = _interval(at, np.array(ends))
    return Bend(Kind.GRADUAL, at, low, high, "power", series.notes)


def _power_knee(power: fits.Shape, last: float) -> float | None:
    if power.slope <= 0:
        return None
    u = (power.base / (power.slope * (power.at - 1))) ** (1 / power.at)
    return float(u * last) if 0 < u <= 1 else None


def _plateau(series: Sweep) -> Bend | None:
    """Throughput stands still while load grows: more load only adds latency."""
    x, rate = series.x, series.rate
    if not np.all(np.isfinite(rate)) or rate.min() <= 0:
        return None
    j = int(np.argmax(rate >= 0.95 * rate.max()))
    if len(x) - 1 - j < 2 or x[-1] < 1.4 * x[j]:
        return None
    if math.log(rate[-1] / rate[j]) >= 0.1 * math.log(x[-1] / x[j]):
        return None
    low = float(x[j - 1]) if j else float(x[0])
    notes = (
        *series.notes,
        f"throughput stands still past {TEXT.load(float(x[j]), series.axis)}: more load only adds latency",
    )
    return Bend(Kind.GRADUAL, float(x[j]), low, float(x[j + 1]), "plateau", notes)


def in_service(series: Sweep, base: float) -> tuple[Array, Array]:
    """Queue share q of each level and the requests really in service, N (1 - q)."""
    q = (series.ttft_mean - base) / series.e2e_mean
    return q, series.x * (1 - q)


def locate(series: Sweep, k: Array, ttft_mean: Array, e2e_mean: Array) -> Array:
    """Refine hinge positions `k` (replicates,) by Little's law or by the delivered rate.

    Args:
        ttft_mean, e2e_mean: shape (levels, replicates).
    """
    gates, x = PLACE_GATES, series.x[:, None]
    above = x > k
    if series.axis == "rate":
        if not series.has_requests_per_s:
            return k
        ratio = series.rate[:, None] / x
        saturated = above & (ratio < gates.saturated)
        rates = np.where(saturated, series.rate[:, None], np.nan)
        count = saturated.sum(axis=0)
        capacity = np.nansum(rates, axis=0) / np.maximum(count, 1)
        honest = np.array(
            [bool((~above[:, j]).any()) and np.median(ratio[~above[:, j], 0]) >= gates.honest for j in range(len(k))]
        )
        close = (capacity > k / gates.rate) & (capacity < k * gates.rate)
        return np.where((count > 0) & honest & close, capacity, k)
    if series.metric != "ttft" or series.stat == "p95":
        return k
    base = _base(ttft_mean, above)
    q = (ttft_mean - base) / e2e_mean
    use = above & (q > QUEUE_SHARE) & (q < 1)
    w = np.where(use, 1 / (q**2 + 0.02), 0.0)
    served = np.where(use, x * (1 - q), 0.0)
    total = w.sum(axis=0)
    mean = (w * served).sum(axis=0) / np.maximum(total, 1e-12)
    close = (mean > k / gates.little) & (mean < k * gates.little)
    return np.where((total > 0) & close, mean, k)


def _base(ttft_mean: Array, above: np.ndarray) -> Array:
    """Median of the mean TTFT over the last three levels at or below the hinge, per replicate."""
    replicates = ttft_mean.shape[1]
    base = np.empty(replicates)
    counts = np.maximum((~above).sum(axis=0), 1)
    for count in np.unique(counts):
        chosen = counts == count
        base[chosen] = np.median(ttft_mean[max(0, count - 3) : count, chosen], axis=0)
    return base


def _located(series: Sweep, k: float, replicates: int, seed: int) -> Bend:
    at = float(locate(series, np.array([k]), series.ttft_mean[:, None], series.e2e_mean[:, None])[0])
    places = np.empty(0)
    if replicates:
        rng = np.random.default_rng(seed)
        y, ttft_mean, e2e_mean = resampled(series, replicates, rng)
        places = locate(series, fits.hinge_positions(series.x, y, fits.weights(series.se)), ttft_mean, e2e_mean)
    low, high = _interval(at, places)
    return Bend(Kind.CLIFF, at, low, high, "hinge", series.notes)


def _interval(at: float, places: Array) -> tuple[float, float]:
    """95 % interval of bootstrap places, never narrower than 5 % to either side."""
    low, high = at * (1 - MIN_HALF_WIDTH), at * (1 + MIN_HALF_WIDTH)
    if len(places):
        low = max(0.0, min(low, float(np.quantile(places, 0.025))))
        high = max(high, float(np.quantile(places, 0.975)))
    return low, high


def resampled(series: Sweep, replicates: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Bootstrap replicates of (y, mean TTFT, mean E2E), each of shape (levels, replicates).

    Requests are drawn again within their level and every level is scaled by exp(0.05 N(0, 1)). Levels without samples,
    and those with more than 512, take the normal approximation.
    """
    shape = (len(series.x), replicates)
    y, ttft_mean, e2e_mean = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, level in enumerate(series.levels):
        y[i], ttft_mean[i], e2e_mean[i] = _resampled_level(series, i, level, replicates, rng)
    scale = np.exp(_LEVEL_NOISE * rng.standard_normal(shape))
    return y * scale, ttft_mean * scale, e2e_mean


def _resampled_level(
    series: Sweep, i: int, level: Level, replicates: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    usable = level.has_samples and not len(level.censored_s) and series.stat == "p50" and level.n <= 512
    judged = level.samples(series.metric)
    service_s = (level.e2e_s - level.ttft_s)[np.isfinite(level.e2e_s)] if len(level.e2e_s) == level.n else EMPTY
    if usable and len(level.samples("ttft")) == level.n and len(judged) >= MIN_REQUESTS and len(service_s):
        drawn = rng.integers(level.n, size=(replicates, level.n))
        ttft_mean = level.ttft_s[drawn].mean(axis=1)
        again = service_s[drawn * len(service_s) // level.n].mean(axis=1)
        y = np.median(judged[drawn[:, : len(judged)] * len(judged) // level.n], axis=1)
        return y, ttft_mean, ttft_mean + again + series.e2e_mean[i] - float(level.ttft_s.mean() + service_s.mean())
    noise = rng.standard_normal((3, replicates))
    y = series.y[i] * np.exp(series.se[i] * noise[0])
    return (
        y,
        series.ttft_mean[i] * np.exp(_mean_se(level, "ttft", series.se[i]) * noise[1]),
        series.e2e_mean[i] * np.exp(_mean_se(level, "e2e", 0.0) * noise[2]),
    )


def _mean_se(level: Level, metric: Latency, otherwise: float) -> float:
    """Relative standard error of a level's mean."""

    def told() -> float | None:
        values = level.samples(metric)
        if len(values) < 2 or values.mean() <= 0:
            return None
        return float(values.std() / values.mean() / math.sqrt(len(values)))

    found = level.remembered(("error of the mean", metric), told)
    return otherwise if found is None else found


def provisional(series: Sweep) -> Bend:
    """With two to four levels: the first overloaded one tells by Little's law how many requests were in service; in an
    open loop, by what it delivers.

    Prompts that arrive together and are read one after another (a convoy) raise TTFT as well, but with nothing waiting,
    and throughput goes on growing: such a level is not overloaded.
    """
    x = series.x
    if series.metric != "ttft" or len(x) < 2:
        return Bend(Kind.INSUFFICIENT, notes=series.notes)
    if series.axis == "rate":
        return _first_saturated(series)
    q, served = in_service(series, float(series.ttft_mean[np.argmin(series.y)]))
    for i in range(1, len(x)):
        slow = q[i] > QUEUE_SHARE and series.y[i] > SLOW * series.y[0] and served[i] < x[i]
        if slow and not _still_scales(series, i):
            at = float(served[i])
            below = x[x < (1 - MIN_HALF_WIDTH) * at]
            low = float(below[-1]) if len(below) else (1 - MIN_HALF_WIDTH) * at
            return Bend(Kind.CLIFF, at, low, max(float(x[i]), (1 + MIN_HALF_WIDTH) * at), "little", series.notes)
    return Bend(Kind.INSUFFICIENT, notes=series.notes)


def _first_saturated(series: Sweep) -> Bend:
    """The first slow rate that is not delivered shows the capacity, if those below it were: what it delivers.

    n arrivals of a short run are so many give or take two roots of n.
    """
    x, share = series.x, series.rate / series.x
    likely = share + 2 / np.sqrt([max(1, level.n) for level in series.levels])
    for i in range(1, len(x)) if series.has_requests_per_s else ():
        slow = series.y[i] > SLOW * series.y[0]
        if slow and share[i] < PLACE_GATES.saturated and np.median(likely[:i]) >= PLACE_GATES.honest:
            at = float(series.rate[i])
            low = min(float(x[i - 1]), (1 - MIN_HALF_WIDTH) * at)
            return Bend(Kind.CLIFF, at, low, max(float(x[i]), (1 + MIN_HALF_WIDTH) * at), "rate", series.notes)
    return Bend(Kind.INSUFFICIENT, notes=series.notes)


def sustained(capacity: float) -> float:
    """The largest rate that an open loop of this capacity holds for long: closer to it, the queue outlasts any run."""
    return SUSTAINED * capacity


def _still_scales(series: Sweep, i: int) -> bool:
    """Whether the server says that nothing waits at level i, or throughput grows with load past it."""
    waiting = series.levels[i].waiting
    if waiting is not None and waiting < 1:
        return True
    x, rate = series.x, series.rate
    above = np.flatnonzero(x >= 1.2 * x[i])
    return bool(len(above) and np.max(rate[above]) > 1.15 * rate[i])
