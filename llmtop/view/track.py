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
    foreseen: float | None = None,
    asked: float | None = None,
    applies: tuple[float, float] | None = None,
) -> Runs:
    """One run for each of `cells` cells.

    Args:
        value: where the knob stands; None: not known yet.
        live: what really is, on the same scale; None: what is wanted is.
        ink: what the names of roles end in: `-focus`, or nothing.
        stale: the last values are only the last ones known.
        foreseen: where a cliff is expected; beyond the track it stands at its end.
        asked: a value that is asked about and not set; None: none is.
        applies: between what a value can be set; outside of it the track is broken. None: everywhere.
    """
    if value is None:
        return [(glyphs.track * cells, "track")]
    knob = scale.cell(value, cells)
    reached = knob if live is None else scale.cell(live, cells)
    runs: Runs = [(glyphs.track, "track")] * cells
    if applies is not None:
        low, high = (scale.cell(end, cells) for end in applies)
        runs = [run if low <= cell <= high else (glyphs.track_chase, "track") for cell, run in enumerate(runs)]
    for cell in range(max(knob, reached)):
        runs[cell] = (glyphs.track_done, f"done{ink}") if cell < reached else (glyphs.track_chase, f"chase{ink}")
    for cell in range(knob + 1, min(reached + 1, cells)):
        runs[cell] = (glyphs.track_chase, f"chase{ink}")
    if foreseen is not None:
        runs[scale.cell(foreseen, cells)] = (glyphs.foreseen, "limit")
    if cliff is not None and cliff <= scale.high:
        runs[scale.cell(cliff, cells)] = (glyphs.cliff, "over")
    runs[knob] = (glyphs.knob, "dim" if stale or asked is not None else f"knob{ink}")
    if asked is not None:
        runs[scale.cell(asked, cells)] = (glyphs.knob_asked, f"knob{ink}")
    return [(glyph, "dim" if stale and role.startswith(("done", "chase")) else role) for glyph, role in runs]
