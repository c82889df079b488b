"""Recorded traces as workloads: one request of each row, and when they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmtop.domain.bounds import TIME_S
from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import path_of_workload

if TYPE_CHECKING:
    from llmtop.traffic.table import Blocks, Traffic

MOST_REQUESTS = 1_000_000
"""Of a trace: a rate of ten for a day."""


class TraceRow(Struct, frozen=True):
    """One request of a trace. Rows that begin with the same `blocks` begin with the same text."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0
    """Of one of `blocks`."""


def read_trace(workload: Workload, max_model_len: int | None = None) -> tuple[tuple[TraceRow, ...], tuple[str, ...]]:
    """The requests of a trace in order of arrival, and what is to be said of the file.

    Rows longer than `max_model_len` are left out. Raises FileError.
    """
    path = path_of_workload(workload)
    rows, said = read_rows(path)
    kept = [row for row in rows if max_model_len is None or row.prompt_tokens + row.output_tokens <= max_model_len]
    if not kept:
        raise FileError(path, f"no request fits into the {max_model_len} tokens that the model takes")
    if longer := len(rows) - len(kept):
        said = (
            *said,
            f"{longer:,} of {len(rows):,} requests left out: longer than the {max_model_len:,} tokens of the model",
        )
    return tuple(kept), said


def read_rows(path: Path) -> tuple[list[TraceRow], tuple[str, ...]]:
    """All requests of a trace or request list in order of arrival, the first at 0, and what is to be said of the file.

    Raises FileError.
    """
    from llmtop.traffic.read import read  # numpy comes with it, which a session without a trace does not load

    traffic = read(path, most=MOST_REQUESTS)
    return rows_of(path, traffic), traffic.says


def rows_of(path: object, traffic: Traffic) -> list[TraceRow]:
    """Raises FileError: it has requests of unknown length, or lasts longer than a plan may."""
    if not TIME_S.holds(traffic.span_s):
        days, most = traffic.span_s / 86_400, TIME_S.most / 86_400
        raise FileError(path, f"its requests lie {days:,.0f} days apart; a plan lasts {most:g} at most")
    if not traffic.prompt.all() or not traffic.output.all():
        raise FileError(path, f"as {traffic.source} it does not tell the lengths of all requests")
    blocks = [()] * len(traffic) if traffic.blocks is None else _blocks(traffic.blocks)
    size = 0 if traffic.blocks is None else traffic.blocks.tokens
    columns = (traffic.start_s.tolist(), traffic.prompt.tolist(), traffic.output.tolist(), blocks)
    return [TraceRow(*row, size) for row in zip(*columns, strict=True)]


def _blocks(blocks: Blocks) -> list[tuple[int, ...]]:
    ids, ends = blocks.ids.tolist(), blocks.ends.tolist()
    return [tuple(ids[begin:end]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def arrivals_replay(arrivals_s: Sequence[float], *, window_s: float = 10.0, times: float = 1.0) -> Replay:
    """A trace's arrivals, in their order, as a load shape: its mean rate in each window, `times` as fast.

    Has no more points than two for each arrival, however long nothing comes.
    """
    points: list[tuple[float, LoadPoint]] = []
    counts = Counter(int(arrival // window_s) for arrival in arrivals_s)
    if arrivals_s and 0 not in counts:
        points.append((0.0, LoadPoint(rate_rps=0.0)))
    for place, count in counts.items():
        points.append((place * window_s / times, LoadPoint(rate_rps=count / window_s * times)))
        if place + 1 not in counts and place != int(arrivals_s[-1] // window_s):
            points.append(((place + 1) * window_s / times, LoadPoint(rate_rps=0.0)))
    return Replay(tuple(points))
