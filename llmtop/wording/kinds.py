"""How figures by name, by model, by turn and of calls are told: one form for summary, report and screen."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.kinds import CallFigures, KindFigures, TurnFigures, VisitFigures
from llmtop.domain.plain import plain
from llmtop.wording.figures import TEXT, Figures

UNNAMED = "without a name"
NAME_WIDTH = 16
"""Characters of a name in a table of a terminal."""
_LATENCIES = ("TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "E2E p50", "E2E p95")
_HEADS = ("n", "errors", *_LATENCIES, "req/s", "tok/s", "prompt", "output", "cached")
_SHORT = {
    "n": "n",
    "errors": "errors",
    "TTFT p50": "TTFT p50",
    "TTFT p95": "p95",
    "TPOT p95": "TPOT p95",
    "E2E p95": "E2E p95",
}
"""Of these columns those that 80 characters have room for, and their heads there."""


class Table(Struct, frozen=True):
    """Texts. The first cell of a row is its name, the last a verdict where the last head is empty."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def label(name: str, others: int) -> str:
    """`answer`, `without a name`, `others (5)`"""
    return f"others ({others})" if others else plain(name) or UNNAMED


def tables(told: Assessment, figures: Figures, *, short: bool = False) -> tuple[Table, ...]:
    """All that there is to compare: names and models where there are two, turns, calls; () of requests of one kind.

    Args:
        short: without what 80 characters have no room for.
    """
    found = []
    for title, kinds in (("By name", told.by_name), ("By model", told.by_model)):
        if len(kinds) > 1:
            found.append(_of_kinds(title, kinds, figures, short))
    if told.sessions is not None and len(told.sessions.turns) > 1:
        heads = ("", "n", "TTFT p50", "p95", "prompt tokens", "cached")
        rows = tuple(_turn(each, figures, told.sessions.turns[-1]) for each in told.sessions.turns)
        found.append(Table("By turn", heads, rows))
    if told.calls:
        found.append(
            Table("Calls", ("", "n", "errors", "p50", "p95"), tuple(_call(each, figures) for each in told.calls))
        )
    return tuple(found)


def _of_kinds(title: str, kinds: Sequence[KindFigures], figures: Figures, short: bool) -> Table:
    chosen = {head: head for head in _HEADS} if not short else _SHORT
    rows = []
    for each in kinds:
        told = (
            figures.whole(each.n),
            figures.whole(each.errors) if short else _errors(each.errors, each.error_ratio, figures),
            *(figures.latency(getattr(each, f"{head.lower().replace(' ', '_')}_ms")) for head in _LATENCIES),
            *map(
                figures.count, (each.requests_per_s, each.output_tokens_per_s, each.prompt_tokens, each.output_tokens)
            ),
            figures.percent(each.cached_share),
        )
        cells = (cell for head, cell in zip(_HEADS, told, strict=True) if head in chosen)
        rows.append((label(each.name, each.others), *cells, verdict(each.ok)))
    return Table(title, ("", *chosen.values(), ""), tuple(rows))


def verdict(ok: bool | None) -> str:
    """`SLO OK`, `SLO FAIL`; empty: not known, or not asked."""
    return {True: "SLO OK", False: "SLO FAIL", None: ""}[ok]


def _errors(errors: int, share: float | None, figures: Figures) -> str:
    return "0" if not errors else f"{figures.whole(errors)} ({figures.percent(share)})"


def _turn(each: TurnFigures, figures: Figures, last: TurnFigures) -> tuple[str, ...]:
    return (
        f"turn {each.turn}{' and later' if each is last and each.turn > 2 else ''}",
        figures.whole(each.n),
        *map(figures.latency, (each.ttft_p50_ms, each.ttft_p95_ms)),
        figures.count(each.prompt_tokens),
        figures.percent(each.cached_share),
    )


def _call(each: CallFigures, figures: Figures) -> tuple[str, ...]:
    errors = _errors(each.errors, each.errors / each.n if each.n else None, figures)
    return (
        label(each.name, each.others),
        figures.whole(each.n),
        errors,
        figures.latency(each.p50_ms),
        figures.latency(each.p95_ms),
    )


def visits(told: VisitFigures, figures: Figures = TEXT) -> str:
    """`240 visits of 3.00 requests, 1.20 visits/s, 8.20 s each (p95 12.1 s), a request failed in 4 (1.67 %)`"""
    if not told.visits:
        return "no visit is whole of those that count"
    of = "" if told.requests is None else f" of {figures.count(told.requests)} requests"
    parts = [f"{figures.whole(told.visits)} visit{'' if told.visits == 1 else 's'}{of}"]
    if told.per_s is not None:
        parts.append(f"{figures.count(told.per_s)} visits/s")
    if told.duration_p50_s is not None:
        tail = "" if told.duration_p95_s is None else f" (p95 {figures.latency(told.duration_p95_s * 1e3)})"
        parts.append(f"{figures.latency(told.duration_p50_s * 1e3)} each{tail}")
    failed = f"{figures.whole(told.failed)} ({figures.percent(told.failed / told.visits)})"
    parts.append(f"a request failed in {failed}" if told.failed else "no request failed")
    return ", ".join(parts)


def as_lines(table: Table, width: int | None = None) -> list[str]:
    """For a terminal: columns of equal width, names at the left, figures at the right.

    Args:
        width: what there is room for, which the names get the rest of; None: as wide as it gets.
    """
    cells = [(table.title, *table.heads[1:]), *table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = NAME_WIDTH if width is None else width - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = max(len(table.title), min(widths[0], room))
    return ["  ".join(_placed(row, widths, table.heads)).rstrip() for row in cells]


def _placed(row: Sequence[str], widths: Sequence[int], heads: Sequence[str]) -> list[str]:
    texts = {0, *([len(heads) - 1] if not heads[-1] else [])}
    cells = zip((_cut(row[0], widths[0]), *row[1:]), widths, strict=True)
    return [text.ljust(width) if at in texts else text.rjust(width) for at, (text, width) in enumerate(cells)]


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
