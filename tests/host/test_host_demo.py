"""A demo has the wheel until a hand takes it: then the server is given back as it was, and the demo can go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from attended import at_home, until
from host_fakes import CONNECTED, FakeLink, batch

from llmtop.analysis.demo import ACTS, Demo
from llmtop.cli.demo import BASE, PRESET, SLO
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import (
    AddMark,
    Command,
    Export,
    InjectFault,
    Quit,
    Restart,
    Seen,
    SetKnob,
    SetLoad,
    Steer,
    StopLoad,
)
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import RunMeta, Told
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Diagnosis
from llmtop.host.attached import Attached
from llmtop.host.host import Host
from llmtop.host.options import HostOptions
from llmtop.host.steering import IDLE_S
from llmtop.meter.facts import Facts
from llmtop.session.options import SessionOptions
from llmtop.wording import demo as wording

HOME = {"max_num_seqs": 32.0, "num_gpu_blocks": 1024.0, "max_num_batched_tokens": 512.0}
HAND = LoadPoint(concurrency=7)


class Opinion:
    """Says of the run what it is told to."""

    bound = Bound.NONE
    imagined = ()

    def __call__(self, facts: Facts, meta: RunMeta, *, full: bool | None = None) -> Assessment:
        return Assessment(diagnosis=Diagnosis(bound=self.bound))


class Stage:
    """A host with a demo, whose run goes on second by second; opinions are given by hand."""

    def __init__(self, *, once: bool = False, demo: bool = True) -> None:
        self.link = FakeLink(CONNECTED)
        self.t_s = 0.0
        self.opinion = Opinion()
        self.host = Host(
            self.link, Slo(), steerer=Demo(HOME, once=once) if demo else None, clock=iter(range(1 << 30)).__next__
        )
        self.host._judge = self.opinion  # type: ignore[assignment]
        self.seconds(1)

    def seconds(self, count: float) -> None:
        for _ in range(int(count)):
            self.t_s += 1.0
            self.link.told.append(Told(batches=(batch(self.t_s),)))
            self.host.step()

    def until_scene(self, number: int) -> None:
        while self.scene_number != number:
            assert self.t_s < 1000
            self.seconds(1)

    @property
    def scene_number(self) -> int:
        scene = self.host.shown().scene
        return 0 if scene is None else scene.number

    @property
    def caption(self) -> str:
        scene = self.host.shown().scene
        return "" if scene is None else scene.caption

    @property
    def steers(self) -> bool:
        return self.host.shown().steering.running

    @property
    def server(self) -> tuple[dict[str, float], set[str]]:
        """Where its knobs stand, and its faults, by what was sent."""
        knobs, faults = dict(HOME), set()
        for command in self.link.asked:
            match command:
                case SetKnob(name, value):
                    knobs[name] = value
                case InjectFault(name, on):
                    (faults.add if on else faults.discard)(name)
        return knobs, faults

    @property
    def load(self) -> LoadPoint | None:
        """The last that was commanded; None: a stop came after it."""
        loads = [command for command in self.link.asked if isinstance(command, SetLoad | StopLoad)]
        return loads[-1].point if isinstance(loads[-1], SetLoad) else None


def test_it_begins_by_itself_and_the_screen_is_shown_the_scene() -> None:
    stage = Stage()
    shown = stage.host.shown()
    assert (shown.steering.running, shown.steering.by) == (True, "demo")
    assert shown.scene is not None
    assert (shown.scene.number, shown.scene.of, shown.scene.name) == (1, 5, "slots")
    assert shown.scene.caption == shown.steering.text == ACTS[0].told.rises
    assert stage.link.asked == [
        AddMark("demo 1/5: slots"),
        *(SetKnob(name, value) for name, value in ACTS[0].knobs.items()),
        SetLoad(ACTS[0].at(ACTS[0].users[0]), "demo"),
    ]
    stage.seconds(3)
    assert len(stage.link.asked) == 3, "each is said once"


def test_the_verdict_of_the_host_is_what_it_goes_on_by() -> None:
    stage = Stage()
    stage.seconds(30)
    assert stage.caption == ACTS[0].told.breaks
    stage.opinion.bound = Bound.KV
    stage.seconds(1)
    assert stage.caption == ACTS[0].told.breaks, "another limit than that of the scene"
    stage.opinion.bound = Bound.QUEUE
    stage.seconds(2)
    assert stage.caption.startswith("Queue-bound: ")


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize(
    "hand",
    [SetLoad(HAND), StopLoad(), SetKnob("max_num_seqs", 64), InjectFault("hang"), Restart(()), Steer("demo", on=False)],
)
def test_a_hand_takes_the_wheel_and_the_server_is_as_it_was(hand: Command, number: int) -> None:
    stage = Stage()
    stage.until_scene(number)
    stage.seconds(20)
    assert stage.server != (HOME, set())
    stage.host.send(hand)
    assert not stage.steers
    knobs, faults = stage.server
    if isinstance(hand, SetKnob):
        assert knobs.pop(hand.name) == hand.value
        knobs[hand.name] = HOME[hand.name]
    assert knobs == HOME
    assert faults == ({hand.name} if isinstance(hand, InjectFault) else set())
    assert AddMark(wording.TAKEN_MARK) in stage.link.asked
    if not isinstance(hand, Steer):
        assert stage.link.asked[-1] == hand, "what is put back is put back before it"
    said = len(stage.link.asked)
    stage.seconds(IDLE_S - 2)
    assert len(stage.link.asked) == said, "nothing of the demo comes after it"
    assert stage.scene_number == number
    assert stage.caption == (wording.STOPPED if isinstance(hand, StopLoad) else wording.IN_HAND)


def test_it_goes_on_where_it_stood_when_it_is_asked_to() -> None:
    stage = Stage()
    stage.until_scene(3)
    stage.seconds(15)
    stage.host.send(SetLoad(HAND))
    stage.seconds(5)
    stage.host.send(Steer("demo"))
    stage.seconds(1)
    assert stage.steers
    assert (stage.scene_number, stage.caption) == (3, ACTS[2].told.rises)
    assert stage.server[0] == {**HOME, **ACTS[2].knobs}
    assert stage.load is not None
    assert stage.load.prompt_tokens == ACTS[2].prompt_tokens


def test_it_goes_on_by_itself_a_minute_after_the_last_that_a_hand_did() -> None:
    stage = Stage()
    stage.host.send(SetLoad(HAND))
    stage.seconds(IDLE_S - 5)
    stage.host.send(Export())
    stage.seconds(IDLE_S - 5)
    stage.host.send(SetKnob("max_num_seqs", 16))
    stage.seconds(IDLE_S - 5)
    assert not stage.steers
    stage.host.send(Seen())
    stage.seconds(6)
    assert stage.steers, "that somebody looks on is no deed"
    assert stage.server[0] == {**HOME, **ACTS[0].knobs}


def test_after_a_stop_it_goes_on_only_when_it_is_asked_to_or_a_hand_has_driven_again() -> None:
    stage = Stage()
    stage.host.send(StopLoad())
    stage.seconds(3 * IDLE_S)
    assert not stage.steers
    assert stage.load is None
    stage.host.send(SetKnob("max_num_seqs", 16))
    stage.seconds(2 * IDLE_S)
    assert not stage.steers
    stage.host.send(SetLoad(HAND))
    stage.seconds(IDLE_S + 1)
    assert stage.steers
    stage.host.send(StopLoad())
    stage.host.send(Steer("demo"))
    stage.seconds(1)
    assert stage.steers
    assert stage.load is not None


def test_a_search_that_somebody_begins_has_its_time() -> None:
    stage = Stage()
    stage.host.send(Steer("search"))
    assert stage.host.shown().steering.by == "search"
    assert stage.server == (HOME, set())
    stage.seconds(2 * IDLE_S)
    assert stage.host.shown().steering.by == "search"
    stage.host.send(Steer("search", on=False))
    stage.seconds(IDLE_S + 1)
    assert (stage.steers, stage.host.shown().steering.by) == (True, "demo")


def test_after_a_search_that_ends_by_itself_it_goes_on() -> None:
    stage = Stage()
    stage.host.send(Steer("search"))
    while stage.steers:
        stage.seconds(1)
        assert stage.t_s < 1000
    assert stage.host.shown().steering.by == "search"
    ended_s = stage.t_s
    while not stage.steers:
        stage.seconds(1)
        assert stage.t_s < ended_s + IDLE_S + 2
    assert stage.host.shown().steering.by == "demo"


def test_shown_once_it_ends_with_the_load_at_0_and_cannot_be_begun_again() -> None:
    stage = Stage(once=True)
    stage.until_scene(5)
    while stage.host.shown().scene is not None:
        stage.seconds(1)
    assert not stage.steers
    assert stage.load is None
    assert stage.server == (HOME, set())
    answer = stage.host.shown().answer
    assert answer is not None
    assert answer.text == wording.ENDED
    stage.host.send(Steer("demo"))
    stage.seconds(2 * IDLE_S)
    assert not stage.steers


def test_a_run_that_is_no_demo_cannot_be_made_one() -> None:
    stage = Stage(demo=False)
    stage.host.send(Steer("demo"))
    answer = stage.host.shown().answer
    assert answer is not None
    assert (answer.refused, answer.text) == (True, wording.NOT_HERE)
    assert stage.host.shown().scene is None
    assert stage.link.asked == []


def test_a_screen_that_is_left_gives_the_server_back() -> None:
    stage = Stage()
    stage.until_scene(5)
    stage.seconds(10)
    stage.host.close()
    assert stage.server == (HOME, set())


def test_a_demo_in_a_process_of_its_own_is_seen_taken_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(monkeypatch, tmp_path)
    path = tmp_path / "demo.llmtop"
    profile = Profile(name="demo", plan=LoadPlan(stages=(), base=BASE), slo=parse_slo(SLO), preset=PRESET)
    session = SessionOptions(profile=profile, preset=PRESET, run_file=str(path), kept=False)
    attached = Attached.begin(HostOptions(session=session, slo=profile.slo, demo="loop"))

    def knob() -> float | None:
        frame = attached.shown().frame
        return None if frame is None else frame.endpoint.knobs.get("max_num_seqs")

    try:
        until(lambda: attached.shown().scene is not None and knob() == ACTS[0].knobs["max_num_seqs"])
        assert path.exists()
        attached.send(SetLoad(HAND))
        until(lambda: knob() == 32)
        scene = attached.shown().scene
        assert scene is not None
        assert scene.caption == wording.IN_HAND
        attached.send(Quit(patient=False))
        until(lambda: attached.shown().ended is not None)
    finally:
        attached.close()
    assert not path.exists()
