"""Facts as columns: the growing tables of a run that the analysis reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import get_type_hints

import numpy as np
import numpy.typing as npt

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Event, FactBatch, LoadChange, Mark
from llmtop.domain.samples import ClientHealth, LoadBin, ServerSnapshot

Column = npt.NDArray[np.float64]


class Table:
    """Float columns that grow by rows; NaN stands for None.

    Args:
        names: the columns.
        cap: rows kept at most; the oldest are dropped, a quarter of the cap at a time. None: all.
    """

    def __init__(self, names: Sequence[str], cap: int | None = None) -> None:
        self.names = tuple(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        self._cap = cap
        self._rows = np.empty((256, len(self.names)))
        self._size = 0
        self.dropped = 0
        """Rows that were there once and are no more."""

    def __len__(self) -> int:
        return self._size

    def extend(self, rows: Sequence[Sequence[float]]) -> None:
        """Append rows given in the order of `names`."""
        if not rows:
            return
        if self._cap is not None and self._size + len(rows) > self._cap:
            self._drop(max(self._cap // 4, self._size + len(rows) - self._cap))
        need = self._size + len(rows)
        if need > len(self._rows):
            grown = np.empty((max(need, 2 * len(self._rows)), len(self.names)))
            grown[: self._size] = self._rows[: self._size]
            self._rows = grown
        self._rows[self._size : need] = rows
        self._size = need

    def _drop(self, count: int) -> None:
        count = min(count, self._size)
        kept = self._size - count
        self._rows[:kept] = self._rows[count : self._size].copy()
        self._size = kept
        self.dropped += count

    def column(self, name: str) -> Column:
        """A view of one column, oldest row first, shape (len(self),). KeyError for a name that is not there."""
        return self._rows[: self._size, self._index[name]]


REQUEST_COLUMNS = (
    "scheduled_s",
    "sent_s",
    "first_token_s",
    "last_token_s",
    "end_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "max_gap_s",
    "prompt_tokens",
    "output_tokens",
    "asked_prompt_tokens",
    "asked_output_tokens",
    "ok",
    "error",
    "cancelled",
    "client_limited",
    "in_flight_min",
    "in_flight_max",
    "chunks",
    "cached_tokens",
)


def _float_fields(sample: type) -> tuple[str, ...]:
    hints = get_type_hints(sample)
    return tuple(name for name, hint in hints.items() if hint in (int, float, int | None, float | None))


SERVER_COLUMNS = _float_fields(ServerSnapshot)
CLIENT_COLUMNS = (*_float_fields(ClientHealth), "red")
BIN_COLUMNS = _float_fields(LoadBin)


class Facts:
    """Everything known about a run so far, or of one read back.

    Args:
        cap: requests kept at most (a soak must not eat the machine); None: all. Samples have four times that room.
    """

    def __init__(self, cap: int | None = 65536) -> None:
        wide = None if cap is None else 4 * cap
        self.requests = Table(REQUEST_COLUMNS, cap)
        self.server = Table(SERVER_COLUMNS, wide)
        self.client = Table(CLIENT_COLUMNS, wide)
        self.bins = Table(BIN_COLUMNS, wide)
        self.changes: list[LoadChange] = []
        self.marks: list[Mark] = []
        self.events: list[Event] = []
        self.t_s = 0.0

    def extend(self, batch: FactBatch) -> None:
        """Take in the facts of one tick."""
        self.t_s = max(self.t_s, batch.t_s)
        self.requests.extend([_request_row(record) for record in batch.requests])
        self.server.extend(_rows(batch.server, SERVER_COLUMNS))
        self.client.extend(
            [
                (*row, float(health.state == "red"))
                for row, health in zip(_rows(batch.client, CLIENT_COLUMNS[:-1]), batch.client, strict=True)
            ]
        )
        self.bins.extend(_rows(batch.bins, BIN_COLUMNS))
        self.changes.extend(batch.changes)
        self.marks.extend(batch.marks)
        self.events.extend(batch.events)

    @classmethod
    def of(cls, batches: Iterable[FactBatch]) -> Facts:
        """All facts of a whole run."""
        facts = cls(cap=None)
        for batch in batches:
            facts.extend(batch)
        return facts


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _seconds(value_ns: int | None) -> float:
    return math.nan if value_ns is None else value_ns / 1e9


def _rows(samples: Sequence[object], names: Sequence[str]) -> list[list[float]]:
    return [[_number(getattr(sample, name)) for name in names] for sample in samples]


def _request_row(record: RequestRecord) -> tuple[float, ...]:
    return (
        _seconds(record.scheduled_ns),
        _seconds(record.sent_ns),
        _seconds(record.first_token_ns),
        _seconds(record.last_token_ns),
        _seconds(record.end_ns),
        _number(record.ttft_s),
        _number(record.tpot_s),
        _number(record.e2e_s),
        _seconds(record.max_gap_ns),
        record.prompt_tokens,
        record.output_tokens,
        record.asked_prompt_tokens,
        record.asked_output_tokens,
        record.outcome is Outcome.OK,
        record.outcome.is_error,
        record.outcome is Outcome.CANCELLED,
        record.client_limited,
        record.in_flight_min,
        record.in_flight_max,
        record.chunks,
        _number(record.cached_tokens),
    )
