"""The log of a session is bounded, its owner's alone, and never somebody else's file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtop.host import log as log_module
from llmtop.host.log import Log


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the log belongs; temporary folders are elsewhere."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "logs" / "session.log"
    monkeypatch.setattr(log_module, "log_path", lambda: path)
    return path


def write(log: Log, words: bytes) -> None:
    os.write(log.fileno(), words)


def test_a_long_log_begins_anew_also_while_it_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LOG_BYTES", 10)
    log = Log()
    write(log, b"ten bytes.")
    log.bound()
    assert place.read_bytes() == b"ten bytes."
    write(log, b"+")
    log.bound()
    write(log, b"anew")
    assert place.read_bytes() == b"anew"
    assert place.with_name("session.log.old").read_bytes() == b"en bytes.+"
    log.close()
    for _ in range(1000):
        log = Log()
        write(log, b"a start")
        log.close()
    assert sum(each.stat().st_size for each in place.parent.iterdir()) <= 10 + 2 * 10


def link_elsewhere(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent.parent / "other")


def second_name(path: Path) -> None:
    path.parent.mkdir()
    path.hardlink_to(path.parent.parent / "other")


def pipe(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)


def file_for_a_folder(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize("there", [link_elsewhere, second_name, pipe, file_for_a_folder])
def test_a_log_that_cannot_be_there_is_elsewhere_and_says_where(
    place: Path, tmp_path: Path, there: Callable[[Path], None]
) -> None:
    (tmp_path / "other").write_text("mine")
    there(place)
    log = Log()
    write(log, b"a complaint")
    log.close()
    assert log.path == tmp_path / "temporary" / f"llmtop-{os.getuid()}" / "session.log"
    assert log.path.read_bytes() == b"a complaint"
    assert (tmp_path / "other").read_text() == "mine"


def test_a_log_that_can_be_nowhere_refuses_no_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_for_a_folder(place)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    log = Log()
    write(log, b"a complaint")
    log.bound()
    log.close()
    assert log.path is None


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_log_is_its_owners_alone(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Log().close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place)] == [0o700, 0o600]
