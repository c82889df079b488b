"""The load-latency curve, drawn by plotext: the only module that knows it.

plotext's own log axes break on the second build of a figure (5.3.2), so logarithms are taken here and ticks are named
by hand. Colours are asked for by number, and numbers stand for roles, so that a theme can colour them afterwards.
A build costs 15 to 25 ms: callers draw again only when a point, the size or the cliff has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.text import Text

from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import CliffVerdict, Curve, Kind
from llmtop.view.ghosts import Ghost, Twin, value_of
from llmtop.view.runs import Runs, joined
from llmtop.wording.figures import TIGHT, nice_above

_ROLES = {1: "line", 2: "area", 3: "limit", 4: "over", 5: "ghost", 6: "dim", 7: "faint"}
_NUMBERS = {role: number for number, role in _ROLES.items()}
TICK_CELLS = 8
"""That the name of a load has at least."""
_BOX = str.maketrans("┌┐└┘─│┤├┬┴┼", "++++-|+++++")
_LINES: tuple[tuple[Stat, str], ...] = (("p50", "area"), ("p95", "line"))
"""Statistics that are drawn, and their roles."""


def draw_curve(
    curves: Sequence[Curve],
    ghosts: Sequence[Ghost],
    cliff: CliffVerdict | None,
    limit_ms: float | None,
    limit: str,
    metric: Latency,
    width: int,
    height: int,
    *,
    plain: bool = False,
    dots: str = "·",
    twin: Twin | None = None,
    twin_dots: str = "◦",
) -> list[Runs]:
    """p50 and p95 of `metric` over load, both axes logarithmic; `height` rows of `width` cells.

    Of a ghost one statistic is drawn, in a grey line of `dots` with its sign at the levels; the SLO is a level line
    with `limit` on it, the cliff an upright one behind the levels. What is foreseen is a line of `twin_dots` between
    its bounds, faint lines of `dots`.
    """
    lines = [(_pairs(curve, metric, stat), stat, role) for curve in curves for stat, role in _LINES]
    behind = [(_pairs(ghost.curve, metric, ghost.stat), ghost.sign) for ghost in ghosts]
    seen = (*(each[0] for each in lines), *(each[0] for each in behind), () if twin is None else twin.line)
    drawn = [pair for pairs in seen for pair in pairs]
    if not drawn:
        return []
    import plotext

    loads, values = [load for load, _ in drawn], [value for _, value in drawn]
    low, high = _decades(min(values), max([*values, *([limit_ms] if limit_ms else [])]))
    left, right = min(1.0, *loads), max(*loads, 2.0, cliff.at if cliff is not None and cliff.at else 0.0) * 1.15

    plotext.clear_figure()
    plotext.limit_size(False, False)  # it is not for the terminal that this process may have
    plotext.plot_size(width, height)
    plotext.canvas_color("default")
    plotext.axes_color("default")
    plotext.ticks_color(_NUMBERS["dim"])
    plotext.xaxes(True, False)
    plotext.yaxes(True, False)
    plotext.xlim(math.log(left), math.log(right))
    plotext.ylim(math.log(low), math.log(high))
    marker = "*" if plain else "braille"
    if limit_ms:
        _line([left, right], [limit_ms, limit_ms], "limit", "-" if plain else "╌")
        plotext.text(limit, math.log(left), math.log(limit_ms), color=_NUMBERS["over"], alignment="left")
    if cliff is not None and cliff.at and cliff.kind in (Kind.CLIFF, Kind.GRADUAL):
        _line([cliff.at, cliff.at], [low, high], "over", "|" if plain else "│")
    if twin is not None:
        for bound in (twin.low, twin.high):
            _line(*_columns(bound), "faint", dots)
        _line(*_columns(twin.line), "ghost", twin_dots)
    for pairs, sign in reversed(behind):
        _line(*_columns(pairs), "ghost", dots)
        _dots(pairs, "ghost", sign)
    for pairs, stat, role in lines:
        if pairs:
            _line(*_columns(pairs), role, marker)
            if stat == "p95":
                _dots(pairs, role, "o" if plain else "●")
    plotext.xticks(*_ticks(_one_two_five(left, right, max(4, width // TICK_CELLS)), TIGHT.exact))
    rows = height - 2
    named = _one_two_five(low, high, max(4, rows * 4 // 5))
    ticks = _one_two_five(low, high, rows)
    plotext.yticks(*_ticks(ticks, lambda value: TIGHT.round_latency(value) if value in named else ""))
    text = plotext.build()
    return [_runs(row.translate(_BOX) if plain else row) for row in text.rstrip("\n").split("\n")[:height]]


def _line(xs: Sequence[float], ys: Sequence[float], role: str, marker: str) -> None:
    import plotext

    plotext.plot([math.log(x) for x in xs], [math.log(y) for y in ys], color=_NUMBERS[role], marker=marker)


def _dots(pairs: Sequence[tuple[float, float]], role: str, marker: str) -> None:
    import plotext

    xs, ys = [math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs]
    plotext.scatter(xs, ys, color=_NUMBERS[role], marker=marker)


def _pairs(curve: Curve, metric: Latency, stat: Stat) -> list[tuple[float, float]]:
    """(load, milliseconds) of the levels where it is known, lowest load first."""
    return sorted((p.load, v) for p in curve.points if p.load > 0 and (v := value_of(p, metric, stat)))


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [load for load, _ in pairs], [value for _, value in pairs]


def _decades(low: float, high: float) -> tuple[float, float]:
    """A 1-2-5 frame around the values, with a little air below."""
    floor = nice_above(low)
    for factor in (0.5, 0.4, 0.5):
        if floor <= low * 0.95:
            break
        floor = nice_above(floor * factor * 0.999)
    return min(floor, low * 0.9), nice_above(high * 1.05)


def _one_two_five(low: float, high: float, most: int) -> list[float]:
    """Round values between two, at most about `most`; if need be those that begin with 1."""
    ticks, value = [], nice_above(low)
    while value <= high * 1.001:
        ticks.append(value)
        value = nice_above(value * 1.5)
    return ticks if len(ticks) <= most else [t for t in ticks if f"{t:e}".startswith("1")] or ticks[::2]


def _ticks(values: Sequence[float], name: Callable[[float], str]) -> tuple[list[float], list[str]]:
    return [math.log(value) for value in values], [name(value) for value in values]


def _runs(row: str) -> Runs:
    """One row of plotext's escape codes as runs of roles."""
    text = Text.from_ansi(row)
    inks = ["faint"] * len(text.plain)
    for span in text.spans:
        colour = getattr(span.style, "color", None)
        role = _ROLES.get(colour.number if colour is not None else -1, "faint")
        inks[span.start : span.end] = [role] * (span.end - span.start)
    return joined(zip(text.plain, inks, strict=True))
