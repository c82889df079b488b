"""A run that has ended, as `llmtop run` is handed it, without any run."""

from __future__ import annotations

import pytest

from llmtop.cli import run
from llmtop.cli.main import main
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Endpoint, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Ending, RunMeta
from llmtop.errors import LlmtopError
from llmtop.host.endings import End
from llmtop.host.headless import RunResult
from llmtop.meter.facts import Facts
from llmtop.profiles import load_profile


def result(ending: Ending = Ending.PLAN, error: LlmtopError | None = None, ok: bool | None = True) -> RunResult:
    profile = load_profile("smoke")
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://h"),
        profile=profile,
        ended_s=3.0,
        ending=ending,
    )
    status = EndpointStatus(state=EndpointState.UP)
    frame = Frame(seq=0, t_s=3.0, endpoint=status, target=LoadPoint(concurrency=0), run_file="r.llmtop")
    judgement = Judgement(ok=ok, ending=ending, sentence="the verdict")
    return RunResult(meta, frame, Facts(), Assessment(judgement=judgement), End(ending, 2.0, "so it said"), error)


def ran(monkeypatch: pytest.MonkeyPatch, came_to: RunResult, *words: str) -> int:
    monkeypatch.setattr(run, "SessionLink", lambda options: None)
    monkeypatch.setattr(run, "run_to_end", lambda *_, **__: came_to)
    return main(["run", "smoke", "--sim", *words])
