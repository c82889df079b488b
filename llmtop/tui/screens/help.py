"""The help screen: what the keys do, what words and signs mean."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from msgspec import structs
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.tui.palette import Palette
from llmtop.view.glyphs import Glyphs, legend, plain

WORDS = (
    ("TTFT", "time to first token: from the first byte sent to the first delta with text, reasoning or a tool call"),
    ("TPOT", "time per output token after the first chunk: (last token - first) / (tokens after the first chunk)"),
    ("E2E", "from the first byte sent to the last token"),
    ("gap", "between two chunks of one stream; one chunk can hold several tokens"),
    ("p95", "95 of 100 requests were at least this fast; n is the number of requests behind it"),
    ("in flight", "requests sent and not ended. The first slider commands how many; (62 live) is how many there are"),
    ("errors", "requests that failed. What the newest said stands above the keys; Esc and 9 show all of it in full"),
    ("queue", "requests that wait inside the server for a slot or for memory"),
    ("KV cache", "share of the server's key-value cache in use; when it is full, requests are preempted"),
    (
        "cliff",
        "the load from which latency grows faster than load: {cliff} on the slider, an upright line on the curve",
    ),
    ("dotted", "on the curve: what was measured before, in this run or by --baseline; the row above it has the names"),
    ("at the SLO", "the largest load at which every limit still held"),
    ("(29 to 35)", "where it lies in 95 of 100 cases"),
    ("settling", "the load was moved just now: what is seen is of two loads"),
    ("windows", "what binds is asked of the last 8 windows, 15 s each; three in a row that agree change the answer"),
    (
        "client",
        "how late llmtop itself reads tokens, or what slows it (cpu, loop): {warn} near its own limit, {bad} past it",
    ),
    ("-- and dim", "-- is not known, dim is the last value known"),
)
"""What stands for a sign is the name of its field of `Glyphs`."""
NAME_CELLS = 11

Chapter = tuple[str, Sequence[tuple[str, str]]]


class HelpScreen(ModalScreen[None]):
    """Over the cockpit, which goes on underneath. `chapters`: where keys do something, and rows of what they do."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen VerticalScroll {
        width: 100%; max-width: 100; height: auto; max-height: 100%; padding: 1 2; background: $surface;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $primary 40%;
    }
    HelpScreen Static { height: auto; width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark", "dismiss", "close", id="help.close"),
        Binding("q", "leave", "quit", id="help.quit"),
        Binding("x", "stop_load", "stop the load at once", id="help.stop"),
    ]

    def __init__(self, chapters: Sequence[Chapter], glyphs: Glyphs, palette: Palette) -> None:
        super().__init__()
        self.chapters = chapters
        self.glyphs = glyphs
        self.palette = palette

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=True):
            yield Static(self._text(min(self.app.size.width, 100) - 6))

    def _text(self, width: int) -> Text:
        text = Text()

        def add(words: str, role: str) -> None:
            ink = self.palette[role]
            text.append(plain(words, self.glyphs), Style(color=ink.color, bold=ink.bold, dim=ink.dim))

        def heading(words: str, beside: str = "") -> None:
            add(words.ljust(width - len(beside)), "title")
            add(f"{beside}\n\n", "dim")

        columns = 2 if width >= 72 else 1
        for number, (where, table) in enumerate(self.chapters):
            heading(where, "" if number else "Esc closes")
            rows = -(-len(table) // columns)
            for row in range(rows):
                for key, does in table[row::rows]:
                    add(f"{key:<{NAME_CELLS}}", "key")
                    add(f"{does:<{width // columns - NAME_CELLS}}", "text")
                add("\n", "text")
            add("\n", "text")
        add("Digits go to a lit slider; Esc lets go of it. The mouse works too.\n\n", "dim")
        signs = structs.asdict(self.glyphs)
        words = [(name, meaning.format_map(signs)) for name, meaning in WORDS]
        for title, table in (("Words", words), ("Signs", legend(self.glyphs))):
            heading(title)
            for name, meaning in table:
                add(f"{name:<{NAME_CELLS}}", "strong")
                add(f"\n{'':<{NAME_CELLS}}".join(textwrap.wrap(meaning, width - NAME_CELLS)) + "\n", "text")
            add("\n", "text")
        return text

    def action_leave(self) -> None:
        self.dismiss()
        self.app.call_later(self.app.run_action, "app.leave")

    def action_stop_load(self) -> None:
        self.dismiss()
        self.app.call_later(self.app.run_action, "screen.stop_load")
