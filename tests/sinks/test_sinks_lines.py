"""A file of figures is whole lines of JSON, whatever the disk does, and never another's file."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from documented import drift
from msgspec.structs import replace
from sinks_fakes import toy

from llmtop.sinks.figures import Figures
from llmtop.sinks.lines import Lines, is_lines, line
from llmtop.sinks.pump import Undelivered


def read(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(text, parse_constant=refuse) for text in path.read_text().splitlines()]


def test_each_line_is_one_object_with_the_keys_that_are_told(tmp_path: Path) -> None:
    sink = Lines(tmp_path / "figures.jsonl")
    sink.deliver(toy())
    assert len(read(tmp_path / "figures.jsonl")) == 1, "at once"
    sink.deliver(replace(toy(), t_s=2.0))
    sink.deliver(replace(toy(), t_s=2.0, time=5.0))
    sink.end()
    told = read(tmp_path / "figures.jsonl")
    assert [each["t_s"] for each in told] == [1.0, 2.0], "what is no news is not told again"
    assert drift("llmtop run --out json=FILE", told[0]) == []
    assert told[0]["slo_ok"] is None
    assert stat.S_IMODE((tmp_path / "figures.jsonl").stat().st_mode) == 0o600
    assert is_lines((tmp_path / "figures.jsonl").read_bytes())
    assert not is_lines(b'{"format":1,"exit_code":0}')


def test_an_older_file_of_ours_is_replaced_when_the_first_line_comes(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    path.write_bytes(line(toy()) * 3)
    sink = Lines(path)
    sink.deliver(Figures(time=0.0))
    assert len(read(path)) == 3, "nothing is known yet"
    sink.deliver(toy())
    sink.end()
    assert len(read(path)) == 1


def test_a_line_that_does_not_fit_is_taken_back_whole_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures.jsonl"
    sink = Lines(path)
    sink.deliver(toy())
    write, full = os.write, [True]

    def half(descriptor: int, content: bytes) -> int:
        if full[0] and len(content) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:-50] if full[0] else content)

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(Undelivered, match="No space left on device"):
        sink.deliver(replace(toy(), t_s=2.0))
    full[0] = False
    sink.deliver(replace(toy(), t_s=3.0))
    monkeypatch.undo()
    assert [each["t_s"] for each in read(path)] == [1.0, 3.0]
    assert sink.missing() == "1 lines are missing: No space left on device"
    sink.end()


def test_a_folder_that_went_away_is_said(tmp_path: Path) -> None:
    sink = Lines(tmp_path / "gone" / "figures.jsonl")
    with pytest.raises(Undelivered, match="there is no folder"):
        sink.deliver(toy())
    (tmp_path / "gone").mkdir()
    sink.deliver(toy())
    sink.end()
    assert len(read(tmp_path / "gone" / "figures.jsonl")) == 1
