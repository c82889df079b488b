"""Keys as help and the command palette write them. What is told of a key is what it is bound with."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import Binding, BindingType

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
    "comma": ",",
    "full_stop": ".",
}
"""Textual's name of a key to what stands on it; others are written as they are."""
_LISTED = 3
"""Of more keys than these in a row, the first and the last are written."""


def name_of(key: str) -> str:
    """`full_stop` as `.`."""
    return NAMES.get(key, key)


def shown(bindings: Iterable[BindingType]) -> list[Binding]:
    """The bindings that users are told of, one for each key."""
    return [binding for binding in Binding.make_bindings(bindings) if binding.show]


def rows_of(*tables: Iterable[BindingType]) -> list[tuple[str, str]]:
    """(keys, what they do) in the order of the tables; bindings of one group or one description are one row."""
    rows: dict[str, list[str]] = {}
    for binding in (binding for table in tables for binding in shown(table)):
        does = binding.description if binding.group is None else binding.group.description
        keys = rows.setdefault(does, [])
        key = binding.key_display or name_of(binding.key)
        if key not in keys:
            keys.append(key)
    return [(" ".join(keys) if len(keys) <= _LISTED else f"{keys[0]}-{keys[-1]}", does) for does, keys in rows.items()]
