"""Why the verdict says what it says: three facts, each with what it rests on."""

from __future__ import annotations

import textwrap
from itertools import chain
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.tui.palette import Palette
from llmtop.tui.screens.overlay import Page
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.why import by_kind, is_trouble, load_workers, why

WIDTH = 100
LEAST_ROWS, AROUND = 8, 8
"""Of the table of load workers: so many rows at least, and lines that the screen needs besides."""


class WhyScreen(Page):
    """Over the cockpit, which goes on underneath."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "dismiss", "back", id="why.back"),
    ]

    def __init__(self, glyphs: Glyphs, palette: Palette) -> None:
        super().__init__(glyphs)
        self.palette = palette

    def tell(self, frame: Frame, assessment: Assessment | None, condition: Condition) -> None:
        told, width = why(assessment, condition), min(self.app.size.width, WIDTH) - 6
        headline = "" if assessment is None else assessment.headline
        crew = load_workers(frame.crew, width, max(LEAST_ROWS, self.app.size.height - AROUND))
        tables = by_kind(assessment, width)
        first, last = ([crew], tables) if is_trouble(frame.crew) else ([], [*([crew] if crew else []), *tables])
        if self._shown != (told, headline, first, last, width):
            self._shown = (told, headline, first, last, width)
            self._told.update(self._text(told, headline, first, last, width))

    def _text(
        self,
        told: list[tuple[str, list[str]]],
        headline: str,
        first: list[list[tuple[str, str]]],
        last: list[list[tuple[str, str]]],
        width: int,
    ) -> Text:
        text = Text()

        def add(words: str, role: str) -> None:
            ink = self.palette[role]
            text.append(plain(words, self.glyphs), Style(color=ink.color, bold=ink.bold, dim=ink.dim))

        add("Why".ljust(width - len("Esc back")), "title")
        add("Esc back\n", "dim")
        for line in textwrap.wrap(headline, width):
            add(f"{line}\n", "strong")
        for line, role in chain.from_iterable([("", "text"), *table] for table in first):
            add(f"{line}\n", role)
        for name, reasons in told:
            add(f"\n{name}\n", "title")
            for reason in reasons:
                add(
                    "\n".join(textwrap.wrap(reason, width, initial_indent="  ", subsequent_indent="    ")) + "\n",
                    "text",
                )
        for line, role in chain.from_iterable([("", "text"), *table] for table in last):
            add(f"{line}\n", role)
        return text
