"""A short spike against a simulated deployment with an autoscaler: one sentence in all that a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmtop.cli.main import main

PROFILE = """
question = "spike"
recover_within = "1s"
slo = "ttft_p95<1s,error_ratio<1%"
[load]
prompt_tokens = 16
output_tokens = 16
[[stage]]
name = "spike"
duration = "5s"
shape = "spike"
base = 1
peak = 8
rise = "30%"
fall = "70%"
"""
SCALES = {"autoscale_queue": 2, "max_replicas": 2, "autoscale_for_s": 0, "scale_delay_s": 0, "pod_start_s": 0.5}
KNOBS = {"max_num_seqs": 1, **SCALES}


def test_a_deployment_that_scales_is_told_by_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, path, junit = (tmp_path / name for name in ("short.toml", "run.llmtop", "run.xml"))
    profile.write_text(PROFILE)
    knobs = [word for name, value in KNOBS.items() for word in ("--set", f"{name}={value}")]
    words = ["run", str(profile), "--sim", *knobs, "--json", "--record", str(path), "--junit", str(junit)]
    assert main(words) in (0, 1, 4, 5)
    result = json.loads(capsys.readouterr().out)
    (scaled,) = result["scalings"]
    assert (scaled["before"], scaled["after"]) == (1, 2)
    assert 0 <= scaled["decided_s"] <= scaled["ready_s"] <= scaled["serving_s"] < 5, "all of it within the plan"
    assert scaled["text"].startswith("replicas 1 → 2 after ")
    main(["assess", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["scalings"] == result["scalings"]
    assert main(["report", str(path), "-o", str(tmp_path / "r.md")]) == 0
    assert "| 1 → 2 | 00:0" in (tmp_path / "r.md").read_text()
    if not result["judgement"]["void"]:
        assert scaled["text"] in result["judgement"]["sentence"]
        assert "replicas 1 → 2 after " in junit.read_text()
