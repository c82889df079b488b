"""How a deployment scaled, in every format of a report: its sentence, a table, a stair and marks."""

from __future__ import annotations

import pytest
from msgspec import structs

from llmtop.cli.assess import as_text
from llmtop.domain.assessment import Assessment
from llmtop.domain.judgement import Judgement
from llmtop.domain.run import ScaleKind, ScaleStep
from llmtop.domain.scaling import Scaling
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.report import ReportInput, prose, scaling
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text


def step(t_s: float, kind: ScaleKind, replicas: int, name: str = "", since: bool = False) -> ScaleStep:
    return ScaleStep(t_s=t_s, kind=kind, replicas=replicas, name=name, since=since)


STEPS = (
    step(1.0, "desired", 1, since=True),
    step(1.0, "created", 1, "pod-1", since=True),
    step(1.0, "ready", 1, "pod-1", since=True),
    step(91.0, "desired", 3),
    step(93.0, "created", 2, "pod-2"),
    step(93.0, "created", 3, "pod-3"),
    step(160.0, "ready", 2, "pod-2"),
    step(172.0, "ready", 3, "pod-3"),
    step(300.0, "desired", 1),
    step(310.0, "gone", 2, "pod-2"),
    step(310.5, "gone", 1, "pod-3"),
)
FOUND = Scaling(
    from_s=60.0, before=1, after=3, decided_s=31.2, created_s=33.0, ready_s=111.9, debt_s=97.0, missed=412, n=1930,
    text="replicas 1 → 3 after 112 s",
)  # fmt: skip


@pytest.fixture
def scaled(report: ReportInput) -> ReportInput:
    assessment = structs.replace(report.assessment, scalings=(FOUND,))
    return structs.replace(report, assessment=assessment, scaling=STEPS)


def test_the_table_has_the_seconds_of_each_step() -> None:
    assert scaling._row(FOUND) == (
        "1 → 3", "01:00", "31 s", "33 s", "112 s", "--", "--", "97 s", "412 of 1\u202f930",
    )  # fmt: skip
    silent = structs.replace(FOUND, debt_s=None, missed=None, n=None)
    assert scaling._row(silent)[-2:] == ("--", "--")


def test_replicas_are_a_stair_of_what_somebody_tells() -> None:
    stairs = scaling.lines(STEPS, 360.0)
    assert stairs["desired"] == [(1.0, 1), (91.0, 1), (91.0, 3), (300.0, 3), (300.0, 1), (360.0, 1)]
    assert stairs["ready"] == [
        (1.0, 1), (160.0, 1), (160.0, 2), (172.0, 2), (172.0, 3), (310.0, 3), (310.0, 2), (310.5, 2), (310.5, 1),
        (360.0, 1),
    ]  # fmt: skip
    assert "serving" not in stairs, "nobody tells"
    assert scaling.lines((), 360.0) == {}


def test_marks_are_terse_and_those_that_came_together_are_one() -> None:
    assert scaling.marks(STEPS) == [
        (91.0, "+2 desired"),
        (160.0, "pod-2 ready"),
        (172.0, "pod-3 ready"),
        (300.0, "-2 desired"),
        (310.0, "2 gone"),
    ]
    apart = (step(100.0, "ready", 2, "pod-2"), step(102.0, "ready", 3, "pod-3"))
    assert [text for _, text in scaling.marks(apart)] == ["pod-2 ready", "pod-3 ready"]
    assert scaling.marks((step(5.0, "desired", 2),)) == [(5.0, "2 desired")]


def test_every_format_has_it(scaled: ReportInput, report: ReportInput) -> None:
    page, text = html_text(scaled), markdown_text(scaled)
    for whole in (page, text):
        assert "412 of 1" in whole
        assert "replicas 1 → 3 after" in whole
    assert "<h3>Replicas" in page
    assert "pod-2 ready" in page
    assert 'data-column="replicas_desired"' in page
    assert 'data-column="replicas_serving"' not in page
    plain = html_text(report)
    assert "<h3>Replicas" not in plain
    assert f"<h2>{scaling.TITLE}" not in plain
    assert f"## {scaling.TITLE}" not in markdown_text(report)


def test_what_the_answer_says_is_not_said_again(scaled: ReportInput) -> None:
    assert FOUND.text in prose.warnings(scaled)
    answered = structs.replace(scaled.assessment, judgement=Judgement(sentence=f"recovered; {FOUND.text}"))
    assert FOUND.text not in prose.warnings(structs.replace(scaled, assessment=answered))
    cliff = CliffVerdict(kind=Kind.INSUFFICIENT)
    assert f"scaling    {FOUND.text}" in as_text(Assessment(scalings=(FOUND,)), cliff)
