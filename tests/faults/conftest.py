"""Faults, tried on the command as a user starts it. Those marked `faults` take their time: by hand and every night

    pytest tests/faults -m "not real"

ends with a table of how many were tried and held; the others, a quick third, run with all tests.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of its own, empty."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if "faults" not in config.option.markexpr and config.option.markexpr != "not real":
        return
    tried: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            if report.when == "call" or outcome == "failed":
                kind = Path(report.location[0]).stem
                if not kind.startswith("test_faults_"):
                    continue
                tried[kind] += 1
                held[kind] += outcome == "passed"
    if not tried:
        return
    terminalreporter.write_line(f"{'faults':28}{'tried':>7}{'held':>7}")
    for kind in sorted(tried):
        terminalreporter.write_line(f"{kind.removeprefix('test_faults_'):28}{tried[kind]:7}{held[kind]:7}")
    terminalreporter.write_line(f"{'all':28}{tried.total():7}{held.total():7}")
