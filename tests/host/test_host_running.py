"""The list of runs that go on, and what each may be called by."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import msgspec
import pytest
from attended import at_home, attended, until
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop import __version__, channel
from llmtop.domain.commands import Quit
from llmtop.errors import SessionLost, UsageError
from llmtop.host import running as module
from llmtop.host.messages import PROTOCOL, Running, decode_running
from llmtop.host.running import find, running, stop

NAMES = ("0101-m", "0102-m", "0202-other")


def test_a_run_says_of_itself_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAMES[0]) as run:
        until(lambda: running()[0].load)
        (told,) = running()
        assert told == Running(
            name=NAMES[0],
            path=told.path,
            pid=os.getpid(),
            version=__version__,
            protocol=PROTOCOL,
            started_at=0.0,
            run_file=f"/r/{NAMES[0]}.llmtop",
            label="night",
            endpoint="http://h",
            load="1 in flight",
            alone_s=60.0,
            detached=True,
        )
        assert run.host.asked == []


def test_runs_are_found_by_name_by_its_only_beginning_by_label_and_as_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="no run goes on"):
        find(None)
    with attended(NAMES[0]) as one, attended(NAMES[1]) as two, attended(NAMES[2]) as three:
        for age, run in enumerate((three, two, one)):
            meta = run.host.newest.meta
            assert meta is not None
            label = "night" if run is two else None
            run.host.newest = replace(run.host.newest, meta=replace(meta, started_at=100.0 - age, label=label))
        until(lambda: [run.started_at for run in running()] == [100.0, 99.0, 98.0])
        assert [run.name for run in running()] == [NAMES[2], NAMES[1], NAMES[0]]
        assert find(NAMES[0]).name == NAMES[0]
        assert find("02").name == NAMES[2]
        assert find("last").name == NAMES[2]
        assert find("night").name == NAMES[1]
        for text in (None, "01", "nosuch"):
            with pytest.raises(UsageError) as wrong:
                find(text)
            listed = NAMES[:2] if text == "01" else NAMES
            assert all(name in str(wrong.value) for name in listed)
            assert f"{NAMES[1]} (night)" in str(wrong.value)
            assert "\n" not in str(wrong.value)
        assert "Traceback" not in str(wrong.value)


def test_what_a_killed_run_has_left_behind_is_taken_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = at_home(monkeypatch, tmp_path)
    for name in ("old.sock", "young.sock"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(runs / name))
    os.utime(runs / "old.sock", (1.0, 1.0))
    (runs / "file.sock").write_text("a file of somebody's")
    (runs / "link.sock").symlink_to(runs / "young.sock")
    (runs / "folder.sock").mkdir()
    assert running() == ()
    assert sorted(path.name for path in runs.iterdir()) == ["file.sock", "folder.sock", "link.sock", "young.sock"]


class Other:
    """Something at a socket that says `words` to whoever comes, and keeps what it is asked."""

    def __init__(self, path: Path, words: bytes) -> None:
        self.heard = b""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._words = words
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    connection.sendall(self._words)
                    while piece := connection.recv(4096):
                        self.heard += piece
                        if b"stop" in self.heard:
                            break
                except OSError:
                    continue

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_run_of_another_version_is_listed_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = at_home(monkeypatch, tmp_path)
    future = {"name": "new", "version": "9.0", "protocol": 12, "pid": 7, "started_at": 3.0, "mood": ["good"]}
    other = Other(runs / "new.sock", channel.framed(msgspec.msgpack.encode(future)))
    try:
        (told,) = running()
        assert (told.name, told.version, told.protocol, told.pid) == ("new", "9.0", 12, 7)
        stop(told)
        assert msgspec.msgpack.decode(other.heard[4:]) == {
            "asks": "stop",
            "version": __version__,
            "protocol": PROTOCOL,
        }
    finally:
        other.close()


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", channel.framed(b"\xc1"), channel.framed(b"\x01")]
)
def test_what_is_no_run_is_not_listed_and_left_alone(
    words: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = at_home(monkeypatch, tmp_path)
    other = Other(runs / "x.sock", words)
    try:
        assert running() == ()
        assert (runs / "x.sock").exists()
    finally:
        other.close()


def test_one_that_does_not_answer_is_listed_so_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = at_home(monkeypatch, tmp_path)
    monkeypatch.setattr(module, "SPEAKS_S", 0.1)
    other = Other(runs / "hangs.sock", b"")
    try:
        (told,) = running()
        assert (told.name, told.pid, told.headline) == ("hangs", 0, "it does not answer")
        with pytest.raises(SessionLost, match="does not answer"):
            stop(told)
    finally:
        other.close()


def test_stopping_waits_until_the_run_is_over_and_says_when_that_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAMES[0]) as run:
        stop(find(None))
        assert run.host.asked == [Quit()]
        assert running() == ()
    with attended(NAMES[1]) as run:
        monkeypatch.setattr(module, "CLOSE_S", 0.05)
        monkeypatch.setattr(module, "PATIENCE_S", 0.05)
        monkeypatch.setattr(run.host, "send", lambda command: None)
        said: list[str] = []
        with pytest.raises(SessionLost, match="is not over"):
            stop(find(None), said.append)
        assert NAMES[1] in said[0]
        gone = find(None)
    with pytest.raises(SessionLost, match="has ended"):
        stop(gone)


def test_a_socket_of_another_user_is_never_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAMES[0]):
        assert len(running()) == 1
        monkeypatch.setattr(module.sockets.os, "getuid", lambda: 4242)
        monkeypatch.setattr(module, "Line", lambda path: pytest.fail("connected"))
        assert running() == ()


simple = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=3)


@given(st.dictionaries(st.sampled_from(["name", "version", "protocol", "pid", "load", "x"]), simple))
def test_any_map_at_the_door_is_read_as_far_as_it_can_be(told: dict[str, object]) -> None:
    run = decode_running(msgspec.msgpack.encode(told))
    assert run.name == str(told.get("name", "")) or not isinstance(told.get("name"), str)
    assert isinstance(run.version, str)
