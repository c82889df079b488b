"""What a GitHub job shows of a step: appended, bounded, without a meaning that others gave it, and never fatal."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ended import ran, result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.cli import step_summary
from llmtop.cli.main import main
from llmtop.cli.step_summary import CUT, MOST, VARIABLE, bounded
from llmtop.domain.failures import FailureGroup
from llmtop.domain.profile import Question
from llmtop.domain.request import Outcome
from llmtop.domain.verdicts import Bound, Capacity, Diagnosis, SloVerdict, TargetVerdict
from llmtop.host.headless import RunResult


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "step.md"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def judged(ok: bool | None = False, **more: object) -> RunResult:
    """A run of the shipped smoke profile with one limit met and one missed."""
    came_to = result(ok=ok)
    slo = came_to.meta.profile.slo
    targets = [
        TargetVerdict(name=each.name, limit=each.limit, value=each.limit * share, n=480, ok=share < 1)
        for each, share in zip(slo.targets, (0.5, 2.0, 0.5), strict=True)
    ]
    told = replace(
        came_to.assessment,
        judgement=replace(came_to.assessment.judgement, question=Question.HOLD),
        slo=SloVerdict(ok=ok, targets=tuple(targets)),
        capacity=Capacity(at_slo=49.0, fails_at=56.0, sentence="supports 49 concurrent users at the SLO"),
        diagnosis=Diagnosis(bound=Bound.QUEUE, advice="raise max_num_seqs"),
        **more,
    )
    return replace(came_to, assessment=told)


def test_the_answer_is_first_then_what_to_turn_the_limits_and_the_run_file(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(monkeypatch, judged()) == 1
    lines = step.read_text().splitlines()
    assert lines[:4] == ["", "### llmtop: smoke: no (exit code 1)", "", "**the verdict.**"]
    assert "Supports 49 concurrent users at the SLO." in lines[5]
    assert "Raise max\\_num\\_seqs." in lines[5]
    assert "| limit | measured | n |  |" in lines
    assert "| TPOT p95 < 250 ms | 500 ms | 480 | missed |" in lines
    assert "| TTFT p95 < 10 s | 5.00 s | 480 | met |" in lines
    assert lines[-1] == "Run file: r.llmtop"


def test_what_others_wrote_stays_and_each_run_is_added(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step.write_text("| of | others |")
    for _ in range(2):
        ran(monkeypatch, judged())
    told = step.read_text()
    assert told.startswith("| of | others |\n### llmtop")
    assert told.count("### llmtop: smoke") == 2


def test_without_the_variable_nothing_is_made(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv(VARIABLE) if value is None else monkeypatch.setenv(VARIABLE, value)
        monkeypatch.setattr(step_summary, "append", None)
        ran(monkeypatch, judged())
    assert not step.exists()


@pytest.mark.parametrize("where", ["no/folder.md", ".", "fifo", "a\0b"])
@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_a_path_that_cannot_be_written_is_said_and_changes_no_exit_code(
    where: str,
    ok: bool,
    code: int,
    step: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(step.parent / "fifo")
    monkeypatch.setattr(step_summary.os, "environ", {**os.environ, VARIABLE: str(step.parent / where)})
    assert ran(monkeypatch, judged(ok)) == code
    out, err = capsys.readouterr()
    assert VARIABLE in err
    assert "Traceback" not in err
    assert out.splitlines()[-1].endswith(f"(exit code {code})")


def test_a_run_that_could_not_begin_says_why(step: Path, unused_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "smoke", f"http://127.0.0.1:{unused_port}"]) == 3
    told = step.read_text()
    assert told.startswith("\n### llmtop: smoke: no run (exit code 3)\n")
    assert "nothing listens on port" in told
    said = capsys.readouterr().err
    assert f"127.0.0.1:{unused_port}" in said
    assert "Traceback" not in said


HOSTILE = "<img src=x onerror=alert(1)>|</table>\n# head\n```\n[a](http://evil) @org/team **b** <!-- \x1b[31m &lt;"


def test_what_a_server_said_has_no_meaning(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = FailureGroup(outcome=Outcome.HTTP_ERROR, status=500, text=HOSTILE, count=3, first_s=1.0, last_s=2.0)
    came_to = judged(failures=(failed,), notes=(HOSTILE,))
    judgement = replace(came_to.assessment.judgement, sentence=HOSTILE)
    info = replace(came_to.meta, label=HOSTILE)
    ran(monkeypatch, replace(came_to, meta=info, assessment=replace(came_to.assessment, judgement=judgement)))
    told = step.read_text()
    assert told.count("HTTP 500") == 1
    assert not re.search(r"<(?!\s|\d)", told.replace("\\<", "")), "no tag"
    assert not re.search(r"(?<!\\)(`|\[|\])", told), "no code, no link"
    assert "\x1b" not in told
    assert [line for line in told.splitlines() if line.lstrip().startswith("#")] == [
        "### llmtop: smoke: no (exit code 1)"
    ]
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}, "no cell has more columns than its table"


@given(st.text(max_size=200), st.sampled_from([0, 1, 7, 60, 5000]))
def test_a_summary_has_a_bound_and_whole_lines(line: str, times: int) -> None:
    text = "\n".join(["<details>", *([line or "x"] * times * 20)])
    told = bounded(text)
    assert len(told.encode(errors="backslashreplace")) <= MOST
    if CUT in told:
        kept = told.partition(CUT)[0]
        assert f"\n{text.strip()}\n".startswith(f"{kept}\n")
        assert told.endswith("</details>\n")
    else:
        assert told == f"\n{text.strip()}\n"


def test_the_bound_is_far_below_what_a_step_may_show() -> None:
    """https://docs.github.com/en/actions/reference/workflow-commands: 1 MiB a step."""
    assert 16 * MOST <= 2**20


def test_a_summary_at_the_bound_is_whole_and_one_above_is_cut() -> None:
    exact = "\n".join(["x" * 63] * 1023 + ["x" * 62])
    assert len(bounded(exact).encode()) == MOST
    assert CUT not in bounded(exact)
    assert CUT in bounded(f"{exact}y")


def test_a_comparison_is_shown_as_its_report_is(step: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "level,ttft_s,tpot_s,e2e_s\n"
    for name, ttft_s in (("before", 0.1), ("after", 0.2)):
        rows = [f"{load},{ttft_s * (1 + i % 7 / 50)},0.02,1.5" for load in (4, 16) for i in range(200)]
        (tmp_path / f"{name}.csv").write_text(head + "\n".join(rows))
    files = [str(tmp_path / f"{name}.csv") for name in ("before", "after")]
    assert main(["compare", *files, "-o", str(tmp_path / "c.md")]) == 0
    whole = (tmp_path / "c.md").read_text()
    assert step.read_text().strip() == whole[: whole.index("<!-- written by llmtop")].strip()
    assert "is worse than" in whole
