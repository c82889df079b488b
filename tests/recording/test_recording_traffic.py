"""A run's own requests as traffic: those that were sent and answered, with the lengths that were counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.errors import FileError, RunFileError
from llmtop.recording.traffic import traffic_of_run
from llmtop.recording.writer import RunWriter

META = RunMeta(llmtop_version="0", started_at=1.7e9, endpoint=Endpoint(base_url="http://x"), profile=Profile(name="p"))
MS = 1_000_000
GOOD = RequestRecord(
    scheduled_ns=500 * MS,
    dispatched_ns=500 * MS,
    sent_ns=700 * MS,
    held_ns=100 * MS,
    connect_ns=0,
    headers_ns=None,
    first_token_ns=800 * MS,
    first_answer_ns=800 * MS,
    last_token_ns=1600 * MS,
    end_ns=1600 * MS,
    started_at=1.7e9,
    asked_prompt_tokens=100,
    asked_output_tokens=10,
    prompt_tokens=107,
    output_tokens=9,
    cached_tokens=32,
    outcome=Outcome.OK,
)


def run_of(path: Path, *records: RequestRecord, ended_s: float | None = 9.0) -> Path:
    writer = RunWriter(path, META)
    writer.write(FactBatch(t_s=5.0, requests=records))
    writer.close(ended_s=ended_s)
    return path


def test_requests_that_were_sent_and_answered_are_traffic_with_the_lengths_that_were_counted(tmp_path: Path) -> None:
    records = (
        replace(GOOD, sent_ns=2700 * MS, session=7, first_token_ns=None, last_token_ns=None, outcome=Outcome.TEXTLESS),
        GOOD,
        replace(GOOD, sent_ns=None, outcome=Outcome.HTTP_ERROR),
        replace(GOOD, outcome=Outcome.HTTP_ERROR, status=503),
        replace(GOOD, outcome=Outcome.CANCELLED),
    )
    traffic = traffic_of_run(run_of(tmp_path / "a.llmtop", *records))
    assert traffic.source == "llmtop run"
    assert traffic.start_s.tolist() == pytest.approx([0, 2], abs=1e-6)
    assert traffic.began_at == pytest.approx(1.7e9 + 0.6, abs=1e-6)
    assert (traffic.prompt.tolist(), traffic.output.tolist()) == ([107, 107], [9, 9])
    assert traffic.e2e_s is not None
    assert traffic.ttft_s is not None
    assert traffic.session is not None
    assert traffic.cached is not None
    assert (traffic.e2e_s[0], traffic.ttft_s[0]) == pytest.approx((1.0, 0.2))
    assert (traffic.session.tolist(), traffic.cached.tolist()) == ([-1, 0], [32, 32])
    assert traffic.says == (
        "a.llmtop: 3 of 5 requests left out: 1 that were never sent, 1 that failed, 1 that the run cut off",
    )


def test_a_run_without_an_answer_and_a_file_that_is_no_run_are_refused(tmp_path: Path) -> None:
    failed = replace(GOOD, outcome=Outcome.HTTP_ERROR, status=503)
    with pytest.raises(RunFileError, match="none of its requests can be used: that failed"):
        traffic_of_run(run_of(tmp_path / "a.llmtop", failed))
    with pytest.raises(FileError, match="more than 1 requests: cut it"):
        traffic_of_run(run_of(tmp_path / "b.llmtop", GOOD, GOOD), most=1)
    (tmp_path / "c.llmtop").write_text("no run")
    with pytest.raises(RunFileError, match="not a run file"):
        traffic_of_run(tmp_path / "c.llmtop")
