"""Machines that are short of memory, files, threads, cores or room: words and an exit code, or a run; nothing else."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trying import COMMAND, Tried, serving, streams, tried

ENDS = (0, 1, 4, 5)
"""A run that was possible: whatever it answers."""
SHORT = 4
REFUSED = 2


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.fixture
def url() -> Iterator[str]:
    with serving({"/v1/chat/completions": streams("one", " two", " three", pause_s=0.01)}) as server:
        yield server.url


def small(url: str) -> tuple[str, ...]:
    return ("run", "smoke", url, "--duration", "1", "--peak", "2")


SIMULATED = ("run", "smoke", "--sim", "--duration", "1", "--peak", "2")


def is_told_or_measured(ended: Tried, home: Path, *codes: int) -> None:
    """It ended in words; no log has a traceback; what it recorded can be read."""
    ended.is_in_words(*codes)
    for log in home.rglob("session.log*"):
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    for run_file in home.rglob("*.llmtop"):
        read = tried("assess", str(run_file), home=home)
        read.is_in_words(0, 1, 2, 4, 5)


# Open files


@pytest.mark.parametrize("limit", [8, 24])
def test_too_few_open_files_are_said_before_anything_is_sent(home: Path, url: str, limit: int) -> None:
    ended = tried(*small(url), home=home, before=limited(resource.RLIMIT_NOFILE, limit))
    is_told_or_measured(ended, home, REFUSED, SHORT)
    assert f"only {limit}" in ended.err
    assert "ulimit -" in ended.err


@pytest.mark.faults
@pytest.mark.parametrize("limit", [64, 36, 32, 30, 16, 12, 10, 6])
@pytest.mark.parametrize("arguments", ["url", "sim", "workers", "doctor"])
def test_few_open_files_make_no_server_look_broken(home: Path, url: str, limit: int, arguments: str) -> None:
    words = {
        "url": small(url),
        "sim": SIMULATED,
        "workers": (*small(url), "--workers", "2"),
        "doctor": ("doctor", url),
    }[arguments]
    ended = tried(*words, home=home, before=limited(resource.RLIMIT_NOFILE, limit), limit_s=90)
    is_told_or_measured(ended, home, *ENDS, REFUSED, 3)
    if ended.code == 3:
        assert "files" in ended.err
    assert "restarted" not in ended.said
    assert "errors" not in ended.said.replace("no errors", "")


# Memory


@pytest.mark.parametrize("megabytes", [100])
def test_too_little_memory_is_said(home: Path, url: str, megabytes: int) -> None:
    ended = tried(*small(url), home=home, before=limited(resource.RLIMIT_AS, megabytes << 20))
    is_told_or_measured(ended, home, SHORT)
    assert "memory" in ended.err


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [400, 320, 260, 220, 190, 170, 150, 140, 130, 120, 112, 60, 40])
@pytest.mark.parametrize("simulated", [False, True])
def test_little_memory_is_said_or_is_enough(home: Path, url: str, megabytes: int, simulated: bool) -> None:
    words = SIMULATED if simulated else small(url)
    ended = tried(*words, home=home, before=limited(resource.RLIMIT_AS, megabytes << 20), limit_s=90)
    is_told_or_measured(ended, home, *ENDS)


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [260, 170, 140, 120])
@pytest.mark.parametrize("arguments", ["doctor", "workers", "predict", "selftest"])
def test_little_memory_is_said_by_every_command(home: Path, url: str, megabytes: int, arguments: str) -> None:
    words = {
        "doctor": ("doctor", url),
        "workers": (*small(url), "--workers", "2"),
        "predict": ("predict", "--concurrency", "4"),
        "selftest": ("selftest", "--quick"),
    }[arguments]
    ended = tried(*words, home=home, before=limited(resource.RLIMIT_AS, megabytes << 20), limit_s=90)
    is_told_or_measured(ended, home, *ENDS, REFUSED, 3)


# Threads and processes


def with_tasks(most: int) -> tuple[str, ...]:
    """The command as a user who may have so many tasks; root may have any number."""
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return (*user, *reading, "prlimit", f"--nproc={most}", *COMMAND)


@pytest.fixture
def shared_home() -> Iterator[Path]:
    """A home that anybody may write."""
    folder = Path(tempfile.mkdtemp(prefix="llmtop-", dir="/var/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs another user")
@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("arguments", ["url", "sim", "workers"])
def test_too_few_tasks_are_said(shared_home: Path, url: str, most: int, arguments: str) -> None:
    words = {"url": small(url), "sim": SIMULATED, "workers": (*small(url), "--workers", "2")}[arguments]
    ended = tried(*words, home=shared_home, command=with_tasks(most), limit_s=90)
    is_told_or_measured(ended, shared_home, *ENDS)
    if ended.code == SHORT and "bottleneck" not in ended.err:
        assert "threads" in ended.err


# Cores and room


def starved() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.nice(19)


@pytest.mark.faults
def test_four_busy_loops_beside_make_no_false_answer(home: Path, url: str) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        ended = tried(*small(url), home=home, limit_s=120)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    is_told_or_measured(ended, home, *ENDS)


@pytest.mark.faults
def test_one_core_and_the_lowest_priority_are_enough_to_end(home: Path, url: str) -> None:
    is_told_or_measured(tried(*small(url), home=home, before=starved, limit_s=120), home, *ENDS)


@pytest.mark.faults
@pytest.mark.parametrize("folder", ["/nonexistent", "/proc", "/dev/null"])
def test_no_room_for_temporary_files_costs_nothing(home: Path, url: str, folder: str) -> None:
    is_told_or_measured(tried(*SIMULATED, home=home, more={"TMPDIR": folder}), home, *ENDS)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a mount of its own")
@pytest.mark.parametrize("folder", ["/proc", "/dev/shm", "/sys"])
def test_a_system_without_its_own_folders_is_driven_all_the_same(home: Path, folder: str) -> None:
    hidden = f'mount -t tmpfs -o size=4k,mode=000 none {folder} && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", hidden, "sh", "true"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    command = ("unshare", "-m", "sh", "-c", hidden, "sh", *COMMAND)
    is_told_or_measured(tried(*SIMULATED, home=home, command=command), home, *ENDS)
