"""Lets the tests of this room import what they share by name, and has the one real run that many of them look at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "analysis"))

if TYPE_CHECKING:
    from smoked import Smoked


@pytest.fixture(scope="session")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> Smoked:
    from smoked import Smoked

    return Smoked(tmp_path_factory.mktemp("smoked"))


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, profiles, settings and logs of the tests stay among the tests."""
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
