"""JUnit's file says of each limit what the verdict says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.failures import FailureGroup
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome
from llmtop.domain.run import Ending, RunMeta
from llmtop.domain.verdicts import Assessment, Judgement, SloVerdict, TargetVerdict
from llmtop.errors import FileError
from llmtop.exchange.junit import JUnitOutput, junit

META = RunMeta(llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p"))
VERDICT = SloVerdict(
    ok=False,
    targets=(
        TargetVerdict(name="ttft_p95", limit=2.0, value=1.0, ok=True, text="held"),
        TargetVerdict(name="tpot_p95", limit=0.05, value=0.06, ok=False, text="TPOT p95 60 ms"),
        TargetVerdict(name="error_ratio", limit=0.01, value=None, ok=None, text="too few requests"),
    ),
)


def test_the_last_verdict_is_written_when_the_run_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.xml"
    output = JUnitOutput(path)
    output.begin(META)
    output.judged(Assessment())
    output.judged(Assessment(slo=VERDICT, judgement=Judgement(question=Question.HOLD, ok=False, sentence="no")))
    assert not path.exists()
    output.end(META)
    suite = ElementTree.parse(path).getroot()
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "skipped")} == {
        "name": "llmtop p",
        "tests": "4",
        "failures": "2",
        "skipped": "1",
    }
    failed = suite.find("./testcase[@name='tpot_p95']/failure")
    assert failed is not None
    assert failed.get("message") == "TPOT p95 60 ms"
    answer = suite.find("./testcase[@name='hold']/failure")
    assert answer is not None
    assert answer.get("message") == "no"
    assert suite.find("./testcase[@name='ttft_p95']/*") is None
    assert suite.find("./testcase[@name='error_ratio']/skipped") is not None


@pytest.mark.parametrize(("unknown_ok", "kind"), [(False, "error"), (True, "skipped")])
def test_no_answer_is_as_red_as_a_no_unless_it_was_allowed(unknown_ok: bool, kind: str) -> None:
    suite = ElementTree.fromstring(junit("p", Assessment(), unknown_ok=unknown_ok))
    assert [child.tag for child in suite[0]] == [kind]
    assert (suite.get("errors"), suite.get("skipped")) == (("0", "1") if unknown_ok else ("1", "0"))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"run\.xml"):
        JUnitOutput(tmp_path / "missing" / "run.xml").end(META)


def test_a_run_that_was_cut_short_says_by_what(tmp_path: Path) -> None:
    for ending, said in ((None, None), (Ending.PLAN, None), (Ending.HAND, "by hand"), (Ending.UNSEEN, "nobody")):
        path = tmp_path / "run.xml"
        JUnitOutput(path).end(replace(META, ending=ending))
        told = ElementTree.parse(path).getroot().findtext("system-out")
        assert told is None if said is None else said in (told or "")


def test_a_run_that_could_not_start_is_an_error_with_its_reason_whatever_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    output = JUnitOutput(path, unknown_ok=True)
    output.broke("smoke", "nothing listens on port 9")
    suite = ElementTree.parse(path).getroot()
    assert (suite.get("errors"), suite.get("skipped")) == ("1", "0")
    found = suite.find("testcase/error")
    assert found is not None
    assert found.get("message") == "nothing listens on port 9"


def test_the_kinds_of_failures_are_told_with_count_and_times() -> None:
    failed = FailureGroup(
        outcome=Outcome.HTTP_ERROR, status=429, text="slow </down>", count=12, first_s=3.0, last_s=41.0
    )
    suite = ElementTree.fromstring(junit("smoke", Assessment(failures=(failed,)), ended="it was interrupted"))
    said = suite.findtext("system-out")
    assert said == 'it was interrupted\nHTTP 429 "slow </down>" ×12, first 00:03, last 00:41'
