"""The rest of the map: cells between and beside the measured ones, as the twin of the server foresees them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.foreseen import KeptTwin, limits_of, unforeseen
from llmtop.analysis.grounds import Grounds
from llmtop.analysis.mapping import Row
from llmtop.domain.foresight import Interval
from llmtop.domain.map import Map, MapCell, MapEdge, Stand
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.simulator.engine.twin import Asked, Foreseen, Outside, Twin

LENGTH_STEP = math.sqrt(2.0)
"""A prompt length that is foreseen over the one before."""
LOAD_STEP = 1.2
"""The same of a load."""
PAST = 1.5
"""Of the highest load that was measured, up to which cells are foreseen."""
SAME = 0.04
"""A load this near to a measured one is that one."""


class Foreteller:
    """Adds to the map of one run what its twin foresees; the twin is fitted anew only when its grounds have changed."""

    def __init__(self) -> None:
        self._kept = KeptTwin()

    def add(self, known: Map, rows: Sequence[Row], grounds: Grounds, slo: Slo) -> Map:
        """The map with what is foreseen; as it is where there is no twin."""
        twin = self._kept.of(grounds)
        if isinstance(twin, Outside) or not rows:
            return known
        counted = _counted(rows)
        cells = [cell for length in _lengths(known.lengths) for cell in _cells(twin, known, length, counted, slo)]
        contour = tuple(edge if edge.users else _edge(twin, edge, counted, slo) for edge in known.contour)
        return replace(known, cells=(*known.cells, *cells), contour=contour, off=twin.off)


def _counted(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Lengths as they were asked for, and their means as the server counted them."""
    asked = [float(row.prompt_tokens) for row in rows]
    means = []
    for row in rows:
        tokens = row.curve.requests.prompt_tokens[row.curve.requests.ok]
        tokens = tokens[np.isfinite(tokens) & (tokens > 0)]
        means.append(float(tokens.mean()) if len(tokens) else float(row.prompt_tokens))
    return asked, means


def _asked(length: float, counted: tuple[list[float], list[float]]) -> Asked:
    return Asked(prompt_tokens=float(np.interp(length, *counted)))


def _lengths(measured: Sequence[int]) -> list[int]:
    """The measured ones, and between them some that are about equally far apart."""
    found = set(measured)
    for below, above in itertools.pairwise(measured):
        count = max(1, round(math.log(above / below) / math.log(LENGTH_STEP)))
        found |= {round(below * (above / below) ** (i / count)) for i in range(1, count)}
    return sorted(found)


def _cells(twin: Twin, known: Map, length: int, counted: tuple[list[float], list[float]], slo: Slo) -> list[MapCell]:
    there = [cell.load for cell in known.cells if cell.prompt_tokens == length]
    asked, cells = _asked(length, counted), []
    for load in _loads(PAST * max(cell.load for cell in known.cells), known.axis == "concurrency"):
        if any(abs(load - other) <= SAME * other for other in there):
            continue
        found = twin.at(load, asked)
        cell = _cell(found, twin, length, slo) if isinstance(found, Foreseen) else None
        if cell is not None and not any(_contradicts(held, cell) for held in known.cells):
            cells.append(cell)
    return cells


def _contradicts(held: MapCell, cell: MapCell) -> bool:
    """Whether a level belies a cell: more users with longer prompts hold, or fewer with shorter ones break."""
    if not held.measured or held.stand is None:
        return False
    if held.stand == "broken":
        less = held.load <= cell.load and held.prompt_tokens <= cell.prompt_tokens
        return less and cell.stand in ("ok", "near")
    return held.load >= cell.load and held.prompt_tokens >= cell.prompt_tokens and cell.stand == "broken"


def _loads(top: float, whole: bool) -> list[float]:
    """A ladder up to `top`; users are whole."""
    least = 1.0 if whole else min(1.0, top / 100)
    count = max(1, round(math.log(max(top / least, 1.0)) / math.log(LOAD_STEP)))
    loads = [least * (top / least) ** (i / count) for i in range(count + 1)]
    return sorted({float(round(load)) for load in loads}) if whole else loads


def _cell(found: Foreseen, twin: Twin, length: int, slo: Slo) -> MapCell:
    bands = [band for band in (found.ttft_p95_s, found.tpot_p95_s) if band is not None and band.value]
    off = max((max(each.high - each.value, each.value - each.low) / each.value for each in bands), default=0.0)
    return MapCell(
        load=found.load,
        prompt_tokens=length,
        stand=_stand(found, slo),
        ttft_p95_ms=None if found.ttft_p95_s is None else 1e3 * found.ttft_p95_s.value,
        tpot_p95_ms=1e3 * found.tpot_p95_s.value,
        output_tokens_per_s=found.output_tokens_per_s.value,
        off=max(off, twin.band),
    )


def _stand(found: Foreseen, slo: Slo) -> Stand | None:
    """Near where a limit lies within the band, too; None: a limit is on what no twin foresees."""
    if unforeseen(slo):
        return None
    targets = [target for target in slo.felt if target.metric in LATENCIES]
    bands: list[tuple[Interval | None, SloTarget]] = [
        (getattr(found, f"{target.name}_s"), target) for target in targets
    ]
    if any(band is None or band.low > target.limit for band, target in bands):
        return "broken"
    near = any(band and (band.value > target.warn_at or band.high > target.limit) for band, target in bands)
    return "near" if near else "ok"


def _edge(twin: Twin, edge: MapEdge, counted: tuple[list[float], list[float]], slo: Slo) -> MapEdge:
    """Where a length that was not driven past its edge is expected to meet the SLO; not below what has held."""
    if unforeseen(slo):
        return edge
    found = twin.users_at(limits_of(slo), _asked(edge.prompt_tokens, counted))
    held = edge.held or 0.0
    if isinstance(found, Outside) or not found.value or found.value < held:
        return edge
    return replace(edge, users=Interval(found.value, max(found.low, held), found.high))
