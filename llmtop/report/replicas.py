"""What each replica carried, in a report."""

from __future__ import annotations

from llmtop.report.contents import ReportInput
from llmtop.wording.figures import PAGE, UNKNOWN
from llmtop.wording.replicas import called, times, uneven
from llmtop.wording.sentences import sentence

TITLE = "Replicas"
HEADS = ("replica", "running", "waiting", "KV", "of the mean", "scrapes")
_NOTE = "Means of each replica over the scrapes under load in which it was there."


def rows(report: ReportInput) -> list[tuple[str, ...]]:
    """What each replica carried; empty where there was one alone."""
    carried = report.assessment.replicas
    loads = [(each.running or 0.0) + (each.waiting or 0.0) for each in carried]
    mean = sum(loads) / len(loads) if any(loads) else None
    return [
        (
            called(each.name),
            PAGE.count(each.running),
            PAGE.count(each.waiting),
            PAGE.percent(each.kv_usage),
            UNKNOWN if mean is None else times(load / mean),
            PAGE.whole(each.scrapes),
        )
        for each, load in zip(carried, loads, strict=True)
    ]


def note(report: ReportInput) -> str:
    """What the rows are, and which replica was the fullest."""
    found = report.assessment.imbalance
    return _NOTE if found is None else f"{_NOTE} {sentence(uneven(found.name, found.ratio))}"
