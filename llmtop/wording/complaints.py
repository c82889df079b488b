"""What a decoder says of a value that it does not take, in words of the user's file."""

from __future__ import annotations

import re

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`(.*?)(?:, got `?(\w+)`?)?")
_SIGNS = {">=": "or more", "<=": "or less"}


def complaint_text(complaint: str, *, got: bool = True) -> str | None:
    """`must be a whole number of 1 or more` for msgspec's ``Expected `int` >= 1``; None: it complains of another thing.

    Args:
        got: say, too, of what type the value is.
    """
    if complaint.endswith("out of range"):
        return "is a number that is too large"
    wrong = _WRONG_TYPE.fullmatch(complaint)
    if wrong is None:
        return None
    wanted, bound, found = wrong.groups()
    kinds = [_TYPES.get(kind, kind) for kind in wanted.split(" | ") if kind != "null"]
    text = f"must be {' or '.join(kinds)}{_bound_text(bound)}"
    return f"{text}, not {_TYPES.get(found, found)}" if got and found else text


def _bound_text(bound: str) -> str:
    """` >= 1` as ` of 1 or more`."""
    sign, _, figure = bound.strip().partition(" ")
    return f" of {figure.removesuffix('.0')} {_SIGNS[sign]}" if sign in _SIGNS else bound
