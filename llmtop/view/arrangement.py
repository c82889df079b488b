"""What is visible at which size of terminal. Panels are dropped when there is no room, never squeezed."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from llmtop.domain.bounds import COLUMNS, ROWS

MIN_SIZE = (int(COLUMNS.least), int(ROWS.least))
CURVE_SIZE = (120, 40)
LOG_SIZE = (180, 45)
PANEL_ROWS = 5
"""A panel with its rule is never lower than this."""
CHARTS_SHARE = 0.5
"""Of the room of the panels, what charts over time have where there is a curve under them: more does not tell more."""
LEAST_CURVE = 13
"""Rows of curve and percentiles, where they are shown."""
LEAST_CARD = 5
"""Rows of the answer card from which two rows of panels are left beside it."""
LABEL_CELLS = 13
"""Left of a slider's track: its label."""
FIGURE_CELLS = 19
"""Right of a slider's track: its value, and what is live of it."""


class Layout(StrEnum):
    """What has the room."""

    ALL = "all"
    CHARTS = "charts"
    LATENCY = "latency"
    SERVER = "server"
    CURVE = "curve"
    TABLES = "tables"
    STAGE = "stage"


LAYOUTS = {
    Layout.ALL: "everything that has room",
    Layout.CHARTS: "the charts over time",
    Layout.LATENCY: "how long users wait",
    Layout.SERVER: "what the server does",
    Layout.CURVE: "the load-latency curve",
    Layout.TABLES: "percentiles and events",
    Layout.STAGE: "big digits, for the back of a room",
}
"""What each is of."""
_CHARTS = {Layout.LATENCY: (1, 2), Layout.SERVER: (3, 4, 5, 6), Layout.TABLES: ()}
"""The charts of a layout by their numbers; the others have all six."""
STAGE_CHARTS = (1, 3)
"""TTFT and queue: both move within a second of what a hand does, and the one tells why the other grows. A curve has
nothing to show until levels were held."""
STAGE_ROWS = 5
"""Of its figures: names, digits three rows high, limits."""
TABLE_ROWS = 10
"""What percentiles and totals fill."""


class Arrangement(Struct, frozen=True):
    """`panel_rows` rows of two charts; the height of what lies under them; and which extras there are."""

    fits: bool
    output_slider: bool = True
    settings: bool = True
    verdict_rows: int = 2
    panel_rows: int = 3
    charts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """The numbers of those that have room."""
    lower_height: int = 0
    """Curve and percentiles; 0: not shown."""
    curve: bool = True
    percentiles: bool = True
    """Which of the two; one alone has the whole width."""
    log_width: int = 0
    log_height: int = 0
    """Of the events, where they lie under the rest and not beside it."""
    card_rows: int = 0
    """Of the answer card; 0: not shown."""
    bank_rows: int = 0
    """Of the load slider and the server's knobs under it; 0: they are not shown."""
    told_rows: int = 0
    """Of caption and coach, above the events; the rest of what they say shares the row of those."""
    stage_rows: int = 0
    """Of the figures of the stage; 0: not shown."""


def arrange(
    width: int, height: int, card: int = 0, knobs: int = 0, layout: Layout = Layout.ALL, told: int = 0
) -> Arrangement:
    """The arrangement for a terminal of this size.

    Args:
        card: rows that the answer card would fill; where there is little room it takes the place of what it repeats.
        knobs: rows that the load slider and the server's knobs would fill, which stand in the place of the sliders of
            the load and of the settings. They have more than those where panels have room to give; the rest scrolls.
        told: lines that caption and coach want. Where there is little room the last shares the row of the events, and
            the first takes that of the settings.
    """
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return Arrangement(False)
    if layout is Layout.STAGE:
        return _stage(height, knobs, told)
    low = card > 0 and height < CURVE_SIZE[1]
    roomy = height >= 22
    told_rows = told if height >= CURVE_SIZE[1] else max(0, min(told - 1, height - 23))
    settings = height >= 24 and not low and not (told_rows and height < CURVE_SIZE[1])
    verdict_rows = 2 if height > MIN_SIZE[1] and not low else 1
    body = height - verdict_rows - 5 - roomy - settings - told_rows
    free = 2 + roomy + settings
    wide = width >= CURVE_SIZE[0]
    curve = layout is Layout.ALL and wide and height >= CURVE_SIZE[1]
    bank = min(knobs, max(3, free, free + body - 3 * PANEL_ROWS - curve * LEAST_CURVE))
    body -= max(0, bank - free)
    lower = 0
    if curve:
        lower = max(LEAST_CURVE, body - 3 * min(max(round(body * CHARTS_SHARE / 3), PANEL_ROWS + 1), PANEL_ROWS + 4))
    room = body - lower
    over = layout in (Layout.CURVE, Layout.LATENCY, Layout.TABLES)
    least = 2 if not over and room >= 2 * PANEL_ROWS + LEAST_CARD else 1
    card = min(card, room - PANEL_ROWS * least) if card else 0
    room -= card
    charts = _CHARTS.get(layout, (1, 2, 3, 4, 5, 6))
    rows = min(len(charts) // 2, room // PANEL_ROWS)
    log = log_height = 0
    if over:
        rows = min(rows, 1 if room >= 2 * PANEL_ROWS else 0)
        if layout is Layout.LATENCY and rows:
            lower = max(PANEL_ROWS, min(TABLE_ROWS, room - PANEL_ROWS - 1))
        else:
            lower = room - rows * (PANEL_ROWS + 1)
    if layout is Layout.TABLES and wide:
        log = width // 2
    elif layout is Layout.TABLES and room >= 2 * PANEL_ROWS:
        log_height = max(PANEL_ROWS, room - TABLE_ROWS)
        lower -= log_height
    elif layout is Layout.ALL and width >= LOG_SIZE[0] and height >= LOG_SIZE[1]:
        log = min(max(36, width // 5), 48)
    return Arrangement(
        True,
        roomy,
        settings,
        verdict_rows,
        rows,
        charts[: 2 * rows],
        lower,
        curve=layout in (Layout.ALL, Layout.CURVE),
        percentiles=wide or layout in (Layout.LATENCY, Layout.TABLES),
        log_width=log,
        log_height=log_height,
        card_rows=card,
        bank_rows=bank,
        told_rows=told_rows,
    )


def _stage(height: int, knobs: int, told: int) -> Arrangement:
    """Figures, verdict and two charts; of the sliders that of the load, and the knobs when asked for."""
    rooms = height - 4 - STAGE_ROWS  # header, one row of the verdict, events and keys
    told_rows = max(0, told if height >= CURVE_SIZE[1] else told - 1)
    bank = min(knobs, max(1, rooms - PANEL_ROWS - told_rows)) if knobs else 0
    left = rooms - max(bank, 1) - PANEL_ROWS - told_rows
    verdict_rows = 1 + (left > 2 * PANEL_ROWS)
    return Arrangement(
        True,
        output_slider=False,
        settings=False,
        verdict_rows=verdict_rows,
        panel_rows=1,
        charts=STAGE_CHARTS,
        curve=False,
        percentiles=False,
        bank_rows=bank,
        told_rows=told_rows,
        stage_rows=STAGE_ROWS,
    )
