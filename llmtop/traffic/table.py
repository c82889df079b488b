"""Recorded requests of any source as columns: a million rows take some 50 MB. No text of a request is ever in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_TOKENS = 512
"""Tokens of one hash id of a Mooncake trace (kvcache-ai/Mooncake, FAST25-release/traces)."""


class Blocks(Struct, frozen=True, kw_only=True):
    """What prompts begin with: rows that begin with the same ids begin with the same text."""

    ids: npt.NDArray[np.signedinteger[Any]]
    """Of all rows, one row after the other; of 32 bits where they fit: a million prompts have some 24 million."""
    ends: Ints
    """Where in `ids` each row ends, in the order of the table; shape (n,)."""
    tokens: int = BLOCK_TOKENS
    """Of one id; the last of a row takes what is left of its prompt."""


class Traffic(Struct, frozen=True, kw_only=True):
    """Requests in order of arrival, all columns of shape (n,)."""

    source: str
    """Of what kind it is, as it is said: `LiteLLM spend logs`."""
    start_s: Floats
    """Seconds since the first arrival; ascending."""
    prompt: Ints
    """Tokens; 0: not told."""
    output: Ints
    """Tokens; 0: not told."""
    began_at: float | None = None
    """Unix seconds of the first arrival; None: the source has no wall clock."""
    e2e_s: Floats | None = None
    """How long each took; nan: not told. None: nobody tells."""
    ttft_s: Floats | None = None
    session: Ints | None = None
    """Numbers of conversations; -1: of none."""
    cached: Ints | None = None
    """Prompt tokens that came from a prefix cache; -1: not told."""
    blocks: Blocks | None = None
    says: tuple[str, ...] = ()
    """Sentences: what was left out, counted and guessed."""

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return float(self.start_s[-1]) if len(self) else 0.0
