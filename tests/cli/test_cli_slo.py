"""Where the limits of a command come from: --slo, else the profile's, else the settings', else what is usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from facts_by_hand import bins_of, record

from llmtop.cli.main import COMMANDS, _parser, main
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch, LoadChange, RunMeta
from llmtop.domain.slo import parse_slo
from llmtop.recording.writer import RunWriter

OWN, ASKED = "ttft_p95<200ms", "ttft_p95<50ms"
FOREIGN = Path(__file__).parents[1] / "exchange/data/guidellm_benchmarks_v2.json"
BY_PROFILE = {"live", "run", "tune", "replay"}
"""Of whose SLO the profile is asked before the settings; see tests/cli/test_cli_settings.py."""
WITHOUT = {
    "predict": ["predict", "laptop", "--json", "--per-level", "20", "--concurrency", "1,8,64"],
    "predict --fit": ["predict", "--fit", "TABLE", "--prompt-tokens", "64", "--output-tokens", "64", "--json"],
    "import": ["import", str(FOREIGN), "--json"],
    "assess FILE": ["assess", str(FOREIGN), "--json"],
    "assess TABLE": ["assess", "TABLE", "--json"],
    "compare": ["compare", "TABLE", "TABLE", "--json", "--anyway"],
    "dashboard": ["dashboard"],
}
"""Commands on what has no profile."""
RECORDED = {"assess": ["assess", "RUN", "--json"], "report": ["report", "RUN", "--force", "-o", "REPORT"]}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A table, a recording of a profile with an SLO of its own, and where a report goes; no settings yet."""
    for name in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    draw, rows = np.random.default_rng(1), ["level,ttft_s,tpot_s,e2e_s"]
    for load, ttft_s in ((2, 0.03), (4, 0.1), (16, 0.4), (64, 4.0)):
        ttft, tpot = (mean_s * np.exp(draw.normal(0, 0.05, 100)) for mean_s in (ttft_s, 0.02))
        rows += [f"{load},{a:.6f},{b:.6f},{a + 63 * b:.6f}" for a, b in zip(ttft, tpot, strict=True)]
    (tmp_path / "levels.csv").write_text("\n".join(rows))
    run = tmp_path / "r.llmtop"
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://h"),
        profile=Profile(name="p", slo=parse_slo("ttft_p95<150ms")),
    )
    writer = RunWriter(run, meta)
    requests = tuple(record(i / 4, ttft_s=0.1, e2e_s=1.0) for i in range(100))
    changes = (LoadChange(0.0, LoadPoint(concurrency=4)),)
    writer.write(FactBatch(t_s=30.0, requests=requests, bins=tuple(bins_of(26.0, 4.0)), changes=changes))
    writer.close(30.0)
    return {"TABLE": str(tmp_path / "levels.csv"), "RUN": str(run), "REPORT": str(tmp_path / "r.json")}


class Said:
    """What commands print."""

    def __init__(self, places: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.places, self.capsys, self.file = places, capsys, tmp_path / "CONFIG/llmtop/settings.toml"
        self.file.parent.mkdir(parents=True)
        self.err = ""

    def __call__(self, words: list[str], own: str = "", asked: str = "") -> str:
        self.file.write_text(f'slo = "{own}"\n' if own else "")
        words = [self.places.get(word, word) for word in words]
        assert main([*words, *(("--slo", asked) if asked else ())]) in (0, 1, 5), self.capsys.readouterr()
        out, self.err = self.capsys.readouterr()
        report = Path(self.places["REPORT"])
        return report.read_text() if "report" in words else out


@pytest.fixture
def said(places: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Said:
    return Said(places, capsys, tmp_path)


@pytest.mark.parametrize("words", WITHOUT.values(), ids=WITHOUT.keys())
def test_what_has_no_profile_is_judged_by_the_option_then_the_settings_then_what_is_usual(
    said: Said, words: list[str]
) -> None:
    usual, own, asked = said(words), said(words, asked=OWN), said(words, asked=ASKED)
    assert len({usual, own, asked}) == 3, "each limit has an answer of its own"
    assert said(words, own=OWN) == own
    assert f"SLO {OWN}: the default of your settings, as neither profile nor --slo says one" in said.err
    assert said(words, own=OWN, asked=ASKED) == asked
    assert "settings" not in said.err


@pytest.mark.parametrize("words", RECORDED.values(), ids=RECORDED.keys())
def test_a_recording_is_judged_by_the_option_then_its_own_profile(said: Said, words: list[str]) -> None:
    profile, asked = said(words), said(words, asked=ASKED)
    assert profile != asked
    assert said(words, own=OWN) == profile
    assert "settings" not in said.err
    assert said(words, own=OWN, asked=ASKED) == asked
    assert said(words, asked="ttft_p95<150ms") == profile


def test_every_command_that_takes_limits_is_asked_here_and_reads_the_settings() -> None:
    takes = {name for name in COMMANDS if any("--slo" in each.option_strings for each in _parser(name)._actions)}
    assert takes == {words[0] for words in (*WITHOUT.values(), *RECORDED.values())} | BY_PROFILE
    assert all("settings" in _parser(name)._defaults for name in takes)
