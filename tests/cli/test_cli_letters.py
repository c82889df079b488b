"""What is said where there is no UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO, TextIOWrapper

import pytest

from llmtop.cli.letters import SIGNS, escaped, use_letters


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp437"])
def test_every_sign_is_written_in_what_the_stream_has(encoding: str) -> None:
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding=encoding)
    use_letters(stream)
    stream.write("".join(SIGNS) + "模")
    stream.flush()
    said = raw.getvalue().decode(encoding)
    assert "\\" not in said
    for sign, letters in SIGNS.items():
        assert letters.isascii()
        assert sign in said or letters in said
    assert said.endswith("?")


def test_a_stream_with_utf_8_is_left_as_it_is() -> None:
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding="utf-8")
    use_letters(stream, object())
    assert stream.errors == "strict"


@pytest.mark.parametrize("value", ["plain", "≈ 3 · µs", "模型", "🙂", 'a "quote"\n'])
def test_json_in_ascii_means_the_same(value: str) -> None:
    text = json.dumps({"name": value, value: [value]}, ensure_ascii=False)
    assert escaped(text).isascii()
    assert json.loads(escaped(text)) == json.loads(text)


@pytest.mark.parametrize("words", [(), pytest.param(("--json",), marks=pytest.mark.faults)])
def test_a_command_says_in_ascii_what_it_says(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "llmtop", "predict", "laptop", "--concurrency", "1,2", "--per-level", "5", *words]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii()
    assert b"\\x" not in ended.stdout
    assert not words or json.loads(ended.stdout)
