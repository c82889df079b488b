"""`llmtop check`: a file that cannot be users is told by its line before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmtop.cli.main import main
from llmtop.workload.examples import FOLDER, NAMES


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def go(): pass\n", "users.py: has no run: write async def run(user)"),
        ("async def run(user)\n    pass\n", "users.py:1: is not Python"),
        ("x = 1\ndef run(user): pass\n", "users.py:2: run is not async"),
        ("import nothing_like_it\nasync def run(user):\n    await user.pause(1)\n", "users.py:1: ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_users_ends_with_2_and_its_line(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users.py"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_file_sees_of_the_environment_what_it_would_see_in_a_run_and_what_it_prints_is_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_KEY", "k")
    path = tmp_path / "users.py"
    path.write_text(
        "import os\nprint('hello')\nos.environ['SEARCH_KEY']\nasync def run(user):\n    await user.pause(1)\n"
    )
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "hello" in told.err
    assert "users.py:3: KeyError: 'SEARCH_KEY'" in told.err
    assert os.environ["SEARCH_KEY"] == "k"


def test_without_a_file_the_examples_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in NAMES)


def test_a_url_in_the_place_of_the_file_is_told_without_what_lets_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "http://me:secret@h:8000/?key=secret", "rag.py"]) == 2
    error = capsys.readouterr().err
    assert "the file comes first" in error
    assert "secret" not in error


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_written_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name, "--print"]) == 0
    assert capsys.readouterr().out == (FOLDER / f"{name}.py").read_text()


def test_every_example_has_a_name() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(NAMES)
