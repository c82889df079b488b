"""Lets the tests of this room import what they share by name, and has pages renewed and closed at once."""

import sys
from functools import partialmethod
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "cli"))
sys.path.insert(2, str(Path(__file__).parents[1] / "host"))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtop.sinks import page

    monkeypatch.setattr(page.Page, "every_s", 0.05)
    monkeypatch.setattr(page._Server, "serve_forever", partialmethod(page._Server.serve_forever, poll_interval=0.01))
