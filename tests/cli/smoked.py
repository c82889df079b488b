"""One short run as a user drives it, with every output that a run can have; tests look at what it left behind."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli.main import main

SHORT = ("--duration", "2", "--prompt-tokens", "32", "--output-tokens", "8")
SLO = "ttft_p95<60s,tpot_p95<10s"
LIMITS = "ttft_p50 > 1ms, error_ratio > 50%, capacity < 5000, tokens_per_s < 1"


class Smoked:
    """`llmtop run smoke --sim`, its exit code and what it said; what it wrote lies in `folder`.

    Of its thresholds one is broken and one cannot be judged, and of its sinks one is a collector that is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.junit, self.step, self.figures = (
            folder / name for name in ("a.llmtop", "a.xml", "step.md", "figures.jsonl")
        )
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            patched = stack.enter_context(pytest.MonkeyPatch.context())
            for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
                patched.setenv(variable, str(folder / variable))
            patched.setenv("GITHUB_STEP_SUMMARY", str(self.step))
            absent = stack.enter_context(socket.socket())
            absent.bind(("127.0.0.1", 0))  # and does not listen: the port is nobody else's meanwhile
            collector = f"otlp=http://127.0.0.1:{absent.getsockname()[1]}"
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            outputs = ("--json", "--record", str(self.path), "--junit", str(self.junit))
            sinks = ("--out", f"json={self.figures}", "--out", collector)
            judged = ("--slo", SLO, "--fail-on", LIMITS)
            self.code = main(["run", "smoke", "--sim", *SHORT, *judged, *outputs, *sinks])
        self.said = err.getvalue()
        self.told: dict[str, Any] = json.loads(out.getvalue())

    @property
    def swamped(self) -> bool:
        """On a machine that is, the client was the bottleneck, and the run says so instead of judging."""
        return self.code == 4
