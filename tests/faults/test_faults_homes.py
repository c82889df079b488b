"""Homes that are not there or cannot be used, and files that are their owner's alone."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from test_faults_disk import recorded
from trying import COMMAND, Terminal, Tried, tried, tried_here

RUN = ("run", "smoke", "--sim", "--duration", "2", "--unknown-ok")
DROPPED = "-dac_override,-dac_read_search,-fowner"
HELD_TO_MODES = ("setpriv", f"--bounding-set={DROPPED}", f"--inh-caps={DROPPED}") if os.getuid() == 0 else ()
"""Root is held by no file's mode, but for root without these powers."""

pytestmark = pytest.mark.skipif(
    bool(HELD_TO_MODES) and shutil.which("setpriv") is None, reason="root cannot be held to the modes of files here"
)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """For temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def held(*words: str, home: Path, **variables: str | None) -> Tried:
    return tried(*words, home=home, more=variables, command=(*HELD_TO_MODES, *COMMAND))


def broken(tmp_path: Path, kind: str) -> Path:
    """A home like this."""
    folder = tmp_path / "broken"
    folder.mkdir()
    folder.chmod(0o000 if kind == "unreadable" else 0o500)
    return folder / "nobody" if kind == "missing" else folder


KINDS = ["missing", "unwritable", "unreadable"]


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_a_home_is_recorded_elsewhere_and_says_where(tmp_path: Path, elsewhere: Path, kind: str) -> None:
    ended = held(*RUN, home=broken(tmp_path, kind), TMPDIR=str(elsewhere))
    ended.is_in_words(0)
    (run,) = elsewhere.rglob("*.llmtop")
    assert f"the run is recorded in {run}" in ended.err
    assert f"run file: {run}" in ended.out


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_asked_to_be_recorded_there_ends_the_command(tmp_path: Path, elsewhere: Path, kind: str) -> None:
    home = broken(tmp_path, kind)
    ended = held(*RUN, "--record", str(home / "r.llmtop"), home=home, TMPDIR=str(elsewhere))
    ended.is_in_words(2)
    assert "in flight" not in ended.err


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_other_commands_use_what_there_is(tmp_path: Path, elsewhere: Path, kind: str) -> None:
    home, run = broken(tmp_path, kind), recorded(tmp_path / "runs" / "r.llmtop")
    for words, code in (
        (("profiles",), 0),
        (("locate",), 0),
        (("assess", str(run), "--unknown-ok"), 0),
        (("report", str(run), "-o", str(tmp_path / "x.html")), 0),
        (("profiles", "save", str(run), "--name", "again"), 2),
    ):
        held(*words, home=home, TMPDIR=str(elsewhere)).is_in_words(code)


@pytest.mark.faults
@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cockpit_starts_whatever_home_it_finds(
    home: Path, tmp_path: Path, elsewhere: Path, variable: str, kind: str
) -> None:
    more = {variable: str(broken(tmp_path, kind)), "TMPDIR": str(elsewhere)}
    with Terminal("--sim", home=home, more=more, command=(*HELD_TO_MODES, *COMMAND), size=(200, 30)) as terminal:
        terminal.until(b"endpoint up")
        terminal.send(b"q")
        code = terminal.code(5.0)
        if code is None:  # it asks
            terminal.send(b"q")
            code = terminal.code()
        assert code == 0, terminal.written[-2000:]
        assert b"Traceback" not in terminal.written
        terminal.is_restored()


@pytest.mark.parametrize("value", ["here", "", "./here"])
def test_a_relative_folder_of_the_environment_is_ignored(
    home: Path, tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    ended = tried_here("locate", home=home, more=dict.fromkeys(names, value))
    ended.is_in_words(0)
    assert [line.split(maxsplit=1)[1].startswith(str(home)) for line in ended.out.splitlines()] == [True] * 5
    assert not list(cwd.iterdir())


@pytest.mark.faults
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
def test_every_file_is_its_owners_alone_whatever_the_umask(home: Path, tmp_path: Path, umask: int) -> None:
    loose = home / ".local"
    loose.mkdir()
    loose.chmod(0o755)

    def before() -> None:
        os.umask(umask)

    def run(*words: str) -> Tried:
        ended = tried(*words, home=home, before=before, command=(*HELD_TO_MODES, *COMMAND))
        ended.is_in_words(0)
        return ended

    run(*RUN, "--junit", str(home / "j.xml"))
    (recording,) = home.rglob("*.llmtop")
    run("report", str(recording))
    run("profiles", "save", str(recording), "--name", "again")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*")}
    assert modes.pop(loose) == 0o755, "a folder of the user is left as it is"
    assert {path.suffix for path in modes} >= {".llmtop", ".html", ".md", ".toml", ".log", ".xml"}
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_link_in_place_of_a_report_is_not_followed(home: Path, tmp_path: Path) -> None:
    run, other = recorded(tmp_path / "x.llmtop"), tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "x.html").symlink_to(other)
    ended = tried_here("report", str(run), home=home)
    ended.is_in_words(2)
    assert "is a symbolic link" in ended.err
    assert other.read_text() == "mine"
    assert not (tmp_path / "x.md").exists(), "nothing is written unless all can be"


@pytest.mark.faults
def test_a_link_in_place_of_the_log_is_not_followed(home: Path, tmp_path: Path) -> None:
    logs, other = home / ".local/state/llmtop/log", tmp_path / "other"
    logs.mkdir(parents=True)
    other.write_text("mine")
    (logs / "session.log").symlink_to(other)
    tried(*RUN, home=home).is_in_words(0)
    assert other.read_text() == "mine"
    assert (logs / "session.log").is_symlink()


@pytest.mark.faults
def test_a_log_of_50_mb_is_cut(home: Path) -> None:
    logs = home / ".local/state/llmtop/log"
    logs.mkdir(parents=True)
    (logs / "session.log").write_bytes(b"x" * 50_000_000)
    tried(*RUN, home=home).is_in_words(0)
    assert sum(each.stat().st_size for each in logs.iterdir()) < 3_000_000
