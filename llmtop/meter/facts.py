"""Facts as columns: the growing tables of a run that the analysis reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import (
    Call,
    Canary,
    Chapter,
    Event,
    FactBatch,
    JudgedLevel,
    LoadChange,
    LoadWorker,
    Mark,
    ScaleStep,
    SearchEnded,
)
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.meter.client import ClientJudge, JudgedSecond, Pause, RedSpans
from llmtop.meter.crew import CrewTally
from llmtop.meter.failures import FailureTally

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
        self._columns = np.empty((len(self.names), 256))
        self._size = 0
        self.dropped = 0
        """Rows that were there once and are no more."""

    def __len__(self) -> int:
        return self._size

    def extend(self, rows: Sequence[Sequence[float | None]]) -> None:
        """Append rows given in the order of `names`; None is kept as NaN."""
        if not rows:
            return
        if self._cap is not None and self._size + len(rows) > self._cap:
            self._drop(max(self._cap // 4, self._size + len(rows) - self._cap))
        need = self._size + len(rows)
        room = self._columns.shape[1]
        if need > room:
            grown = np.empty((len(self.names), max(need, 2 * room)))
            grown[:, : self._size] = self._columns[:, : self._size]
            self._columns = grown
        self._columns[:, self._size : need] = np.array(rows, dtype=np.float64).T
        self._size = need

    def _drop(self, count: int) -> None:
        count = min(count, self._size)
        kept = self._size - count
        self._columns[:, :kept] = self._columns[:, count : self._size].copy()
        self._size = kept
        self.dropped += count

    def column(self, name: str) -> Column:
        """A view of one column, oldest row first, shape (len(self),). KeyError for a name that is not there."""
        return self._columns[self._index[name], : self._size]


_STAMPS = {
    "scheduled_s": "scheduled_ns",
    "dispatched_s": "dispatched_ns",
    "sent_s": "begun_ns",
    "first_token_s": "first_token_ns",
    "last_token_s": "last_token_ns",
    "end_s": "end_ns",
}
"""By column, what is kept of a record in seconds. `sent_s` is `begun_ns`: a request that a gate holds is under way to
its user."""
_FIGURES = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "asked_prompt_tokens",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "hidden_tokens",
    "first_chunk_tokens",
    "chunks",
    "worker",
    "status",
    "session",
    "turn",
)
"""What is kept of it as it is, by the names of its fields and properties."""
REQUEST_COLUMNS = (
    *_STAMPS,
    *_FIGURES,
    *("name", "model", "ok", "error", "broken", "pool_full", "cancelled", "client_limited"),
)
MOST_NAMES = 1000
"""Names, and models, that are told apart: a user who makes one for each request must not eat the memory."""
BEYOND = -1.0
"""What stands in the columns `name` and `model` for all that came after so many."""
CLIENT_COLUMNS = ("t_s", "lag_p99_ms", "cpu", "red", "late")
"""`late`: amber or red."""
READ_COLUMNS = ("t_s", "reads", "coalesced")
"""Fields of a `ClientSample` that tell how many token events came together."""
SERVER_COLUMNS = (
    "t_s",
    "running",
    "waiting",
    "kv_usage",
    "preemptions_total",
    "prefix_hit_ratio",
    "prompt_tokens_total",
    "generation_tokens_total",
    "requests_total",
    "ttft_mean_s",
    "prefill_mean_s",
    "decode_mean_s",
    "iteration_tokens_mean",
    "flops_total",
    "memory_bytes_total",
    "max_num_seqs",
    "max_num_batched_tokens",
    "num_gpu_blocks",
    "block_size",
    "kv_capacity_tokens",
    "max_model_len",
    "rss_bytes",
    "process_start_s",
)
"""Fields of a `ServerSnapshot` that opinions rest on; a run file holds them all."""
POWER_COLUMNS = ("t_s", "power_w", "read", "gpus")
"""Of all GPUs that were read at one instant: the sum of what they take, how many tell it, and how many they are."""
REPLICA_COLUMNS = ("t_s", "replica", "running", "waiting", "kv_usage")
BIN_COLUMNS = (
    "t_s",
    "span_s",
    "target",
    "in_flight",
    "prefilling",
    "oldest_prefill_s",
    "sent",
    "ok",
    "errors",
    "cancelled",
    "output_tokens",
    "gaps",
    "gap_sum_ms",
    "gap_max_ms",
)
"""Fields of a `LoadBin` that opinions rest on."""


class Codes:
    """Texts as numbers, in the order in which they came: what stands for a name in a column."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, float] = {}

    def of(self, text: str | None) -> float:
        """NaN for None, `BEYOND` for a text that came after `MOST_NAMES` others."""
        if text is None:
            return math.nan
        code = self._codes.get(text)
        if code is not None:
            return code
        if len(self.texts) >= MOST_NAMES:
            return BEYOND
        code = self._codes[text] = float(len(self.texts))
        self.texts.append(text)
        return code

    def known(self, text: str) -> float | None:
        """The code of a text that came; None: it did not."""
        return self._codes.get(text)


class Facts:
    """Everything known about a run so far, or of one read back.

    Whether the client was the bottleneck is judged here, as soon as its samples say so. The column `client_limited` of
    `requests` is 1 for a request that lived through such a time of its process, whose stamps a pause of its process may
    have spoilt, or that was lost with its process, 0 for one of no such kind, and NaN for one that ended well in the
    second that is not judged yet: no verdict may rest on it. `client` has one row a second.

    Args:
        cap: requests kept at most (a soak must not eat the machine); None: all. Samples have four times that room.
    """

    def __init__(self, cap: int | None = 65536) -> None:
        wide = None if cap is None else 4 * cap
        self._cap = cap
        self.requests = Table(REQUEST_COLUMNS, cap)
        self.server = Table(SERVER_COLUMNS, wide)
        self.replicas = Table(REPLICA_COLUMNS, wide)
        """Of each replica that is there and each scrape, where there are several."""
        self.replica_names = Codes()
        """Of the column `replica`."""
        self.client = Table(CLIENT_COLUMNS, wide)
        self.reads = Table(READ_COLUMNS, wide)
        """Of each process and second."""
        self.power = Table(POWER_COLUMNS, wide)
        self.bins = Table(BIN_COLUMNS, wide)
        self.gaps = Table(("t_s", "bucket", "count"), wide)
        """How many gaps between chunks each bin has in each bucket."""
        self.first_tokens = Table(("t_s", "ttft_s"), wide)
        """TTFT of each first token, at the end of the bin it came in: known long before its request ends."""
        self.changes: list[LoadChange] = []
        self.marks: list[Mark] = []
        self.events: list[Event] = []
        self.chapters: list[Chapter] = []
        self.tested: list[JudgedLevel] = []
        self.searches: list[SearchEnded] = []
        self.canaries: list[Canary] = []
        self.calls: list[Call] = []
        """No more of them than requests: the newest."""
        self.workers: list[LoadWorker] = []
        self.scaling: list[ScaleStep] = []
        self.names = Codes()
        """Of the column `name` of `requests`."""
        self.models = Codes()
        """Of its column `model`."""
        self.failures = FailureTally()
        self.hung_up = 0
        """Requests that the workload had the client end."""
        self.lost = 0
        """Requests that were in flight in a load worker that died."""
        self.answered = False
        """Whether any request ended well, also one whose row is there no more."""
        self.in_turn_s: float | None = None
        """Since when several servers are known to answer in turn where one was scraped: no row of `server` has a
        figure then, also none of before."""
        self.t_s = 0.0
        self.crew = CrewTally()
        self._judge = ClientJudge()
        self._red = RedSpans()
        self._pauses: list[Pause] = []
        self._judged_s = math.inf

    @property
    def dropped(self) -> int:
        """Rows that were there once and are no more, of all tables."""
        samples = (
            self.server,
            self.power,
            self.replicas,
            self.client,
            self.reads,
            self.bins,
            self.gaps,
            self.first_tokens,
        )
        return sum(table.dropped for table in (self.requests, *samples))

    def extend(self, batch: FactBatch) -> None:
        """Take in the facts of one tick."""
        self.t_s = max(self.t_s, batch.t_s)
        seconds = self._judge.take(batch.client)
        self.crew.take(batch.workers, seconds)
        for second in seconds:
            self._take_second(second)
        self.reads.extend(_rows(batch.client, READ_COLUMNS))
        self.requests.extend([self._request_row(record) for record in batch.requests])
        if batch.requests and self._pauses:
            self._void_of_earlier_pauses(len(batch.requests))
        for record in batch.requests:
            if record.outcome is Outcome.OK:
                self.answered = True
            else:
                self.failures.add(record)
                self.lost += record.outcome is Outcome.LOST
                self.hung_up += record.hung_up
        self._take_server(batch.server)
        self._take_power(batch.gpu)
        self.bins.extend(_rows(batch.bins, BIN_COLUMNS))
        self.first_tokens.extend([(each.t_s, ttft_ms / 1e3) for each in batch.bins for ttft_ms in each.ttft_ms])
        self.gaps.extend([(each.t_s, bucket, count) for each in batch.bins for bucket, count in each.gap_counts])
        self.changes.extend(batch.changes)
        self.marks.extend(batch.marks)
        self.events.extend(batch.events)
        self.chapters.extend(batch.chapters)
        self.tested.extend(batch.tested)
        self.searches.extend(batch.searches)
        self.canaries.extend(batch.canaries)
        self.workers.extend(batch.workers)
        self.scaling.extend(batch.scaling)
        self.calls.extend(batch.calls)
        if self._cap is not None and len(self.calls) > self._cap:
            del self.calls[: len(self.calls) - self._cap + self._cap // 4]

    def _take_server(self, snapshots: Sequence[ServerSnapshot]) -> None:
        self.server.extend(_rows(snapshots, SERVER_COLUMNS))
        self.replicas.extend(
            [
                (each.t_s, self.replica_names.of(name), *figures)
                for each in snapshots
                for name, *figures in each.replicas
                if any(figure is not None for figure in figures)
            ]
        )
        if self.in_turn_s is None:
            self.in_turn_s = next((each.t_s for each in snapshots if each.is_nobodys), None)
        if self.in_turn_s is not None and snapshots:
            for name in SERVER_COLUMNS[1:]:
                self.server.column(name)[:] = math.nan
            for name in REPLICA_COLUMNS[2:]:
                self.replicas.column(name)[:] = math.nan

    def _take_power(self, gpus: Sequence[GpuSnapshot]) -> None:
        """One row an instant; of a page that could not be read again, nothing."""
        last_s = self.power.column("t_s")[-1] if len(self.power) else -math.inf
        for t_s in sorted({gpu.t_s for gpu in gpus if gpu.t_s > last_s}):
            there = [gpu.power_w for gpu in gpus if gpu.t_s == t_s]
            told = [power_w for power_w in there if power_w is not None]
            self.power.extend([(t_s, sum(told) if told else math.nan, len(told), len(there))])

    def _take_second(self, second: JudgedSecond) -> None:
        health, requests = second.health, self.requests
        red, late = health.state == "red", health.state != "green"
        self.client.extend([(health.t_s, health.lag_p99_ms, health.cpu, red, late)])
        self._judged_s = health.t_s
        start_s, end_s, limited = (requests.column(name) for name in ("dispatched_s", "end_s", "client_limited"))
        limited[np.isnan(limited) & (end_s <= health.t_s)] = 0.0
        for sample in second.red:
            self._red.add(sample)
            lived = (start_s < sample.t_s) & (end_s > sample.t_s - sample.span_s)
            limited[lived & (requests.column("worker") == sample.worker)] = 1.0
        for pause in second.pauses:
            self._pauses.append(pause)
            self._void_of(pause)

    def _void_of_earlier_pauses(self, newest: int) -> None:
        """Judge the newest rows by the pauses that were known before they came."""
        newest = min(newest, len(self.requests))
        first_s = self.requests.column("first_token_s")[-newest:]
        began_s = np.nanmin(first_s) if np.isfinite(first_s).any() else math.inf
        for pause in reversed(self._pauses):
            if pause.end_s < began_s:
                return
            self._void_of(pause, newest)

    def _void_of(self, pause: Pause, newest: int | None = None) -> None:
        """Void the rows, all or the newest, whose stamps may be wrong by more than `SPOILT` through this pause."""
        rows = slice(None if newest is None else -newest, None)
        first_s, last_s, ttft_s, tokens, worker, limited = (
            self.requests.column(name)[rows]
            for name in ("first_token_s", "last_token_s", "ttft_s", "first_chunk_tokens", "worker", "client_limited")
        )
        spoilt = pause.spoils(first_s, last_s, ttft_s, tokens)
        limited[spoilt & (worker == pause.worker)] = 1.0

    def _request_row(self, record: RequestRecord) -> tuple[float | None, ...]:
        outcome = record.outcome
        return (
            *[None if stamp_ns is None else stamp_ns / 1e9 for stamp_ns in _stamps_of(record)],
            *_figures_of(record),
            self.names.of(record.name),
            self.models.of(record.model),
            outcome is Outcome.OK,
            outcome.is_error,
            record.broken,
            record.found_pool_full,
            outcome is Outcome.CANCELLED,
            self._client_limited(record),
        )

    def _client_limited(self, record: RequestRecord) -> float:
        if record.outcome is Outcome.LOST:  # a load worker of ours has died: the server had no part in it
            return 1.0
        if record.client_limited is not None:
            return float(record.client_limited)
        start_s, end_s = record.dispatched_ns / 1e9, record.end_ns / 1e9
        if self._red.touch(record.worker, start_s, end_s):
            return 1.0
        return math.nan if record.outcome is Outcome.OK and end_s > self._judged_s else 0.0

    @classmethod
    def of(cls, batches: Iterable[FactBatch]) -> Facts:
        """All facts of a whole run."""
        facts = cls(cap=None)
        for batch in batches:
            facts.extend(batch)
        return facts


def _rows(samples: Sequence[object], names: tuple[str, ...]) -> list[tuple[float | None, ...]]:
    return [_reader(names)(sample) for sample in samples]


@functools.cache
def _reader(names: tuple[str, ...]) -> Callable[[object], tuple[Any, ...]]:
    """What reads fields and properties of these names at once."""
    return attrgetter(*names)


_stamps_of, _figures_of = _reader(tuple(_STAMPS.values())), _reader(_FIGURES)
