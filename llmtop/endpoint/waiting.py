"""Says what is waited for, once a wait is longer than a person takes for none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0
"""Of somebody who looks at a terminal where nothing happens."""

Tell = Callable[[str], None]
"""Takes one line."""


@contextmanager
def waiting(tell: Tell | None, what: str, limit_s: float) -> Iterator[None]:
    """Tell what is waited for and how long at most, unless the block ends before that. `tell` None: nobody hears."""
    if tell is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(PATIENCE_S, tell, f"waiting for {what}, {limit_s:g} s at most")
    try:
        yield
    finally:
        timer.cancel()
