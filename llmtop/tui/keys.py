"""Keys as help, the last line, the README and the command palette write them: all of it is in what they are bound with.

The description of a binding is what help says, its tooltip the word that the last line has for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from textual.binding import Binding, BindingType
from textual.keys import key_to_character

Bound = tuple[tuple[str, str], ...]
"""(id of a binding, its keys with commas between them) of what is not on the keys that it is built with."""
NAMES = {
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "enter": "Enter",
    "escape": "Esc",
    "tab": "Tab",
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "comma": ",",
    "full_stop": ".",
}
"""Textual's name of a key to what stands on it; others are written as they are."""
FOLLOW = {
    "help.close": "app.help",
    "lost.export": "app.export",
    "lost.quit": "app.leave",
    "help.quit": "app.leave",
    "help.stop": "load.stop",
    "overlay.quit": "app.leave",
    "overlay.stop": "load.stop",
    "why.back": "app.why",
    "map.back": "app.map",
    "map.explore": "app.search",
    "big.back": "app.big",
    "log.back": "view.log",
}
"""Bindings of pages, and those of the cockpit whose keys they have, beside Esc."""
LIVE = frozenset(
    ("run.mark", "run.record", "app.search", "app.edge", "app.demo", "app.detach", "view.knobs", "view.log")
)
"""Of a live run alone, as is all that moves a load."""
FIRST = ("app.help", "load.stop", "app.leave")
"""Of the last line, before what has the focus: what must be found on the narrowest screen."""
ORDER = (
    *("app.demo", "load.hold", "load.undo", "app.search", "app.edge", "app.detach"),
    *("slider.load", "slider.prompt", "slider.output"),
    *("replay.back", "replay.forward", "replay.before", "replay.next", "replay.go"),
    *(
        "replay.slower",
        "replay.faster",
        "run.mark",
        "app.freeze",
        "view.knobs",
        "view.log",
        "app.why",
        "app.map",
        "app.big",
        "run.record",
    ),
    *("app.export", "app.profile", "view.maximise", "view.layout", "view.dots", "app.theme"),
)
"""And after it: the most wanted first."""
_LISTED = 3
"""Of more keys than these in a row, the first and the last are written."""


def name_of(key: str) -> str:
    """`full_stop` as `.`."""
    if key in NAMES:
        return NAMES[key]
    character = key_to_character(key)
    return key if character is None or character.isspace() else character


def effective(keymap: Mapping[str, str]) -> Bound:
    """The keymap with the bindings of pages that follow those of the cockpit."""
    follow = {page: keymap[leader] for page, leader in FOLLOW.items() if leader in keymap}
    if "help.close" in follow:
        follow["help.close"] = f"escape,{follow['help.close']}"
    return tuple(sorted({**keymap, **follow}.items()))


def bound(bindings: Iterable[BindingType], keymap: Bound = ()) -> list[Binding]:
    """The bindings as they are under a keymap, one for each key, in their own order."""
    moved, found = dict(keymap), list(Binding.make_bindings(bindings))
    told: dict[tuple[str, str], Binding] = {}
    for number, binding in enumerate(found):
        name = binding.id or str(number)
        for key in moved[name].split(",") if name in moved else (binding.key,):
            told.setdefault((name, key), binding if name not in moved else binding.with_key(key, None))
    return list(told.values())


def shown(bindings: Iterable[BindingType], keymap: Bound = ()) -> list[Binding]:
    """The bindings that users are told of, one for each key."""
    return [binding for binding in bound(bindings, keymap) if binding.show]


def shown_once(keymap: Bound, *tables: Iterable[BindingType]) -> list[Binding]:
    """The bindings of several tables that users are told of, one for each description."""
    told: dict[str, Binding] = {}
    for binding in (binding for table in tables for binding in shown(table, keymap)):
        told.setdefault(binding.description, binding)
    return list(told.values())


def rows_of(*tables: Iterable[BindingType], keymap: Bound = ()) -> list[tuple[str, str]]:
    """(keys, what they do) in the order of the tables; bindings of one group or one description are one row."""
    rows: dict[str, list[str]] = {}
    for binding in (binding for table in tables for binding in shown(table, keymap)):
        does = binding.description if binding.group is None else binding.group.description
        keys = rows.setdefault(does, [])
        key = binding.key_display or name_of(binding.key)
        if key not in keys:
            keys.append(key)
    return [(" ".join(keys) if len(keys) <= _LISTED else f"{keys[0]}-{keys[-1]}", does) for does, keys in rows.items()]


def footer(
    focused: type | None,
    screen: type,
    app: type,
    offers: Callable[[str], bool],
    words: Mapping[str, str],
    keymap: Bound = (),
) -> list[tuple[str, str, str]]:
    """(keys, word, action) of what the last line offers, the most wanted first.

    Args:
        focused, screen, app: whose BINDINGS count. A click on a key of what has the focus does nothing.
        offers: whether a binding makes sense now, by its id.
        words: in place of bindings' own, by id.
        keymap: of the app.
    """
    found: dict[str, tuple[list[str], str, float]] = {}
    for owner, namespace in ((focused, ""), (screen, "screen."), (app, "app.")):
        for binding in _told(owner, keymap) if owner is not None else ():
            name = binding.id or ""
            if not offers(name):
                continue
            word = words.get(name, binding.tooltip)
            places = (*FIRST, *ORDER)
            rank = len(FIRST) - 0.5 if owner is focused else places.index(name)
            action = binding.action if binding.action.startswith("app.") else namespace + binding.action
            keys, _, _ = found.setdefault(word, ([], action if namespace else "", rank))
            keys.append(binding.key_display or name_of(binding.key))
    rows = sorted(found.items(), key=lambda row: row[1][2])
    return [(" ".join(keys), word, action) for word, (keys, action, _) in rows]


@cache
def _told(owner: type, keymap: Bound) -> tuple[Binding, ...]:
    """Bindings that the last line has a word for."""
    return tuple(binding for binding in shown(owner.BINDINGS, keymap) if binding.tooltip)  # type: ignore[attr-defined]


def markdown(chapters: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> str:
    """The table of keys as the README has it."""
    rows = ["| key | where | does |", "|---|---|---|"]
    for where, table in chapters:
        place = where.removeprefix("Keys ").removeprefix("on ")
        rows += [f"| `{keys}` | {place} | {does} |" for keys, does in table]
    return "\n".join(rows) + "\n"
