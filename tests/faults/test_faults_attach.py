"""A run that its screen leaves, as a user does it: found again, joined, and ended from another terminal."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from trying import Terminal, tried_here

from llmtop.errors import LlmtopError
from llmtop.recording.reader import RunReader

USERS = 2


def going_on(home: Path) -> list[dict[str, Any]]:
    """What `llmtop ls` tells."""
    told = tried_here("ls", "--json", home=home)
    told.is_in_words(0)
    return json.loads(told.out)["running"]


def with_load(screen: Terminal, home: Path) -> dict[str, Any]:
    """The one run, once a request has been sent: one without any leaves no file."""
    deadline = time.monotonic() + 30
    while True:
        for run in going_on(home):
            with contextlib.suppress(LlmtopError), RunReader(Path(run["run_file"])) as file:
                if any(each.sent for batch in file.batches() for each in batch.bins):
                    return run
        assert time.monotonic() < deadline, "it cannot be found, or has no load"
        screen.read(0.1)


def test_a_run_is_left_found_joined_and_ended_and_nothing_stays(home: Path) -> None:
    with Terminal("--sim", "--concurrency", str(USERS), "--detached-for", "5min", home=home) as first:
        first.until(b"TTFT")
        run = with_load(first, home)
        assert not run["detached"]
        first.family()
        first.send(b"d")
        assert first.code() == 0
        first.is_restored()
        assert b"llmtop attach " + run["name"].encode() in first.written
        assert b"5 min" in first.written

        (left,) = going_on(home)
        assert (left["name"], left["detached"], left["screens"]) == (run["name"], True, 0)
        assert left["load"].startswith(f"{USERS} ")

        wide = (120, 40)
        with (
            Terminal("attach", "--view", home=home, size=wide) as looks,
            Terminal("attach", home=home, size=wide) as drives,
        ):
            for each in (drives, looks):
                each.until(b"TTFT")
                each.until(b"2 screens")
            looks.send(b"q")
            assert looks.code() == 0
            looks.is_restored()
            assert going_on(home)
            drives.send(b"q")
            assert drives.code() == 0
            drives.is_restored()
            assert b"run file:" in drives.written, drives.written[-3000:]
        assert first.gone()
    assert going_on(home) == []
    with contextlib.closing(sqlite3.connect(run["run_file"])) as file:
        (text,) = file.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
    assert json.loads(text)["ended_s"] is not None


def test_stop_ends_a_run_under_its_screen_which_says_so(home: Path) -> None:
    with Terminal("--sim", "--concurrency", str(USERS), home=home) as screen:
        screen.until(b"TTFT")
        with_load(screen, home)
        screen.family()
        ended = tried_here("stop", home=home)
        ended.is_in_words(0)
        assert ended.out.startswith("ended ")
        screen.until(b"The run is over")
        screen.send(b"q")
        assert screen.code() == 0
        assert screen.gone()
        assert b"run file:" in screen.written, screen.written[-3000:]
