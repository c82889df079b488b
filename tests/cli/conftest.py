"""Lets the tests of this room import what they share by name, and has the one real run that many of them look at."""

from __future__ import annotations

import itertools
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


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, profiles, settings and logs of each test stay there, in a folder that is made when something is kept."""
    folder = tmp_path_factory.getbasetemp() / f"own-{next(_NUMBERS)}"
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(folder / variable))
    return folder
