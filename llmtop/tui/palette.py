"""Roles of ink and their colours under a theme. Widgets name roles; only this file knows colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.style import Style
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

NIGHT = Theme(
    name="llmtop-night",
    primary="#7aa2d6",
    secondary="#5f7fa8",
    accent="#8fc7b5",
    warning="#e0af58",
    error="#ef6f6c",
    success="#7fbf8f",
    foreground="#d3d8e0",
    background="#14171c",
    surface="#1b1f26",
    panel="#232831",
    dark=True,
)
DAY = Theme(
    name="llmtop-day",
    primary="#2f66a8",
    secondary="#5f7fa8",
    accent="#1d7463",
    warning="#9a5b00",
    error="#c0292b",
    success="#2f7d46",
    foreground="#22262c",
    background="#f7f6f2",
    surface="#eeece6",
    panel="#e2dfd6",
    dark=False,
)
THEMES = ("llmtop-night", "llmtop-day", "nord", "gruvbox", "tokyo-night", "catppuccin-latte", "ansi-dark", "ansi-light")
"""What `t` goes through. The last two use the terminal's own sixteen colours."""
ALL_THEMES = (*THEMES, *sorted(BUILTIN_THEMES.keys() - set(THEMES)))
"""What settings may name."""


READABLE = 4.5
"""Contrast that every text has at least with what it stands on (WCAG 2.1, 1.4.3)."""
APART = 6.0
"""Of what is only a little less than the text: so that it can be told from what is faint."""
GRAPHIC = frozenset(
    {
        *("rule", "line", "area", "flow", "flow-area", "limit", "change", "ghost"),
        *("track", "done", "chase", "done-focus", "chase-focus"),
    }
)
"""Roles of lines and dots. All others are of text."""


class Palette:
    """Rich styles by role. With a theme of the terminal's own colours, shades are made by the dim attribute instead."""

    def __init__(self, variables: Mapping[str, str], ansi: bool) -> None:
        background = Color.parse(variables["background"])
        paper = background.rich_color

        def ink(name: str, share: float = 1.0, bold: bool | None = None, reverse: bool | None = None) -> Style:
            if ansi:
                return Style(color=_rich_name(variables[name]), dim=share < 1 or None, bold=bold, reverse=reverse)
            colour = background.blend(Color.parse(variables[name]), share).rich_color
            return Style(color=colour, bgcolor=paper, bold=bold, reverse=reverse)

        def text(name: str, share: float, contrast: float = READABLE) -> Style:
            """Ink as faint as `share` says, or as this theme still lets it be read."""
            full = Color.parse(variables[name])
            while not ansi and share < 1 and contrast_of(background.blend(full, share), background) < contrast:
                share = min(1.0, share + 0.01)
            return ink(name, share)

        self.styles: dict[str, Style] = {
            "": ink("foreground"),
            "text": ink("foreground"),
            "strong": ink("foreground", bold=True),
            "dim": text("foreground", 0.55, APART),
            "faint": text("foreground", 0.32),
            "rule": ink("foreground", 0.22),
            "title": ink("primary", bold=True),
            "brand": ink("accent", bold=True),
            "line": ink("primary"),
            "area": ink("primary", 0.5),
            "flow": ink("accent"),
            "flow-area": ink("accent", 0.5),
            "over": ink("warning"),
            "limit": ink("warning", 0.6),
            "change": ink("foreground", 0.55),
            "mark": ink("warning", bold=True),
            "good": ink("foreground", bold=True),
            "warn": ink("warning", bold=True),
            "bad": ink("error", bold=True),
            "stale": text("foreground", 0.45),
            "unknown": text("foreground", 0.45),
            "ghost-name": text("foreground", 0.35),
            "up": ink("success"),
            "key": ink("accent", bold=True),
            "track": ink("foreground", 0.25),
            "done": ink("primary"),
            "chase": ink("primary", 0.6),
            "knob": ink("foreground", bold=True),
            "knob-focus": ink("accent", bold=True),
            "done-focus": ink("accent"),
            "chase-focus": ink("accent", 0.6),
            "focus": ink("accent", bold=True),
            "ghost": ink("foreground", 0.35),
            "badge": ink("accent", bold=True, reverse=True),
            "badge-warn": ink("warning", bold=True, reverse=True),
            "badge-bad": ink("error", bold=True, reverse=True),
        }

    def __getitem__(self, role: str) -> Style:
        """The style of `role`; `role#action` is the same ink and runs `action` when clicked."""
        style = self.styles.get(role)
        if style is None:
            name, _, action = role.partition("#")
            style = self.styles[name] + Style(meta={"@click": action})
            self.styles[role] = style
        return style


def contrast_of(one: Color, other: Color) -> float:
    """From 1 to 21 (WCAG 2.1): the ratio of the relative luminances, each with 0.05 of glare."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = (part / 255 for part in colour.rgb)
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class Inked(Protocol):
    """Whoever has a palette: the app over the widgets that draw by it."""

    @property
    def palette(self) -> Palette: ...


def _rich_name(colour: str) -> str:
    """Textual's name of a terminal colour as Rich spells it."""
    return colour.removeprefix("ansi_") if colour.startswith("ansi_") else colour
