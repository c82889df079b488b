"""The help screen: what the words mean, what the keys do."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.tui.glyphs import Glyphs, plain

WORDS = (
    ("TTFT", "time to first token: from the first byte sent to the first delta with text, reasoning or a tool call"),
    (
        "TPOT",
        "time per output token after the first chunk: (last token - first) / (tokens after the first chunk)",
    ),
    ("E2E", "from the first byte sent to the last token"),
    ("gap", "between two chunks of one stream; one chunk can hold several tokens"),
    ("p95", "95 of 100 requests were at least this fast; shown with n, the number of requests behind it"),
    ("in flight", "requests sent and not ended. The first slider commands it; (62 live) is what is really so"),
    ("queue", "requests that wait inside the server for a slot or for memory"),
    ("KV cache", "share of the server's key-value cache in use; at 100 % it preempts"),
    (
        "cliff",
        "the load from which latency grows faster than load; ▲ on the slider, a line on the curve",
    ),
    ("at SLO", "the largest load at which every limit still held"),
    ("client", "how late llmtop itself reads tokens. Past 20 ms its figures are not the server's"),
    ("!  ✖", "! from 80 % of a limit, ✖ past it for three windows in a row. Dim: stale. -- : not known. ≈ : estimated"),
)
KEYS = (
    ("← →", "slider one step (12 % or 1)"),
    ("PgUp PgDn", "slider times two, half"),
    ("Home End", "lowest, highest"),
    ("0-9 Enter", "type an exact value"),
    ("Esc", "undo the slider, give room back"),
    ("c p o", "concurrency, prompt, output slider"),
    ("k", "knobs of the simulated server"),
    ("Tab", "next slider or panel"),
    ("1-9", "panel by number (Esc off a slider first)"),
    ("z Enter", "maximise the panel"),
    ("space", "freeze the display; replay: play, pause"),
    ("x", "stop: load to zero at once"),
    ("m", "mark this moment"),
    ("s", "start or stop the search for the cliff"),
    ("r", "pause or go on recording"),
    ("e", "export a report"),
    ("g", "charts in braille, blocks or ASCII"),
    ("t", "next theme"),
    ("[ ]", "replay: 10 s back, forward"),
    (", .", "replay: slower, faster"),
    ("ctrl+p", "every command by name"),
    ("q", "quit: stops the load, prints the summary"),
)


class HelpScreen(ModalScreen[None]):
    """Over the cockpit, which goes on underneath."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen VerticalScroll {
        width: 94%; max-width: 112; height: auto; max-height: 96%; padding: 0 2;
        background: $surface; border-left: outer $primary; scrollbar-size-vertical: 1;
    }
    HelpScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close", id="help.close"),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=True):
            yield Static(self._text(), markup=False)

    def _text(self) -> str:
        rows = ["", "llmtop: drive load, watch latency, find the cliff          Esc closes", "", "Words", ""]
        rows += [f"  {word:<10} {meaning}" for word, meaning in WORDS]
        rows += ["", "Keys", ""]
        half = (len(KEYS) + 1) // 2
        wide = self.app.size.width >= 100
        if wide:
            for left, right in zip(KEYS[:half], (*KEYS[half:], ("", "")), strict=False):
                rows.append(f"  {left[0]:<10} {left[1]:<42} {right[0]:<10} {right[1]}")
        else:
            rows += [f"  {key:<10} {does}" for key, does in KEYS]
        rows += ["", "The mouse drags sliders, turns the wheel on them, and clicks panels and keys.", ""]
        return plain("\n".join(rows), self.glyphs) if self.glyphs.ascii else "\n".join(rows)
