"""What an answer said, for users who go on from it: kept only where somebody asks for it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

MOST_CALLS = 128
"""Calls of tools in one answer; further ones are left out."""


class ToolCall(Struct, frozen=True):
    """A tool that the model wants to be called."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it: it may be broken."""


class Said:
    """The words and calls of one answer, in pieces as they come."""

    __slots__ = ("_calls", "pieces", "thoughts")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.thoughts: list[str] = []
        self._calls: dict[object, list[str]] = {}

    def clear(self) -> None:
        """Forget an attempt that did not count."""
        self.pieces.clear()
        self.thoughts.clear()
        self._calls.clear()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(*parts) for parts in self._calls.values() if parts[1])

    def take_calls(self, told: list[Any]) -> None:
        """Pieces of calls: those of one `index` are one call; where there is none, an `id` begins the next."""
        for piece in told:
            if not isinstance(piece, dict):
                continue
            key = piece.get("index")
            if not isinstance(key, int):
                begins = bool(piece.get("id")) or not self._calls
                key = ("no index", len(self._calls)) if begins else next(reversed(self._calls))
            if key not in self._calls and len(self._calls) >= MOST_CALLS:
                continue
            parts = self._calls.setdefault(key, ["", "", ""])
            called = piece.get("function")
            called = called if isinstance(called, dict) else {}
            for place, value in enumerate((piece.get("id"), called.get("name"), called.get("arguments"))):
                if isinstance(value, str):
                    # Some servers repeat id and name with every piece.
                    parts[place] = parts[place] + value if place == 2 else parts[place] or value
