"""Whatever a name leads to ends in bytes or in an error with the name: no hang, no growth, no foreign exception."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from llmtop import inputs
from llmtop.errors import FileError
from llmtop.inputs import MOST_DEPTH, bytes_of, path_of, tables_of, text_of

MOST = 1000


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is no name of a file"),
        (" ", "is no name of a file"),
        ("a\0b", "it has a NUL"),
        ("a" * 5000, "it is too long"),
        ("a" * 300, "File name too long"),
        ("~no-such-user-at-all/x", "there is no such user"),
        ("/dev/null/x", "Not a directory"),
    ],
)
def test_a_name_that_no_file_can_have(name: str, says: str) -> None:
    with pytest.raises(FileError, match=says) as refused:
        path_of(name)
    assert len(str(refused.value)) < 300


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(FileError, match="symbolic links"):
        path_of(tmp_path / "a")
    with pytest.raises(FileError, match="symbolic links"):
        bytes_of(tmp_path / "a", MOST)


@pytest.mark.parametrize(
    ("name", "says"),
    [("/dev/zero", "is a device"), ("/dev", "is a folder"), ("/nowhere/x", "No such file"), (".", "is a folder")],
)
def test_what_is_no_file(name: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        bytes_of(Path(name), MOST)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(FileError, match="larger than 0 MB"):
        bytes_of(path, MOST)


def test_a_pipe_gives_what_is_written_and_one_without_a_writer_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.setattr(inputs, "PIPE_PATIENCE_S", 0.3)
    with pytest.raises(FileError, match="nobody writes"):
        bytes_of(path, MOST)
    reader, writer = os.pipe()
    threading.Timer(0.05, lambda: (os.write(writer, b"late"), os.close(writer))).start()
    assert bytes_of(Path(f"/dev/fd/{reader}"), MOST) == b"late"
    os.close(reader)
    reader, writer = os.pipe()
    began = time.monotonic()
    with pytest.raises(FileError, match="nobody writes"):
        bytes_of(Path(f"/dev/fd/{reader}"), MOST)
    assert time.monotonic() - began < 2
    os.write(writer, b"x" * (MOST + 1))
    with pytest.raises(FileError, match="larger than"):
        bytes_of(Path(f"/dev/fd/{reader}"), MOST)
    os.close(reader)
    os.close(writer)


def test_a_byte_order_mark_is_left_out_and_other_encodings_are_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("\ufeffé".encode())
    assert text_of(path, MOST) == "é"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(FileError, match=r"not UTF-8 text \(byte 3\)"):
        text_of(path, MOST)


LONG = 200_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = " + "[" * LONG, "nested deeper"),
        ("a = " + "{a=" * LONG, "nested deeper"),
        ("a." * LONG + "a = 1", "nested deeper"),
        ('"a".' * LONG + "a = 1", "nested deeper"),
        ("a = " + "9" * LONG, "too many digits"),
        ('a = """' + '"\\' * LONG, "is not TOML"),
        ("'" * LONG, "is not TOML"),
        ('"' * LONG, "is not TOML"),
        ("a = 1\0", "is not TOML"),
        ("a = 2020-99-99", "is not TOML"),
    ],
    ids=lambda text: text[:12],
)
def test_no_tables_are_too_deep_or_take_long(text: str, says: str) -> None:
    began = time.process_time()
    with pytest.raises(FileError, match=says):
        tables_of(text, "file")
    assert time.process_time() - began < 1


def test_depth_is_counted_outside_of_strings_and_comments() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    dots = "a." * 100
    text = f"a = {deep}\nb = '''{deep}{deep[:9]} {dots}'''\nc = \"\\\"{dots}[[[[\" # {dots}{deep[:20]}\nd = '{dots}'\n"
    assert tables_of(text, "file").keys() == {"a", "b", "c", "d"}
    with pytest.raises(FileError, match="nested deeper"):
        tables_of(f"a = [{deep}]", "file")
