"""One chart as HTML: geometry in an SVG that stretches, words and numbers as text that does not.

The SVG has a box of 1000 x 1000 without a fixed aspect, and strokes that do not scale; labels are placed by per cent.
So a chart is readable at the width of a phone, of a desk and of a sheet of paper, without a script.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from llmtop.report.scales import Scale

_BOX = 1000


class Plot:
    """Collects layers, the lowest first. Colours and strokes are CSS classes of report.css."""

    def __init__(self, x: Scale, y: Scale) -> None:
        self.x = x
        self.y = y
        self._shapes: list[str] = []
        self._labels: list[str] = []

    def grid(self, ticks: Sequence[tuple[float, str]], headroom: float) -> None:
        """Horizontal lines with their values at the left, above the line; under it within `headroom` of the top."""
        for value, text in ticks:
            self._rule(f"M0 {self._y(value)}H{_BOX}", "grid")
            top = 1 - self.y.place(value)
            self.label(0, top, text, "y" if top > headroom else "y under")

    def x_axis(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Values below the chart, with small ticks."""
        for value, text in ticks:
            x = self._x(value)
            self._rule(f"M{x} {_BOX}v-12", "tick")
            self.label(self.x.place(value), 1, text, "x")

    def line(self, points: Iterable[tuple[float, float | None]], style: str) -> None:
        """A line through the points; None breaks it. A point that stands alone becomes a dot."""
        parts = []
        for known, group in groupby(points, key=lambda point: point[1] is not None):
            run = list(group)
            if known:
                places = [f"{self._x(x)} {self._y(y)}" for x, y in run if y is not None]
                parts.append(f"M{places[0]}h0" if len(places) == 1 else "M" + "L".join(places))
        if parts:
            self._rule("".join(parts), f"line {style}")

    def area(self, points: Iterable[tuple[float, float | None]], style: str) -> None:
        """Filled from the line down to the axis."""
        parts = []
        for known, group in groupby(points, key=lambda point: point[1] is not None):
            run = list(group)
            if known and len(run) > 1:
                places = "L".join(f"{self._x(x)} {self._y(y)}" for x, y in run if y is not None)
                parts.append(f"M{self._x(run[0][0])} {_BOX}L{places}L{self._x(run[-1][0])} {_BOX}Z")
        if parts:
            self._shapes.append(f'<path class="area {style}" d="{"".join(parts)}"/>')

    def ribbon(self, points: Sequence[tuple[float, float, float]], style: str) -> None:
        """Filled between the low and the high of each (x, low, high)."""
        there, back = [(x, low) for x, low, _ in points], [(x, high) for x, _, high in reversed(points)]
        self.shape((*there, *back), style)

    def dots(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Round dots: strokes of no length, because circles would be stretched with the box."""
        path = "".join(f"M{self._x(x)} {self._y(y)}h0" for x, y in points)
        if path:
            self._rule(path, f"dots {style}")

    def dashes(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Short level strokes."""
        path = "".join(f"M{self._x(x) - 3} {self._y(y)}h6" for x, y in points)
        if path:
            self._rule(path, f"dashes {style}")

    def shape(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Filled inside of the points."""
        places = "L".join(f"{self._x(x)} {self._y(y)}" for x, y in points)
        self._shapes.append(f'<path class="area {style}" d="M{places}Z"/>')

    def band(self, low: float, high: float, style: str) -> None:
        """A vertical band over the whole height."""
        left = self._x(low)
        width = round(max(self._x(high) - left, 2), 1)
        self._shapes.append(f'<rect class="band {style}" x="{left}" y="0" width="{width}" height="{_BOX}"/>')

    def upright(self, value: float, style: str) -> None:
        """A vertical line."""
        self._rule(f"M{self._x(value)} 0V{_BOX}", style)

    def level(self, value: float, style: str) -> None:
        """A horizontal line."""
        self._rule(f"M0 {self._y(value)}H{_BOX}", style)

    def label(self, left: float, top: float, text: str, style: str) -> None:
        """Text at a place given in shares of the box; no text, no label."""
        if not text:
            return
        at = f"left:{left * 100:.2f}%;top:{top * 100:.2f}%"
        self._labels.append(f'<span class="label {style}" style="{at}">{escape(text)}</span>')

    def html(self, kind: str, summary: str) -> str:
        """The chart. `kind` is its CSS class, `summary` what a screen reader says."""
        return (
            f'<div class="plot {kind}" role="img" aria-label="{escape(summary)}">'
            f'<svg viewBox="0 0 {_BOX} {_BOX}" preserveAspectRatio="none" aria-hidden="true">'
            f'{"".join(self._shapes)}</svg>{"".join(self._labels)}<i class="cursor" hidden></i></div>'
        )

    def _rule(self, path: str, style: str) -> None:
        self._shapes.append(f'<path class="{style}" d="{path}"/>')

    def _x(self, value: float) -> float:
        return round(self.x.place(value) * _BOX, 1)

    def _y(self, value: float) -> float:
        return round((1 - self.y.place(value)) * _BOX, 1)
