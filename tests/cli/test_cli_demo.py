"""`llmtop demo`: what it takes, what it refuses, and that it keeps no run that nobody asked for."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli import options
from llmtop.cli.main import main
from llmtop.domain.shown import Scene, Shown
from llmtop.domain.steering import Steering
from llmtop.host.options import HostOptions

demo = importlib.import_module("llmtop.cli.demo")
SCENE = Scene(5, 5, "a sick server", "")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.ADD["demo"](parser)
    return parser.parse_args(words)


def test_without_options_it_loops_and_keeps_nothing() -> None:
    arguments = parsed()
    assert (arguments.once, arguments.record, arguments.words) == (False, None, [])


@pytest.mark.parametrize("words", [["http://127.0.0.1:8000"], ["--once", "gpu1:8000"], ["h100-llama-3.1-8b", "x"]])
def test_an_endpoint_is_refused_with_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "a demo drives the simulated engine and nothing else" in said.err


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demo.llmtop"
    path.write_text("mine")
    assert main(["demo", "--record", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run and its screen are begun with."""
    seen: dict[str, Any] = {}

    class Run:
        @classmethod
        def begin(cls, asked: HostOptions) -> Run:
            seen["options"] = asked
            return cls()

        def close(self) -> None:
            seen["closed"] = True

    def drive(attached: Run, arguments: argparse.Namespace, alone_s: float, until: object) -> int:
        seen["until"] = until
        return 0

    monkeypatch.setattr(demo, "Attached", Run)
    monkeypatch.setattr(demo, "drive", drive)
    monkeypatch.setattr(demo, "check_terminal", lambda instead: None)
    monkeypatch.setattr(demo, "state_of", lambda descriptor: None)
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"fileno": lambda self: 0})())
    return seen


def test_it_drives_its_own_engine_again_and_again_and_throws_the_run_away(begun: dict[str, Any]) -> None:
    assert main(["demo"]) == 0
    options = begun["options"]
    assert begun["closed"]
    assert begun["until"] is None
    assert options.demo == "loop"
    assert options.session.endpoint is None
    assert options.session.preset == options.session.profile.preset == "demo"
    assert options.slo == options.session.profile.slo
    assert not options.session.kept
    assert "runs" not in Path(options.session.run_file).parts, "not even for a while among the user's"


def test_once_with_a_file_it_leaves_by_itself_and_the_run_stays(begun: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "demo.llmtop"
    assert main(["demo", "--once", "--record", str(path)]) == 0
    assert begun["options"].demo == "once"
    assert begun["options"].session.kept
    assert begun["options"].session.run_file == str(path)
    assert begun["until"] is not None


def test_once_it_leaves_when_the_last_scene_is_over_and_not_when_a_hand_has_the_wheel() -> None:
    over = demo._is_shown
    assert not over(Shown()), "it has not begun"
    assert not over(Shown(scene=SCENE, steering=Steering(running=True, by="demo")))
    assert not over(Shown(scene=SCENE, steering=Steering(running=False, by="demo"))), "a hand has the wheel"
    assert not over(Shown(scene=SCENE, steering=Steering(running=True, by="search")))
    assert over(Shown(scene=None, steering=Steering(running=False, by="demo")))


def test_the_load_at_the_start_is_that_of_the_first_scene() -> None:
    from llmtop.analysis.demo import ACTS

    assert ACTS[0].at(ACTS[0].users[0]) == demo.BASE
