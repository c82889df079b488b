"""From levels to a verdict: the finding, its cause with evidence, its confidence, and which levels to try next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmtop.analysis import cliff
from llmtop.analysis.cliff import Bend, Sweep
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import FAINT_BELOW, Level, are_embeddings, bound_of
from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Kind
from llmtop.wording.figures import TEXT
from llmtop.wording.gate import FLAG, at_the_gate, gate_binds
from llmtop.wording.sentences import WAITS_FOR_EITHER, failures

QUEUED = 1.0
"""Mean requests waiting from which a level counts as queueing."""
KV_FULL = 0.9
"""KV usage from which a cache of many small requests is full."""
TAKEN = 0.9
"""Running requests over the slots below which slots are free, whatever waits."""
SPENT = 0.8
"""Tokens of a mean step over the budget from which the budget binds: the last step of a prompt is rarely full."""
HELD = 0.25
"""Share of the requests in flight that the server must not show before something on the way holds them."""
AGREEMENT = 0.10
FLAT = 0.85
"""Fewest requests running over the most, at loads with a queue, from which they stand at a limit: a KV cache holds now
more, now fewer."""
OWN = 0.25
"""Running and waiting are those of the load if they add up to it within this share: gauges and load are means of
instants that differ."""
KV_FILLS = 0.6
"""KV usage from which the next level is not twice the last: a cache more than half full would overflow at once."""
NEXT, NEXT_WHILE_KV_FILLS = 2.0, 1.4
"""The next level over the highest one, while nothing queues."""
AROUND = (0.85, 1.15, 0.6, 1.45)
"""Levels over the knee, the most telling first: close to either side of it, then surely calm and surely queueing."""
PAST, FURTHER = 1.25, 1.4
"""Below the first of these over the knee a lone overloaded level hardly queues: its knee wants one at the second."""
SAME = 0.07
"""Levels closer than this tell the same."""
THIN = 1.5 * FAINT_BELOW
"""Requests below which a level near the knee is worth a second visit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of the server's own limits; None: not known."""

    max_num_seqs: float | None = None
    kv_capacity_tokens: float | None = None
    max_num_batched_tokens: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    """Standard deviation of the lengths over their mean."""
    block_tokens: float = 1.0
    """Tokens in a KV block: what a request holds is rounded up to it."""
    gpus: int | None = None
    """GPUs that serve, for tokens/s a GPU."""
    gate: float | None = None
    """The client's own gate, where `max_num_seqs` is what it lets through and not the server's."""
    own_slots: float | None = None
    """The server's, whatever the gate."""
    max_concurrency: int = 1024
    """Where the load ends: no level above is suggested."""

    @property
    def kv_requests(self) -> float | None:
        """Requests that fit the KV cache on average, each half-way through its answer.

        Long answers hold their blocks for longer, so that of the answers under way more are long: O/2 (1 + cv^2).
        """
        if self.kv_capacity_tokens is None or self.prompt_tokens is None or self.output_tokens is None:
            return None
        answer = self.output_tokens / 2 * (1 + self.output_cv**2)
        return self.kv_capacity_tokens / (self.prompt_tokens + answer + (self.block_tokens - 1) / 2)


UNKNOWN = Limits()


def kv_full(limits: Limits) -> float:
    """KV usage from which the cache is full: 0.9, or less where the next prompt is more than what is left then.

    A prompt is admitted only when blocks for all of it are free. While one waits for that, as much as a prompt may lie
    idle: a cache in which each takes 23 % never shows 90 %.
    """
    if limits.kv_capacity_tokens is None or limits.prompt_tokens is None:
        return KV_FULL
    prompt = limits.prompt_tokens * (1 + limits.prompt_cv) + limits.block_tokens - 1
    return min(KV_FULL, max(0.0, 1.0 - prompt / limits.kv_capacity_tokens))


def is_pinned(running: float | None, slots: float | None) -> bool:
    """Whether running requests stick to the slots: a scrape may catch one slot, or 5 %, between two requests."""
    if running is None or slots is None:
        return False
    return running >= slots - (max(1.0, 0.05 * slots) if slots >= 8 else 0.5)


def is_held(missing: float, in_flight: float) -> bool:
    """Whether so many requests in flight that the server does not show are more than instants apart explain."""
    return missing > max(3.0, HELD * in_flight)


def judge(
    levels: Sequence[Level],
    *,
    axis: Axis = "concurrency",
    metric: Latency = "ttft",
    stat: Stat = "p50",
    limits: Limits = UNKNOWN,
    replicates: int = cliff.REPLICATES,
    seed: int = 0,
) -> CliffVerdict:
    """The verdict over one curve for one latency statistic.

    TPOT is judged on the levels up to the TTFT knee only: a batch cap makes it flat beyond. `replicates` is the number
    of bootstrap draws behind the interval; 0 gives the smallest interval believed.
    """
    gates = cliff.Gates()
    if metric == "tpot":
        gates = cliff.TPOT_GATES
        knee = cliff.find(cliff.prepare(levels, axis=axis, metric="ttft", stat="p50"), replicates=0)
        if knee.kind is Kind.CLIFF and knee.at is not None:
            levels = [level for level in levels if level.load <= knee.at]
    series = cliff.prepare(levels, axis=axis, metric=metric, stat=stat)
    finding = cliff.find(series, gates=gates, replicates=replicates, seed=seed)
    finding = by_gauges(finding, series, limits)
    finding = _with_errors(finding, levels, axis)
    cause, evidence = cause_of(finding, series, levels, limits)
    return CliffVerdict(
        kind=finding.kind,
        metric=metric,
        stat=stat,
        axis=axis,
        at=finding.at,
        low=finding.low,
        high=finding.high,
        cause=cause,
        evidence=(*evidence, *finding.notes),
        confidence=_confidence(finding, series),
        next_levels=suggest(series, limits) if axis == "concurrency" and metric == "ttft" else (),
        status=finding.status,
    )


def by_gauges(finding: Bend, series: Sweep, limits: Limits) -> Bend:
    """The finding, its place as the server tells it: requests run at a constant number while others wait.

    Such levels bound the place from above, and from below, for they show how many fit. A place that the latencies tell
    stands where it is that number within its interval and a tenth; where they bend too gently to tell one, the queue is
    told as a gradual growth.
    """
    if series.axis != "concurrency" or series.metric == "tpot" or _think(series.levels):
        return finding
    queued = [level for level in series.levels if is_queued(level)]
    running = [level.running for level in queued if level.running is not None]
    if not running or min(running) < FLAT * max(running):
        return finding
    at = max(running)
    slots = limits.max_num_seqs
    told = slots is not None and is_pinned(at, slots)
    if slots is not None and told:
        at = slots
    half = max(cliff.MIN_HALF_WIDTH * at, 1.0)
    place = replace(finding, at=at, low=max(at - half, 0.0), high=at + half, form="gauge")
    if finding.kind is Kind.CLIFF and finding.at is not None:
        held = (finding.low or 0.0) <= at <= (finding.high or math.inf)
        agrees = finding.form == "hinge" and held and abs(finding.at - at) <= AGREEMENT * at
        return finding if agrees else place
    if len(running) < 2:
        return finding
    note = f"queue from {TEXT.load(at, series.axis)}"
    return replace(place, kind=Kind.GRADUAL, notes=(*finding.notes, note))


def _think(levels: Sequence[Level]) -> bool:
    """Whether loads are users who think: what the server runs is then another number than theirs."""
    return any(level.thinking for level in levels)


def is_queued(level: Level) -> bool:
    """Whether requests of this load wait while fewer run than it has: not those of somebody else."""
    running, waiting = level.running, level.waiting
    if running is None or waiting is None or waiting < QUEUED or running > level.in_flight - QUEUED:
        return False
    return abs(running + waiting - level.in_flight) <= OWN * level.in_flight


def _with_errors(finding: Bend, levels: Sequence[Level], axis: Axis) -> Bend:
    """Failing requests are a cliff of their own: it lies between the last level that held and the first that broke.

    A limit refuses from some load on. Failures at scattered loads, with a level above that held or none below, are a
    fault: they are named, and no place is made of them.
    """
    broken = [level for level in levels if level.broken]
    if not broken:
        return finding
    first = min(broken, key=lambda level: level.load)
    finding = replace(finding, notes=(*finding.notes, _failing(first, axis)))
    below = [level.load for level in levels if level.load < first.load]
    above = [level for level in levels if level.load > first.load and not level.broken]
    if above or not below or (finding.kind is Kind.CLIFF and finding.at is not None and finding.at < first.load):
        return finding
    low = max(below)
    form = "refusals" if bound_of(first.status) is Bound.REFUSED else "errors"
    return Bend(Kind.CLIFF, math.sqrt(low * first.load), low, first.load, form, finding.notes, first.status)


def _failing(level: Level, axis: Axis) -> str:
    return failures(level.error_ratio, level.status, f" at {TEXT.load(level.load, axis)}")


def _confidence(finding: Bend, series: Sweep) -> Confidence:
    if finding.form in ("little", "rate", "errors", "refusals") or len(series.x) < cliff.MIN_LEVELS:
        return Confidence.PROVISIONAL
    if finding.kind is Kind.UNSTABLE:
        return Confidence.PROVISIONAL
    if finding.at is None or finding.low is None or finding.high is None:
        return Confidence.FIRM
    return Confidence.FIRM if finding.high <= 1.6 * finding.low else Confidence.PROVISIONAL


def cause_of(finding: Bend, series: Sweep, levels: Sequence[Level], limits: Limits) -> tuple[Bound, tuple[str, ...]]:
    """What binds above the knee, and why one may believe it."""
    if finding.kind not in (Kind.CLIFF, Kind.GRADUAL) or finding.at is None:
        return Bound.NONE, ()
    if finding.form in ("errors", "refusals"):
        return Bound.REFUSED if finding.form == "refusals" else Bound.FAILED, ()
    if series.metric == "tpot":
        return Bound.COMPUTE, ("tokens slow down before any queue",)
    above = [level for level in levels if level.load > finding.at]
    if any(level.waiting is not None for level in above):
        return _cause_by_gauges(finding, series, above, limits)
    return _cause_by_latency(finding, series, limits)


def _cause_by_gauges(
    finding: Bend, series: Sweep, above: Sequence[Level], limits: Limits
) -> tuple[Bound, tuple[str, ...]]:
    waiting = _highest(above, "waiting") or 0.0
    kv = _highest(above, "kv_usage")
    preemptions = sum(level.preemptions or 0.0 for level in above)
    running = _highest(above, "running")
    if waiting < QUEUED and all(_held(level) for level in above):
        inside = (
            f"{TEXT.load(above[-1].in_flight, series.axis)} in flight here, {TEXT.count(running or 0.0)} on the server"
        )
        return Bound.NETWORK, (f"{inside}, where nothing waits: requests are held on the way",)
    if waiting < QUEUED:
        return Bound.COMPUTE, (f"nothing waits (at most {TEXT.count(waiting)}): steps themselves take longer",)
    gauges = f"waiting {TEXT.count(waiting)}" + ("" if running is None else f", running at most {TEXT.count(running)}")
    if limits.gate is not None and is_pinned(running, limits.gate):
        gauges = gate_binds(limits.gate, running or 0.0, waiting)
    pinned = is_pinned(running, limits.max_num_seqs)
    if not pinned and ((kv is not None and kv >= kv_full(limits)) or preemptions > 0):
        memory = "" if kv is None else f", KV {TEXT.percent(kv)}"
        evicted = f", {TEXT.whole(preemptions)} preemptions" if preemptions else ""
        return Bound.KV, (gauges + memory + evicted, *_cross_check(finding, series, running, limits.kv_requests))
    memory = "" if kv is None else f", KV {TEXT.percent(kv)}"
    slots, tokens, budget = limits.max_num_seqs, _highest(above, "iteration_tokens"), limits.max_num_batched_tokens
    free = slots is not None and running is not None and not pinned and running < TAKEN * slots
    if free and tokens is not None and budget is not None and tokens >= SPENT * budget:
        used = f"{TEXT.whole(tokens)} of {TEXT.whole(budget)} tokens a step are used"
        return Bound.TOKEN_BUDGET, (gauges + memory, used)
    if free:
        return Bound.NONE, (gauges + memory, "slots are free: what binds is not known")
    if slots is None and are_embeddings(series.levels):
        return Bound.NONE, (gauges + memory, WAITS_FOR_EITHER)
    suspected = [] if running is None or slots is not None else [f"max_num_seqs suspected {TEXT.whole(running)}"]
    limit = "server's limit" if limits.gate is None else FLAG
    return Bound.QUEUE, (gauges + memory, *suspected, *_cross_check(finding, series, running, slots, limit))


def _held(level: Level) -> bool:
    """Whether the server shows fewer requests of this load than are in flight."""
    missing = level.in_flight - (level.running or 0.0) - (level.waiting or 0.0)
    return level.running is not None and is_held(missing, level.in_flight)


def _cause_by_latency(finding: Bend, series: Sweep, limits: Limits) -> tuple[Bound, tuple[str, ...]]:
    """Without gauges: does the added time come before the first token or after it?"""
    assert finding.at is not None
    x, above = series.x, series.x > finding.at
    if not above.any() or above.all() or not np.all(np.isfinite(series.e2e_mean + series.ttft_mean)):
        return Bound.QUEUE, ("no server gauges: queue or KV",)
    below = np.flatnonzero(~above)[-2:]
    e2e_at_knee = series.e2e_mean[below[-1]]
    if len(below) == 2:
        slope = np.diff(series.e2e_mean[below])[0] / np.diff(x[below])[0]
        e2e_at_knee += max(0.0, slope) * (finding.at - x[below[-1]])
    grown_ttft = series.ttft_mean[above].mean() - np.median(series.ttft_mean[~above][-3:])
    grown_e2e = series.e2e_mean[above].mean() - e2e_at_knee
    share = grown_ttft / grown_e2e if grown_e2e > 0 else 1.0
    text = f"{TEXT.percent(min(1.0, max(0.0, share)))} of the added time comes before the first token"
    if limits.gate is not None and share > 0.6 and abs(finding.at - limits.gate) <= AGREEMENT * limits.gate:
        return Bound.QUEUE, (f"{text}: {at_the_gate(limits.gate)}",)
    if share > 0.6:
        return Bound.QUEUE, (f"{text}: queue or KV (no server gauges)",)
    return Bound.COMPUTE, (f"{text}: steps themselves take longer (no server gauges)",)


def _cross_check(
    finding: Bend, series: Sweep, running: float | None, limit: float | None, name: str = "server's limit"
) -> list[str]:
    """Independent readings of how many requests are served at once, and whether they agree within 10 %."""
    if _think(series.levels):
        return []
    readings = []
    at = -math.inf if finding.at is None else finding.at
    calm = series.ttft_mean[series.x <= at][-3:]
    if len(calm) and series.axis == "concurrency" and np.all(np.isfinite(series.ttft_mean)):
        q, served = cliff.in_service(series, float(np.median(calm)))
        queued = (series.x > at) & (q > cliff.QUEUE_SHARE) & (q < 1)
        if queued.any():
            readings.append(("in service by Little", float(np.mean(served[queued]))))
    if running is not None:
        readings.append(("running gauge", running))
    if limit is not None:
        readings.append((name, limit))
    if len(readings) < 2:
        return []
    values = [value for _, value in readings]
    text = ", ".join(f"{name} {TEXT.count(value)}" for name, value in readings)
    if max(values) > (1 + AGREEMENT) * min(values):
        return [text]
    return [f"confirmed {'three' if len(readings) == 3 else 'two'} ways: {text}"]


def _highest(levels: Sequence[Level], name: str) -> float | None:
    return max((value for level in levels if (value := getattr(level, name)) is not None), default=None)


def suggest(series: Sweep, limits: Limits = UNKNOWN) -> tuple[int, ...]:
    """Which levels to try next, the most telling first; () when more would not help or the limit is reached."""
    x = series.x
    top_allowed = limits.max_concurrency
    if len(x) == 0:
        return tuple(n for n in (4, 8) if n <= top_allowed)
    q, served = cliff.in_service(series, float(series.ttft_mean[np.argmin(series.y)]))
    overloaded = (q > cliff.QUEUE_SHARE) & (q < 1) & (series.y > cliff.SLOW * series.y.min())
    overloaded &= np.array([level.waiting is None or level.waiting >= QUEUED for level in series.levels])
    top = float(x[-1])
    if not overloaded.any():
        kv = series.levels[-1].kv_usage
        factor = NEXT_WHILE_KV_FILLS if kv is not None and kv > KV_FILLS else NEXT
        wanted = [top * factor] if len(x) >= 2 else [top * factor, top * factor**2]
        return _levels(wanted, x, top_allowed)
    knee = float(np.median(served[overloaded]))
    wanted = [FURTHER * knee] if overloaded.sum() < 2 and top < PAST * knee else []
    wanted += [share * knee for share in AROUND]
    fresh = _levels(wanted, x, top_allowed)
    if fresh:
        return fresh[:3]
    thin = [level for level in series.levels if 0.5 * knee <= level.load <= 2 * knee and level.n < THIN]
    return tuple(round(level.load) for level in sorted(thin, key=lambda level: level.n))[:2]


def _levels(wanted: Sequence[float], x: Array, top_allowed: int) -> tuple[int, ...]:
    """Whole levels that are within the limit and not the same as a measured one or each other."""
    chosen: list[int] = []
    for value in wanted:
        level = min(max(1, round(value)), top_allowed)
        near = np.concatenate([x, chosen])
        if np.all(np.abs(near - level) > SAME * level):
            chosen.append(level)
    return tuple(chosen)
