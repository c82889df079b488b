"""Measurements beside each other, written down: what both formats hold, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from llmtop.domain.compared import Compared, Delta, LevelDelta
from llmtop.domain.frame import Timeline
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Curve
from llmtop.report.markdown import plain_of, table
from llmtop.wording.compared import change, figure, interval_text, metric_name
from llmtop.wording.figures import PAGE, UNKNOWN
from llmtop.wording.names import short_unit

WHOLE_HEADS = ("", "before", "after", "change", "95 %", "")
FIGURE_HEADS = ("load", "", "before", "after", "change", "95 %", "")
NOTE = (
    "Changes are from before to after, with the interval that holds them: 95 % for all figures of a comparison "
    "together. Same is no difference beyond what two runs of one server differ by, and measured well enough to say so; "
    "not known is too few requests to tell. At a load with ~ one of the two lies between two that it measured."
)


class Beside(Struct, frozen=True, kw_only=True):
    """One of the measurements."""

    name: str
    curve: Curve
    facts: tuple[tuple[str, str], ...] = ()
    """(name, text) of what it is: its file, when it was driven, what it drove."""
    timeline: Timeline | None = None
    """From start to end; None: it is no run of ours, or one that stands there already."""


class ComparisonInput(Struct, frozen=True, kw_only=True):
    """Measurements beside each other, judged, ready to be written down; each text is `plain`."""

    version: str
    """Of the llmtop that writes it."""
    slo: Slo
    sides: tuple[Beside, ...]
    """The one before, then each of the others."""
    compared: tuple[Compared, ...]
    """Each of the others beside the first."""


def heading(told: Compared) -> tuple[str, str]:
    """The whole as a heading of bearable length, and the rest of it."""
    head, _, rest = told.sentence.partition("; ")
    first, colon, why = head.partition(": ")
    if colon and "`" not in why:
        head, rest = first, "; ".join(filter(None, (why, rest)))
    return f"{head}.", f"{rest[0].upper()}{rest[1:]}." if rest else ""


def load_text(level: LevelDelta, told: Compared) -> str:
    """`32 users`, `~32 users` where one side lies between two that it measured."""
    mark = "~" if level.interpolated else ""
    return f"{mark}{PAGE.load(level.load, told.axis)} {short_unit(told.axis, level.load)}"


def shown_metrics(told: Compared) -> list[str]:
    """The figures that both have at some load."""
    known = [delta.metric for level in told.levels for delta in level.deltas if delta.change is not None]
    return list(dict.fromkeys(known))


def difference_rows(told: Compared) -> list[tuple[str, str, str]]:
    return [(each.name, each.before or UNKNOWN, each.after or UNKNOWN) for each in told.differs]


def delta_row(delta: Delta, told: Compared) -> tuple[str, ...]:
    """Figure, before, after, change, interval, verdict."""
    return (
        metric_name(delta.metric),
        *(figure(delta.metric, value, told.axis, PAGE) for value in (delta.before, delta.after)),
        change(delta, PAGE),
        interval_text(delta, PAGE),
        delta.verdict.value,
    )


def whole_deltas(told: Compared) -> tuple[Delta, ...]:
    """Capacity and cliff, and the cost where a price of both is known."""
    return (told.capacity, told.cliff, *(() if told.cost.before is None else (told.cost,)))


def whole_rows(told: Compared) -> list[tuple[str, ...]]:
    """Of these, those of which one of the two is known."""
    known = [delta for delta in whole_deltas(told) if delta.before is not None or delta.after is not None]
    return [delta_row(delta, told) for delta in known]


def figure_rows(told: Compared) -> list[tuple[str, ...]]:
    """All figures, load by load."""
    return [
        (load_text(level, told), *delta_row(delta, told))
        for level in told.levels
        for delta in level.deltas
        if delta.before is not None or delta.after is not None
    ]


def matrix(told: Compared) -> list[tuple[str, list[Delta | None]]]:
    """(load, its changes in the order of `shown_metrics`), over all loads last."""
    rows = [(load_text(level, told), level.deltas) for level in told.levels] + [("over all", told.over_all)]
    found = [(name, {delta.metric: delta for delta in deltas}) for name, deltas in rows]
    return [(name, [deltas.get(metric) for metric in shown_metrics(told)]) for name, deltas in found]


def comparison_markdown(report: ComparisonInput) -> str:
    """The comparison as GitHub-flavoured Markdown, for pull requests and CI summaries."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: ComparisonInput) -> Iterable[str]:
    for at, told in enumerate(report.compared):
        head, rest = heading(told)
        yield from ("",) if at else ()
        yield f"{'##' if at else '#'} {plain_of(head)}"
        yield from ("", plain_of(rest)) if rest else ()
        for note in told.notes:
            yield from ("", f"> {plain_of(note)}")
        yield from _parts(told)
    yield from ("", "## What was compared", "")
    names = dict.fromkeys(name for side in report.sides for name, _ in side.facts)
    yield from table(
        ("", *(plain_of(side.name) for side in report.sides)),
        [(name, *(dict(side.facts).get(name, UNKNOWN) for side in report.sides)) for name in names],
    )
    yield from ("", NOTE)


def _parts(told: Compared) -> Iterable[str]:
    if told.differs:
        yield ""
        yield from table(("what differs", "before", "after"), difference_rows(told))
    if whole := whole_rows(told):
        yield ""
        yield from table(WHOLE_HEADS, whole)
    yield ""
    yield from table(
        ("change", *map(metric_name, shown_metrics(told))), [(name, *_changes(deltas)) for name, deltas in matrix(told)]
    )
    yield from ("", "<details><summary>All figures</summary>", "")
    yield from table(FIGURE_HEADS, figure_rows(told))
    yield from ("", "</details>")


def _changes(deltas: Sequence[Delta | None]) -> list[str]:
    known = [delta if delta is not None and delta.change is not None else None for delta in deltas]
    return [UNKNOWN if delta is None else f"{change(delta, PAGE)} {delta.verdict}" for delta in known]
