"""Panels of words: the percentile table and the event log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.tui.widgets.panel import Panel
from llmtop.view import tables
from llmtop.view.glyphs import Glyphs
from llmtop.view.lines import Entry
from llmtop.view.runs import Runs
from llmtop.wording.figures import TIGHT


class PercentilePanel(Panel):
    """Percentiles of the window with their n, the totals of the run, and what is advised in full length."""

    DEFAULT_CSS = "PercentilePanel { height: 1fr; }"

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(number, glyphs, **options)
        self._frame: Frame | None = None
        self._assessment: Assessment | None = None
        self._stale = self._late = False

    def show(self, frame: Frame, assessment: Assessment | None, stale: bool, late: bool) -> None:
        self._frame, self._assessment, self._stale, self._late = frame, assessment, stale, late
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        frame = self._frame
        if frame is None:
            return [self.rule(width, "percentiles", [])]
        head = self.rule(width, "percentiles", [(f"last {TIGHT.duration(frame.window.span_s)}", "dim")])
        told = tables.percentiles(
            frame, self._assessment, self._stale, self.glyphs, width, max(1, height - 1), self._late
        )
        return [head, *told][:height]


class EventPanel(Panel):
    """What happened, newest first."""

    def __init__(self, number: int, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(number, glyphs, **options)
        self._entries: Sequence[Entry] = ()

    def show(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        return [self.rule(width, "events", []), *tables.events(self._entries, width, height - 1)]
