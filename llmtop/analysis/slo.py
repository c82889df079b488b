"""SLO verdicts: each limit against what was measured, with the bound that so many samples give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from llmtop.analysis import stats
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level, Stated
from llmtop.analysis.sessions import Gauges, Requests, known_high
from llmtop.domain.slo import LATENCIES, Slo, SloTarget, Stat
from llmtop.domain.verdicts import SloVerdict, TargetVerdict
from llmtop.meter.facts import Codes
from llmtop.wording.answers import NOT_SHOWN
from llmtop.wording.figures import TEXT
from llmtop.wording.names import target_name
from llmtop.wording.replicas import FULLEST

MORE_ROOM = 0.005
"""Share of the KV cache by which the fullest replica must differ to be told apart from all of them."""
MISS_SHARES = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What an SLO is held against: requests of one level or one window, and what the server showed meanwhile."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    errors: int = 0
    censored_s: Array = field(default_factory=lambda: EMPTY)
    """Ages of requests without a first token: those past the TTFT limit are misses already."""
    waiting: float | None = None
    kv_usage: float | None = None
    """Of several replicas that of the fullest: what fails there fails."""
    of_fullest: bool = False
    """It is one replica's, and the others have more room."""
    span_s: float | None = None
    textless: int = 0
    """Requests that ended well without any text: they have no latency, and are none that failed."""
    stated: Stated | None = None
    """Statistics in place of the requests."""
    requests: Requests | None = None
    """Those that it is of, where they were measured one by one."""
    censored_name: Array = field(default_factory=lambda: EMPTY)
    """Of `censored_s`, as `Requests.name`; empty: not known."""

    def called(self, code: float | None) -> Sample:
        """The requests of one name among them, by its code; None: none is called so."""
        if code is None or self.requests is None or not len(self.requests.name):
            return Sample(EMPTY, EMPTY, EMPTY)
        known = len(self.censored_name) > 0
        waiting_s = self.censored_s[self.censored_name == code] if known else EMPTY
        return Sample.of_window(self.requests.pick(self.requests.name == code), Gauges(), waiting_s, self.span_s)

    @property
    def well(self) -> int:
        """How many requests have latencies."""
        return len(self.ttft_s) if self.stated is None else self.stated.n

    @property
    def ended(self) -> int:
        """Of how many requests those that failed are a share."""
        return self.well + self.textless + self.errors

    @classmethod
    def of_level(cls, level: Level) -> Sample:
        return cls(
            ttft_s=level.ttft_s,
            tpot_s=level.tpot_s,
            e2e_s=level.e2e_s,
            errors=level.errors,
            censored_s=level.censored_s,
            waiting=level.waiting,
            kv_usage=level.kv_usage,
            textless=level.textless,
            stated=level.stated,
        )

    @classmethod
    def of_window(cls, requests: Requests, gauges: Gauges, censored_s: Array, span_s: float | None) -> Sample:
        ok = requests.pick(requests.ok)
        waiting = gauges.waiting[np.isfinite(gauges.waiting)]
        kv_usage, fullest = known_high(gauges.kv_usage), known_high(gauges.kv_fullest)
        of_fullest = fullest is not None and (kv_usage is None or fullest > kv_usage + MORE_ROOM)
        return cls(
            ttft_s=ok.ttft_s,
            tpot_s=ok.tpot_s,
            e2e_s=ok.e2e_s,
            errors=int(requests.error.sum()),
            censored_s=censored_s,
            waiting=float(np.median(waiting)) if len(waiting) else None,
            kv_usage=fullest if of_fullest else kv_usage,
            of_fullest=of_fullest,
            span_s=span_s,
            textless=requests.textless,
            requests=requests,
        )


def good_requests(sample: Sample, slo: Slo) -> npt.NDArray[np.bool_]:
    """Which of the requests that ended well met every latency limit, each by itself (the joint rule).

    A column of another length than TTFT's cannot be matched to it (predictions leave out answers of one token): its
    limit is not in the joint rule then. A request whose TPOT or E2E is not known is none of them.
    """
    return _met(sample, slo) & _told(sample, slo)


def _met(sample: Sample, slo: Slo) -> npt.NDArray[np.bool_]:
    good = np.ones(len(sample.ttft_s), dtype=bool)
    for target in slo.targets:
        if target.metric in LATENCIES:
            values: Array = getattr(sample, f"{target.metric}_s")
            if len(values) == len(good):
                good &= ~(values > target.limit)
    return good


def _told(sample: Sample, slo: Slo) -> npt.NDArray[np.bool_]:
    """Of which requests every latency that has a limit is known; an answer of one token has no TPOT to be known."""
    told = np.ones(len(sample.ttft_s), dtype=bool)
    ends = np.isfinite(sample.e2e_s)
    if len(ends) != len(told):
        return told
    for target in slo.targets:
        if target.metric == "tpot" and len(sample.tpot_s) == len(told):
            told &= np.isfinite(sample.tpot_s) | ends
        elif target.metric == "e2e":
            told &= ends
    return told


def attainment(sample: Sample, slo: Slo) -> float | None:
    """Share of requests that ended well and met every latency limit; failures are misses, cancelled ones are out.

    Requests of which that is not known are taken to be as the others.
    """
    ended, well, told = sample.ended, sample.ended - sample.errors, int(_told(sample, slo).sum())
    if not ended or (well and not told):
        return None
    good = float(good_requests(sample, slo).sum()) / told if told else 0.0
    return good * well / ended


def judge_slo(sample: Sample, slo: Slo) -> SloVerdict:
    """All limits. `ok` None: a latency limit cannot be judged yet. Gauges the server does not show judge nothing."""
    verdicts = tuple(judge_target(sample, target) for target in slo.targets)
    good = int(good_requests(sample, slo).sum())
    return SloVerdict(
        ok=overall(verdicts, slo).ok,
        targets=verdicts,
        attainment=attainment(sample, slo),
        goodput_rps=good / sample.span_s if sample.span_s else None,
    )


def judge_named(sample: Sample, slo: Slo, names: Codes) -> tuple[TargetVerdict, ...]:
    """The limits on one name's requests alone."""
    return tuple(judge_target(sample.called(names.known(each.kind)), each) for each in slo.named)


def with_named(verdict: SloVerdict, named: tuple[TargetVerdict, ...], slo: Slo) -> SloVerdict:
    """A verdict by `slo.targets` with those by `slo.named`: each must hold, and one that is not known is no yes."""
    if not named:
        return verdict
    each_ok = [*([verdict.ok] if slo.targets else []), *(each.ok for each in named)]
    ok = False if False in each_ok else None if None in each_ok else True
    return replace(verdict, ok=ok, targets=(*verdict.targets, *named))


def overall(verdicts: tuple[TargetVerdict, ...], slo: Slo) -> SloVerdict:
    """One verdict of those over each limit, in the order of `slo.targets`.

    Not known where a latency is, or where more failed than may, of too few requests to be sure.
    """
    ok: bool | None = True
    told = zip(verdicts, slo.targets, strict=True)
    needed = [each.ok for each, target in told if target.metric in LATENCIES or (each.n and each.name == "error_ratio")]
    if any(each.ok is False for each in verdicts):
        ok = False
    elif any(each is None for each in needed) or all(each.ok is None for each in verdicts):
        ok = None
    return SloVerdict(ok=ok, targets=verdicts)


def judge_target(sample: Sample, target: SloTarget) -> TargetVerdict:
    """One limit against one sample."""
    if target.metric in LATENCIES:
        return _latency(sample, target)
    if target.metric == "error_ratio":
        return _errors(sample, target)
    value = sample.waiting if target.metric == "queue" else sample.kv_usage
    ok = None if value is None else value <= target.limit
    shown = NOT_SHOWN if value is None else TEXT.measured(target.metric, value)
    whose = FULLEST if sample.of_fullest and target.metric != "queue" else ""
    text = f"{target_name(target.name)} {shown}{whose}"
    return TargetVerdict(name=target.name, limit=target.limit, value=value, ok=ok, text=text)


def holds(sample: Sample, target: SloTarget) -> bool | None:
    """Whether a latency or error limit holds; None: it cannot be said yet.

    A statistic with enough samples is taken at its word. With fewer, a limit can be known to be broken but not to hold.
    An error limit is broken where more failed of as many requests as could have proved that it holds, and of fewer once
    that is significant.
    """
    if target.metric == "error_ratio":
        n = sample.ended
        if sample.errors <= target.limit * n:
            return True if n else None
        if 1 - (1 - target.limit) ** n >= stats.LEVEL:
            return False
        return False if stats.share_floor(sample.errors, n) > target.limit else None
    stat = target.stat or "p95"
    if sample.stated is not None:
        return _holds_as_stated(sample.stated, target, stat)
    values = _values(sample, target)
    n = len(values)
    if target.metric == "tpot" and n == 0 and np.isfinite(sample.e2e_s).sum() >= stats.FEWEST[stat]:
        return True  # answers of a single token have no TPOT
    if n >= stats.FEWEST[stat]:
        return _statistic(values, stat) <= target.limit
    if stat == "mean" or n == 0:
        return None
    broken = stats.share_floor(int((values > target.limit).sum()), n) > MISS_SHARES[stat]
    return False if broken else None


def _holds_as_stated(stated: Stated, target: SloTarget, stat: Stat) -> bool | None:
    """The same of statistics that a table tells; a higher percentile that holds, or a lower that does not, will do."""
    assert target.metric in LATENCIES
    if stated.n < stats.FEWEST[stat]:
        return None
    told = stated.figure(target.metric, stat)
    if told is not None:
        return told <= target.limit
    if stat == "mean":
        return None
    ranks = {each: stated.figure(target.metric, each) for each in MISS_SHARES}
    for each, value in ranks.items():
        lower = MISS_SHARES[each] > MISS_SHARES[stat]
        if value is not None and lower == (value > target.limit):
            return not lower
    return None


def _values(sample: Sample, target: SloTarget) -> Array:
    values: Array = getattr(sample, f"{target.metric}_s")
    values = values[np.isfinite(values)]
    if target.metric == "ttft" and len(sample.censored_s):
        values = np.concatenate([values, sample.censored_s[sample.censored_s > target.limit]])
    return values


def _statistic(values: Array, stat: Stat) -> float:
    return float(values.mean()) if stat == "mean" else float(np.quantile(values, 1 - MISS_SHARES[stat]))


def _latency(sample: Sample, target: SloTarget) -> TargetVerdict:
    values = _values(sample, target)
    stat = target.stat or "p95"
    n = len(values)
    name = target_name(target.name)
    if sample.stated is not None:
        return _as_stated(sample.stated, target, stat)
    if n == 0:
        ok = holds(sample, target)
        text = f"{name}: {'no request yet' if ok is None else 'answers of one token have none'}"
        return TargetVerdict(name=target.name, limit=target.limit, value=None, ok=ok, text=text)
    value, high = _statistic(values, stat), None
    if stat == "mean":
        high = value + 1.96 * float(values.std()) / math.sqrt(stats.effective_size(values))
    else:
        high = stats.quantile_with_bounds(values, 1 - MISS_SHARES[stat]).high
    ok = holds(sample, target)
    shown, limit = TEXT.measured(target.metric, value), TEXT.limit(target.metric, target.limit)
    most = TEXT.measured(target.metric, high)
    bound = f"unbounded (n {n} < {stats.FEWEST[stat]})" if high is None else f"at most {most} at 95 %"
    return TargetVerdict(
        name=target.name,
        limit=target.limit,
        value=value if n >= stats.FEWEST[stat] or ok is False else None,
        high=high,
        n=n,
        ok=ok,
        text=f"{name} {shown} of {limit}, {bound}",
    )


def _as_stated(stated: Stated, target: SloTarget, stat: Stat) -> TargetVerdict:
    assert target.metric in LATENCIES
    value, ok = stated.figure(target.metric, stat), _holds_as_stated(stated, target, stat)
    limit = TEXT.limit(target.metric, target.limit)
    shown = "not known" if value is None else f"{TEXT.measured(target.metric, value)} of {limit}, as stated"
    text = f"{target_name(target.name)}: {shown}" if value is None else f"{target_name(target.name)} {shown}"
    return TargetVerdict(name=target.name, limit=target.limit, value=value, n=stated.n, ok=ok, text=text)


def _errors(sample: Sample, target: SloTarget) -> TargetVerdict:
    n = sample.ended
    if n == 0:
        text = f"{target_name(target.name)}: no request yet"
        return TargetVerdict(name=target.name, limit=target.limit, value=None, text=text)
    high = stats.share_bound(sample.errors, n)
    return TargetVerdict(
        name=target.name,
        limit=target.limit,
        value=sample.errors / n,
        high=high,
        n=n,
        ok=holds(sample, target),
        text=f"{target_name(target.name)} {sample.errors} of {n}: at most {TEXT.percent(high)} at 95 %",
    )
