"""What is typed, and what stands in a user's files: a command ends in words, in time and in little memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trying import Tried, serving, tried, tried_here

from llmtop import inputs

MOST_MB = 150
ODD = ("nan", "1e400", "9" * 5000, "-1", "1_000", "")
NUMBERS = {
    "run smoke --sim": (
        *("concurrency", "rate", "peak", "prompt-tokens", "output-tokens", "think-time", "shared-prefix"),
        *("max-concurrency", "workers", "seed", "duration", "gate", "canary"),
    ),
    "predict laptop": ("concurrency", "rate", "stagger", "prompt-tokens", "output-tokens", "per-level", "seed"),
    "sim laptop": ("port", "seed"),
    "selftest": ("seconds",),
    "replay nothing.llmtop": ("speed", "fps"),
}


def refused(ended: Tried) -> str:
    """It ended with exit code 2 in one line, soon, and took little."""
    ended.is_in_words(2)
    assert "\x1b" not in ended.err
    assert ended.peak_mb < MOST_MB
    return ended.err


def test_a_pipe_that_nobody_writes_to_is_no_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1.0 <= inputs.PIPE_PATIENCE_S <= 10.0, "as long as what writes there may take to begin"
    monkeypatch.setattr(inputs, "PIPE_PATIENCE_S", 0.1)
    os.mkfifo(home / "pipe.toml")
    ended = tried_here("run", str(home / "pipe.toml"), "--sim", home=home)
    assert "pipe.toml: is a pipe that nobody writes to" in refused(ended)


def test_a_profile_of_a_hundred_megabytes_is_refused_before_it_is_read(home: Path) -> None:
    path = home / "large.toml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    assert "larger than 2 MB" in refused(tried_here("run", str(path), "--sim", home=home))


def test_a_name_with_an_escape_sequence_is_shown_as_what_it_is(home: Path) -> None:
    said = refused(tried_here("run", "a\x1b]52;c;eA==\x07.toml", "--sim", home=home))
    assert r"a\x1b]52;c;eA==\x07.toml" in said


def test_a_preset_of_bad_figures_names_file_and_key_also_in_a_run(home: Path) -> None:
    path = home / "mine.toml"
    path.write_text("[hardware]\nbandwidth_gb_s = nan\n")
    said = refused(tried_here("run", "smoke", "--sim", str(path), home=home))
    assert "mine.toml: hardware.bandwidth_gb_s: must be a number of 0.1 or more" in said


def test_more_workers_than_the_machine_carries_start_none(home: Path) -> None:
    said = refused(tried_here("run", "smoke", "--sim", "--workers", "200", home=home))
    assert "for each of its" in said
    assert "MB of memory" in said


@pytest.mark.faults
def test_an_option_may_stand_between_the_profile_and_the_url(home: Path) -> None:
    path = home / "two.toml"
    path.write_text("[[stage]]\nshape = 'hold'\nduration = 2\nconcurrency = 2\n")
    with serving() as server:
        ended = tried("run", str(path), "--json", server.url, home=home)
    ended.is_in_words(0, 1, 3, 4, 5)
    assert ended.out.startswith("{")


@pytest.mark.faults
@pytest.mark.parametrize(("command", "option"), [(name, each) for name, them in NUMBERS.items() for each in them])
def test_odd_numbers_end_in_words(command: str, option: str, home: Path) -> None:
    for value in ODD:
        ended = tried(*command.split(), f"--{option}={value}", home=home, limit_s=20)
        said = refused(ended)
        assert f"--{option}" in said or "terminal" in said, (value, said)
        assert "must be" in said or "this machine carries" in said, (value, said)
