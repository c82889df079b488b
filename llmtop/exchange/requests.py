"""Every request of a recording as a row: JSON Lines, and Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from llmtop.domain.request import RequestRecord
from llmtop.errors import UsageError

_ROWS_AT_ONCE = 50_000
"""Of a Parquet file: a row group."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it ended. Seconds; null: not known, or it never came to that."""

    sent_s: float | None
    """Since the start of the run."""
    end_s: float
    ttft_s: float | None
    """First delta with content, reasoning or a tool call, minus sent."""
    tpot_s: float | None
    """(last - first token) / tokens that were streamed after the first read."""
    e2e_s: float | None
    """Last token minus sent."""
    queue_s: float | None
    """In the client: from when it was meant to be sent to when it was. In no latency."""
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    chunks: int
    """Reads that held a token."""
    outcome: str
    status: int | None
    error: str | None
    finish_reason: str | None
    stage: str | None
    """Of the plan."""
    name: str | None
    """What kind of request it is, where its user says so."""
    session: int | None
    """The visit that it is of."""
    turn: int | None
    """Its place in there, from 1."""
    model: str | None
    """Which was asked, where a run asks several."""


def row_of(record: RequestRecord) -> Row:
    sent = record.sent_ns
    return Row(
        sent_s=None if sent is None else sent / 1e9,
        end_s=record.end_ns / 1e9,
        ttft_s=record.ttft_s,
        tpot_s=record.tpot_s,
        e2e_s=record.e2e_s,
        queue_s=None if sent is None else (sent - record.scheduled_ns) / 1e9,
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        cached_tokens=record.cached_tokens,
        chunks=record.chunks,
        outcome=str(record.outcome),
        status=record.status,
        error=record.error,
        finish_reason=record.finish_reason,
        stage=record.stage,
        name=record.name,
        session=record.session,
        turn=record.turn,
        model=record.model,
    )


def jsonl(rows: Iterable[Row]) -> bytes:
    """One object a line."""
    encoder = msgspec.json.Encoder()
    return b"".join(encoder.encode(row) + b"\n" for row in rows)


def parquet(rows: Iterable[Row]) -> bytes:
    """A Parquet file. Raises UsageError: the library for it is not there."""
    try:
        import pyarrow
        from pyarrow import parquet as files
    except ImportError:
        raise UsageError("--format parquet wants a library: pip install 'llmtop[parquet]'; or take jsonl") from None
    kinds = {"float": pyarrow.float64(), "int": pyarrow.int64(), "str": pyarrow.string()}
    names = {each.name: kinds[_kind(each)] for each in msgspec.structs.fields(Row)}
    schema = pyarrow.schema(list(names.items()))
    out = io.BytesIO()
    with files.ParquetWriter(out, schema) as writer:
        for part in _parts(rows):
            columns = [pyarrow.array([getattr(row, name) for row in part], kind) for name, kind in names.items()]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    return out.getvalue()


def _kind(each: msgspec.structs.FieldInfo) -> str:
    return next(name for name in ("float", "int", "str") if name in str(each.type))


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while part := list(islice(left, _ROWS_AT_ONCE)):
        yield part
