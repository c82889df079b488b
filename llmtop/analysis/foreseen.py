"""What the twin of a server foresees, as an answer for a reader: of a server as it stands, or with other settings.

The twin (`simulator/engine/twin.py`) is fitted to what `grounds.py` gathers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgspec.structs import replace

from llmtop.analysis.grounds import Grounds
from llmtop.domain.foresight import ForeseenPoint, Foresight, Gap, Interval
from llmtop.domain.settings import KV_BLOCKS, KV_TOKENS, SLOTS, is_kv, is_slots, setting_key
from llmtop.domain.slo import Slo, SloTarget
from llmtop.simulator.engine.twin import Asked, Foreseen, Outside, Twin, fit
from llmtop.wording import foresight as words

_FELT, _STATS = ("ttft", "tpot"), ("p50", "p95")
"""Limits that a twin can be held against."""
RUNG, RUNGS = 1.2, 6
"""Of a ladder past the wall, a load over the next lower one, and how many there are at most: then they lie wider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked about. None: as it is driven now."""

    settings: tuple[tuple[str, float], ...] = ()
    """Of the server, by the names of `domain.settings`; (): as it stands."""
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    loads: tuple[float, ...] = ()
    """Of the curve; none: a ladder of them."""


class KeptTwin:
    """The twin of one server: fitted anew, and another object, only when what it rests on has changed."""

    def __init__(self) -> None:
        self._grounds: Grounds | None = None
        self._twin: Twin | Outside = Outside("", "")

    def of(self, grounds: Grounds) -> Twin | Outside:
        if grounds != self._grounds:
            self._twin = Outside(grounds.void, "") if grounds.void else fit(grounds.levels, grounds.known)
            self._grounds = grounds
        return self._twin


class Seer:
    """Asks the twin of one server again and again."""

    def __init__(self) -> None:
        self._kept = KeptTwin()
        self._last: tuple[Twin | Outside, Wish, Slo, Foresight] | None = None

    def ask(self, grounds: Grounds, wish: Wish, slo: Slo) -> Foresight:
        """What is foreseen; without a twin, or outside of what it knows, no figure but what would make it known."""
        twin = self._kept.of(grounds)
        if self._last is None or self._last[0] is not twin or self._last[1:3] != (wish, slo):
            self._last = twin, wish, slo, _answer(twin, grounds, wish, slo)
        return self._last[3]

    def prompt_share(self, grounds: Grounds, wish: Wish, load: float) -> float | None:
        """Of the engine's time at a load, what is spent on prompts; None: no twin sees there."""
        twin = self._kept.of(grounds)
        return None if isinstance(twin, Outside) else twin.prompt_share(load, _asked(grounds, wish))


def _answer(twin: Twin | Outside, grounds: Grounds, wish: Wish, slo: Slo) -> Foresight:
    told = Foresight(
        settings=wish.settings,
        label=words.settings_text(wish.settings),
        prompt_tokens=wish.prompt_tokens or grounds.prompt_tokens,
        output_tokens=wish.output_tokens or grounds.output_tokens,
        axis=grounds.known.axis,
    )
    if isinstance(twin, Outside):
        text = words.no_twin_text(twin.reason, twin.try_this)
        return replace(told, text=text, missing=twin.try_this)
    unable = unable_to_turn(wish.settings, grounds)
    asked = _asked(grounds, wish)
    if not unable and asked.kv_tokens is not None:
        unable = _too_small(asked.kv_tokens, told)
    if unable:
        return replace(told, text=words.outside_text(words.asked_text(wish.settings), unable, ""))
    return _foreseen(twin, told, asked, wish, slo)


def around(seer: Seer, grounds: Grounds, slo: Slo) -> tuple[Foresight, ...]:
    """The server as it stands, with half and twice the slots and with twice the KV cache; without what lies outside.

    (): there is no twin, or it foresees nothing else.
    """
    asked: list[tuple[str, float]] = []
    if grounds.known.slots:
        asked += [(SLOTS[0], float(slots)) for slots in (grounds.known.slots // 2, 2 * grounds.known.slots) if slots]
    if grounds.known.kv_tokens:
        blocks = grounds.block_tokens
        asked.append((KV_BLOCKS[0] if blocks else KV_TOKENS[0], 2 * grounds.known.kv_tokens // (blocks or 1)))
    stands, *others = (
        seer.ask(grounds, Wish(settings=settings), slo) for settings in ((), *((each,) for each in asked))
    )
    found = [each for each in others if each.points and each.missing == ""]
    return (stands, *found) if found else ()


def unable_to_turn(settings: tuple[tuple[str, float], ...], grounds: Grounds) -> str:
    """Why a twin cannot tell of these settings, whatever their values are; empty: it can."""
    for name, _ in settings:
        if not is_slots(name) and not is_kv(name):
            return words.not_a_knob(name)
        if is_kv(name) and setting_key(name) not in KV_TOKENS and grounds.block_tokens is None:
            return words.BLOCKS_UNKNOWN
    return ""


def _too_small(kv_tokens: float, told: Foresight) -> str:
    """Why no request fits; empty: one does."""
    request = (told.prompt_tokens or 0.0) + (told.output_tokens or 0.0)
    return words.holds_none(kv_tokens, request) if kv_tokens < request else ""


def _asked(grounds: Grounds, wish: Wish) -> Asked:
    slots = kv_tokens = None
    for name, value in wish.settings:
        if is_slots(name):
            slots = round(value)
        else:
            kv_tokens = value * (1 if setting_key(name) in KV_TOKENS else grounds.known.block_tokens)
    prompt, output = (grounds.prompt_tokens, grounds.output_tokens) if grounds.several else (None, None)
    return Asked(
        slots=slots,
        kv_tokens=kv_tokens,
        prompt_tokens=wish.prompt_tokens or prompt,
        output_tokens=wish.output_tokens or output,
    )


def _foreseen(twin: Twin, told: Foresight, asked: Asked, wish: Wish, slo: Slo) -> Foresight:
    limits, wall = limits_of(slo), _wall(twin, asked, slo)
    users = twin.users_at(limits, asked) if limits else None
    curve = _curve(twin, asked, wish.loads, users)
    unheld = unforeseen(slo)
    if unheld:
        users = None
    outside = next((each for each in (users, curve, wall) if isinstance(each, Outside)), None)
    subject, axis = words.asked_text(wish.settings), told.axis
    known = replace(
        told,
        users=_known(users),
        wall=_known(wall),
        points=() if isinstance(curve, Outside) else tuple(map(_point, curve)),
        gaps=_gaps(twin, asked, wish.loads),
        off=twin.off,
        band=twin.band,
        levels=twin.levels,
        missing="" if outside is None else outside.try_this,
    )
    found = [] if known.users is None else [words.users_text(known.users, axis)]
    if known.users is None and known.wall is not None:
        found = [words.wall_text(known.wall, axis)]
        found += [words.no_users_text(users.reason)] if isinstance(users, Outside) else []
    edge = known.users or known.wall
    there = None if edge is None else twin.at(edge.value, asked)
    if isinstance(there, Foreseen) and there.assumed is not None:
        found.append(there.assumed)
    if not found:
        reason = "" if outside is None else outside.reason
        return replace(known, text=words.outside_text(subject, reason, known.missing))
    return replace(known, text=words.foreseen_text(subject, found, twin.off, twin.levels, unheld, known.missing))


def _curve(
    twin: Twin, asked: Asked, loads: tuple[float, ...], users: Interval | Outside | None
) -> tuple[Foreseen, ...] | Outside:
    """At these loads; without any, at a ladder that goes past the users at the SLO, as far as the twin sees."""
    found = twin.curve(asked, loads=loads)
    if loads or isinstance(found, Outside) or not isinstance(users, Interval) or found[-1].load > users.value:
        return found
    top, goal = found[-1].load, RUNG * users.value
    rungs = min(RUNGS, max(1, math.ceil(math.log(goal / top) / math.log(RUNG))))
    more = [top * (goal / top) ** ((i + 1) / rungs) for i in range(rungs)]
    if twin.known.axis == "concurrency":
        more = sorted({float(math.ceil(load)) for load in more} - {top})
    past = twin.curve(asked, loads=more)
    return found if isinstance(past, Outside) else (*found, *past)


def unforeseen(slo: Slo) -> list[str]:
    """Names of the limits of which a twin says nothing, but for that on errors, which it leaves to who drives."""
    return [target.name for target in slo.felt if target.metric != "error_ratio" and not _is_foreseen(target)]


def limits_of(slo: Slo) -> list[tuple[str, str, float]]:
    """Those that a twin can be held against, as `Twin.users_at` takes them."""
    return [(target.metric, str(target.stat), target.limit) for target in slo.felt if _is_foreseen(target)]


def _is_foreseen(target: SloTarget) -> bool:
    return target.metric in _FELT and target.stat in _STATS


def _wall(twin: Twin, asked: Asked, slo: Slo) -> Interval | Outside:
    """Where a queue forms, or TPOT breaks its limit, whichever comes first; outside where that is not foreseen."""
    full = twin.wall(asked)
    there = twin.at(full.value, asked) if isinstance(full, Interval) else full
    queue = there if isinstance(there, Outside) else full
    pace = [limit for limit in limits_of(slo) if limit[0] == "tpot"]
    broken = twin.users_at(pace, asked) if pace else queue
    if isinstance(broken, Interval) and isinstance(full, Interval) and broken.value < full.value:
        # a pace that holds at the slots holds for any number who wait for them: no wall lies past its own slots
        broken = Interval(broken.value, min(broken.low, broken.value), min(broken.high, full.high))
    found = [each for each in (queue, broken) if isinstance(each, Interval)]
    return min(found, key=lambda band: band.value, default=queue)


def _gaps(twin: Twin, asked: Asked, loads: tuple[float, ...]) -> tuple[Gap, ...]:
    found = ((load, twin.at(load, asked)) for load in loads)
    return tuple(Gap(load, at.reason, at.try_this) for load, at in found if isinstance(at, Outside))


def _known(found: Interval | Outside | None) -> Interval | None:
    return found if isinstance(found, Interval) else None


def _ms(band: Interval) -> Interval:
    return Interval(band.value * 1e3, band.low * 1e3, band.high * 1e3)


def _wait_ms(band: Interval | None) -> Interval | None:
    return None if band is None else _ms(band)


def _point(at: Foreseen) -> ForeseenPoint:
    return ForeseenPoint(
        load=at.load,
        ttft_p50_ms=_wait_ms(at.ttft_p50_s),
        ttft_p95_ms=_wait_ms(at.ttft_p95_s),
        tpot_p50_ms=_ms(at.tpot_p50_s),
        tpot_p95_ms=_ms(at.tpot_p95_s),
        output_tokens_per_s=at.output_tokens_per_s,
        requests_per_s=at.requests_per_s,
        running=at.running,
        waiting=at.waiting if math.isfinite(at.waiting) else None,
        kv_usage=at.kv_usage,
    )
