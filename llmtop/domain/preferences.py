"""What a user wants of every screen: as the settings file says, and as the last screen was left."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.slo import Slo


class Settings(Struct, frozen=True):
    """What the settings file says; None: it says nothing of it."""

    theme: str | None = None
    fps: float | None = None
    ascii: bool | None = None
    layout: str | None = None
    slo: Slo | None = None
    """Of runs whose profile and command line name none."""
    keymap: tuple[tuple[str, str], ...] = ()
    """(id of a binding, its keys with commas between them)."""


class Remembered(Struct, frozen=True):
    """How the last screen was left, for the next one."""

    coach: bool = True
    """Whether the coach speaks."""
    layout: str | None = None
    """The layout of the panels, by its name."""
    maximised: int | None = None
    """The panel that filled the body, by its number."""
    theme: str | None = None
    """Chosen by hand."""


NOTHING = Remembered(coach=False)
"""Where nothing is remembered: as in tests, and where a screen is drawn for a picture."""
