"""The host attends to a run by itself: it judges, steers and tells, whoever looks on, and whatever becomes of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_fakes import BASE, CONNECTED, META, Diary, FakeLink, batch, frame
from msgspec.structs import replace

from llmtop.analysis import Level
from llmtop.analysis.sides import Side, side_of_levels
from llmtop.domain.commands import AddMark, Command, Export, Note, Quit, SaveProfile, SetLoad, Steer, StopLoad
from llmtop.domain.frame import ReplayPosition
from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.run import Ended, LoadChange, RunMeta, SearchEnded, Told
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Step
from llmtop.errors import FileError
from llmtop.host.host import Host
from llmtop.host.replay import ReplayLink
from llmtop.meter.facts import Facts
from llmtop.profiles import load_profile
from llmtop.recording.writer import RunWriter


def seconds() -> Callable[[], float]:
    """A clock that is a second later each time: every step judges."""
    counted = itertools.count()
    return lambda: float(next(counted))


def host_of(link: Any, **options: Any) -> Host:
    return Host(link, Slo(), clock=seconds(), **options)


# -- listening and judging --------------------------------------------------------------------------------------------


def test_facts_come_from_every_batch_and_the_opinion_is_of_the_newest() -> None:
    link = FakeLink()
    host = host_of(link)
    link.told += [Told(batches=(batch(1.0), batch(1.25))), Told(batches=(batch(1.5),))]
    for _ in range(3):
        host.step()
    assert list(host.facts.bins.column("t_s")) == [1.0, 1.25, 1.5]
    assert (opinion := host.shown().assessment) is not None
    assert opinion.t_s == 1.5


def test_nothing_is_judged_before_the_run_is_known() -> None:
    link = FakeLink(meta=None)
    host = host_of(link)
    link.told += [Told(batches=(batch(1.0),))]
    host.step()
    host.step()
    assert host.shown().assessment is None
    assert len(host.facts.bins) == 1


def test_a_recording_wound_back_counts_from_the_start_again() -> None:
    link = FakeLink()
    host = host_of(link)
    link.told += [Told(batches=(batch(1.0), batch(9.0))), Told(batches=(batch(1.0),), anew=True)]
    for _ in range(3):
        host.step()
    assert list(host.facts.bins.column("t_s")) == [1.0]
    assert (opinion := host.shown().assessment) is not None
    assert opinion.t_s == 1.0


def test_the_end_is_judged_as_a_whole_and_stays_shown() -> None:
    link = FakeLink()
    host = host_of(link)
    host.step()
    link.told.append(Told(batches=(batch(2.0),)))
    host.close()
    host.close()
    last = host.shown()
    assert link.closed == 1
    assert last.ended == Ended()
    assert last.assessment is not None
    assert last.assessment.t_s == 2.0


# -- whoever looks on -------------------------------------------------------------------------------------------------


def test_it_attends_though_nobody_looks() -> None:
    """A screen that hangs, or is gone, asks nothing; the outputs are told and the search goes on all the same."""
    link, diary = FakeLink(), Diary()
    with Host(link, Slo(), outputs=[diary], search=True):
        link.told.append(Told(batches=(batch(1.0),)))
        deadline = time.monotonic() + 60
        while not any(isinstance(command, SetLoad) for command in link.sent):
            assert time.monotonic() < deadline, "nobody steers"
            time.sleep(0.01)
    assert "tell 1" in diary.heard
    assert diary.heard[-1] == "end"


def test_a_bug_in_it_is_told_and_leaves_no_load() -> None:
    class Broken(FakeLink):
        def take(self) -> Told:
            raise RuntimeError("a bug")

    link = Broken()
    host = Host(link, Slo()).start()
    deadline = time.monotonic() + 60
    while not link.closed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    host.close()
    with pytest.raises(RuntimeError, match="a bug"):
        host.shown()


def test_its_thread_ends_with_it() -> None:
    with Host(FakeLink(), Slo()):
        assert any(thread.name == "host" for thread in threading.enumerate())
    assert not any(thread.name == "host" for thread in threading.enumerate())


# -- the wheel --------------------------------------------------------------------------------------------------------


def searching(link: FakeLink) -> Host:
    host = host_of(link)
    host.step()
    host.send(Steer())
    link.told.append(Told(batches=(batch(1.0),)))
    host.step()
    assert host.shown().steering.running
    assert [command.reason for command in link.sent if isinstance(command, SetLoad)] == ["search"]
    return host


def test_a_search_asks_for_the_requests_that_there_are_now() -> None:
    """Whoever has moved the sliders searches with what they say, not with what the profile began with."""
    link = FakeLink()
    link.shown = replace(frame(), target=LoadPoint(concurrency=9, prompt_tokens=700, output_tokens=8))
    host = searching(link)
    assert link.sent == [SetLoad(LoadPoint(concurrency=4, prompt_tokens=700, output_tokens=8), "search")]
    host.close()


def test_a_search_that_is_ended_keeps_the_load_where_it_is() -> None:
    link = FakeLink()
    host = searching(link)
    host.send(Steer(on=False))
    link.told.append(Told(batches=(batch(9.0),)))
    host.step()
    assert not host.shown().steering.running
    assert link.sent[1:] == [Note(SearchEnded(1.0, "hand"))]


@pytest.mark.parametrize("command", [SetLoad(BASE), StopLoad()])
def test_a_hand_takes_the_wheel_from_a_search(command: Command) -> None:
    link = FakeLink()
    host = searching(link)
    host.send(command)
    for t_s in (2.0, 3.0, 4.0):
        link.told.append(Told(batches=(batch(t_s),)))
        host.step()
    assert link.sent[1:] == [Note(SearchEnded(1.0, "hand")), command]
    assert not host.shown().steering.running


def test_other_wishes_leave_the_wheel_where_it_is() -> None:
    link = FakeLink()
    host = searching(link)
    host.send(AddMark("here"))
    assert link.sent[-1] == AddMark("here")
    assert host.shown().steering.running


def test_no_search_before_the_endpoint_has_answered() -> None:
    host = host_of(FakeLink(meta=META))
    host.step()
    host.send(Steer())
    answer = host.shown().answer
    assert answer is not None
    assert answer.refused
    assert "not connected yet" in answer.text


def test_a_search_from_the_start_waits_for_the_endpoint() -> None:
    link = FakeLink(meta=META)
    host = host_of(link, search=True)
    host.step()
    assert not host.shown().steering.running
    link.told.append(Told(meta=CONNECTED, batches=(batch(1.0),)))
    host.step()
    assert host.shown().steering.running


def test_a_recording_cannot_be_searched() -> None:
    link = FakeLink()
    link.shown = frame(replay=ReplayPosition(10.0, 1.0, True))
    host = host_of(link)
    host.step()
    host.send(Steer())
    answer = host.shown().answer
    assert answer is not None
    assert answer.refused
    assert not host.shown().steering.running


def test_a_hand_does_not_wait_for_a_search_that_thinks() -> None:
    """And what it wanted when it lost the wheel is never sent."""
    link = FakeLink()
    host = searching(link)
    thinking, go_on = threading.Event(), threading.Event()

    class Thinker:
        def next(self, facts: Facts, now_s: float) -> Step:
            thinking.set()
            assert go_on.wait(20)
            return Step(want=SetLoad(BASE, "search"), phase="double")

    host._helm._steerer = Thinker()
    link.told.append(Told(batches=(batch(2.0),)))
    step = threading.Thread(target=host.step)
    step.start()
    assert thinking.wait(20)
    host.send(StopLoad())
    sent = list(link.sent)
    go_on.set()
    step.join()
    assert sent[-1] == StopLoad()
    assert link.sent == sent


def test_the_load_ends_before_an_output_that_takes_its_time() -> None:
    closed_first: list[bool] = []

    class Slow(Diary):
        def end(self, meta: RunMeta) -> None:
            closed_first.append(link.closed > 0)

    link = FakeLink()
    host = host_of(link, outputs=[Slow()])
    host.step()
    host.close()
    assert closed_first == [True]


# -- outputs and exports ----------------------------------------------------------------------------------------------


def test_outputs_hear_the_run_in_order() -> None:
    link, diary = FakeLink(), Diary()
    host = host_of(link, outputs=[diary])
    link.told += [Told(batches=(batch(1.0),)), Told(batches=(batch(2.0),))]
    for _ in range(3):
        host.step()
    host.close()
    assert diary.heard[0] == "begin"
    assert [word for word in diary.heard if word.startswith("tell")] == ["tell 1", "tell 2"]
    assert diary.heard.index("judged") > 0
    assert diary.heard[-2:] == ["judged", "end"]
    assert diary.last == host.shown().assessment


def test_an_output_that_fails_is_left_out_and_said_at_the_end() -> None:
    link, bad, good = FakeLink(), Diary(fails="tell 1"), Diary()
    host = host_of(link, outputs=[bad, good])
    link.told += [Told(batches=(batch(1.0),)), Told(batches=(batch(2.0),))]
    for _ in range(3):
        host.step()
    with pytest.raises(FileError, match="no room left"):
        host.close()
    assert "tell 2" not in bad.heard
    assert "tell 2" in good.heard
    assert bad.heard[-1] == good.heard[-1] == "end"


def test_an_output_of_a_run_that_never_began_hears_nothing() -> None:
    diary = Diary()
    host = host_of(FakeLink(meta=None), outputs=[diary])
    host.step()
    host.close()
    assert diary.heard == []


def answered(host: Host) -> str:
    deadline = time.monotonic() + 60
    while (answer := host.shown().answer) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ("refused: " if answer.refused else "") + answer.text


def test_an_export_needs_a_recording(tmp_path: Path) -> None:
    link = FakeLink()
    host = host_of(link)
    host.send(Export())
    assert answered(host) == "refused: export: nothing is recorded yet"


def test_earlier_measurements_are_read_beside_the_run_and_judged_by_its_slo() -> None:
    asked: list[Slo] = []

    def read(slo: Slo) -> list[Side]:
        asked.append(slo)
        return [side_of_levels("before", [Level(1, ttft_s=np.full(30, 0.1))], slo, point=BASE)]

    link = FakeLink()
    link.told += [Told(batches=(batch(1.0),))]
    host = host_of(link, baselines=read).start()
    host.close()
    assert asked == [host.slo]
    assert (opinion := host.shown().assessment) is not None
    assert [each.curve.label for each in opinion.baselines] == ["before"]
    assert len(opinion.comparisons) == 1


def test_one_that_cannot_be_read_is_said_and_the_run_goes_on() -> None:
    def read(slo: Slo) -> list[Side]:
        raise FileError(Path("before.llmtop"), "is damaged")

    link = FakeLink()
    link.told += [Told(batches=(batch(1.0),))]
    with host_of(link, baselines=read) as host:
        assert answered(host) == "refused: before.llmtop: is damaged"
    assert host.unread is not None
    assert (opinion := host.shown().assessment) is not None
    assert opinion.baselines == ()


def test_a_report_that_was_asked_for_is_written_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def slow(run: Path, slo: Slo, *, baselines: object) -> tuple[Path, ...]:
        time.sleep(0.2)
        written.append(run)
        return (run,)

    monkeypatch.setattr("llmtop.host.review.write_reports", slow)
    link = FakeLink()
    link.shown = frame(run_file="run.llmtop")
    host = host_of(link)
    host.send(Export())
    host.close()
    assert written == [Path("run.llmtop")]
    assert answered(host) == "exported run.llmtop"


def test_an_export_of_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    path.write_text("mine")
    link = FakeLink()
    link.shown = frame(run_file=str(path))
    host = host_of(link)
    host.send(Export())
    assert answered(host).startswith("refused: export:")
    assert Quit() not in link.sent


def test_the_last_opinion_rests_on_what_memory_has_dropped_too(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    told = [batch(float(i)) for i in range(1, 41)]
    writer = RunWriter(path, META)
    for each in told:
        writer.write(each)
    writer.close(40.0)
    for recording, kept in ((True, 40), (False, 8)):
        link = FakeLink()
        link.shown = frame(run_file=str(path), recording=recording)
        link.told = [Told(meta=CONNECTED, batches=tuple(told))]
        host = host_of(link)
        host.facts = Facts(cap=2)
        host.step()
        assert host.facts.dropped > 0
        host.close()
        assert len(host.facts.bins) == kept, "a recording that has stopped is not whole either"


def until(host: Host, says: str) -> None:
    """Until the answer that is shown begins so."""
    deadline = time.monotonic() + 60
    while (answer := host.shown().answer) is None or not answer.text.startswith(says):
        assert time.monotonic() < deadline, answer
        time.sleep(0.01)


def moved(t_s: float, users: int) -> LoadChange:
    return LoadChange(t_s, LoadPoint(concurrency=users), "hand")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "llmtop" / "profiles"


def test_what_was_driven_is_saved_as_a_profile_while_it_goes_on_and_none_is_written_over(own: Path) -> None:
    link = FakeLink()
    link.told += [Told(batches=(batch(5.0, changes=(moved(0.0, 4), moved(3.0, 9))), batch(12.0)))]
    link.shown = frame(run_file="/none/20260101-a.llmtop")
    host = host_of(link)
    host.step()
    host.step()
    for name in ("20260101-a", "20260101-a-2"):
        said = f"profile saved: llmtop run {name}   ({own / name}.toml)"
        host.send(SaveProfile())
        until(host, said)
        (stage,) = load_profile(own / f"{name}.toml").plan.stages
        assert isinstance(stage.shape, Replay)
        assert [(at_s, point.concurrency) for at_s, point in stage.shape.points] == [(0.0, 4), (3.0, 9)]
        assert stage.duration_s == 12.0


def test_a_recording_is_saved_as_a_profile_whole_wherever_its_replay_stands(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.llmtop"
    writer = RunWriter(path, META)
    writer.write(batch(5.0, changes=(moved(0.0, 4), moved(3.0, 9))))
    writer.close(12.0)
    host = host_of(ReplayLink(path, clock=lambda: 0.0))
    host.step()
    host.send(SaveProfile())
    assert answered(host) == f"profile saved: llmtop run again   ({own}/again.toml)"
    assert load_profile("again").plan.duration_s == 12.0


def test_a_profile_that_cannot_be_saved_says_why(own: Path) -> None:
    link = FakeLink()
    link.shown = frame()
    host = host_of(link)
    host.send(SaveProfile())
    assert answered(host) == "refused: profile: nothing was driven yet: there is no load to save"
    link.told += [Told(batches=(batch(5.0, changes=(moved(0.0, 4),)),))]
    own.parent.parent.joinpath("llmtop").write_text("a file where the folder would be")
    host.step()
    host.step()
    host.send(SaveProfile())
    until(host, f"profile: {own}")
