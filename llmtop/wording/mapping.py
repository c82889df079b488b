"""What is said of the map: where its contour lies, what would make the rest known, and what an exploration does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmtop.domain.foresight import Interval
from llmtop.domain.load import Axis
from llmtop.domain.map import Map, MapCell, MapEdge
from llmtop.wording.figures import TEXT, Figures

DWELL_S = 10
"""What it takes to measure one level by hand, for most servers."""
EXPLORE_S = 120
ONE_ROW = "one prompt length was measured"
TAKEN_MARK = "map: the exploration ends: the wheel is yours"
TAKEN = "ended because somebody took the wheel"
CHANGED = "ended because the server was restarted or set otherwise"
ENDING = "map: the load ends"
SPENT = "ended because its levels are used up: s goes on"
NOT_BY_RATE = "the map is explored by users, and this load is a rate: start with --concurrency"
_NO_MAP = "levels of two prompt lengths make a map, and it has fewer"
_MAKE_ONE = "drag prompt, or n and s in the cockpit"
NO_LIMIT = "a map needs a limit on a latency, as --slo 'ttft_p95<2s'"
NOT_WHO_THINK = "the map is explored by users who do not think: start with --think-time 0"


def no_map_text(before: Sequence[int], changed: str) -> str:
    """Why a run has no map; `before`: prompt lengths of a configuration that it had before something was changed."""
    if len(before) < 2 or not changed:
        return f"{_NO_MAP}: {_MAKE_ONE}"
    return f"{_NO_MAP} since {changed}, before which it had {', '.join(map(str, before))} tokens: {_MAKE_ONE}"


def users(load: float, axis: Axis) -> str:
    """`31 users`, `12.5 requests/s`"""
    unit = "requests/s" if axis == "rate" else "user" if round(load) == 1 else "users"
    return f"{TEXT.load(load if axis == 'rate' else float(round(load)), axis)} {unit}"


def edge_text(edge: MapEdge, axis: Axis) -> str:
    """`31 users at 192 tokens`; `at least 64 users at 48 tokens`; `-- at 768 tokens`"""
    at = f"at {edge.prompt_tokens} tokens"
    if edge.users is not None:
        return f"{users(edge.users.value, axis)} {at}"
    return f"-- {at}" if edge.held is None else f"at least {users(edge.held, axis)} {at}"


def band_text(share: float) -> str:
    """`±8 %`"""
    return f"±{max(1, round(100 * share))} %"


def contour_text(known: Map) -> str:
    """`contour: 31 users at 192 tokens, 12 users at 768 tokens (±8 %)`"""
    if not known.contour:
        return ""
    told = ", ".join(edge_text(edge, known.axis) for edge in known.contour)
    text = f"contour: {told}{f' ({band_text(known.band)})' if known.band is not None else ''}"
    steps = [
        f"{below.prompt_tokens} and {above.prompt_tokens} tokens"
        for below, above in zip(known.contour, known.contour[1:], strict=False)
        if below.drops
    ]
    return f"{text}, with a step between {' and between '.join(steps)}" if steps else text


def missing_text(known: Map, length: int | None) -> str:
    """What would make the rest of the map known: the edge of a row, or a level of another prompt length."""
    explores = ", or s explores" if known.axis == "concurrency" else ""
    if length is not None:
        return drag_text(length) + explores
    open_ended = [edge for edge in known.contour if edge.users is None]
    if open_ended:
        at, held = open_ended[0].prompt_tokens, open_ended[0].held or 0.0
        unjudged = [c.load for c in known.cells if c.measured and c.prompt_tokens == at and c.stand is None]
        if max(unjudged, default=0.0) > held:
            load = users(max(unjudged), known.axis)
            return f"hold {load} at {at} tokens longer: too few requests to judge{explores}"
        return f"raise the load at {open_ended[0].prompt_tokens} tokens until the SLO breaks{explores}"
    return ""


def drag_text(length: int) -> str:
    """`drag prompt to 768 for 10 s`"""
    return f"drag prompt to {length} for {DWELL_S} s"


def cell_text(cell: MapCell, axis: Axis, figures: Figures = TEXT) -> str:
    """`measured: 24 users x 768 tokens: TTFT p95 1.30 s, TPOT p95 34.0 ms, 742 tok/s, 212 requests`"""
    about = "" if cell.measured else "~"
    parts = [
        f"TTFT p95 {about}{figures.latency(cell.ttft_p95_ms)}",
        f"TPOT p95 {about}{figures.latency(cell.tpot_p95_ms)}",
    ]
    if cell.output_tokens_per_s is not None:
        parts.append(f"{about}{figures.count(cell.output_tokens_per_s)} tok/s")
    if cell.measured:
        parts.append(f"{figures.whole(cell.n)} request{'' if cell.n == 1 else 's'}")
    elif cell.off is not None:
        parts.append(band_text(cell.off))
    where = f"{users(cell.load, axis)} x {cell.prompt_tokens} tokens"
    return f"{'measured' if cell.measured else 'foreseen'}: {where}: {', '.join(parts)}"


def off_text(off: float, figures: Figures = TEXT) -> str:
    """`What is foreseen was 3 % off at the level that was left out.`"""
    return f"What is foreseen was {figures.round_percent(round(off, 2))} off at the level that was left out."


def wall_text(load: float) -> str:
    """`the KV cache holds 25 requests there`"""
    count = max(1, int(load))
    return f"the KV cache holds {count} request{'' if count == 1 else 's'} there"


def ends(found: Interval, axis: Axis) -> tuple[float, float]:
    """Between which loads it lies: users are whole."""
    return (found.low, found.high) if axis == "rate" else (float(math.floor(found.low)), float(math.ceil(found.high)))


def contour_at_text(found: Interval, axis: Axis) -> str:
    """`SLO up to 24 users (21-26)`"""
    low, high = ends(found, axis)
    return f"SLO up to {users(found.value, axis)} ({TEXT.load(low, axis)}-{TEXT.load(high, axis)})"


def begins_text(lengths: Sequence[int]) -> str:
    """`map: exploring 48, 192, 768 prompt tokens`"""
    return f"map: exploring {', '.join(map(str, lengths))} prompt tokens"


def exploring_text(load: float, length: int, level: int, most: int, told: str, axis: Axis = "concurrency") -> str:
    """`map: 24 users x 768 tokens, level 9 of at most 25 · 31 users at 192 tokens`"""
    doing = f"map: {users(load, axis)} x {length} tokens, level {level} of at most {most}"
    return f"{doing} · {told}" if told else doing


def explored_text(known: Map | None, levels: int, why: str) -> str:
    """What an exploration has found, and why it ends before it knows all; empty: it knows."""
    told = "" if known is None else known.text
    count = f"{levels} level{'' if levels == 1 else 's'}"
    found = f"{told}; {count}" if told else f"nothing known after {count}"
    return f"{found}; {why}" if why else found


def of_file_text(file: str) -> str:
    """Why requests of a file cannot be explored."""
    return f"a map needs prompts of any length, and those of {file} have lengths of their own"


def failing_text(length: int) -> str:
    """Why a length is not known: not its latency breaks the SLO."""
    return f"ended because more requests fail at {length} tokens than the SLO allows, at every load"


def slow_text(length: int) -> str:
    return f"too few requests of {length} tokens ended in {EXPLORE_S} s to say more"


def capped_text(most: int) -> str:
    return f"the load ends at {users(most, 'concurrency')} (--max-concurrency)"


NOTHING_YET = "no level yet: hold a load for a few seconds, or s explores"
NOTHING_HELD = "no level yet"


def unknown_text(load: float, length: int, axis: Axis, *, driven: bool) -> str:
    """`-- 24 users x 2048 tokens: drag prompt to 2048 for 10 s`; where it was driven, `hold 24 users` so long."""
    wanted = f"hold {users(load, axis)} for {DWELL_S} s" if driven else drag_text(length)
    return f"-- {users(load, axis)} x {length} tokens: {wanted}"
