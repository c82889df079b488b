"""Which keys do what: the bindings as they are built in, and as a user's settings move them to other keys.

A user moves what a key of the cockpit does, by the id of its binding. Pages over the cockpit follow: the key that opens
one leaves it, and load and program are stopped from it by the same keys. What must be found whatever the settings say
stays: the keys that always leave, and those that move in sliders and panels, answer questions and write numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from textual.binding import Binding
from textual.keys import KEY_TO_UNICODE_NAME, Keys, _character_to_key, key_to_character

from llmtop.domain.alike import meant
from llmtop.errors import UsageError
from llmtop.tui import packets
from llmtop.tui.app import LlmtopApp
from llmtop.tui.keys import FOLLOW, bound, effective
from llmtop.tui.screens.big import BigScreen
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.help import HelpScreen
from llmtop.tui.screens.lost import LostScreen
from llmtop.tui.screens.map import MapScreen
from llmtop.tui.screens.overlay import Overlay
from llmtop.tui.screens.serverlog import ServerLogScreen
from llmtop.tui.screens.why import WhyScreen

ALWAYS = {
    **dict.fromkeys(packets.LEAVE_KEYS, "always leaves"),
    "ctrl+z": "suspends",
    "ctrl+p": "opens the list of all commands",
    **dict.fromkeys(("tab", "shift+tab", "ctrl+i"), "goes to the next slider or panel"),
    **dict.fromkeys(("enter", "return", "ctrl+m", "ctrl+j", "escape", "ctrl+left_square_bracket"), "answers questions"),
    **dict.fromkeys(("left", "right", "up", "down", "pageup", "pagedown", "home", "end"), "moves a slider or a cursor"),
    **dict.fromkeys((*map(str, range(10)), "backspace", "ctrl+h", "delete"), "writes numbers"),
}
"""Keys that stay what they are, and what for."""
NUMBERS = ("full_stop",)
"""What writes numbers on a lit slider, too, and does something of its own elsewhere."""
_MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")
_NAMED = frozenset(
    name for name in (*(key.value for key in Keys), *KEY_TO_UNICODE_NAME, "space") if re.fullmatch(r"[a-z0-9_+]+", name)
)


def key_of(text: str) -> str:
    """A key by the name that Textual has for it: `question_mark` for `?`. Raises UsageError: no keyboard sends it."""
    key = _character_to_key(text) if len(text) == 1 else text
    modifiers, _, base = key.rpartition("+")
    parts = modifiers.split("+") if modifiers else []
    printed = len(base) == 1 or key_to_character(base) is not None
    known = base in _NAMED or (printed and base == base.strip())
    if not base or not known or len(parts) != len(set(parts)) or not set(parts) <= set(_MODIFIERS):
        near = meant(text.lower()[:40], sorted(_NAMED))
        raise UsageError(f"{text[:40]!r} is no key; {near}write a character, or a name such as f2, space or ctrl+e")
    if "shift" in parts and printed and base != "space":
        raise UsageError(f"{text[:40]!r} does not come from a terminal; write the character that it gives")
    return key


def keys_of(text: str) -> str:
    """Keys as a user lists them, with commas between them: each once, by its name. Raises UsageError."""
    if not text.strip():
        raise UsageError("has no key: name one, or leave the line out")
    return ",".join(dict.fromkeys(key_of(each.strip()) for each in text.split(",")))


@cache
def movable() -> Mapping[str, str]:
    """The id of each binding that may have other keys, and its built-in ones, in the order of the help page."""
    found: dict[str, list[str]] = {}
    for binding in _cockpit():
        found.setdefault(binding.id or "", []).append(binding.key)
    return {name: ",".join(keys) for name, keys in found.items() if name and not ALWAYS.keys() & set(keys)}


def does(name: str) -> str:
    """What the binding of this id does, as help says it."""
    return next(binding.description for binding in _cockpit() if binding.id == name)


def check(keymap: Mapping[str, str]) -> tuple[str, str] | None:
    """(id, what is wrong with it) of the first that cannot be; None: every key does one thing in every place.

    Args:
        keymap: keys by their names, as `keys_of` gives them.
    """
    for name, keys in keymap.items():
        if name not in movable():
            return name, _unmovable(name)
        for key in keys.split(","):
            if key in ALWAYS:
                return name, f"{key} {ALWAYS[key]}, whatever the settings say; name another key"
            if key in NUMBERS and key not in movable()[name].split(","):
                return name, f"{key} writes numbers; name another key"
    return _conflict(keymap)


def _unmovable(name: str) -> str:
    stays = next((binding for binding in _cockpit() if binding.id == name), None)
    if stays is not None:
        return f"stays on {stays.key}, which {ALWAYS.get(stays.key, 'is taken')}; leave the line out"
    if name in FOLLOW:
        return f"follows {FOLLOW[name]}: give that one another key"
    return f"is not known; {meant(name[:60], movable())}(allowed: {', '.join(movable())})"


def _conflict(keymap: Mapping[str, str]) -> tuple[str, str] | None:
    pairs = effective(keymap)
    for place in _places():
        owners: dict[str, str] = {}
        for binding in bound(place, pairs):
            name = binding.id or ""
            other = owners.setdefault(binding.key, name)
            if other == name:
                continue
            asked = next((each for each in (name, other) if FOLLOW.get(each, each) in keymap), name)
            rival = other if asked == name else name
            problem = f"{binding.key} is the key of {rival} ({_told(place, rival)}), too; one key does one thing"
            return FOLLOW.get(asked, asked), problem
    return None


def _told(place: Iterable[Binding], name: str) -> str:
    return next(binding.description for binding in place if binding.id == name)


@cache
def _cockpit() -> tuple[Binding, ...]:
    return tuple(Binding.make_bindings((*Cockpit.BINDINGS, *LlmtopApp.BINDINGS)))


@cache
def _places() -> tuple[tuple[Binding, ...], ...]:
    """Bindings that are obeyed together: those of the cockpit, and those of each page over it."""
    pages = ((*page.BINDINGS, *Overlay.BINDINGS) for page in (BigScreen, MapScreen, ServerLogScreen, WhyScreen))
    return (
        _cockpit(),
        *(tuple(Binding.make_bindings(page)) for page in (HelpScreen.BINDINGS, LostScreen.BINDINGS, *pages)),
    )
