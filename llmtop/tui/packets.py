"""What comes from a terminal at once: keys that were typed ahead over a slow line, or a text that was pasted.

Terminals that set no brackets around what is pasted send it as if it were typed, and its letters would be commands.
Pure: times are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from textual import events
from textual.message import Message

LEAVE_KEYS = ("ctrl+c", "ctrl+q", "ctrl+backslash")
"""Those besides `q`; they count in whatever company they come."""
PASTING_S = 0.1
"""What follows a pasted text within so long is more of it: a long one comes in several packets."""
CHOOSING = ("slider.load", "slider.prompt", "slider.output")
STARTING = ("app.search", "app.edge", "load.undo")
"""What may start a load: in no company."""
_LINE = re.compile(r"[^\r\n]*\r?")


def typed(characters_of: Callable[[str], str]) -> re.Pattern[str]:
    """What may be typed ahead and obeyed; a longer text is one that was pasted.

    Args:
        characters_of: what the keys of a binding write, by its id.
    """

    def any_of(*names: str) -> str:
        characters = "".join(map(characters_of, names))
        return f"[{re.escape(characters)}]" if characters else "(?!)"

    number = rf"{any_of(*CHOOSING)}?\d{{1,7}}(?:\.\d{{0,3}})?"
    choosing = rf"(?:{any_of(*CHOOSING, 'view.knobs')}|[\t\0])"
    alone = rf"(?!{any_of(*STARTING)})[^\d\r\n]"
    return re.compile(
        rf"(?:{number}\r|{choosing}){{0,2}}\0*"  # sliders that are chosen, and exact values for them
        rf"(?:{number}|(?P<key>{alone})(?P=key)*|\r|{any_of('load.stop', 'app.leave')}+|{any_of('load.undo')}+)?\0*"
        rf"|{any_of('run.mark')}[^\r\n]*\r?"
    )


class Packets:
    """Tells keys from pasted text, packet by packet. `typed`: what is no text."""

    def __init__(self, typed: re.Pattern[str]) -> None:
        self._typed = typed
        self._pasted_s = float("-inf")

    def sift(self, packet: Sequence[Message], now_s: float, writing: bool) -> list[Message]:
        """What to obey of a packet: all of it, or a `Paste` in the place of the keys of a text.

        Args:
            packet: what a parser made of it.
            now_s: when it came.
            writing: keys are letters of a line now, not commands.
        """
        keys = [event for event in packet if isinstance(event, events.Key) and event.key not in LEAVE_KEYS]
        text = "".join(_character(key) for key in keys)
        said = text.replace("\0", "")
        goes_on = bool(said) and now_s - self._pasted_s < PASTING_S
        if not goes_on and (len(said) < 2 or (_LINE if writing else self._typed).fullmatch(text)):
            return list(packet)
        self._pasted_s = now_s
        first = keys[0]
        kept = [event for event in packet if event is first or event not in keys]
        return [events.Paste(said.replace("\r", "\n")) if event is first else event for event in kept]


def _character(key: events.Key) -> str:
    """What a key writes; NUL: nothing."""
    character = key.character
    return character if character and (character.isprintable() or character in "\r\n\t") else "\0"
