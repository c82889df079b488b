"""Levels of an open-loop session: latency by offered rate, without the windows in which an old queue drains.

At or above capacity an open loop has no steady latency, only a growth of about (1 - 1 / rho) seconds a second; such
windows are kept, because throughput below the offered rate is what shows the capacity.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import MIN_REQUESTS, Level
from llmtop.analysis.sessions import NO_GAUGES, NO_PROGRESS, Gauges, Progress, Requests, known_mean, with_gauges

MIN_WINDOW_S = 5.0
GROWTH = 1.25
"""In-flight at the end over in-flight at the start of a window from which it grows, or drains the other way round."""
_GRID = 12.0
"""Bins of the rate a doubling."""


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """Commanded rate and requests in flight at the end of each bin; NaN where another curve was driven."""

    t_s: Array
    span_s: Array
    rate_rps: Array
    in_flight: Array


@dataclass(slots=True)
class _Window:
    start_s: float
    stop_s: float
    rate_rps: float
    before: float
    after: float

    @property
    def grows(self) -> bool:
        return self.after > GROWTH * self.before + 2

    @property
    def drains(self) -> bool:
        return self.before > GROWTH * self.after + 2


def rate_levels(
    requests: Requests, offered: Offered, *, gauges: Gauges = NO_GAUGES, progress: Progress = NO_PROGRESS
) -> tuple[Level, ...]:
    """Levels of an open loop, lowest rate first; `load` is the offered rate in requests/s."""
    finished = requests.e2e_s[requests.ok & np.isfinite(requests.e2e_s)]
    if len(finished) == 0 or len(offered.t_s) == 0:
        return ()
    usual_s = float(np.quantile(finished, 0.25))
    windows = _windows(offered, settle_s=usual_s, length_s=max(MIN_WINDOW_S, 4 * requests.service_s))
    kept = _without_draining(windows, usual_s)
    cells: dict[int, list[_Window]] = {}
    for window in kept:
        cells.setdefault(round(_GRID * np.log2(window.rate_rps)), []).append(window)
    levels = (_level(cells[cell], requests, gauges, progress) for cell in sorted(cells))
    return tuple(level for level in levels if level is not None)


def _windows(offered: Offered, settle_s: float, length_s: float) -> list[_Window]:
    """Each time of one commanded rate, without its first `settle_s`, cut into pieces of about `length_s`."""
    rate = np.nan_to_num(offered.rate_rps)
    edges = np.flatnonzero(np.diff(rate) != 0) + 1
    windows = []
    for first, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(rate)], strict=True):
        if rate[first] <= 0:
            continue
        begin = offered.t_s[first] - offered.span_s[first] + settle_s
        end = offered.t_s[stop - 1]
        pieces = min(int((end - begin) / length_s), stop - first)
        marks = np.linspace(begin, end, pieces + 1) if pieces else np.empty(0)
        for start_s, stop_s in itertools.pairwise(marks):
            i, j = (min(int(np.searchsorted(offered.t_s, t)), len(rate) - 1) for t in (start_s, stop_s))
            windows.append(
                _Window(float(start_s), float(stop_s), float(rate[first]), offered.in_flight[i], offered.in_flight[j])
            )
    return windows


def _without_draining(windows: list[_Window], usual_s: float) -> list[_Window]:
    kept = []
    backlog = False
    for window in windows:
        if window.grows:
            backlog = True
            kept.append(window)
            continue
        if window.drains or (backlog and window.before > 1.5 * window.rate_rps * usual_s + 3):
            continue
        backlog = False
        kept.append(window)
    return kept


def _level(windows: list[_Window], requests: Requests, gauges: Gauges, progress: Progress) -> Level | None:
    starts_s, stops_s = (np.array([getattr(window, name) for window in windows]) for name in ("start_s", "stop_s"))

    def inside(t_s: Array) -> np.typing.NDArray[np.bool_]:
        window = np.searchsorted(starts_s, t_s) - 1
        return np.asarray((window >= 0) & (t_s <= stops_s[window]))

    members = requests.pick(inside(requests.sent_s))
    ok = members.pick(members.ok)
    errors = int(members.error.sum())
    if len(ok.sent_s) + errors < MIN_REQUESTS:
        return None
    span_s = sum(window.stop_s - window.start_s for window in windows)
    done = progress.pick(inside(progress.t_s))
    level = Level(
        load=round(sum(window.rate_rps * (window.stop_s - window.start_s) for window in windows) / span_s, 6),
        ttft_s=ok.ttft_s,
        tpot_s=ok.tpot_s,
        e2e_s=ok.e2e_s,
        sent_s=ok.sent_s,
        prompt_lens=ok.prompt_tokens,
        output_lens=ok.output_tokens,
        errors=errors,
        textless=members.textless,
        status=members.refusal,
        requests_per_s=float(done.ok.sum()) / span_s if len(done.t_s) else None,
        output_tokens_per_s=float(done.output_tokens.sum()) / span_s if len(done.t_s) else None,
        power_w=known_mean(done.power_w),
        prompt_tokens=float(np.mean(ok.prompt_tokens)) if len(ok.prompt_tokens) else None,
        output_tokens=float(np.mean(ok.output_tokens)) if len(ok.output_tokens) else None,
    )
    return with_gauges(level, gauges.pick(inside(gauges.t_s)))
