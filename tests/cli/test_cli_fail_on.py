"""`llmtop run --fail-on`: the exit code, and that every rendering says the same."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from ended import ran, result
from msgspec.structs import replace
from smoked import Smoked

from llmtop.cli.exits import exit_code
from llmtop.cli.main import main
from llmtop.domain.judgement import Judgement, ThresholdVerdict
from llmtop.domain.run import Ending

KEPT = ThresholdVerdict(name="capacity", limit=40, measured=48, ok=True, text="kept")
BROKEN = ThresholdVerdict(name="ttft_p95", limit=1.5, measured=1.6, ok=False, text="broken")
UNKNOWN = ThresholdVerdict(name="kv", limit=0.8, text="not known")


@pytest.mark.parametrize(
    ("ok", "thresholds", "code", "says"),
    [
        (True, (KEPT,), 0, "yes"),
        (True, (KEPT, BROKEN), 1, "no, by --fail-on ttft_p95"),
        (True, (KEPT, UNKNOWN), 5, "not known, by --fail-on kv"),
        (True, (UNKNOWN, BROKEN), 1, "no, by --fail-on ttft_p95"),
        (True, (replace(BROKEN, name="a"), replace(BROKEN, name="b")), 1, "no, by --fail-on a and b"),
        (False, (KEPT,), 1, "no"),
        (False, (UNKNOWN,), 1, "no"),
        (False, (BROKEN,), 1, "no"),
        (None, (KEPT,), 5, "not known"),
        (None, (UNKNOWN,), 5, "not known"),
        (None, (BROKEN,), 1, "no, by --fail-on ttft_p95"),
    ],
)
def test_the_exit_code_and_the_last_line_are_of_the_answer_and_of_all_thresholds(
    ok: bool | None,
    thresholds: tuple[ThresholdVerdict, ...],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    came_to = result(ok=ok)
    judgement = replace(came_to.assessment.judgement, thresholds=thresholds)
    came_to = replace(came_to, assessment=replace(came_to.assessment, judgement=judgement))
    assert ran(monkeypatch, came_to) == code
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"smoke: {says} (exit code {code})"
    assert out[1 : 1 + len(thresholds)] == [each.text for each in thresholds], "right below the answer"
    assert ran(monkeypatch, came_to, "--unknown-ok") == (0 if code == 5 else code)
    allowed = capsys.readouterr().out.splitlines()[-1]
    assert ("which --unknown-ok takes for a yes (exit code 0)" in allowed) is (code == 5)
    assert ran(monkeypatch, came_to, "--json") == code
    assert [each["ok"] for each in json.loads(capsys.readouterr().out)["judgement"]["thresholds"]] == [
        each.ok for each in thresholds
    ]


@pytest.mark.parametrize("threshold", [KEPT, BROKEN, UNKNOWN])
@pytest.mark.parametrize("ok", [True, False, None])
def test_void_figures_and_a_lost_server_stay_what_they_are(ok: bool | None, threshold: ThresholdVerdict) -> None:
    void = Judgement(ok=ok, void=True, thresholds=(threshold,))
    lost = Judgement(ok=ok, ending=Ending.GONE, thresholds=(threshold,))
    assert (exit_code(void), exit_code(lost)) == (4, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fail-on", "ttft_p95 < 1s"], "--fail-on: 'ttft_p95 < 1s': ttft_p95 gets worse by >"),
        (["--fail-on", ""], "--fail-on: name what may not be"),
        (["--fail-on", "ttft +5%"], "as `llmtop compare` takes them"),
        (["--fail-on", "tpot > 50ms", "--api", "embeddings", "--slo", "e2e<1s"], "--fail-on tpot_p95: embeddings have"),
    ],
)
def test_a_threshold_that_cannot_be_meant_is_refused_before_anything_is_sent(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "smoke", "http://127.0.0.1:9", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_real_run_says_the_same_of_a_threshold_everywhere(smoked: Smoked) -> None:
    told = smoked.told
    if smoked.swamped:
        return
    assert (smoked.code, told["exit_code"], told["judgement"]["ok"]) == (1, 1, True)
    thresholds = told["judgement"]["thresholds"]
    assert {each["name"]: each["ok"] for each in thresholds} == {
        "ttft_p50": False,
        "error_ratio": True,
        "capacity": None,
        "output_tokens_per_s": True,
    }
    measured = {each["name"]: each["measured"] for each in thresholds}
    assert measured["output_tokens_per_s"] == pytest.approx(told["figures"]["run"]["output_tokens_per_s"])
    assert measured["ttft_p50"] == pytest.approx(told["figures"]["run"]["ttft_ms"]["p50"] / 1e3)
    suite = ElementTree.parse(smoked.junit).getroot()[0]
    became = {case.get("name"): case[0].tag for case in suite.iterfind("testcase[@classname='fail-on.smoke']")}
    assert became == {
        "ttft_p50": "failure",
        "error_ratio": "system-out",
        "capacity": "error",
        "output_tokens_per_s": "system-out",
    }
    properties = {each.get("name"): each.get("value") for each in suite.iterfind("properties/property")}
    assert properties["run_file"] == told["run_file"]
    said = smoked.step.read_text()
    assert said.startswith("\n### llmtop: smoke: no, by --fail-on ttft\\_p50 (exit code 1)\n")
    for name, verdict in (("ttft\\_p50 >", "missed"), ("capacity <", "not judged"), ("error\\_ratio >", "met")):
        (row,) = [line for line in said.splitlines() if line.startswith(f"| --fail-on {name}")]
        assert row.endswith(f"| {verdict} |")
