"""Before the host is there, frames are shown and nothing that is asked is lost, but what a stop overtakes."""

from __future__ import annotations

import pytest
from attended import until
from host_fakes import FakeLink, frame

from llmtop.domain.commands import AddMark, Command, Quit, Seen, SetLoad, Steer, StopLoad
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.slo import Slo
from llmtop.host.coming import Coming
from llmtop.host.options import HostOptions
from llmtop.session.options import SessionOptions

LOAD = SetLoad(LoadPoint(concurrency=3))
OPTIONS = HostOptions(
    session=SessionOptions(profile=Profile(name="p", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=1)))),
    slo=Slo(),
)


def coming() -> tuple[Coming, FakeLink]:
    link = FakeLink()
    return Coming(link, OPTIONS, ()), link


def test_frames_are_shown_at_once_and_opinions_when_the_host_has_come() -> None:
    host, link = coming()
    link.shown = frame(t_s=1.0)
    assert (host.shown().frame, host.shown().assessment, host.shown().meta) == (link.shown, None, None)
    host.come()
    try:
        until(lambda: host.shown().assessment is not None)
        assert host.shown().meta is not None
    finally:
        host.close()
    assert host.shown().ended is not None
    assert host.parting(None, 0).states == ()


def test_what_is_asked_before_is_carried_out_in_its_order_and_sight_does_not_wait() -> None:
    host, link = coming()
    for command in (AddMark("a"), Seen(), LOAD, AddMark("b")):
        host.send(command)
    assert link.sent == [Seen()]
    host.come()
    host.send(AddMark("c"))
    host.close()
    assert link.asked[:4] == [AddMark("a"), LOAD, AddMark("b"), AddMark("c")]


@pytest.mark.parametrize("ends", [StopLoad(), Quit()])
def test_a_stop_overtakes_what_would_begin_a_load_after_it(ends: Command) -> None:
    host, link = coming()
    host.send(LOAD)
    host.send(Steer("search"))
    host.send(ends)
    assert link.sent == [ends]
    host.come()
    host.close()
    assert link.sent[0] == ends
    assert LOAD not in link.sent


def test_a_run_that_ends_before_its_host_has_come_is_closed_all_the_same() -> None:
    host, link = coming()
    host.close()
    assert link.closed == 1
    assert (host.parting("a sink", 2).failed, host.parting("a sink", 2).exit_code) == ("a sink", 2)
