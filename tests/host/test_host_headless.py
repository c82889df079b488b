"""A run without a screen ends when its plan or its search does, when it is interrupted, and when there is none."""

from __future__ import annotations

import os
import signal

import pytest
from host_fakes import Diary, FakeLink, batch, frame
from msgspec.structs import replace

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Totals
from llmtop.domain.run import Ended, Told
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Steering
from llmtop.errors import FileError, SessionLost
from llmtop.host.headless import _Watch, run_to_end


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
    assert result.frame.t_s == 3.5
    assert result.facts.t_s == result.assessment.t_s == 3.0
    assert not result.interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(2.0)
    before = signal.getsignal(number)
    result = run_to_end(link, Slo(), lambda shown: os.kill(os.getpid(), number), outputs=[diary])
    assert result.interrupted
    assert link.closed == 1
    assert diary.heard[-1] == "end"
    assert signal.getsignal(number) is before


def test_a_session_that_cannot_begin_ends_it_with_its_own_exit_code() -> None:
    link = FakeLink(meta=None)
    link.told.append(Told(ended=Ended("http://h: nothing answers", 3)))
    with pytest.raises(SessionLost, match="nothing answers") as lost:
        run_to_end(link, Slo(), lambda shown: None)
    assert lost.value.exit_code == 3


def test_a_report_that_cannot_be_written_is_said() -> None:
    link = FakeLink()
    link.shown = frame(finished=True)
    with pytest.raises(FileError, match="no room left"):
        run_to_end(link, Slo(), lambda shown: None, outputs=[Diary(fails="end")])


def test_a_search_is_over_when_it_has_let_go_of_the_wheel_and_not_before_it_has_begun() -> None:
    watch = _Watch(search=True)
    finished = frame(finished=True)
    assert not watch.over(Shown(frame=finished))
    assert not watch.over(Shown(frame=finished, steering=Steering(True)))
    assert watch.over(Shown(frame=finished, steering=Steering(False)))


def test_an_endpoint_that_goes_away_ends_it_and_what_was_measured_is_kept() -> None:
    link, diary = FakeLink(), Diary()
    link.shown = frame(7.0, totals=Totals(ok=3), run_file="run.llmtop")

    def show(now: Shown) -> None:
        down = EndpointStatus(state=EndpointState.DOWN, last_error="connection refused")
        link.shown = replace(link.shown, endpoint=down)

    with pytest.raises(SessionLost, match=r"went away after 7 s: connection refused; .* lies in run\.llmtop") as lost:
        run_to_end(link, Slo(), show, outputs=[diary])
    assert lost.value.exit_code == 3
    assert link.closed == 1
    assert diary.heard[-1] == "end"


def test_an_endpoint_that_has_not_answered_yet_is_waited_for() -> None:
    watch = _Watch(search=False)
    down = replace(frame(3.0), endpoint=EndpointStatus(state=EndpointState.DOWN))
    assert not watch.over(Shown(frame=down))
    assert not watch.over(Shown(frame=replace(down, totals=Totals(ok=1), in_flight=1)))
    assert watch.over(Shown(frame=down))
    finished = _Watch(search=False)
    assert finished.over(Shown(frame=replace(down, totals=Totals(ok=1), finished=True)))
    assert finished.gone_at_s is None
