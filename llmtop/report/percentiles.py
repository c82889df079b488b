"""The percentiles of a run, its stages and its levels as rows of text, for the page and for Markdown."""

from __future__ import annotations

from llmtop.domain.figures import PartFigures
from llmtop.report.contents import ReportInput
from llmtop.wording.figures import PAGE
from llmtop.wording.names import axis_name

HEADS = ("", "n", "mean", "p50", "p90", "p95", "p99", "max")
PARTS = "Percentiles of each stage and each level"


def rows(part: PartFigures) -> list[tuple[str, ...]]:
    """One row a latency, cells in the order of `HEADS`; none where no request ended well."""
    named = (("TTFT", part.ttft_ms), ("TPOT", part.tpot_ms), ("E2E", part.e2e_ms), ("ICL", part.icl_ms))
    return [
        (name, PAGE.whole(each.n), *map(PAGE.latency, (each.mean, each.p50, each.p90, each.p95, each.p99, each.max)))
        for name, each in named
        if each.n
    ]


def part_rows(report: ReportInput) -> list[tuple[str, ...]]:
    """The rows of every stage and every level; the first cell says which, where it begins."""
    figures = report.figures
    parts: list[tuple[str, PartFigures]] = [(f"stage {stage.stage}", stage) for stage in figures.stages]
    several = len({level.curve for level in figures.levels}) > 1
    for level in figures.levels:
        label = f"{PAGE.load(level.load, level.axis)} {axis_name(level.axis)}"
        parts.append((f"{label}, {level.curve}" if several else label, level))
    told: list[tuple[str, ...]] = []
    for label, part in parts:
        own = rows(part)
        told += [(f"{label}: {rates_text(part)}" if place == 0 else "", *row) for place, row in enumerate(own)]
    return told


def rates_text(part: PartFigures) -> str:
    """`5.62 requests/s, 360 tok/s`"""
    return f"{PAGE.count(part.requests_per_s)} requests/s, {PAGE.count(part.output_tokens_per_s)} tok/s"


def left_out_text(part: PartFigures) -> str:
    """What ended and is in no percentile; empty: everything is in."""
    counts = (
        (part.errors, "failed"),
        (part.cancelled, "were cancelled by us"),
        (part.client_limited, "were held up by the client"),
        (part.unjudged, "ended before it was known whether the client held them up"),
    )
    parts = [f"{PAGE.whole(count)} {why}" for count, why in counts if count]
    return f"Not among them: {', '.join(parts)}." if parts else ""
