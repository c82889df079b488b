"""What a CI job shows of a step: the answer first, then what to turn, the limits, what failed, where the facts lie."""

from __future__ import annotations

from collections.abc import Iterable

from llmtop.report import prose
from llmtop.report.contents import ReportInput
from llmtop.report.markdown import failures_table, limits_table, plain_of
from llmtop.wording.failures import failure_seen


def step_text(report: ReportInput, answer: str, run_file: str | None) -> str:
    """Of a run, as GitHub-flavoured Markdown.

    Args:
        answer: the last line of the run, with its exit code.
        run_file: where the recording lies; None: there is none.
    """
    return "\n".join(_lines(report, answer, run_file)) + "\n"


def broken_text(answer: str, why: str) -> str:
    """The same of a run that broke, or never began."""
    return f"### llmtop: {plain_of(answer)}\n\n{plain_of(why)}\n"


def _lines(report: ReportInput, answer: str, run_file: str | None) -> Iterable[str]:
    yield f"### llmtop: {plain_of(answer)}"
    yield from ("", f"**{plain_of(prose.verdict(report))}**")
    yield from ("", plain_of(" ".join(prose.details(report))))
    told_below = set(map(failure_seen, report.assessment.failures))
    for text in prose.warnings(report):
        if text not in told_below:
            yield from ("", f"> {plain_of(text)}")
    if limits := list(limits_table(report)):
        yield from ("", *limits)
    yield from failures_table(report)
    yield from ("", plain_of(prose.title(report)))
    if run_file is not None:
        yield from ("", plain_of(f"Run file: {run_file}"))
