"""A demo in virtual time: in each scene the judge of a run names the limit that is pushed, and the cure cures it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from msgspec import Struct
from virtual import VirtualSession

from llmtop.analysis.demo import ACTS, BREAK_S, CLEAR_S, CURE_S, NAMED_S, REST_S, RISE_S, WAIT_S, Demo, parts_of
from llmtop.cli.demo import PRESET as NAME
from llmtop.cli.demo import SLO
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.shown import Scene
from llmtop.domain.slo import parse_slo
from llmtop.domain.steering import Step
from llmtop.domain.verdicts import Bound
from llmtop.host.judging import Judge
from llmtop.load.brake import Brake
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import LIVE_KNOBS, load_preset
from llmtop.wording import demo as wording
from llmtop.wording.names import bound_adjective

PRESET = load_preset(NAME)
HOME = {knob.name: float(getattr(PRESET.config, knob.name)) for knob in LIVE_KNOBS}
DEMO_SLO = parse_slo(SLO)


class Look(Struct, frozen=True):
    """One second of a demo: what it showed and wanted, and what was thought of it."""

    t_s: float
    scene: Scene
    step: Step
    said: Assessment
    knobs: dict[str, float]
    fails: bool
    ttft_s: float
    """Mean of the first tokens of the last five seconds."""
    tpot_s: float


class Stage:
    """A demo that drives a virtual session, which is judged once a second as a live one is."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.session = VirtualSession(
            PRESET, LoadPoint(concurrency=1), output_cv=0.0, prompt_cv=0.0, streamed=True, client=True
        )
        self.knobs = dict(HOME)
        self._judge = Judge(DEMO_SLO, foresees=False)
        self._want: LoadPoint | None = None
        self._brake, self._braked, self._seen = Brake(Caps().stop_error_ratio), False, 0
        self.t_s = 0.0

    def looks(self) -> Iterator[Look]:
        """Second by second, until it wants nothing more."""
        while True:
            self.t_s += 1.0
            self.session.run_until(self.t_s)
            self._look_after_failures()
            said = self._judge(self.session.facts, self.session.meta)
            self.demo.bound = said.diagnosis.bound
            step = self.demo.next(self.session.facts, self.t_s)
            self.obey(step)
            if step.want is None:
                return
            assert self.demo.scene is not None
            yield Look(
                self.t_s, self.demo.scene, step, said, dict(self.knobs), self.session.fails > 0, *self._latencies()
            )

    def obey(self, step: Step) -> None:
        for turn in step.turns:
            match turn:
                case SetKnob(name, value):
                    self.knobs[name] = value
                    self.session.turn(**{name: int(value)})
                case InjectFault(_, on):
                    self.session.fails = 0.5 if on else 0.0
        if step.point is not None and step.point != self._want:
            self._want, self._braked = step.point, False
            self._brake.reset(round(1e9 * self.session.now_s))
            self.session.command(step.point, "demo")

    def _look_after_failures(self) -> None:
        batches, self._seen = self.session.batches[self._seen :], len(self.session.batches)
        for batch in batches:
            for record in batch.requests:
                self._brake.note(record)
        if not self._braked and self._want is not None and self._brake.verdict(round(1e9 * self.session.now_s)):
            self._braked = True
            self.session.command(self._want.at("concurrency", 1), "brake")

    def _latencies(self) -> tuple[float, float]:
        rows = self.session.facts.requests
        late = (rows.column("end_s") > self.t_s - 5.0) & (rows.column("ok") > 0)
        if not late.any():
            return float("nan"), float("nan")
        return float(np.nanmean(rows.column("ttft_s")[late])), float(np.nanmean(rows.column("tpot_s")[late]))


@cache
def one_showing() -> tuple[Stage, tuple[Look, ...]]:
    stage = Stage(Demo(HOME, once=True))
    return stage, tuple(stage.looks())


def one_loop() -> tuple[Look, ...]:
    return one_showing()[1]


def the_facts() -> Facts:
    return one_showing()[0].session.facts


def of_scene(number: int) -> list[Look]:
    return [look for look in one_loop() if look.scene.number == number]


def during(number: int, caption: str) -> list[Look]:
    return [look for look in of_scene(number) if look.scene.caption == caption]


SCENES = pytest.mark.parametrize("number", range(1, len(ACTS) + 1), ids=[act.told.name for act in ACTS])


@SCENES
def test_the_verdict_names_the_limit_that_the_scene_pushes_and_no_other(number: int) -> None:
    act = ACTS[number - 1]
    bounds = [look.said.diagnosis.bound for look in of_scene(number)[1:]]  # the first opinion is of the scene before
    assert set(bounds) <= {*act.causes, Bound.NONE}, "no other limit binds first"
    named = [look for look in of_scene(number) if look.scene.caption.endswith(f": {act.told.named}")]
    assert len(named) >= NAMED_S - 1
    for look in named:
        assert look.said.diagnosis.bound in act.causes
        adjective = bound_adjective(look.said.diagnosis.bound)
        assert look.scene.caption.lower().startswith(adjective.lower())
        assert adjective in look.said.headline
    assert named[-1].said.headline.startswith("SLO FAIL"), "users feel it"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_cure_relaxes_what_had_broken(number: int) -> None:
    act = ACTS[number - 1]
    broken = [look for look in of_scene(number) if look.scene.caption.endswith(act.told.named)][-1]
    cured = during(number, act.told.cured)[-1]
    felt = "tpot_s" if act.causes == (Bound.COMPUTE,) else "ttft_s"
    assert getattr(cured, felt) < getattr(broken, felt) / 2
    assert cured.said.headline.startswith("SLO OK")
    assert (cured.step.point == broken.step.point) == (act.cured_users is None)


def test_a_server_that_was_sick_answers_again_and_the_load_is_back() -> None:
    cured = during(5, ACTS[4].told.cured)
    assert any(look.fails for look in of_scene(5))
    assert not any(look.fails for look in cured)
    few = [look for look in cured if look.step.point.value == ACTS[4].users[0]]
    assert len(few) == CLEAR_S, "nobody comes back while requests still meet the fault"
    last = the_facts().changes[-2:]
    braked = [change.t_s for change in the_facts().changes if change.reason == "brake"]
    assert len(braked) == 1
    assert [change.point.value for change in last] == [ACTS[4].cured_users, ACTS[4].users[0]]
    assert last[0].t_s > braked[0]
    assert cured[-1].said.headline.startswith("SLO OK")


def test_scenes_come_in_order_each_with_its_time() -> None:
    looks = one_loop()
    numbers = [look.scene.number for look in looks]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, len(ACTS) + 1))
    assert all(40 <= numbers.count(number) <= 70 for number in set(numbers))
    assert looks[0].step.point is not None
    assert looks[0].step.point.value > 0, "something is to be seen at once"
    for one, two in pairwise(looks):
        assert two.scene.number == one.scene.number or two.scene.number == one.scene.number + 1


def test_each_scene_begins_with_a_mark_and_says_four_things_or_more() -> None:
    marks = [mark for look in one_loop() for mark in look.step.marks]
    assert marks == [wording.begins(number, len(ACTS), act.told.name) for number, act in enumerate(ACTS, 1)]
    for number in range(1, len(ACTS) + 1):
        captions = list(dict.fromkeys(look.scene.caption for look in of_scene(number)))
        assert len(captions) == 5
        assert all(caption.endswith(".") and len(caption) <= 118 for caption in captions)


def test_no_caption_says_a_figure() -> None:
    texts = [each for act in ACTS for each in (act.told.rises, act.told.breaks, act.told.named, act.told.cured)]
    assert not [text for text in (*texts, wording.RESTS, wording.IN_HAND) if any(sign.isdigit() for sign in text)]


def test_few_streams_and_few_tokens_for_two_cores() -> None:
    points = [look.step.point for look in one_loop()]
    assert max(point.value for point in points if point is not None) <= 100
    bins = the_facts().bins
    in_flight, tokens_per_s = bins.column("in_flight"), bins.column("output_tokens") / bins.column("span_s")
    assert in_flight.max() <= 100
    assert tokens_per_s.max() < 2500


def test_at_its_end_the_server_is_as_it_was_started() -> None:
    stage, _ = one_showing()
    assert stage.knobs == HOME
    assert stage.session.fails == 0
    assert stage.demo.scene is None


# ── Without a server: what it wants, by the time and the verdict alone ────────────────────────────────────────────


class Told(Struct):
    """A demo that is told the time and a verdict."""

    demo: Demo
    t_s: float = 0.0

    def look(self, seconds: float = 1.0, bound: Bound = Bound.NONE) -> Step:
        self.t_s += seconds
        self.demo.bound = bound
        return self.demo.next(Facts(), self.t_s)

    def until_scene(self, number: int, bound: Bound = Bound.NONE) -> None:
        for _ in range(600):
            self.look(bound=bound)
            if self.demo.scene is not None and self.demo.scene.number == number:
                return
        raise AssertionError(f"no scene {number}")


def test_after_the_last_scene_comes_the_first() -> None:
    told = Told(Demo(HOME))
    told.until_scene(5)
    told.until_scene(1)
    told.until_scene(2)


def test_a_verdict_that_does_not_come_is_not_said_and_holds_up_nobody() -> None:
    told = Told(Demo(HOME))
    said, broke_s = set(), []
    while told.demo.scene is None or told.demo.scene.number == 1:
        told.look()
        assert told.demo.scene is not None
        said.add(told.demo.scene.caption)
        broke_s += [told.t_s] if told.demo.scene.caption == ACTS[0].told.breaks else []
    assert not [text for text in said if text.endswith(ACTS[0].told.named)]
    assert len(broke_s) == pytest.approx(BREAK_S + WAIT_S, abs=1)


def test_a_verdict_at_once_leaves_the_audience_time_to_see_what_breaks() -> None:
    told = Told(Demo(HOME))
    seconds = {"breaks": 0, "named": 0, "cured": 0}
    told.look(bound=Bound.QUEUE)
    while told.demo.scene is not None and told.demo.scene.number == 1:
        caption = told.demo.scene.caption
        for part, text in (("breaks", ACTS[0].told.breaks), ("cured", ACTS[0].told.cured)):
            seconds[part] += caption == text
        seconds["named"] += caption.endswith(ACTS[0].told.named)
        told.look(bound=Bound.QUEUE)
    assert seconds == {"breaks": BREAK_S, "named": NAMED_S, "cured": CURE_S}


@SCENES
def test_each_scene_sets_its_own_knobs_and_puts_back_those_of_the_scene_before(number: int) -> None:
    told, knobs, faults = Told(Demo(HOME)), dict(HOME), set()
    while told.demo.scene is None or told.demo.scene.number != number:
        for turn in told.look().turns:
            knobs |= {turn.name: turn.value} if isinstance(turn, SetKnob) else {}
    assert knobs == {**HOME, **ACTS[number - 1].knobs}
    while told.demo.scene.number == number:
        for turn in told.look().turns:
            match turn:
                case SetKnob(name, value):
                    knobs[name] = value
                case InjectFault(name, on):
                    (faults.add if on else faults.discard)(name)
        if told.demo.scene.number == number:
            assert not told.look(0.0).turns, "each is told once"
    assert not faults


@SCENES
def test_wherever_a_hand_takes_the_wheel_all_is_put_back_and_the_scene_begins_anew(number: int) -> None:
    for part in range(len(parts_of(ACTS[number - 1]))):
        told, knobs, faults = Told(Demo(HOME)), dict(HOME), {}

        def keep(turns: tuple[SetKnob | InjectFault, ...], knobs: dict = knobs, faults: dict = faults) -> None:
            for turn in turns:
                if isinstance(turn, SetKnob):
                    knobs[turn.name] = turn.value
                else:
                    faults[turn.name] = turn.on

        while told.demo.scene is None or (told.demo._act, told.demo._part) != (number - 1, part):
            keep(told.look(bound=ACTS[told.demo._act].causes[0]).turns)
        keep(told.demo.put_back())
        assert knobs == HOME
        assert not any(faults.values())
        told.demo.resume()
        step = told.look(100.0)
        assert told.demo.scene is not None
        assert (told.demo.scene.number, told.demo.scene.caption) == (number, ACTS[number - 1].told.rises)
        assert {turn.name for turn in step.turns} == set(HOME), "a hand may have turned any of them"
        assert step.marks == (wording.begins(number, len(ACTS), ACTS[number - 1].told.name),)
        assert step.point is not None
        assert step.point.value == ACTS[number - 1].users[0]


def test_a_whole_scene_has_the_length_that_its_parts_promise() -> None:
    for act in ACTS:
        rises = RISE_S * (len(act.users) - 1)
        assert rises + BREAK_S + NAMED_S + CURE_S + REST_S >= 40
        assert rises + BREAK_S + WAIT_S + CURE_S + REST_S <= 70
