"""Files come to be whole, private, and in the place of nothing of others; folders are where the environment says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtop import files
from llmtop.errors import FileError
from llmtop.files import check_new, check_target, make_folder, temporary_folder, user_folder, write_whole


def ours(content: bytes) -> bool:
    return content.startswith(b"ours")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o755)
    make_folder(loose / "a" / "b")
    write_whole(loose / "a" / "b" / "x", b"ours", ours)
    assert [mode(path) for path in (loose / "a", loose / "a" / "b", loose / "a" / "b" / "x")] == [0o700, 0o700, 0o600]
    assert mode(loose) == 0o755, "what was there is left as it is"


@pytest.mark.parametrize("there", ["other", "link", "dangling", "fifo", "folder", "recording"])
def test_what_is_not_ours_is_neither_written_over_nor_followed(tmp_path: Path, there: str) -> None:
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_bytes(b"ours, but elsewhere")
    match there:
        case "other":
            path.write_bytes(b"mine")
        case "link":
            path.symlink_to(other)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "recording":
            path.write_bytes(files.SQLITE)
    before = path.lstat()
    for call in (lambda: check_target(path, ours), lambda: write_whole(path, b"ours", ours), lambda: check_new(path)):
        with pytest.raises(FileError, match=r"x: (is|exists) "):
            call()
    after = path.lstat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert other.read_bytes() == b"ours, but elsewhere"
    assert not (tmp_path / "nowhere").exists()


def test_by_force_a_link_is_replaced_and_still_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_bytes(b"mine")
    path.symlink_to(other)
    write_whole(path, b"ours", ours, force=True)
    assert not path.is_symlink()
    assert (path.read_bytes(), other.read_bytes()) == (b"ours", b"mine")


@pytest.mark.parametrize("name", ["none/x", "file/x", "n" * 300, "", ".", "nul\0", "/proc/x", "/dev/full"])
def test_a_name_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    with pytest.raises(FileError):
        write_whole(path, b"ours", ours)
    if name not in ("none/x", "/dev/full"):
        with pytest.raises(FileError):
            check_new(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_device_takes_what_is_written_and_stays(tmp_path: Path) -> None:
    null = Path(os.devnull)
    write_whole(null, b"ours", ours)
    assert null.is_char_device()
    read, write = os.pipe()
    write_whole(Path(f"/dev/fd/{write}"), b"ours", ours)
    assert os.read(read, 9) == b"ours"
    os.close(read)
    os.close(write)


def test_what_was_there_stays_when_the_disk_does_not_take_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ours, whole")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="x: cannot be written: No space left on device"):
        write_whole(path, b"ours, new", ours)
    assert path.read_bytes() == b"ours, whole"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_relative_folder_of_the_environment_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    assert user_folder("data") == tmp_path / ".local/share/llmtop"
    assert "XDG_DATA_HOME is ignored" in files.ignored("data")
    monkeypatch.setenv("XDG_DATA_HOME", "/there")
    assert (user_folder("data"), files.ignored("data")) == (Path("/there/llmtop"), "")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert (user_folder("data"), files.ignored("data")) == (tmp_path / ".local/share/llmtop", "")


def test_without_a_home_there_is_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: f"~/.local/share/{name}")
    with pytest.raises(FileError):
        make_folder(user_folder("data"))


def test_a_temporary_folder_that_others_can_write_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = temporary_folder()
    assert (temporary_folder(), mode(first)) == (first, 0o700)
    first.chmod(0o777)
    second = temporary_folder()
    assert second != first
    assert mode(second) == 0o700
    first.rmdir()
    first.symlink_to(tmp_path)
    assert temporary_folder() != first
