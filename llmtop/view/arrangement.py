"""What is visible at which size of terminal. Panels are dropped when there is no room, never squeezed."""

from __future__ import annotations

from msgspec import Struct

MIN_SIZE = (60, 16)
CURVE_SIZE = (120, 40)
LOG_SIZE = (180, 45)
PANEL_ROWS = 5
"""A panel with its rule is never lower than this."""
LABEL_CELLS = 13
"""Left of a slider's track: its label."""
FIGURE_CELLS = 19
"""Right of a slider's track: its value, and what is live of it."""


class Arrangement(Struct, frozen=True):
    """`panel_rows` rows of two charts; the height of what lies under them; and which extras there are."""

    fits: bool
    output_slider: bool = True
    settings: bool = True
    verdict_rows: int = 2
    panel_rows: int = 3
    lower_height: int = 0
    """Curve and percentiles; 0: not shown."""
    log_width: int = 0


def arrange(width: int, height: int) -> Arrangement:
    """The arrangement for a terminal of this size."""
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return Arrangement(False)
    roomy = height >= 22
    settings = height >= 24
    verdict_rows = 2 if height > MIN_SIZE[1] else 1
    body = height - verdict_rows - 5 - roomy - settings
    lower = 0
    if width >= CURVE_SIZE[0] and height >= CURVE_SIZE[1]:
        lower = max(13, round(body * 0.42))
    rows = min(3, (body - lower) // PANEL_ROWS)
    log = max(40, width // 4) if width >= LOG_SIZE[0] and height >= LOG_SIZE[1] else 0
    return Arrangement(True, roomy, settings, verdict_rows, rows, lower, log)
