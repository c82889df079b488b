"""Whole values from outside, fit to be shown. Apart from `plain`, which `--help` loads."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

from msgspec import Struct, structs

from llmtop.domain.plain import KEPT, plain

Value = TypeVar("Value")


def plainly(value: Value, limit: int = KEPT) -> Value:
    """A struct, a list or a mapping with every text in it `plain`."""
    fit: Any = value
    if isinstance(value, str):
        fit = value if isinstance(value, Enum) else plain(value, limit)
    elif isinstance(value, Struct):
        fit = structs.replace(value, **{name: plainly(getattr(value, name), limit) for name in value.__struct_fields__})
    elif isinstance(value, tuple | list):
        fit = type(value)(plainly(each, limit) for each in value)
    elif isinstance(value, dict):
        fit = {plainly(key, limit): plainly(each, limit) for key, each in value.items()}
    return fit  # type: ignore[no-any-return]
