"""`llmtop replay RUN --cast FILE`: where a film is written, and what is said where it cannot be."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from llmtop.cli.main import main
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import RunMeta
from llmtop.recording.writer import RunWriter

RECORDED = str(Path(__file__).parents[2] / "screenshots" / "demo.llmtop")
FAST = ("--speed", "50", "--size", "80x24", "--fps", "1")


NIGHT, DAY = b"48;2;20;23;28", b"48;2;247;246;242"
"""The papers of the two themes that have colours of their own."""


@pytest.fixture
def in_theme(own_places: Path) -> Callable[[str], None]:
    """Puts a theme into the settings."""

    def put(theme: str) -> None:
        settings = own_places / "XDG_CONFIG_HOME" / "llmtop" / "settings.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(f'theme = "{theme}"\n')

    return put


def test_a_film_is_written_for_its_owner_and_over_an_older_one(
    in_theme: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.cast"
    assert main(["replay", RECORDED, "--cast", str(path), *FAST]) == 0
    first = path.read_bytes()
    header = msgspec.json.decode(first.splitlines()[0])
    assert (header["version"], header["width"], header["height"], header["title"]) == (2, 80, 24, "llmtop: demo")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = capsys.readouterr()
    assert not said.out
    assert f"{path}: written, 00:04 at 80x24, " in said.err
    assert (NIGHT in first, DAY in first) == (True, False)
    in_theme("ansi-light")  # has no colours of its own: the film is as it was
    path.write_bytes(b"".join(first.splitlines(keepends=True)[:2]))
    assert main(["replay", RECORDED, "--cast", str(path), *FAST]) == 0
    assert path.read_bytes() == first


def test_a_film_goes_to_standard_output_and_nothing_else_does_in_the_theme_of_the_settings(
    in_theme: Callable[[str], None], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    in_theme("llmtop-day")
    assert main(["replay", RECORDED, "--cast", "-", *FAST]) == 0
    film = capfdbinary.readouterr().out
    header, *events = film.splitlines()
    assert msgspec.json.decode(header)["version"] == 2
    assert all(len(msgspec.json.decode(event)) == 3 for event in events)
    assert (NIGHT in film, DAY in film) == (False, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cast", ""], "--cast names no file"),
        (["--cast", "{folder}"], "is a folder"),
        (["--cast", "{folder}/none/a.cast"], "there is no folder"),
        (["--cast", "{folder}/notes.txt"], "notes.txt: is not as llmtop wrote it"),
        (["--cast", RECORDED], "is a recording"),
        (["--cast", "{folder}/a.cast", "--size", "10x10"], "from 60 to 800 columns and from 16 to 300 rows"),
        (["--cast", "{folder}/a.cast", "--size", "120"], "--size '120'"),
        (["--size", "120x40"], "--size is of a film: --cast FILE"),
        (["--force"], "--force is of a film: --cast FILE"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_drawn(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    given = [word.replace("{folder}", str(tmp_path)) for word in words]
    try:
        code = main(["replay", RECORDED, *given])
    except SystemExit as end:
        code = int(str(end.code))
    said = capsys.readouterr().err
    assert (code, says in said, "drawing" in said) == (2, True, False), said
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_of_nothing_makes_no_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, film = tmp_path / "a.llmtop", tmp_path / "a.cast"
    meta = RunMeta(
        llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p")
    )
    RunWriter(run, meta).close(0.0)
    assert main(["replay", str(run), "--cast", str(film)]) == 2
    assert "a.llmtop: nothing was recorded in it" in capsys.readouterr().err
    assert not film.exists()
