"""What widgets tell upwards besides their own movements: a command for the session, or an answer for the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from llmtop.domain.commands import Command


@dataclass
class Commanded(Message):
    """The user commanded the session."""

    command: Command


@dataclass
class Refused(Message):
    """The user asked for what cannot be; `reason` says why."""

    reason: str


@dataclass
class WheelWanted(Message):
    """The user asked for what only the screen with the wheel does."""


@dataclass
class Said(Message):
    """Something to tell the user for a moment, and no longer than it is `so`."""

    text: str
    so: Callable[[], bool] = lambda: True
