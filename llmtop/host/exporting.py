"""A recording as other tools would have written it: its levels as `Foreign`, its requests as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmtop import __version__
from llmtop.analysis.levels import Level
from llmtop.analysis.sides import Side
from llmtop.domain.run import RunMeta
from llmtop.errors import RunFileError, UsageError
from llmtop.exchange.foreign import Foreign, Sample, stated_of
from llmtop.exchange.requests import Row, row_of
from llmtop.host.review import sides_of_run
from llmtop.recording.reader import RunReader
from llmtop.wording.figures import TEXT

FAILED = "failed"
"""What is told of a request that failed: a level knows their number alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The configuration of a recording that its own verdicts are about."""

    side: Side
    runs: tuple[Foreign, ...]
    """A level each, lowest load first."""
    levels: tuple[Level, ...]
    """Those of `runs`."""
    earlier: int
    """Configurations before it, which are not in it."""


def measured(path: Path, load: float | None = None) -> Measured:
    """The levels of a recording, or the one at `load`. Raises RunFileError: there is none; UsageError: not there."""
    sides = sides_of_run(path)
    if not sides:
        raise RunFileError(path, "no load in it was held long enough to be a level: there is nothing to export")
    side = sides[-1]
    levels = [level for level in side.levels if load is None or level.load == load]
    if not levels:
        raise UsageError(f"--load {load:g}: the levels of that run are at {loads(side.levels, side)}")
    assert side.meta is not None
    with RunReader(path) as reader:
        meta = reader.meta
    return Measured(side, tuple(_foreign(level, side, meta) for level in levels), tuple(levels), len(sides) - 1)


def loads(levels: Sequence[Level], side: Side) -> str:
    return ", ".join(TEXT.load(level.load, side.axis) for level in levels)


def _foreign(level: Level, side: Side, meta: RunMeta) -> Foreign:
    """A level with its requests; of those whose answer was made at another load TPOT and E2E are not known."""
    samples = tuple(_samples(level))
    ok = len(samples)
    rate = level.requests_per_s
    info = meta.info
    return Foreign(
        tool="llmtop",
        version=__version__,
        when=datetime.fromtimestamp(meta.started_at, UTC).isoformat(timespec="seconds"),
        model="" if info is None else info.model,
        server="" if info is None else info.server or "",
        axis=side.axis,
        load=level.load,
        prompt_tokens=_mean([each.prompt_tokens for each in samples], level.prompt_tokens),
        output_tokens=_mean([each.output_tokens for each in samples], level.output_tokens),
        ok=ok,
        failed=level.errors,
        duration_s=ok / rate if rate and ok else None,
        output_tokens_per_s=level.output_tokens_per_s,
        requests_per_s=rate,
        running=level.running,
        waiting=level.waiting,
        kv_usage=level.kv_usage,
        stated=stated_of(samples),
        samples=(*samples, *(Sample(error=FAILED, status=level.status) for _ in range(level.errors))),
    )


def _mean(values: Sequence[int | None], otherwise: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else otherwise


def _samples(level: Level) -> Iterator[Sample]:
    columns = (level.sent_s, level.ttft_s, level.tpot_s, level.e2e_s, level.prompt_lens, level.output_lens)
    for row in zip(*(column.tolist() for column in columns), strict=False):
        sent, ttft, tpot, e2e, prompt, output = (None if math.isnan(value) else value for value in row)
        prompt_tokens, output_tokens = (None if value is None else round(value) for value in (prompt, output))
        yield Sample(sent, ttft, tpot, e2e, prompt_tokens, output_tokens)


def rows_of(path: Path) -> Iterator[Row]:
    """Every request of a recording, in the order in which they ended. Raises RunFileError."""
    with RunReader(path) as reader:
        for batch in reader.batches():
            yield from map(row_of, batch.requests)
