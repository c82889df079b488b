"""A screen at a run that another process attends to: what it is shown, and what becomes of both when one goes."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import threading
from pathlib import Path

import psutil
import pytest
from attended import all_end, at_home, attended, until
from msgspec.structs import replace

from llmtop.domain.commands import Detach, Export, Quit, Seen, SetLoad, StopLoad, TakeWheel
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended
from llmtop.domain.slo import Slo
from llmtop.domain.terminal import RESET
from llmtop.errors import SessionLost
from llmtop.host import messages
from llmtop.host.attached import Attached
from llmtop.host.options import HostOptions
from llmtop.host.running import find, running, stop
from llmtop.recording.reader import RunReader
from llmtop.session.options import SessionOptions
from llmtop.session.terminal import state_of

NAME = "0101-m"
LOAD = SetLoad(LoadPoint(concurrency=3))


def test_what_is_shown_here_is_what_is_shown_there_and_the_slo_is_known_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        run.host.answer("before it came")
        until(lambda: run.doors._shown.answer is not None)
        screen = Attached.join(find(None), view=False)
        assert screen.slo == run.host.slo
        assert screen.name == NAME
        until(lambda: screen.shown().meta is not None)
        shown = screen.shown()
        assert (shown.frame, shown.meta, shown.answer) == (run.host.newest.frame, run.host.newest.meta, None)
        run.host.answer("exported")
        until(lambda: screen.shown().answer is not None)
        answer = screen.shown().answer
        assert answer is not None
        assert (answer.number, answer.text) == (1, "exported")
        screen.close()


def test_the_wheel_passes_from_screen_to_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        first = Attached.join(find(None), view=False)
        until(lambda: first.shown().wheel.holder)
        assert first.shown().wheel.mine
        second = Attached.join(find(None), view=False)
        until(lambda: second.shown().wheel.screens == 2 and first.shown().wheel.screens == 2)
        second.send(LOAD)
        until(lambda: second.shown().answer is not None)
        assert run.host.asked == []
        second.send(TakeWheel())
        until(lambda: second.shown().wheel.mine and not first.shown().wheel.mine)
        until(lambda: first.shown().answer is not None)
        answer = first.shown().answer
        assert answer is not None
        assert answer.text == f"the wheel was taken by {second.shown().wheel.holder}"
        second.send(LOAD)
        until(lambda: LOAD in run.host.sent)
        second.close()
        assert second.left
        until(lambda: first.shown().wheel.holder == "")
        first.close()
        assert not any(isinstance(command, Quit) for command in run.host.sent)


def test_whoever_vanishes_gets_its_terminal_back_and_who_leaves_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    shows, takes = pty.openpty()
    try:
        os.set_blocking(shows, False)
        with attended(NAME) as run:
            for leaves in (True, False):
                screen = Attached.join(find(None), view=True, terminal=state_of(takes))
                screen.send(Seen())
                until(lambda: any(there.seen for there in run.screens.all))
                assert run.screens.all[0].name == os.ttyname(takes).removeprefix("/dev/")
                screen.close() if leaves else screen._hang_up()
                until(lambda: not run.screens.all)
                if leaves:
                    with pytest.raises(BlockingIOError):
                        os.read(shows, 1)
            said = b""

            def all_came() -> bool:
                nonlocal said
                with contextlib.suppress(BlockingIOError):
                    said += os.read(shows, 4096)
                return len(said.replace(b"\r", b"")) >= len(RESET)

            until(all_came)
            assert said.decode().replace("\r", "") == RESET
    finally:
        os.close(shows)
        os.close(takes)


def test_when_the_run_has_ended_its_screens_hear_how_and_the_rest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        screen = Attached.join(find(None), view=False)
        run.host.newest = replace(run.host.newest, ended=Ended("the server is gone", 3))
        until(lambda: screen.parting is not None)
        assert screen.shown().ended == Ended("the server is gone", 3)
        assert screen.parting is not None
        assert screen.parting.failed == "a sink"
        screen.send(LOAD)
        screen.send(Export())
        answer = screen.shown().answer
        assert answer is not None
        assert (answer.text, answer.refused) == ("the run is over", True)
        screen.close()
        screen.close()
        assert running() == ()


@pytest.mark.parametrize("asked", [True, False])
def test_a_screen_that_goes_at_the_end_of_a_run_hears_the_rest_and_says_not_that_it_goes_on(asked: bool) -> None:
    there, here = socket.socketpair()
    with there, here, here.makefile("rb", buffering=0) as stream:
        screen = Attached(Slo(), stream, here.sendall, lambda: here.shutdown(socket.SHUT_RDWR))
        screen._begin()
        if asked:
            screen.send(Quit())
        there.sendall(messages.packed(messages.Part(ended=Ended())))
        until(lambda: screen.shown().ended is not None)
        closing = threading.Thread(target=screen.close)
        closing.start()
        there.sendall(messages.packed(messages.Part(parting=messages.Parting(failed="a sink"))))
        closing.join(30)
        assert not closing.is_alive()
        assert (screen.left, screen.parting) == (False, messages.Parting(failed="a sink"))
        came = b""
        while piece := there.recv(65536):
            came += piece
        assert came == (messages.packed(Quit()) if asked else b""), "it does not leave what is over"


def test_a_host_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = at_home(monkeypatch, tmp_path)
    with attended(NAME) as run:
        told = find(None)
        screen = Attached.join(told, view=True)
        for guest in run.doors._guests:
            guest._writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        until(lambda: screen.shown().ended is not None)
        ended = screen.shown().ended
        assert ended is not None
        assert "is gone" in (ended.error or "")
        assert ended.exit_code == 3
        screen.close()
    with pytest.raises(SessionLost, match="has ended"):
        Attached.join(told, view=True)
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize(("version", "protocol"), [("0.0.9", 1), ("", 77), ("9", -1)])
def test_a_run_of_another_version_is_named_and_not_joined(
    version: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    with attended(NAME):
        other = replace(find(None), version=version or find(None).version, protocol=protocol)
        with pytest.raises(SessionLost, match=f"{NAME} is a run of llmtop .*llmtop stop {NAME}") as lost:
            Attached.join(other, view=True)
        assert lost.value.exit_code == 3


def test_neither_memory_nor_descriptors_nor_threads_grow_with_those_who_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    own = psutil.Process()
    with attended(NAME) as run:

        def come_and_go() -> None:
            screen = Attached.join(find(None), view=False)
            until(lambda: screen.shown().meta is not None)
            screen.send(Seen())
            screen.close()
            until(lambda: not run.screens.all)

        for _ in range(3):
            come_and_go()
        until(lambda: len(run.doors._tasks) == 0)
        before = own.num_fds(), threading.active_count(), own.memory_info().rss
        for _ in range(30):
            come_and_go()
        until(lambda: len(run.doors._tasks) == 0)
        until(lambda: own.num_fds() <= before[0] and threading.active_count() <= before[1])
        assert own.memory_info().rss - before[2] < 4_000_000
        assert run.doors._guests == []


# ── With its process ──────────────────────────────────────────────────────────────────────────────────────────────────


def begun(path: Path, endpoint: Endpoint | None = None, **options: object) -> Attached:
    """A run of the simulated engine, if there is no endpoint."""
    base = LoadPoint(concurrency=2, prompt_tokens=32, output_tokens=8)
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=base))
    session = SessionOptions(profile=profile, run_file=str(path), endpoint=endpoint)
    return Attached.begin(HostOptions(session=session, slo=Slo(), **options))  # type: ignore[arg-type]


def written(lines: Path) -> int:
    return lines.read_text().count("\n") if lines.exists() else 0


def test_a_run_is_begun_left_joined_and_stopped_and_its_figures_flow_out_also_when_no_screen_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = at_home(monkeypatch, tmp_path)
    lines = tmp_path / "lines.json"
    first = begun(tmp_path / "run.llmtop", sinks=(f"json={lines}",))
    try:
        until(lambda: first.name and first.shown().frame is not None and first.shown().frame.totals.ok > 0)
        assert first.shown().wheel.mine
        assert first.holds
        until(lambda: first.shown().sinks)
        assert "lines.json" in first.shown().sinks[0].name
        first.send(Detach())
        until(lambda: first.left)
    finally:
        first.close()
    assert not first.holds
    (run,) = running()
    assert run.detached
    assert (run.name, run.holder, run.screens) == (first.name, "", 0)
    assert run.load.endswith(" in flight")
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    left_at = written(lines)
    until(lambda: written(lines) > left_at)

    second = Attached.join(find("last"), view=False)
    before = second.shown()
    until(lambda: second.shown().frame is not None)
    second.send(SetLoad(LoadPoint(concurrency=5, prompt_tokens=32, output_tokens=8)))
    until(lambda: second.shown().frame.in_flight == 5)  # type: ignore[union-attr]
    assert before is not second.shown()
    stop(find(None))
    until(lambda: second.parting is not None)
    second.close()
    assert second.shown().ended == Ended()
    assert running() == ()
    assert list(runs.iterdir()) == []
    all_end(processes)
    assert lines.read_text().endswith("\n")
    with RunReader(tmp_path / "run.llmtop") as reader:
        assert reader.complete
        assert any(bin_.in_flight for batch in reader.batches() for bin_ in batch.bins)


def test_a_screen_that_holds_the_run_ends_it_and_all_that_was_said_of_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that an earlier measurement could not be read, with its code."""
    at_home(monkeypatch, tmp_path)
    screen = begun(tmp_path / "run.llmtop", baselines=(str(tmp_path / "none.llmtop"),))
    until(lambda: screen.shown().frame is not None and screen.shown().frame.totals.ok > 0)
    until(lambda: screen.shown().answer is not None)
    assert screen._child is not None
    processes = [psutil.Process(screen._child.pid), *psutil.Process(screen._child.pid).children(recursive=True)]
    screen.send(StopLoad())
    screen.close()
    assert screen.parting is not None
    assert [str(state) for state in screen.parting.states] == ["up"]
    assert "none.llmtop" in (screen.parting.unread or "")
    assert screen.parting.exit_code == 2
    last = screen.shown()
    assert last.ended == Ended()
    assert last.assessment is not None
    assert last.assessment.judgement.final
    assert last.meta is not None
    assert last.meta.ended_s is not None
    all_end(processes)


def test_what_goes_wrong_in_the_session_is_said_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, tmp_path)
    (tmp_path / "run.llmtop").write_text("mine")
    screen = begun(tmp_path / "run.llmtop", Endpoint(base_url="http://127.0.0.1:9"))
    until(lambda: screen.shown().ended is not None)
    screen.close()
    ended = screen.shown().ended
    assert ended is not None
    assert "exists already" in (ended.error or "")
    assert ended.exit_code == 2


def test_a_sink_that_does_not_exist_is_said_before_there_is_any_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    screen = begun(tmp_path / "run.llmtop", sinks=("nosuch=1",))
    until(lambda: screen.shown().ended is not None)
    screen.close()
    ended = screen.shown().ended
    assert ended is not None
    assert "nosuch" in (ended.error or "")
    assert ended.exit_code == 2
    assert not (tmp_path / "run.llmtop").exists()
