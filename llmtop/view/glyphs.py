"""Every sign that the cockpit draws, in two alphabets: `--ascii` is a choice of one value, not of fifty places."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ChartMode(StrEnum):
    """With which dots charts are drawn: 2x4 a cell, 1x8 a cell, or one character a cell."""

    BRAILLE = "braille"
    BLOCK = "block"
    ASCII = "ascii"


class Glyphs(Struct, frozen=True, kw_only=True):
    """Each is one cell wide in every terminal, tmux included (no emoji, no ambiguous width)."""

    rule: str = "─"
    track: str = "─"
    track_done: str = "━"
    track_chase: str = "╌"
    knob: str = "●"
    knob_asked: str = "○"
    """A value that is asked about, and not set."""
    dots: str = "⠒"
    cliff: str = "▲"
    foreseen: str = "△"
    """Where a cliff is expected that nobody has measured."""
    sep: str = "·"
    up: str = "●"
    wait: str = "◌"
    stale: str = "◐"
    down: str = "✖"
    record: str = "●"
    warn: str = "!"
    bad: str = "✖"
    ok: str = "✔"
    change: str = "╷"
    mark: str = "▼"
    play: str = "▶"
    pause: str = "‖"
    arrow: str = "→"
    cursor: str = "▏"
    focus: str = "›"
    more: str = "…"
    about: str = "≈"
    left_right: str = "←→"
    ghosts: str = "◊▵▿"
    """At the levels of curves of before, one for each that is drawn."""
    ghost_line: str = "·"
    twin: str = "◦"
    """Of what is foreseen, and not measured."""
    cells: str = "●◐✖○"
    """Of a load that was held: the SLO holds, is near its limits, is broken, or cannot be told."""
    cells_foreseen: str = "·~:"
    """The same of one that is foreseen; what cannot be told is blank."""
    contour: str = "┃"
    wall: str = "┊"
    scaling: str = "○●✖"
    """Where more replicas or fewer were wanted, one generated its first token, and one was gone."""
    canary: str = "•"
    """Where a lone request beside the load came back."""
    on: str = "■"
    off: str = "□"
    ascii: bool = False

    @property
    def modes(self) -> tuple[ChartMode, ...]:
        return (ChartMode.ASCII,) if self.ascii else tuple(ChartMode)


UNICODE = Glyphs()
ASCII = Glyphs(
    rule="-", track="-", track_done="=", track_chase=":", knob="O", knob_asked="o", dots="*", cliff="^", foreseen="A",
    sep="|", up="*", wait="o", stale="~", down="x", record="*", warn="!", bad="X", ok="+", change=",", mark="v",
    play=">", pause='"', arrow=">", cursor="_", focus=">", more=".", about="~", left_right="<>", ghosts="x+#",
    ghost_line=".", twin=":", canary="o", scaling="o*x", on="#", off="_",
    cells="#=X?", cells_foreseen=".~:", contour="|", wall="!",
    ascii=True,
)  # fmt: skip

_PLAIN = str.maketrans({
    "·": "|", "≈": "~", "→": "->", "←": "<-", "×": "x", "÷": "/", "–": "-", "—": "-", "…": "...",
    "↑": "^", "↓": "v", "≤": "<=", "≥": ">=", "▲": "^", "△": "A", "●": "*", "○": "o", "✖": "x", "µ": "u", "±": "+-",
    "“": '"', "”": '"', "’": "'",
})  # fmt: skip


def plain(text: str, glyphs: Glyphs) -> str:
    """`text` from elsewhere (a headline, an event) in the alphabet of `glyphs`."""
    if not glyphs.ascii:
        return text
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
