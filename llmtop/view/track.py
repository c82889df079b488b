"""The track of a slider: filled up to what is, chasing what is wanted, with the knob and the cliff on it."""

from __future__ import annotations

from llmtop.view.glyphs import Glyphs
from llmtop.view.runs import Runs
from llmtop.view.scale import LogScale


def track(
    scale: LogScale,
    cells: int,
    value: float | None,
    live: float | None,
    cliff: float | None,
    glyphs: Glyphs,
    ink: str,
    stale: bool,
) -> Runs:
    """One run for each of `cells` cells.

    Args:
        value: where the knob stands; None: not known yet.
        live: what really is, on the same scale; None: what is wanted is.
        ink: what the names of roles end in: `-focus`, or nothing.
        stale: the last values are only the last ones known.
    """
    if value is None:
        return [(glyphs.track * cells, "track")]
    knob = scale.cell(value, cells)
    reached = knob if live is None else scale.cell(live, cells)
    runs: Runs = [(glyphs.track, "track")] * cells
    for cell in range(max(knob, reached)):
        runs[cell] = (glyphs.track_done, f"done{ink}") if cell < reached else (glyphs.track_chase, f"chase{ink}")
    for cell in range(knob + 1, min(reached + 1, cells)):
        runs[cell] = (glyphs.track_chase, f"chase{ink}")
    if cliff is not None and cliff <= scale.high:
        runs[scale.cell(cliff, cells)] = (glyphs.cliff, "over")
    runs[knob] = (glyphs.knob, "dim" if stale else f"knob{ink}")
    return [(glyph, "dim" if stale and role.startswith(("done", "chase")) else role) for glyph, role in runs]
