"""Lines of text that their screen sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmtop.tui.widgets.canvas import Canvas
from llmtop.view.runs import Runs


class Line(Canvas):
    """One row; `content` makes it for a width, so that it can drop what does not fit."""

    DEFAULT_CSS = "Line { height: 1; width: 1fr; }"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.content: Callable[[int], Runs] = lambda width: []

    def show(self, content: Callable[[int], Runs]) -> None:
        self.content = content
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        return [self.content(width)]


class Lines(Canvas):
    """Some rows of text; `content` makes them for a width and a height."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.content: Callable[[int, int], list[Runs]] = lambda width, height: []

    def show(self, content: Callable[[int, int], list[Runs]]) -> None:
        self.content = content
        self.redraw()

    def draw(self, width: int, height: int) -> list[Runs]:
        return self.content(width, height)
