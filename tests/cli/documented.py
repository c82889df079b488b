"""What is printed, held against what KEYS.md says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from msgspec import Struct

from llmtop.cli.keys import Key, documents, keys_of


def drift(command: str, printed: Mapping[str, object]) -> list[str]:
    """Where the keys of `printed` are others than those that are told of `command`, at any depth; none: []."""
    told = documents()[command].items()
    seldom = {name for name, key in told if key.meaning.startswith("Only of") and name not in printed}
    return list(_compared(printed, {name: key for name, key in told if name not in seldom}, ""))


def _compared(printed: Mapping[str, Any], keys: Mapping[str, Key], path: str) -> Iterator[str]:
    yield from (f"{path}.{name}" for name in printed.keys() ^ keys.keys())
    for name in printed.keys() & keys.keys():
        yield from _inside(printed[name], keys[name].kind, f"{path}.{name}")


def _inside(value: Any, kind: Any, path: str) -> Iterator[str]:
    if get_origin(kind) is dict:
        for part in value.values():
            yield from _inside(part, get_args(kind)[1], f"{path}{{}}")
        return
    structs = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, Struct)]
    if isinstance(value, dict) and structs:
        alike = min(structs, key=lambda each: len(keys_of(each).keys() ^ value.keys()))
        yield from _compared(value, keys_of(alike), path)
    elif isinstance(value, list):
        for part in value:
            yield from _inside(part, next(iter(get_args(kind)), None), f"{path}[]")
