"""Words that want to be obeyed, and structs that hold them wherever a text can be."""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

WORDS = (
    "=cmd|'/C calc'!A0 \x1b]52;c;cm0=\x07 \x1b[2J\x9b31m \r# over \n[red]x[/red] [@click=app.bell]y[/] "
    "<script>alert(1)</script> \"' onload='z' `code` **b** ![i](http://e/) "
    "<b>&amp; | pipe \u202e \u2066 \u200b \ufeff \ufffe ]]> \x00 \x7f \x85 \u2028 end"
)
"""A formula, the clipboard, an erased screen, a line written over, markup of Rich, HTML and Markdown, a column more."""

Value = TypeVar("Value")
NOT_AT_ONCE = {"LoadPoint": {"rate_rps": None}, "Hold": {"rate_rps": None}, "Frame": {"replay": None}}
"""Fields that stay empty because another one is filled."""


def filled(kind: Any, words: str = WORDS) -> Any:
    """A value of this type with `words` in every text of it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return filled(parts[0], words)
    if origin in (Union, types.UnionType):
        return filled(next(part for part in parts if part is not type(None)), words)
    if origin is Literal:
        return parts[0]
    if origin is tuple:
        return tuple(filled(part, words) for part in parts if part is not Ellipsis)
    if origin is dict:
        return {filled(parts[0], words): filled(parts[1], words)}
    if issubclass(kind, Enum):
        return next(iter(kind))
    if issubclass(kind, Struct):
        hints, empty = get_type_hints(kind, include_extras=True), NOT_AT_ONCE.get(kind.__name__, {})
        return kind(
            **{
                name: empty.get(name, filled(hints[name], words))
                for name in kind.__struct_fields__
                if name not in empty
            }
            | empty
        )
    return {str: words, bool: True, int: 1, float: 1.0, type(None): None}[kind]


def texts(value: Any) -> Iterator[str]:
    """Every text in a struct, a list or a mapping."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from texts(getattr(value, name))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (*texts(key), *texts(each))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


def obeyed(text: str) -> list[str]:
    """What in a text a terminal would obey, line ends apart."""
    return [character for character in text if not character.isprintable() and character != "\n"]
