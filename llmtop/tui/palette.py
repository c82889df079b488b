"""Roles of ink and their colours under a theme. Widgets name roles; only this file knows colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

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
    accent="#1f7a68",
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

        self.styles: dict[str, Style] = {
            "": ink("foreground"),
            "text": ink("foreground"),
            "strong": ink("foreground", bold=True),
            "dim": ink("foreground", 0.55),
            "faint": ink("foreground", 0.32),
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
            "stale": ink("foreground", 0.45),
            "unknown": ink("foreground", 0.45),
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


class Inked(Protocol):
    """Whoever has a palette: the app over the widgets that draw by it."""

    @property
    def palette(self) -> Palette: ...


def _rich_name(colour: str) -> str:
    """Textual's name of a terminal colour as Rich spells it."""
    return colour.removeprefix("ansi_") if colour.startswith("ansi_") else colour
