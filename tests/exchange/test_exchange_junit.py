"""JUnit's file says of each promise what the verdict says, and of the run what was driven."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.failures import FailureGroup
from llmtop.domain.judgement import Judgement, PartVerdict, ThresholdVerdict
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome
from llmtop.domain.run import LOST, Ending, RunMeta
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Kind, SloVerdict, TargetVerdict
from llmtop.errors import FileError
from llmtop.exchange.junit import JUnitOutput, is_junit, junit

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms,error_ratio<1%")
META = RunMeta(
    llmtop_version="1.2.3",
    started_at=1764158400.0,
    endpoint=Endpoint(base_url="http://user:secret@h:8000"),
    profile=Profile(name="p", slo=SLO),
)
VERDICT = SloVerdict(
    ok=False,
    targets=(
        TargetVerdict(name="ttft_p95", limit=2.0, value=1.0, ok=True, text="held"),
        TargetVerdict(name="tpot_p95", limit=0.05, value=0.06, ok=False, text="TPOT p95 60 ms"),
        TargetVerdict(name="error_ratio", limit=0.01, value=None, ok=None, text="too few requests"),
    ),
)
CASES = ".//testcase"


def told(assessment: Assessment, **more: object) -> ElementTree.Element:
    return ElementTree.fromstring(junit("p", assessment, **more))  # type: ignore[arg-type]


def outcomes(root: ElementTree.Element) -> dict[tuple[str, str], str]:
    """What became of each case: `passed`, or the element that says otherwise."""
    return {
        (case.get("classname", ""), case.get("name", "")): next(
            (each.tag for each in case if each.tag != "system-out"), "passed"
        )
        for case in root.iterfind(CASES)
    }


def sums(element: ElementTree.Element, *names: str) -> tuple[int, ...]:
    return tuple(int(element.get(name, "-1")) for name in names)


def properties(root: ElementTree.Element) -> dict[str, str]:
    return {each.get("name", ""): each.get("value", "") for each in root.iterfind("testsuite/properties/property")}


def test_the_last_verdict_is_written_when_the_run_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.xml"
    output = JUnitOutput(path)
    output.begin(META)
    output.judged(Assessment())
    output.judged(Assessment(slo=VERDICT, judgement=Judgement(question=Question.HOLD, ok=False, sentence="no")))
    assert not path.exists()
    output.end(META)
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.get("name"), root[0].get("name")) == ("testsuites", "llmtop", "llmtop p")
    assert sums(root[0], "tests", "failures", "errors", "skipped") == (4, 2, 0, 1)
    assert outcomes(root) == {
        ("question.p", "hold"): "failure",
        ("slo.p", "ttft_p95"): "passed",
        ("slo.p", "tpot_p95"): "failure",
        ("slo.p", "error_ratio"): "skipped",
    }
    failed = root.find(".//testcase[@name='tpot_p95']/failure")
    assert failed is not None
    assert (failed.get("message"), failed.get("type"), failed.text) == ("TPOT p95 60 ms", "slo", "TPOT p95 60 ms")


@pytest.mark.parametrize(("unknown_ok", "kind"), [(False, "error"), (True, "skipped")])
def test_no_answer_is_as_red_as_a_no_unless_it_was_allowed(unknown_ok: bool, kind: str) -> None:
    threshold = ThresholdVerdict(name="capacity", limit=40, text="not known")
    root = told(Assessment(judgement=Judgement(thresholds=(threshold,))), unknown_ok=unknown_ok)
    assert outcomes(root) == {("question.p", "cliff"): kind, ("fail-on.p", "capacity"): kind}
    assert sums(root[0], "errors", "skipped") == ((0, 2) if unknown_ok else (2, 0))


@pytest.mark.parametrize("judgement", [Judgement(void=True), *(Judgement(ending=ending) for ending in LOST)])
def test_what_no_option_makes_green_is_red_here_too(judgement: Judgement) -> None:
    assert set(outcomes(told(Assessment(judgement=judgement), unknown_ok=True)).values()) == {"error"}


def test_each_part_and_each_threshold_is_a_case_of_its_own() -> None:
    judgement = Judgement(
        question=Question.HOLD,
        ok=True,
        sentence="kept",
        parts=(PartVerdict(name="4 requests/s", ok=True), PartVerdict(name="8 requests/s", ok=None, text="too few")),
        thresholds=(
            ThresholdVerdict(name="ttft_p95", limit=1.5, measured=1.6, ok=False, text="broken"),
            ThresholdVerdict(name="capacity", limit=40, measured=48, ok=True, text="kept"),
        ),
    )
    assert outcomes(told(Assessment(judgement=judgement))) == {
        ("question.p", "hold"): "passed",
        ("part.p", "4 requests/s"): "passed",
        ("part.p", "8 requests/s"): "skipped",
        ("fail-on.p", "ttft_p95"): "failure",
        ("fail-on.p", "capacity"): "passed",
    }


def test_a_limit_that_the_answer_is_not_about_keeps_its_case() -> None:
    judged = SloVerdict(targets=VERDICT.targets[:1])
    root = told(Assessment(slo=judged), meta=META)
    assert [name for _, name in outcomes(root)] == ["cliff", "ttft_p95", "tpot_p95", "error_ratio"]
    assert outcomes(root)[("slo.p", "tpot_p95")] == "skipped"


def test_the_suite_says_what_was_driven_and_what_it_came_to() -> None:
    info = EndpointInfo(dialect=Dialect.VLLM, model="m", server="vLLM 0.33")
    meta = replace(META, info=info, label="before", ended_s=61.5, ending=Ending.PLAN)
    found = Assessment(
        capacity=Capacity(at_slo=49.0, fails_at=56.0, low=46.0, high=58.0),
        cliff=CliffVerdict(kind=Kind.CLIFF, at=32.0, low=30.5, high=34.0, cause=Bound.QUEUE),
        judgement=Judgement(client_bound=0.02),
    )
    root = told(found, meta=meta, run_file="/runs/a.llmtop")
    assert properties(root) == {
        "run_file": "/runs/a.llmtop",
        "label": "before",
        "profile": "p",
        "endpoint": "http://h:8000",
        "model": "m",
        "server": "vLLM 0.33",
        "dialect": "vllm",
        "slo": "ttft_p95<2s,tpot_p95<50ms,error_ratio<1%",
        "llmtop_version": "1.2.3",
        "ending": "plan",
        "capacity": "49",
        "capacity_low": "46",
        "capacity_high": "58",
        "capacity_fails_at": "56",
        "capacity_unit": "concurrent users",
        "cliff": "32",
        "cliff_low": "30.5",
        "cliff_high": "34",
        "cliff_cause": "queue",
        "client_bound_share": "0.02",
    }
    assert (root[0].get("timestamp"), root[0].get("time"), root.get("time")) == (
        "2025-11-26T12:00:00",
        "61.500",
        "61.500",
    )
    assert sum(float(case.get("time", "nan")) for case in root.iterfind(CASES)) == pytest.approx(61.5)
    rate = replace(found, cliff=CliffVerdict(kind=Kind.NONE, axis="rate"))
    assert properties(told(rate, meta=meta))["capacity_unit"] == "requests/s"
    void = replace(found, judgement=Judgement(void=True, client_bound=1.0))
    assert "capacity" not in properties(told(void, meta=meta)), "void figures are none"
    assert properties(told(Assessment())) == {}, "nothing is told that is not known"


def test_the_file_names_the_recording_that_lies_there(tmp_path: Path) -> None:
    output = JUnitOutput(tmp_path / "a.xml")
    output.run_file = lambda: "/runs/b.llmtop"
    output.end(META)
    assert properties(ElementTree.parse(tmp_path / "a.xml").getroot())["run_file"] == "/runs/b.llmtop"


WORDS = st.text(st.characters(codec=None), max_size=12)
OKS = st.sampled_from([True, False, None])
LIMITS = st.tuples(st.sampled_from(["ttft_p95", "a.ttft_p95", "\x00", "\ufffe", "<x>"]) | WORDS, OKS, WORDS)


@given(st.lists(LIMITS, max_size=6), st.lists(LIMITS, max_size=6), st.lists(LIMITS, max_size=6), OKS, st.booleans())
def test_sums_are_those_of_the_cases_and_no_two_have_one_name(
    limits: list[tuple[str, bool | None, str]],
    parts: list[tuple[str, bool | None, str]],
    thresholds: list[tuple[str, bool | None, str]],
    ok: bool | None,
    unknown_ok: bool,
) -> None:
    judgement = Judgement(
        ok=ok,
        parts=tuple(PartVerdict(name=name, ok=each, text=text) for name, each, text in parts),
        thresholds=tuple(ThresholdVerdict(name=name, limit=1, ok=each, text=text) for name, each, text in thresholds),
    )
    slo = SloVerdict(
        targets=tuple(TargetVerdict(name=name, limit=1, value=None, ok=each, text=text) for name, each, text in limits)
    )
    root = told(Assessment(slo=slo, judgement=judgement), unknown_ok=unknown_ok)
    cases = outcomes(root)
    assert len(cases) == len(root.findall(CASES)) == 1 + len(limits) + len(parts) + len(thresholds)
    became = list(cases.values())
    expected = tuple(map(became.count, ("failure", "error", "skipped")))
    assert sums(root[0], "tests", "failures", "errors", "skipped") == (len(cases), *expected)
    assert sums(root, "tests", "failures", "errors") == (len(cases), *expected[:2])
    if not unknown_ok:
        assert bool(expected[0] or expected[1]) == ("failure" in became or judgement.passes is not True)
    assert "skipped" not in root.attrib, "schemas of JUnit know no such sum of suites"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"run\.xml"):
        JUnitOutput(tmp_path / "missing" / "run.xml").end(META)


def test_a_run_that_was_cut_short_says_by_what(tmp_path: Path) -> None:
    for ending, said in ((None, None), (Ending.PLAN, None), (Ending.HAND, "by hand"), (Ending.UNSEEN, "nobody")):
        path = tmp_path / "run.xml"
        JUnitOutput(path).end(replace(META, ending=ending))
        told = ElementTree.parse(path).getroot().findtext("testsuite/system-out")
        assert told is None if said is None else said in (told or "")


def test_a_run_that_could_not_start_is_an_error_with_its_reason_whatever_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    output = JUnitOutput(path, unknown_ok=True)
    output.broke("smoke", "nothing listens on port 9")
    root = ElementTree.parse(path).getroot()
    assert sums(root[0], "tests", "errors", "skipped") == (1, 1, 0)
    found = root.find(".//testcase/error")
    assert found is not None
    assert found.get("message") == "nothing listens on port 9"
    output.begin(META)
    output.broke("smoke", "the server fell away")
    assert properties(ElementTree.parse(path).getroot())["endpoint"] == "http://h:8000", "as far as it came"


def test_a_file_of_an_older_version_is_one_of_ours_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    older = b"<?xml version='1.0' encoding='utf-8'?>\n" + b'<testsuite name="llmtop p" tests="1"></testsuite>'
    path.write_bytes(older)
    JUnitOutput(path).end(META)
    JUnitOutput(path).end(META)
    assert is_junit(older)
    assert is_junit(path.read_bytes())
    path.write_bytes(b'<testsuites name="pytest tests"></testsuites>')
    with pytest.raises(FileError, match="is not as llmtop wrote it"):
        JUnitOutput(path).end(META)


def test_the_kinds_of_failures_are_told_with_count_and_times() -> None:
    failed = FailureGroup(
        outcome=Outcome.HTTP_ERROR, status=429, text="slow </down>", count=12, first_s=3.0, last_s=41.0
    )
    meta = replace(META, ending=Ending.BRAKE)
    said = told(Assessment(failures=(failed,)), meta=meta).findtext("testsuite/system-out")
    assert said == (
        'the run was ended by the brake: too many requests failed\nHTTP 429 "slow </down>" ×12, first 00:03, last 00:41'
    )
