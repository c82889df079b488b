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

FORM = ("rule", "track", "sep", "more", "arrow", "left_right")
"""Fields whose signs are lines and punctuation: they say nothing by themselves."""
LEGEND = (
    (("up", "wait", "stale", "down"), "the server answers; is awaited; hangs, or nothing new is told; is gone"),
    (("ok", "warn", "bad"), "within every limit; from 80 % of one; past it for three windows in a row"),
    (("knob", "knob_asked"), "on a slider: where it stands; what is asked about, and not set"),
    (("track_done", "track_chase"), "on a slider: what is there already; what is still to come, or cannot be set"),
    (("cliff", "foreseen"), "on a slider: the cliff that was found; one that is foreseen"),
    (("focus", "cursor"), "what the keys go to, and what the coach says; where the next sign is typed"),
    (("change", "mark"), "under the charts: the load was changed; a mark was set"),
    (("scaling",), "under the charts: more or fewer replicas were wanted; a new one gave its first token; one is gone"),
    (("canary",), "in the charts of latency: a lone request beside the load, and how long it took"),
    (("dots", "twin"), "on the curve: p50; what is foreseen"),
    (("ghosts", "ghost_line"), "on the curve: levels that were measured before, each curve by its sign; between them"),
    (("cells",), "on the map, of a load that was held: the SLO holds; is near its limits; is broken; too few requests"),
    (("cells_foreseen",), "on the map, of a load that is foreseen: the SLO holds; is near its limits; is broken"),
    (("contour", "wall"), "on the map: the users at the SLO; where the KV cache is full"),
    (("record", "play", "pause"), "the run is recorded; a replay plays; it pauses"),
    (("on", "off"), "a fault is on; is off"),
    (("about",), "estimated, not counted"),
)
"""Fields, and what their signs say, one after the other."""


def legend(glyphs: Glyphs) -> list[tuple[str, str]]:
    """(signs, what they say) of all that is more than a line, in the alphabet of `glyphs`."""
    return [(" ".join("".join(getattr(glyphs, name) for name in names)), says) for names, says in LEGEND]


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
