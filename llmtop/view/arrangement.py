"""What is visible at which size of terminal. Panels are dropped when there is no room, never squeezed."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

MIN_SIZE = (60, 16)
CURVE_SIZE = (120, 40)
LOG_SIZE = (180, 45)
PANEL_ROWS = 5
"""A panel with its rule is never lower than this."""
CHARTS_SHARE = 0.5
"""Of the room of the panels, what charts over time have where there is a curve under them: more does not tell more."""
LABEL_CELLS = 13
"""Left of a slider's track: its label."""
FIGURE_CELLS = 19
"""Right of a slider's track: its value, and what is live of it."""


class Layout(StrEnum):
    """What has the room."""

    ALL = "everything that has room"
    CHARTS = "the charts over time"
    CURVE = "the load-latency curve"


class Arrangement(Struct, frozen=True):
    """`panel_rows` rows of two charts; the height of what lies under them; and which extras there are."""

    fits: bool
    output_slider: bool = True
    settings: bool = True
    verdict_rows: int = 2
    panel_rows: int = 3
    lower_height: int = 0
    """Curve and percentiles; 0: not shown."""
    percentiles: bool = True
    """Beside the curve, which has the whole width otherwise."""
    log_width: int = 0


def arrange(width: int, height: int, layout: Layout = Layout.ALL) -> Arrangement:
    """The arrangement for a terminal of this size."""
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return Arrangement(False)
    roomy = height >= 22
    settings = height >= 24
    verdict_rows = 2 if height > MIN_SIZE[1] else 1
    body = height - verdict_rows - 5 - roomy - settings
    wide = width >= CURVE_SIZE[0]
    lower, rows = 0, min(3, body // PANEL_ROWS)
    if layout is Layout.CURVE:
        rows = 1 if body >= 2 * PANEL_ROWS else 0
        lower = body - rows * (PANEL_ROWS + 1)
    elif layout is Layout.ALL and wide and height >= CURVE_SIZE[1]:
        rows = 3
        lower = max(13, body - rows * min(max(round(body * CHARTS_SHARE / rows), PANEL_ROWS + 1), PANEL_ROWS + 4))
    log = 0
    if layout is Layout.ALL and width >= LOG_SIZE[0] and height >= LOG_SIZE[1]:
        log = min(max(36, width // 5), 48)
    return Arrangement(True, roomy, settings, verdict_rows, rows, lower, wide, log)
