"""A run's own requests as traffic: what llmtop has sent, to be told or replayed as if a service had logged it."""

from __future__ import annotations

from pathlib import Path

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.errors import RunFileError
from llmtop.recording.reader import RunReader
from llmtop.traffic.columns import MOST_ROWS, WITHOUT_TOKENS, Columns, hashed
from llmtop.traffic.rows import Odd
from llmtop.traffic.table import Traffic

SOURCE = "llmtop run"
UNSENT, CUT = "that were never sent", "that the run cut off"
FAILED = "that failed"
UNTOLD = float("nan")


def traffic_of_run(path: Path, *, most: int = MOST_ROWS) -> Traffic:
    """The requests of a run file that were sent and answered, with the lengths that were counted.

    Args:
        most: requests; a longer run is refused.

    Raises:
        RunFileError: as `RunReader`, or none of its requests was answered.
        FileError: too many requests.
    """
    columns = Columns(path, most=most, noun="requests")
    with RunReader(path) as run:
        columns.unit = "request"
        for batch in run.batches():
            for record in batch.requests:
                columns.number += 1
                why = _unused(record)
                if why is None:
                    _add(columns, record, run.meta.started_at)
                else:
                    columns.sieve.leave_out(Odd(why, RunFileError(path, f"none of its requests can be used: {why}")))
        if run.cut_off is not None:
            columns.sieve.notes.append(run.cut_off)
    return columns.table(SOURCE, "no request in it", wall=True, sort_said=False)


def _unused(record: RequestRecord) -> str | None:
    if record.begun_ns is None:
        return UNSENT
    if record.outcome is Outcome.CANCELLED:
        return CUT
    if record.outcome.is_error:
        return FAILED
    return None if record.prompt_tokens > 0 else WITHOUT_TOKENS


def _add(columns: Columns, record: RequestRecord, started_at: float) -> None:
    columns.add(started_at + (record.begun_ns or 0) * 1e-9, record.prompt_tokens, record.output_tokens)
    columns.e2e.append(UNTOLD if record.e2e_s is None else record.e2e_s)
    columns.ttft.append(UNTOLD if record.ttft_s is None else record.ttft_s)
    columns.cached.append(-1 if record.cached_tokens is None else record.cached_tokens)
    columns.sessions.append(0 if record.session is None else hashed(f"session {record.session}"))
