"""Tables of levels as text: raw samples (one row a request), or one row a level."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import Level, Statistic
from llmtop.errors import UsageError

_SAMPLES = ("ttft_s", "tpot_s", "e2e_s")


def parse_levels(text: str) -> tuple[Level, ...]:
    """Levels of a CSV table, lowest load first.

    Columns: `level` and either raw samples, one row a request (`ttft_s,tpot_s,e2e_s`, any of them, optional
    `X_rps,running,waiting,kv,preempt,tok_s,errors`), or one row a level (`y,se_log,n`, optional
    `y_mean,R_mean,X_rps,tok_s` and the same server columns). Seconds, requests/s and tokens/s; empty cells are not
    known. Raises UsageError naming the column or the line.
    """
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if "level" not in names:
        raise UsageError(f"table of levels: no column 'level'; found {', '.join(names) or 'nothing'}")
    rows = [_numbers(row, line) for line, row in enumerate(reader, start=2)]
    if any(math.isnan(row["level"]) or row["level"] <= 0 for row in rows):
        raise UsageError("table of levels: every row needs a level above zero")
    by_level: dict[float, list[dict[str, float]]] = {}
    for row in rows:
        by_level.setdefault(row["level"], []).append(row)
    if "y" in names:
        build = _summary
    elif any(name in names for name in _SAMPLES):
        build = _raw
    else:
        raise UsageError("table of levels: needs ttft_s, tpot_s or e2e_s (one row a request), or y (one row a level)")
    return tuple(build(load, by_level[load]) for load in sorted(by_level))


def _numbers(row: Mapping[str | None, str | None], line: int) -> dict[str, float]:
    numbers = {}
    for name, cell in row.items():
        if name is None:
            raise UsageError(f"table of levels: line {line} has more cells than the head")
        try:
            numbers[name] = float(cell) if cell and cell.strip() else math.nan
        except ValueError:
            raise UsageError(f"table of levels: line {line}, column {name}: {cell!r} is not a number") from None
    return numbers


def _known(rows: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
    return sum(values) / len(values) if values else None


def _raw(load: float, rows: Sequence[Mapping[str, float]]) -> Level:
    def column(name: str) -> Array:
        return np.array([row.get(name, math.nan) for row in rows], dtype=np.float64)

    ttft_s, tpot_s, e2e_s = (column(name) for name in _SAMPLES)
    return Level(
        load=load,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=e2e_s,
        errors=_errors(rows),
        **_rates_and_gauges(rows),
    )


def _summary(load: float, rows: Sequence[Mapping[str, float]]) -> Level:
    row = rows[-1]
    y, count, se = (row.get(name, math.nan) for name in ("y", "n", "se_log"))
    if not y > 0:
        raise UsageError(f"table of levels: level {load:g} needs y above zero")
    n = 1 if math.isnan(count) else int(count)
    if math.isnan(se):
        se = 1.2533 * 0.3 / math.sqrt(n)
    return Level(
        load=load,
        given=Statistic(y, se, n),
        errors=_errors(rows),
        ttft_mean_s=_known(rows, "y_mean") or y,
        e2e_mean_s=_known(rows, "R_mean"),
        **_rates_and_gauges(rows),
    )


def _errors(rows: Sequence[Mapping[str, float]]) -> int:
    return round(_known(rows, "errors") or 0)


def _rates_and_gauges(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    columns = {
        "requests_per_s": "X_rps",
        "output_tokens_per_s": "tok_s",
        "running": "running",
        "waiting": "waiting",
        "kv_usage": "kv",
        "preemptions": "preempt",
    }
    return {field: _known(rows, column) for field, column in columns.items()}
