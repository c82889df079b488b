"""Tables of levels as text, read and written: raw samples (one row a request), or one row a level."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import FAINT_BELOW, Level, Stated, Statistic
from llmtop.domain.bounds import TIME_S, Quantity
from llmtop.domain.plain import plain
from llmtop.errors import UsageError
from llmtop.exchange.foreign import LEVEL, NAMES

MOST_LEVELS = 1000
COLUMNS = (
    "columns are level and ttft_s, tpot_s or e2e_s (one row a request), or level, y and n (one row a level: its "
    "figure in seconds and its requests), or level, n and ttft_p50_s, tpot_p95_s, ... (one row a level)"
)
_SAMPLES = ("ttft_s", "tpot_s", "e2e_s")
STATED = {f"{name}_s": name for name in NAMES}
"""Columns of statistics, to the names that a level has for them."""
_Row = dict[str, float]
_KNOWN_NAMES = (
    *("level", *_SAMPLES, "y", "se_log", "n", "y_mean", "R_mean"),
    *("X_rps", "tok_s", "running", "waiting", "kv", "preempt", "errors"),
    *("status", "textless", "prompt_tokens", "output_tokens"),
    *STATED,
)
_NAMES = {name.lower(): name for name in _KNOWN_NAMES}
"""Columns are known in any case."""
FIGURE = Quantity("figure", 0, 1e12)
_QUANTITIES = {
    "level": LEVEL,
    **dict.fromkeys(("y", "y_mean", "R_mean", "e2e_s"), Quantity("latency", 1e-6, TIME_S.most, TIME_S.unit)),
    "se_log": Quantity("se_log", 0, 10),
    "n": Quantity("n", 1, 1e12, "requests"),
    **dict.fromkeys(("ttft_s", "tpot_s", *STATED), TIME_S),
    "status": Quantity("status", 100, 999),
}


def parse_levels(text: str) -> tuple[Level, ...]:
    """Levels of a CSV table, lowest load first.

    Columns: `level` and either raw samples, one row a request (`ttft_s,tpot_s,e2e_s`, any of them, optional
    `X_rps,running,waiting,kv,preempt,tok_s,errors`), or one row a level (`y,se_log,n`, optional
    `y_mean,R_mean,X_rps,tok_s` and the same server columns), or one row a level with statistics by name (`n` and
    `ttft_p50_s,ttft_p95_s,tpot_mean_s,e2e_std_s`, any of them). Seconds, requests/s and tokens/s; empty cells are not
    known, columns of other names are left out. Raises UsageError naming the column or the line.
    """
    rows = _rows(text)
    by_level: dict[float, list[_Row]] = {}
    for row in rows:
        by_level.setdefault(row["level"], []).append(row)
    if len(by_level) > MOST_LEVELS:
        raise UsageError(f"table of levels: {len(by_level):,} levels; at most {MOST_LEVELS:,} are read")
    names = rows[0] if rows else {}
    if not rows or not any(name in names for name in ("y", *_SAMPLES, *STATED)):
        raise UsageError(f"table of levels: no {'row' if not rows else 'figure'} in it; {COLUMNS}")
    if "y" in names and "n" not in names:
        raise UsageError(f"table of levels: no column 'n' beside 'y'; {COLUMNS}")
    return tuple(_level(load, by_level[load]) for load in sorted(by_level))


def _level(load: float, rows: Sequence[Mapping[str, float]]) -> Level:
    if "y" in rows[0]:
        return _summary(load, rows)
    figures = {name: value for column, name in STATED.items() if (value := _known(rows, column)) is not None}
    if not figures:
        return _raw(load, rows)
    n = round(_known(rows, "n") or 0)
    return Level(load=load, stated=Stated(n, figures), errors=_errors(rows) if n else 0, **_rates_and_gauges(rows))


def shortfall(levels: Sequence[Level]) -> str:
    """What to say where no level has enough requests to say anything; empty: one has."""
    most = max((level.n for level in levels), default=0)
    if most >= FAINT_BELOW:
        return ""
    return f"no level has {FAINT_BELOW} requests, the most that one has is {most}; {COLUMNS}"


def _rows(text: str) -> list[_Row]:
    """Every line as numbers by the name of their column, nan for what is not known. Raises UsageError."""
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")))
    names: list[str] = []
    rows = []
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if names:
                rows.append(_numbers(names, cells, reader.line_num))
                continue
            names = [_NAMES.get(cell.strip().lower(), cell.strip()) for cell in cells]
            if "level" not in names:
                raise UsageError(f"table of levels: no column 'level', found {plain(','.join(names), 120)}; {COLUMNS}")
    except csv.Error as error:
        raise UsageError(f"table of levels: line {reader.line_num}: {error}") from None
    if not names:
        raise UsageError(f"table of levels: no column 'level', found nothing; {COLUMNS}")
    return rows


def _numbers(names: Sequence[str], cells: Sequence[str], line: int) -> _Row:
    if len(cells) > len(names):
        raise UsageError(f"table of levels: line {line} has more cells than the head")
    numbers = dict.fromkeys(names, math.nan)
    for name, cell in zip(names, cells, strict=False):
        quantity = _QUANTITIES.get(name, FIGURE)
        if not cell.strip() or cell.strip().lower() == "nan":
            continue
        try:
            numbers[name] = quantity.read(cell)
        except ValueError as error:
            if name not in _KNOWN_NAMES:
                continue
            raise UsageError(f"table of levels: line {line}, column {name}: {plain(cell, 60)!r} {error}") from None
    if math.isnan(numbers["level"]):
        raise UsageError(f"table of levels: line {line}, column level: must be {LEVEL.allowed}")
    return numbers


def _known(rows: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
    if not values or min(values) == max(values):
        return values[0] if values else None  # to the last digit
    return sum(values) / len(values)


def _raw(load: float, rows: Sequence[Mapping[str, float]]) -> Level:
    requests = [row for row in rows if not all(math.isnan(row.get(name, math.nan)) for name in _SAMPLES)]

    def column(name: str) -> Array:
        return np.array([row.get(name, math.nan) for row in requests], dtype=np.float64)

    ttft_s, tpot_s, e2e_s = (column(name) for name in _SAMPLES)
    return Level(
        load=load,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=e2e_s,
        errors=_errors(rows),
        textless=round(_known(rows, "textless") or 0),
        status=None if (status := _known(rows, "status")) is None else round(status),
        e2e_mean_s=_known(rows, "R_mean"),
        **_rates_and_gauges(rows),
    )


def _summary(load: float, rows: Sequence[Mapping[str, float]]) -> Level:
    row = rows[-1]
    y, count, se = (row.get(name, math.nan) for name in ("y", "n", "se_log"))
    if not y > 0:
        raise UsageError(f"table of levels: level {load:g} needs y above zero")
    if math.isnan(count):
        raise UsageError(f"table of levels: level {load:g} needs n, its requests")
    n = int(count)
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
        "prompt_tokens": "prompt_tokens",
        "output_tokens": "output_tokens",
    }
    return {field: _known(rows, column) for field, column in columns.items()}


# -- writing -----------------------------------------------------------------------------------------------------------

HEAD = (
    *("level", "n", *_SAMPLES, *STATED, "errors", "status", "textless", "X_rps", "tok_s", "R_mean"),
    *("running", "waiting", "kv", "preempt", "prompt_tokens", "output_tokens"),
)
"""Columns of a table that is written: one row a request where these are known, else one row a level."""


def levels_csv(levels: Sequence[Level]) -> str:
    """A table that `parse_levels` reads to the same levels, but for what an engine and live requests add to them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for level in levels:
        whole = _of_level(level)
        for row in _requests(level) or [{}]:
            writer.writerow(["" if (value := {**whole, **row}.get(name)) is None else value for name in HEAD])
    return out.getvalue()


def _of_level(level: Level) -> dict[str, float | int | None]:
    stated = level.stated
    return {
        "level": level.load,
        "n": stated.n or None if stated else None,
        **({f"{name}_s": value for name, value in stated.figures.items()} if stated else {}),
        "errors": level.errors,
        "status": level.status,
        "textless": level.textless or None,
        "X_rps": level.requests_per_s,
        "tok_s": level.output_tokens_per_s,
        "R_mean": level.e2e_mean_s,
        "running": level.running,
        "waiting": level.waiting,
        "kv": level.kv_usage,
        "preempt": level.preemptions,
        "prompt_tokens": level.prompt_tokens,
        "output_tokens": level.output_tokens,
    }


def _requests(level: Level) -> list[dict[str, float | int | None]]:
    if not level.has_samples:
        return []
    columns = [getattr(level, name).tolist() for name in _SAMPLES]
    rows = zip_longest(*columns, fillvalue=math.nan)
    return [
        {name: None if math.isnan(value) else value for name, value in zip(_SAMPLES, row, strict=True)} for row in rows
    ]
