"""The door of a run: where it is, who may come in, and what is told there."""

from __future__ import annotations

import os
import socket
import stat
import statistics
import struct
import time
from pathlib import Path

import msgspec
import pytest
from attended import Attended, FakeHost, at_home, attended, until
from host_fakes import frame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtop import __version__, channel
from llmtop.domain.commands import StopLoad
from llmtop.domain.shown import Shown
from llmtop.host import doors as doors_module
from llmtop.host import messages, sockets
from llmtop.host.attached import Attached
from llmtop.host.doors import Parts
from llmtop.host.messages import PROTOCOL, Ask
from llmtop.host.running import Line, find, running

NAME = "0101-m"


def test_the_socket_is_its_owners_alone_has_the_runs_name_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = at_home(monkeypatch, tmp_path)
    before = os.umask(0)
    try:
        with attended(NAME):
            (there,) = runs.iterdir()
            assert there.name == f"{NAME}.sock"
            assert stat.S_IMODE(there.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("instead", [None, "a file"])
def test_a_socket_that_was_removed_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str | None
) -> None:
    monkeypatch.setattr(doors_module, "LOOKS_AFTER_S", 0.0)
    runs = at_home(monkeypatch, tmp_path)
    with attended(NAME):
        path = runs / f"{NAME}.sock"
        screen = Attached.join(find(NAME), view=True)
        path.unlink()
        if instead is not None:
            path.write_text(instead)
        until(lambda: [run for run in running() if run.name.startswith(NAME)])
        assert screen.shown().ended is None, "who was there stays"
        again = Attached.join(running()[0], view=True)
        assert again.shown().frame is not None
        again.close()
        screen.close()
    left = [each.read_text() for each in runs.iterdir()]
    assert left == ([] if instead is None else [instead])


def test_a_name_in_use_is_left_to_whoever_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = at_home(monkeypatch, tmp_path)
    with attended(NAME) as one, attended(NAME) as other:
        assert sorted(path.name for path in runs.iterdir()) == [f"{NAME}-2.sock", f"{NAME}.sock"]
        assert {run.name for run in running()} == {NAME, f"{NAME}-2"}
        Attached.join(find(NAME), view=True).close()
        assert one.host is not other.host


def test_a_path_that_is_too_long_for_a_socket_lies_among_the_temporary_files_and_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path / ("long" * 20) / ("long" * 20))
    short = Path("/tmp") / f"llmtop-test-{os.getpid()}"
    short.mkdir(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(short))
    try:
        with attended(NAME):
            (run,) = running()
            assert run.path.startswith(str(short))
            assert run.name == NAME
            Attached.join(run, view=True).close()
        (folder,) = short.iterdir()
        assert list(folder.iterdir()) == []
        folder.rmdir()
    finally:
        short.rmdir()


def test_without_a_place_for_a_socket_the_run_goes_on_and_cannot_be_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(name: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(sockets, "opened", nowhere)
    with attended(NAME) as run:
        assert "no place for a socket" in run.life.bound_by
        assert "Read-only file system" in run.life.bound_by
        assert "not begun" not in run.life.detach()


def test_the_first_word_is_a_map_that_any_version_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        (there,) = running()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(there.path)
            with connection.makefile("rb") as stream:
                body = channel.read(stream)
        assert body is not None
        told = msgspec.msgpack.decode(body)
        assert isinstance(told, dict)
        assert (told["version"], told["protocol"], told["name"]) == (__version__, PROTOCOL, NAME)
        assert told["pid"] == os.getpid()
        assert run.host.asked == []


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<I", channel.MOST_BYTES + 1),
        channel.framed(b"\xc1"),
        channel.framed(msgspec.msgpack.encode({"asks": "dance", "version": "1", "protocol": 1})),
        channel.framed(msgspec.msgpack.encode(Ask(asks="join", version="9.9", protocol=PROTOCOL))),
        channel.framed(msgspec.msgpack.encode(Ask(asks="join", version=__version__, protocol=99))),
        messages.packed(Ask(asks="join", version=__version__, protocol=PROTOCOL)) + channel.framed(b"\xc1"),
    ],
)
def test_whoever_says_what_nobody_understands_is_shown_out_and_changes_nothing(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run, socket.socket(socket.AF_UNIX) as connection:
        looks = Attached.join(find(None), view=True)
        connection.settimeout(30)
        connection.connect(find(None).path)
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        run.host.show(seq=7)
        until(lambda: (newest := looks.shown().frame) is not None and newest.seq == 7)
        until(lambda: len(run.screens.all) == 1)
        assert run.host.asked == []
        looks.close()


def test_who_says_nothing_is_shown_out_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    monkeypatch.setattr(doors_module, "ASKS_WITHIN_S", 0.1)
    with attended(NAME), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(find(None).path)
        while connection.recv(65536):
            pass


def test_two_screens_are_shown_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        screens = [Attached.join(find(None), view=view) for view in (False, True)]
        seen: list[dict[int, bytes]] = [{}, {}]
        for seq in range(1, 20):
            run.host.show(seq)
            for screen, frames in zip(screens, seen, strict=True):

                def has_come(screen: Attached = screen, seq: int = seq) -> bool:
                    newest = screen.shown().frame
                    return newest is not None and newest.seq == seq

                until(has_come)
                newest = screen.shown().frame
                assert newest is not None
                frames[newest.seq] = msgspec.msgpack.encode(newest)
        assert seen[0] == seen[1]
        assert len(seen[0]) == 19
        for screen in screens:
            screen.close()


def test_one_that_does_not_read_gets_the_newest_alone_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        big = frame(run_file=f"/r/{NAME}.llmtop", recording_problem="x" * 500_000)
        line = Line.asking(find(None), Ask(asks="join", version=__version__, protocol=PROTOCOL, view=True))
        reads = Attached.join(find(None), view=True)
        waits_s = []
        for seq in range(1, 60):
            run.host.newest = msgspec.structs.replace(run.host.newest, frame=msgspec.structs.replace(big, seq=seq))
            begun = time.monotonic()
            until(lambda seq=seq: reads.shown().frame.seq == seq)  # type: ignore[misc,union-attr]
            waits_s.append(time.monotonic() - begun)
        assert statistics.median(waits_s) < 1, "the machine may hold it up at times"
        pending = [guest._pending for guest in run.doors._guests]
        assert max(pending) < 2 * 500_000 + 10_000, "no more waits for it than was new once"
        seqs = []
        while not seqs or seqs[-1] < 59:
            part = messages.decode_part(line.read())
            if isinstance(part.frame, type(big)):
                seqs.append(part.frame.seq)
        assert len(seqs) < 10, "it has missed the rest"
        line.close()
        reads.close()


values = st.fixed_dictionaries({"seq": st.integers(0, 3), "stage": st.sampled_from([None, "a", "b"])})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(values, st.booleans()), max_size=20))
def test_whoever_takes_up_all_parts_that_are_new_to_it_has_what_is_shown(
    told: list[tuple[dict[str, object], bool]],
) -> None:
    """However many it leaves out in between."""
    parts, versions, shown = Parts(), dict[str, int](), Shown()
    newest = Shown()
    for fields, reads in told:
        newest = Shown(frame=frame(stage=fields["stage"]), meta=None if fields["seq"] == 0 else FakeHost().newest.meta)
        parts.take(newest)
        if reads:
            for name, (version, piece) in parts.written.items():
                if versions.get(name) != version:
                    versions[name] = version
                    shown = msgspec.structs.replace(shown, **messages.news_of(messages.decode_part(piece[4:])))
            assert shown == newest


def test_commands_of_one_screen_are_carried_out_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtop.domain.commands import AddMark

    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        screen = Attached.join(find(None), view=False)
        asked = [AddMark(str(number)) for number in range(200)]
        for command in asked:
            screen.send(command)
        screen.send(StopLoad())
        until(lambda: StopLoad() in run.host.sent)
        assert run.host.asked == [*asked, StopLoad()]
        screen.close()


def test_a_run_that_is_driven_by_its_plan_is_looked_at_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    run = Attended(FakeHost(NAME), plan="its plan")
    (told,) = running()
    assert (told.headless, told.holder, told.detached) == (True, "its plan", False)
    screen = Attached.join(told, view=False)
    screen.send(StopLoad())
    until(lambda: screen.shown().answer is not None)
    assert run.host.asked == []
    wheel = screen.shown().wheel
    assert (wheel.mine, wheel.view, wheel.holder) == (False, True, "its plan")
    screen.close()
    run.close()


def test_a_run_whose_server_takes_its_time_to_start_can_be_found_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    monkeypatch.setattr(doors_module, "UNNAMED_S", 0.1)
    monkeypatch.setattr(FakeHost, "shown", lambda self: msgspec.structs.replace(self.newest, meta=None, frame=None))
    with attended(NAME) as run:
        (told,) = running()
        assert told.name[:8].isdigit()
        assert (told.run_file, told.load, told.endpoint) == (None, "", "")
        assert run.life.bound_by == ""


def test_who_ends_at_once_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = at_home(monkeypatch, tmp_path)
    with attended(NAME):
        assert len(list(runs.iterdir())) == 1
        sockets.remove_mine()
        assert list(runs.iterdir()) == []
