"""The working directory is no place for modules, however it got onto the path; what was named in full is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from llmtop import isolation

LIBRARY = f"/usr/lib/python{sys.version_info.major}{sys.version_info.minor}.zip"


class Flags(NamedTuple):
    isolated: int = 0
    ignore_environment: int = 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(isolation, "package_home", lambda: "/opt/site")
    return tmp_path


def kept(path: list[str], monkeypatch: pytest.MonkeyPatch, flags: Flags = Flags()) -> list[str]:  # noqa: B008
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", path)
        patched.setattr(sys, "flags", flags)
        return isolation.import_paths()


@pytest.mark.parametrize("entry", ["", ".", "..", "HERE", "HERE/", "sub", "./x.zip"])
def test_whatever_means_the_working_directory_goes(entry: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = [entry.replace("HERE", str(here)), "/elsewhere", LIBRARY, "/opt/site"]
    assert kept(path, monkeypatch) == ["/elsewhere", LIBRARY, "/opt/site"]


@pytest.mark.parametrize(
    ("named", "stays"),
    [("", False), (":", False), (".", False), (":/elsewhere", False), ("sub", False), ("HERE", True), ("HERE:", True)],
)
def test_pythonpath_is_heard_where_it_names_a_folder_in_full(
    named: str, stays: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", named.replace("HERE", str(here)))
    path = [str(here), str(here / "sub"), "/elsewhere", LIBRARY]
    found = kept(path, monkeypatch)
    assert (str(here) in found) is stays
    assert (str(here / "sub") in found) is (named != "sub")
    assert "/elsewhere" in found


def test_the_package_and_the_installation_stay_wherever_one_stands(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "package_home", lambda: str(here / "app.pyz"))
    assert kept(["app.pyz", LIBRARY, str(here)], monkeypatch) == [str(here / "app.pyz"), LIBRARY, str(here)]


def test_a_child_keeps_what_it_was_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept([str(here), LIBRARY], monkeypatch, Flags(1, 1)) == [str(here), LIBRARY]
