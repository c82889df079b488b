"""A run without a screen ends when its plan does, when it is interrupted, and when there is none; it says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_fakes import CONNECTED, Diary, FakeLink, batch, frame
from msgspec.structs import replace

from llmtop.domain.commands import Quit, Seen
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Totals
from llmtop.domain.run import Ended, Ending, Event, Told
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.errors import SessionLost
from llmtop.host import headless
from llmtop.host import host as host_module
from llmtop.host.endings import EndWatch
from llmtop.host.headless import run_to_end


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen looks in the time of one: what is told to them is by their number."""
    for module in (headless, host_module):
        monkeypatch.setattr(module, "LISTEN_S", 1 / 64)


def test_it_ends_with_the_plan_once_nothing_is_in_flight() -> None:
    link = FakeLink()
    link.shown = frame(3.0, finished=True, in_flight=1)
    link.told.append(Told(batches=(batch(3.0),)))
    shown: list[float] = []

    def show(now: Shown) -> None:
        assert now.frame is not None
        shown.append(now.frame.t_s)
        link.shown = replace(link.shown, in_flight=0, t_s=3.5)

    result = run_to_end(link, Slo(), show)
    assert shown == [3.0]
    assert link.closed == 1
    assert link.asked == [Quit(Ending.PLAN)]
    assert result.frame.t_s == 3.5
    assert result.facts.t_s == result.assessment.t_s == 3.0
    assert result.end.ending is Ending.PLAN
    assert not result.interrupted


def test_what_the_run_has_come_to_is_told_last_and_judged_by() -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(3.0, finished=True)
    link.told.clear()
    link.last = Told(meta=replace(CONNECTED, ended_s=3.25, ending=Ending.PLAN), batches=(batch(3.25),))
    result = run_to_end(link, Slo(), lambda shown: None, outputs=[diary])
    assert (result.meta.ended_s, result.facts.t_s, result.meta.ending) == (3.25, 3.25, Ending.PLAN)
    assert diary.heard[-2:] == ["judged", "end"]


@pytest.fixture
def hung_up_on() -> Iterator[None]:
    """As started from a terminal, not by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hung_up_on")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(2.0)
    before = signal.getsignal(number)
    result = run_to_end(link, Slo(), lambda shown: os.kill(os.getpid(), number), outputs=[diary])
    assert result.interrupted
    assert result.end.at_s == 2.0
    assert link.asked == [Quit(Ending.HAND)]
    assert link.closed == 1
    assert diary.heard[-1] == "end"
    assert signal.getsignal(number) is before


def test_a_hang_up_that_was_to_be_ignored_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        link = FakeLink()
        link.shown = frame(2.0)

        def show(now: Shown) -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            link.shown = frame(3.0, finished=True)

        assert run_to_end(link, Slo(), show).end.ending is Ending.PLAN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_before_there_is_a_run_is_an_interruption() -> None:
    link = FakeLink(meta=None)
    signals = iter([signal.SIGINT])
    link.look = lambda: os.kill(os.getpid(), number) if (number := next(signals, None)) else None
    with pytest.raises(KeyboardInterrupt):
        run_to_end(link, Slo(), lambda shown: None)
    assert link.closed == 1


def test_a_session_hears_that_its_run_is_attended_to_once_for_each_frame_that_came() -> None:
    link = FakeLink()
    looks = iter([1, 1, 1, 1, 2, 3])

    def look() -> None:
        seq = next(looks, 3)
        link.shown = replace(frame(float(seq), finished=seq == 3), seq=seq)

    link.look = look
    run_to_end(link, Slo(), lambda shown: None)
    said = link.sent.count(Seen())
    assert 1 <= said <= 3, "a session that is stopped is not written to until its pipe is full"


def test_the_second_interrupt_ends_the_command_at_once_and_another_signal_does_not() -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from host_fakes import FakeLink, frame\n"
        "from llmtop.domain.slo import Slo\n"
        "from llmtop.host.headless import run_to_end\n"
        "def closed(): [os.kill(os.getpid(), number) for number in (signal.SIGTERM, signal.SIGINT)]\n"
        "for number in (signal.SIGTERM, signal.SIGINT):\n"
        "    link = FakeLink(); link.shown = frame(2.0); link.close = closed\n"
        "    run_to_end(link, Slo(), lambda shown: os.kill(os.getpid(), number))\n"
        "    print('in order after', number.name, flush=True)\n"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "in order after SIGTERM\n", "llmtop: interrupted\n")


def test_a_session_that_cannot_begin_ends_it_with_its_own_exit_code() -> None:
    link = FakeLink(meta=None)
    link.told.append(Told(ended=Ended("http://h: nothing answers", 3)))
    with pytest.raises(SessionLost, match="nothing answers") as lost:
        run_to_end(link, Slo(), lambda shown: None)
    assert lost.value.exit_code == 3


def test_a_session_that_says_nothing_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "LOST_S", 0.25)
    link = FakeLink()
    link.shown = frame(0.5, run_file="run.llmtop")
    with pytest.raises(SessionLost, match=r"said nothing for 0.25 s; what was measured lies in run\.llmtop") as lost:
        run_to_end(link, Slo(), lambda shown: None)
    assert lost.value.exit_code == 3
    assert link.closed == 1


def test_a_report_that_cannot_be_written_is_said_and_loses_no_result() -> None:
    link = FakeLink()
    link.shown = frame(finished=True)
    result = run_to_end(link, Slo(), lambda shown: None, outputs=[Diary(fails="end")])
    assert "no room left" in str(result.output_error)
    assert result.end.ending is Ending.PLAN


def test_an_endpoint_that_comes_back_ends_it_and_the_result_says_so() -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(7.0, totals=Totals(ok=3), run_file="run.llmtop")
    events = tuple(
        Event(t_s, "endpoint", f"endpoint {state}: connection refused", "info", state)
        for t_s, state in ((0.5, EndpointState.UP), (7.0, EndpointState.DOWN), (8.0, EndpointState.UP))
    )
    link.told.append(Told(batches=(batch(8.0, events=events),)))
    result = run_to_end(link, Slo(), lambda shown: None, outputs=[diary])
    assert (result.end.ending, result.end.at_s) == (Ending.RESTART, 7.0)
    assert link.asked == [Quit(Ending.RESTART)]
    assert diary.heard[-1] == "end"


def test_what_is_still_in_flight_after_the_limit_is_cut_off() -> None:
    link = FakeLink()
    link.shown = frame(3.0, finished=True, in_flight=2)
    link.told += [Told(batches=(batch(3.0 + i),)) for i in range(3)]
    result = run_to_end(link, Slo(), lambda shown: None, watch=EndWatch(drain_limit_s=2.0))
    assert result.end.ending is Ending.PLAN
    assert result.frame.in_flight == 2
    assert link.closed == 1


def test_a_run_that_has_not_begun_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOST_S", 0.25), ("WAITED_S", 0.125)):
        monkeypatch.setattr(headless, name, seconds)
    link = FakeLink()
    link.shown = frame(0.0)
    seen: list[Shown] = []
    with pytest.raises(SessionLost):
        run_to_end(link, Slo(), seen.append)
    assert len(seen) == 2
