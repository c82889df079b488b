"""What somebody may have meant who wrote a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def meant(name: str, names: Iterable[str]) -> str:
    """`did you mean ttft_p95? `, to be followed by what is allowed; empty: nothing is alike."""
    near = get_close_matches(name, list(names), 1)
    return f"did you mean {near[0]}? " if near else ""
