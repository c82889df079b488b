"""Mooncake traces: {"timestamp": ms, "input_length": ..., "output_length": ..., "hash_ids": [...]} a line.

Source: kvcache-ai/Mooncake, FAST25-release/traces; the Qwen traces (alibaba-edu/qwen-bailian-usagetraces-anon) have
seconds and blocks of 16 tokens.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from llmtop.domain.bounds import TOKENS, Quantity
from llmtop.traffic.columns import NO_SESSION, OUTPUT_TOKENS, WITHOUT_TIME, WITHOUT_TOKENS, Columns, hashed
from llmtop.traffic.rows import Sieve
from llmtop.traffic.table import BLOCK_TOKENS

BLOCKS = (BLOCK_TOKENS, 256, 128, 64, 32, 16)
"""Sizes that a block may have; 16 in Alibaba's traces."""
LEAST_GAP_MS = 10.0
"""Timestamps that lie closer on average, those of bursts counted once, are seconds: a hundred moments a second at which
requests came are more than a recorded service has had, and one in ten seconds would still be a trace."""
BRIEF_GAP_MS, BRIEF_MS = 100.0, 10_000.0
"""And those that lie closer than the first in a trace shorter than the second: nobody records so short a time, and what
is guessed wrong goes too slowly, never a thousand times too fast."""
ARRIVAL_MS = Quantity("timestamp", 0, 1e14, "milliseconds")
MOONCAKE_HINT = (
    'a Mooncake line is {"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1]}; '
    "a table begins with the names of its columns"
)


class Row(Struct, gc=False):
    timestamp: float | None
    input_length: int | None
    output_length: int | None
    hash_ids: tuple[int, ...] | None = ()
    session_id: str | int | None = None
    """In traces of conversations that other tools have made of it."""


class Mooncake:
    """Takes the rows of such a trace.

    Args:
        unit: of its timestamps, `ms` or `s`; None: guessed from how far they lie apart.
    """

    kind = Row
    hint = MOONCAKE_HINT

    def __init__(self, columns: Columns, unit: str | None = None) -> None:
        self._columns = columns
        self._unit = unit

    def take(self, row: Row) -> None:
        """Raises Odd."""
        columns = self._columns
        start, prompt, output = row.timestamp, row.input_length, row.output_length
        if start is None or not 0 <= start <= ARRIVAL_MS.most:
            why = WITHOUT_TIME if not start else "with timestamp out of bounds"
            raise columns.odd(why, f"must be {ARRIVAL_MS.allowed}", ", timestamp")
        if prompt is None or not 1 <= prompt <= TOKENS.most:
            why = WITHOUT_TOKENS if not prompt else "with input_length out of bounds"
            raise columns.odd(why, f"must be {TOKENS.allowed}", ", input_length")
        if output is None or not 0 <= output <= TOKENS.most:
            why = WITHOUT_TOKENS if not output else "with output_length out of bounds"
            raise columns.odd(why, f"must be {OUTPUT_TOKENS.allowed}", ", output_length")
        columns.add(start, prompt, output or 1)
        columns.add_blocks(row.hash_ids or ())
        columns.sessions.append(NO_SESSION if row.session_id is None else hashed(str(row.session_id)))

    def done(self) -> float:
        """Seconds of one unit of the timestamps; the size of blocks is told to the columns."""
        columns = self._columns
        columns.block_tokens = self._block_tokens()
        if self._unit is not None:
            return 1.0 if self._unit == "s" else 1e-3
        return unit_s(np.frombuffer(columns.start), columns.sieve)

    def _block_tokens(self) -> int:
        """Tokens of one hash id: the size that fits the lengths of most rows."""
        columns = self._columns
        counts = np.diff(np.frombuffer(columns.block_ends, dtype=np.int64), prepend=0)
        lengths = np.frombuffer(columns.prompt, dtype=np.int64)
        told = counts > 0
        fits = {size: int(np.count_nonzero((-(-lengths // size) == counts) & told)) for size in BLOCKS}
        best = max(BLOCKS, key=lambda size: fits[size])
        if best == BLOCK_TOKENS or 2 * fits[best] < np.count_nonzero(told):
            return BLOCK_TOKENS
        columns.sieve.notes.append(f"hash_ids taken as blocks of {best} tokens, which fits the lengths")
        return best


def unit_s(timestamps: np.ndarray[tuple[int], np.dtype[np.float64]], sieve: Sieve) -> float:
    """Seconds of one unit of a trace's timestamps, guessed from how far they lie apart, and said where it is odd."""
    moments = np.unique(timestamps)
    if not len(moments):
        return 1e-3
    span = float(moments[-1] - moments[0])
    gap = span / max(1, len(moments) - 1)
    if len(moments) == 1 or gap >= (BRIEF_GAP_MS if span < BRIEF_MS else LEAST_GAP_MS):
        return 1e-3
    lasts = f"the trace lasts {span:,.0f} s"
    sieve.notes.append(f"timestamps taken as seconds: as milliseconds they would lie {gap:.3g} ms apart ({lasts})")
    return 1.0
