"""Levels out of a session driven by hand: which load did each request really experience?

The load a request saw is the time-weighted number in flight over [sent - S, first token], S being the median time from
first to last token. Requests that saw it move (maximum above 1.4 minimum + 1) are transients and left out. What a
request took after its first token counts where the load stayed to its end; of the others TPOT and E2E are not known
(NaN). A request that failed belongs to the load that was commanded while it lived, and so do all of users who think:
the rest of them is not in flight. In open loop the level is the commanded rate, and windows in which an old queue
drains are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, ERROR_WALL, MIN_REQUESTS, Level
from llmtop.analysis.seen import MERGE, SNAP, STEADY_RATIO, Lives, Seen, seen_at, seen_by
from llmtop.analysis.steps import Index, StepFunction

GRID = 3.0
"""Bins of the load a doubling."""
SHOWN_FROM = 5
_HELD = 10
"""So many requests that saw a commanded load and nothing else make it a level of its own."""
_NOTHING = 1e-9
Mask = npt.NDArray[np.bool_]


def _picked(columns: Sequence[Array], chosen: Mask | Index) -> list[Any]:
    """The chosen rows of each column that there is."""
    rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen  # a mask is gone through once, not by each column
    return [column[rows] if len(column) else column for column in columns]


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Finished requests as columns (seconds of the run clock), in order of sending."""

    sent_s: Array
    first_token_s: Array
    end_s: Array
    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    ok: Mask
    error: Mask
    prompt_tokens: Array
    output_tokens: Array
    status: Array = field(default_factory=lambda: EMPTY)
    """HTTP status of the answer; NaN, or no column at all: not known."""
    name: Array = field(default_factory=lambda: EMPTY)
    """What they are called, as `Facts.names` counts them; NaN: nothing. No column at all: not known."""
    model: Array = field(default_factory=lambda: EMPTY)
    """The same of the model that was asked, by `Facts.models`."""

    def pick(self, chosen: Mask | Index) -> Requests:
        return Requests(*_picked([getattr(self, name) for name in self.__slots__], chosen))

    @property
    def refusal(self) -> int | None:
        """The HTTP status that most of the errors have; None: most have none."""
        if not len(self.status) or not self.error.any():
            return None
        statuses, counts = np.unique(np.nan_to_num(self.status[self.error]), return_counts=True)
        return int(statuses[np.argmax(counts)]) or None

    @property
    def textless(self) -> int:
        """How many ended well without any text."""
        return int((~self.ok & ~self.error).sum())

    @property
    def lives(self) -> Lives:
        """Their times, up to the first token or, of those without one, the end."""
        until_s = np.where(np.isfinite(self.first_token_s), self.first_token_s, self.end_s)
        return Lives(self.sent_s, until_s, self.end_s, self.error)

    @property
    def service_s(self) -> float:
        """Median time from first to last token: S."""
        service = (self.e2e_s - self.ttft_s)[self.ok]
        service = service[np.isfinite(service)]
        return float(np.median(service)) if len(service) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """What the server showed, as columns over `t_s` (NaN: not known).

    `preemptions` are those since the sample before.
    """

    t_s: Array = field(default_factory=lambda: EMPTY)
    running: Array = field(default_factory=lambda: EMPTY)
    waiting: Array = field(default_factory=lambda: EMPTY)
    kv_usage: Array = field(default_factory=lambda: EMPTY)
    preemptions: Array = field(default_factory=lambda: EMPTY)
    iteration_tokens: Array = field(default_factory=lambda: EMPTY)
    prefill_s: Array = field(default_factory=lambda: EMPTY)
    kv_fullest: Array = field(default_factory=lambda: EMPTY)
    """KV usage of the replica whose cache is the fullest."""

    def pick(self, chosen: Mask | Index) -> Gauges:
        return Gauges(*_picked([getattr(self, name) for name in self.__slots__], chosen))


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """What the load did in each short interval that ended at `t_s`."""

    t_s: Array = field(default_factory=lambda: EMPTY)
    span_s: Array = field(default_factory=lambda: EMPTY)
    ok: Array = field(default_factory=lambda: EMPTY)
    output_tokens: Array = field(default_factory=lambda: EMPTY)
    power_w: Array = field(default_factory=lambda: EMPTY)
    """What the GPUs that are read took; NaN, or no column at all: not known."""

    def pick(self, chosen: Mask | Index) -> Progress:
        return Progress(*_picked([getattr(self, name) for name in self.__slots__], chosen))


NO_GAUGES = Gauges()
NO_PROGRESS = Progress()


def session_levels(
    requests: Requests,
    in_flight: StepFunction,
    *,
    gauges: Gauges = NO_GAUGES,
    progress: Progress = NO_PROGRESS,
    censored_s: Array = EMPTY,
    now_s: float | None = None,
    jitter: float = 0.0,
    asked: StepFunction | None = None,
) -> tuple[Level, ...]:
    """Levels of a closed-loop session, lowest first.

    Args:
        requests: finished ones of one configuration.
        in_flight: requests in flight over time, those still unfinished included.
        censored_s: ages at `now_s` of requests that still wait for their first token.
        asked: users that were commanded; a level that is there within 4 % bears that number.
        jitter: times sqrt(load) that the number in flight may move by itself (users who think between requests).
    """
    if len(requests.sent_s) == 0:
        return ()
    service_s = requests.service_s
    waiting = None
    if len(censored_s) and now_s is not None:
        waiting = censored_s, waiting_load(in_flight, censored_s, service_s, now_s)
    return levels_of(
        requests,
        seen_by(requests.lives, in_flight, asked, service_s),
        jitter=jitter,
        gauges=(gauges, *seen_at(gauges.t_s, in_flight, service_s)),
        progress=(progress, *seen_at(progress.t_s, in_flight, service_s)),
        waiting=waiting,
    )


def waiting_load(in_flight: StepFunction, censored_s: Array, service_s: float, now_s: float) -> float:
    """In flight on average while those waited that still do."""
    return float(in_flight.mean(np.array([now_s - censored_s.max() - service_s]), np.array([now_s]))[0])


def levels_of(
    requests: Requests,
    seen: Seen,
    *,
    gauges: tuple[Gauges, Array, Array],
    progress: tuple[Progress, Array, Array],
    jitter: float = 0.0,
    waiting: tuple[Array, float] | None = None,
    known: dict[int, Level] | None = None,
) -> tuple[Level, ...]:
    """Levels of requests that saw these loads, lowest first.

    Args:
        jitter: as of `session_levels`.
        gauges, progress: with load and sway at each of their instants.
        waiting: ages of those without a first token, and in flight while they waited.
        known: levels of before by what they are made of; taken from there where nothing is new, and renewed.
    """
    load, steady = _attributed(requests, seen, jitter)
    rows = np.flatnonzero(steady)
    wanted = None if np.isnan(seen.wanted).all() else seen.wanted[rows]
    whole = seen.stays & seen.on if jitter == 0 else (seen.on if wanted is not None else seen.stays)
    groups = []
    for chosen in _groups(load[rows], wanted, thinking=jitter > 0):
        members = rows[chosen]
        middle, delivered = float(np.median(load[members])), seen.load[members]
        delivered = delivered[np.isfinite(delivered)]  # a failure has seen no load
        there = float(np.median(delivered)) if len(delivered) else middle
        command = None if wanted is None or jitter else float(np.median(seen.wanted[members]))
        if command is not None and abs(middle - command) <= SNAP * command:
            middle = command
        if len(members) >= MIN_REQUESTS and middle > 0:
            groups.append((_users(middle), there, None if command is None else _users(command), members))
    if not groups:
        return ()
    groups.sort(key=lambda group: group[0])
    loads = np.array([there for _, there, _, _ in groups])
    shown, done = _assigned(*gauges[1:], loads, jitter), _assigned(*progress[1:], loads, jitter)
    before, levels = {} if known is None else dict(known), {}
    for i, (users, there, command, members) in enumerate(groups):
        seconds, bins = np.flatnonzero(shown == i), np.flatnonzero(done == i)
        made_of = hash((users, there, members.tobytes(), seconds.tobytes(), bins.tobytes()))
        level = before.get(made_of)
        if level is None:
            members = members[np.argsort(requests.sent_s[members], kind="stable")]
            thinking = None if wanted is None or jitter == 0 or there <= 0 else max(0.0, 1 - there / users)
            bare = replace(
                _level(users, there, requests.pick(members), whole[members]), asked=command, thinking=thinking
            )
            level = with_progress(with_gauges(bare, gauges[0].pick(seconds)), progress[0].pick(bins))
        levels[made_of] = level
    if known is not None:
        known.clear()
        known.update(levels)
    return tuple(levels.values() if waiting is None else _with_censored(list(levels.values()), *waiting))


def _attributed(requests: Requests, seen: Seen, jitter: float) -> tuple[Array, Mask]:
    """The load by which each request is put into a level, and whether it is put into one at all.

    A failure belongs to what was commanded, and so does all of a load of which too much fails, and of users who think
    (`jitter`): not all of them are in flight.
    """
    steady = (seen.sway <= jitter) & np.isfinite(seen.load)
    if np.isnan(seen.wanted).all():
        return seen.load, steady
    low, high = np.minimum(seen.load, seen.wanted), np.maximum(seen.load, seen.wanted)
    if jitter:
        return seen.wanted, steady & seen.held
    steady &= seen.held | (high <= STEADY_RATIO * low + 1)
    if not requests.error.any():
        return seen.load, steady
    commanded = requests.error | _refused(seen.wanted, requests.error)
    return np.where(commanded, seen.wanted, seen.load), np.where(commanded, seen.held, steady)


def _refused(wanted: Array, error: Mask) -> Mask:
    """Requests of loads at which so many failed that fewer were in flight than were commanded."""
    commands, member = np.unique(np.round(wanted, 6), return_inverse=True)
    failed = np.bincount(member, error, len(commands))
    broken = (failed >= 2) & (failed > ERROR_WALL * np.bincount(member, minlength=len(commands)))
    return np.asarray(broken[member])


def _users(load: float) -> float:
    """Users are whole; of less than one the first digit is told."""
    return float(np.floor(load + 0.5)) if load >= 0.75 else round(load, 1)


def _groups(load: Array, wanted: Array | None, thinking: bool) -> list[Index]:
    """Members of each level: those of a load that was held, and the rest in bins of a 2^(1/3) grid.

    A load was held if it was commanded and there, within 4 %, for at least ten requests; what is there of users who
    think sways. Requests on the way to or from such a load (within one bin of it) say less than it does, and are left
    out. Neighbouring bins of the same load are one.
    """
    groups: list[Index] = []
    rest = np.arange(len(load))
    if wanted is not None:
        there = (np.abs(load - wanted) <= SNAP * wanted) | thinking
        rounded = np.round(wanted, 6)
        commands, counts = np.unique(rounded[there], return_counts=True)
        held = commands[counts >= _HELD]
        of_held = there & np.isin(rounded, held)
        members = np.flatnonzero(of_held)
        members = members[np.argsort(rounded[members], kind="stable")]
        groups = np.split(members, np.cumsum(counts[counts >= _HELD])[:-1]) if len(held) else []
        rest = np.flatnonzero(~of_held)
    cells = np.round(GRID * np.log2(np.maximum(load[rest], 0.5))).astype(int)
    bins: list[Index] = []
    last = 0.0
    for cell in np.unique(cells):
        members = rest[cells == cell]
        middle = float(np.median(load[members]))
        if bins and (middle < (1 + MERGE) * last or _users(middle) == _users(last)):
            bins[-1] = np.concatenate([bins[-1], members])
        else:
            bins.append(members)
        last = middle
    loads = np.array([np.median(load[members]) for members in groups])
    return groups + [members for members in bins if not _near(float(np.median(load[members])), loads)]


def _near(load: float, others: Array) -> bool:
    return bool(np.any(np.abs(np.log(_some(others) / max(load, _NOTHING))) < np.log(2) / GRID))


def _some(load: Array) -> Array:
    """Loads that have a logarithm: while everybody is refused nothing is in flight."""
    return np.maximum(load, _NOTHING)


def _level(load: float, delivered: float, members: Requests, whole: Mask) -> Level:
    """One level.

    Mean E2E is mean TTFT and the mean time from first to last token, which fewer requests tell: both ends of Little's
    law are then of the same requests.

    Args:
        whole: of which members TPOT and E2E are of this load.
    """
    ok, whole = members.pick(members.ok), whole[members.ok]
    errors = int(members.error.sum())
    service_s = ok.e2e_s - ok.ttft_s
    told = service_s[whole] if whole.sum() >= MIN_REQUESTS else service_s
    mean = float(np.mean(ok.ttft_s) + np.mean(told)) if len(told) else None
    rate = delivered / mean if mean else None
    answer = float(np.mean(ok.output_tokens)) if len(ok.output_tokens) else None
    return Level(
        load=load,
        ttft_s=ok.ttft_s,
        tpot_s=np.where(whole, ok.tpot_s, np.nan),
        e2e_s=np.where(whole, ok.e2e_s, np.nan),
        e2e_mean_s=mean,
        sent_s=ok.sent_s,
        prompt_lens=ok.prompt_tokens,
        output_lens=ok.output_tokens,
        errors=errors,
        textless=members.textless,
        status=members.refusal,
        requests_per_s=rate,
        output_tokens_per_s=None if rate is None or answer is None else rate * answer,
        prompt_tokens=float(np.mean(ok.prompt_tokens)) if len(ok.prompt_tokens) else None,
        output_tokens=answer,
    )


def _assigned(load: Array, sway: Array, loads: Array, jitter: float) -> Index:
    """Which level each instant belongs to: the nearest within half a bin, if the load was steady for S; else -1."""
    if len(load) == 0:
        return np.empty(0, dtype=np.intp)
    order = np.argsort(loads)
    borders = np.sqrt(loads[order][1:] * loads[order][:-1])
    nearest = order[np.searchsorted(borders, np.nan_to_num(load))]
    near = np.abs(np.log(_some(np.nan_to_num(load)) / _some(loads[nearest]))) <= np.log(2) / (2 * GRID)
    return np.where(near & (sway <= jitter), nearest, -1)


def with_gauges(level: Level, gauges: Gauges) -> Level:
    """The level with what the server showed meanwhile.

    Running and tokens a step are medians (pinned to the slots in most polls means the slots bind), waiting a mean, KV
    usage a 90th percentile.
    """
    if len(gauges.t_s) == 0:
        return level
    preemptions = gauges.preemptions
    return replace(
        level,
        running=_median(gauges.running),
        waiting=known_mean(gauges.waiting),
        kv_usage=known_high(gauges.kv_usage),
        preemptions=float(np.nansum(preemptions)) if np.isfinite(preemptions).any() else None,
        iteration_tokens=_median(gauges.iteration_tokens),
        prefill_s=known_mean(gauges.prefill_s),
    )


def with_progress(level: Level, progress: Progress) -> Level:
    """The level with the power that the GPUs took, and the throughput measured meanwhile, if that was long enough
    (three E2E) to hold no ends."""
    level = replace(level, power_w=known_mean(progress.power_w))
    span_s = float(progress.span_s.sum())
    mean = level.mean("e2e")
    if mean is None or span_s < 3 * mean or progress.ok.sum() < MIN_REQUESTS:
        return level
    return replace(
        level,
        requests_per_s=float(progress.ok.sum()) / span_s,
        output_tokens_per_s=float(progress.output_tokens.sum()) / span_s,
    )


def _with_censored(levels: Sequence[Level], censored_s: Array, load: float) -> list[Level]:
    """Hand the ages of requests without a first token to the level that they are waiting in."""
    loads = np.array([_some(np.array(level.in_flight)) for level in levels])
    nearest = int(np.argmin(np.abs(np.log(max(load, 1e-9) / loads))))
    if not 1 / STEADY_RATIO < load / loads[nearest] < STEADY_RATIO:
        return list(levels)
    return [replace(level, censored_s=censored_s) if i == nearest else level for i, level in enumerate(levels)]


def _median(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def known_mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def known_high(values: Array) -> float | None:
    """What a gauge shows in its highest tenth of the time; None: it was not seen."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, 0.9)) if len(known) else None
