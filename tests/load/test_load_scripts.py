"""Users who talk: prompts in the order of the script, pauses that are not in flight, and the laws of every load."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.load.engine import LoadEngine
from llmtop.workload.prompts import Prompt, PromptSource
from llmtop.workload.script import Pause, User

SECOND = 1_000_000_000


class Lines:
    """Every talk has these steps; a number is a prompt that asks for so many tokens."""

    spent = again = False

    def __init__(self, *steps: int | Pause) -> None:
        self.steps: Sequence[int | Pause] = steps
        self.heard: list[RequestRecord | None] = []
        self.users: list[int] = []
        self.draws: defaultdict[int, list[float]] = defaultdict(list)

    def begin(self, user: User, rng: Random) -> _Spoken:
        self.users.append(user.number)
        self.draws[user.number].append(rng.random())
        return _Spoken(self)

    def calibrate(self, asked_tokens: int, counted_tokens: int) -> None:
        """Nothing to learn."""


class _Spoken:
    def __init__(self, lines: Lines) -> None:
        self._heard = lines.heard
        self._left = list(lines.steps)

    def next(self, answer: RequestRecord | None) -> Prompt | Pause | None:
        self._heard.append(answer)
        if not self._left:
            return None
        step = self._left.pop(0)
        return step if isinstance(step, Pause) else Prompt("hello", 10, step, "tiktoken")


def closed(concurrency: int, **more) -> LoadPoint:
    return LoadPoint(concurrency=concurrency, output_tokens=20, **more)


def spoken(lab, lines: Lines | None, point: LoadPoint, seconds: float, answers=None, **more) -> list[RequestRecord]:
    lab.script = lines
    engine = lab.engine(point, answers, **more)

    async def script() -> None:
        await asyncio.sleep(seconds)

    lab.drive(engine, script)
    return list(engine.take().requests)


def test_one_user_sends_the_prompts_of_a_talk_in_order_and_each_after_the_answer_before_it(lab) -> None:
    records = spoken(lab, Lines(3, Pause(1.0), 4, 5), closed(1), 10.0)
    asked = [record.asked_output_tokens for record in records]
    assert len(asked) >= 9
    assert asked == [3, 4, 5] * (len(asked) // 3) + [3, 4, 5][: len(asked) % 3]
    for before, after in pairwise(records):
        pause_ns = SECOND if before.asked_output_tokens == 3 else 0
        assert after.scheduled_ns == before.end_ns + pause_ns
        assert after.scheduled_ns <= after.dispatched_ns <= after.sent_ns
        assert after.sent_ns - after.scheduled_ns < 1_000_000
    assert lab.client.peak == 1


def test_nothing_is_in_flight_while_a_user_pauses(lab) -> None:
    lab.script = Lines(3, Pause(1.0), 4)
    engine = lab.engine(closed(1), lambda _: lab.Answer(0.1, 0.0))
    levels = []

    async def script() -> None:
        for at_s in (0.05, 0.15, 1.05, 1.15):
            await asyncio.sleep(at_s - lab.loop.time())
            levels.append((engine.in_flight, lab.client.running, lab.client.started))

    lab.drive(engine, script)
    assert levels == [(1, 1, 1), (0, 0, 1), (0, 0, 1), (1, 1, 2)]


def test_a_talk_hears_what_became_of_each_prompt_and_nothing_after_a_pause(lab) -> None:
    lines = Lines(3, Pause(0.5), 4, 5)
    records = spoken(lab, lines, closed(1), 2.0, lambda n: lab.Answer(outcome=[Outcome.OK, Outcome.TIMEOUT][n % 2]))
    first, second, third = records[:3]
    assert lines.heard[:6] == [None, first, None, second, third, None]
    assert [record.outcome for record in records[:3]] == [Outcome.OK, Outcome.TIMEOUT, Outcome.OK]


def test_a_talk_sees_the_load_that_is_commanded_when_it_is_asked(lab) -> None:
    seen: list[int] = []

    class Watching(Lines):
        def begin(self, user: User, rng: Random) -> _Spoken:
            talk = super().begin(user, rng)
            say = talk.next

            def looking(answer: RequestRecord | None) -> Prompt | Pause | None:
                seen.append(user.point.prompt_tokens)
                return say(answer)

            talk.next = looking
            return talk

    lab.script = Watching(3, Pause(1.0), 4)
    engine = lab.engine(closed(1, prompt_tokens=50), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(0.5)
        engine.command(closed(1, prompt_tokens=60))
        await asyncio.sleep(0.65)
        engine.command(closed(1, prompt_tokens=70))
        await asyncio.sleep(0.1)

    lab.drive(engine, script)
    assert seen == [50, 50, 60, 70, 70]


def test_think_time_is_between_talks_and_not_within(lab) -> None:
    records = spoken(lab, Lines(3, 4), closed(1, think_time_s=0.5), 5.0)
    waits = [(after.scheduled_ns - before.end_ns) / SECOND for before, after in pairwise(records)]
    assert waits[:4] == [0.0, 0.5, 0.0, 0.5]


def test_a_talk_that_begins_after_think_time_has_the_lengths_commanded_by_then(lab) -> None:
    engine = lab.engine(closed(1, think_time_s=1.0), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(0.5)
        engine.command(closed(1, prompt_tokens=77))
        await asyncio.sleep(0.65)

    lab.drive(engine, script)
    assert [record.asked_prompt_tokens for record in engine.take().requests] == [192, 77]


@pytest.mark.parametrize("wait_s", [0.0, 0.5])
def test_after_a_failure_a_user_waits_before_it_goes_on_with_its_talk(lab, wait_s: float) -> None:
    busy = lab.Answer(0.1, 0.0, Outcome.HTTP_ERROR, 503, retry_after_s=4.0)
    records = spoken(lab, Lines(3, Pause(wait_s), 4, 5), closed(1), 6.0, lambda n: lab.Answer() if n else busy)
    first, second = records[:2]
    assert 4.0 + wait_s <= (second.scheduled_ns - first.end_ns) / SECOND <= 5.0 + wait_s
    assert second.asked_output_tokens == 4


@pytest.mark.parametrize("verb", ["cut", "down", "close"])
def test_a_user_that_pauses_is_gone_at_once(lab, verb: str) -> None:
    lab.script = Lines(3, Pause(100.0))
    engine = lab.engine(closed(8), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(1.0)
        users = len(asyncio.all_tasks())
        assert (engine.in_flight, lab.client.started) == (0, 8)
        if verb == "cut":
            engine.cut()
        elif verb == "down":
            engine.command(closed(0))
        else:
            await engine.close()
        await asyncio.sleep(0.001)
        assert len(asyncio.all_tasks()) <= users - 8
        assert lab.client.started == 8

    lab.drive(engine, script)
    assert {record.outcome for record in engine.take().requests} == {Outcome.OK}


def test_coming_down_a_user_leaves_in_the_middle_of_its_talk(lab) -> None:
    lab.script = Lines(*[20] * 1000)
    engine = lab.engine(closed(6))

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(closed(2))
        await asyncio.sleep(0.5)
        assert engine.in_flight == lab.client.running == 2

    lab.drive(engine, script)
    assert sorted(lab.script.users) == list(range(6))


@pytest.mark.parametrize("steps", [(3, 4, Pause(0.2), 5), (3, 4, 5, Pause(0.2))])
def test_an_arrival_of_an_open_loop_is_one_talk_to_its_end(lab, steps: tuple[int | Pause, ...]) -> None:
    lab.script = Lines(*steps)
    engine = lab.engine(LoadPoint(rate_rps=10.0, burstiness=math.inf))

    async def script() -> None:
        await asyncio.sleep(3.0)
        engine.command(LoadPoint(rate_rps=0.0))
        users = len(asyncio.all_tasks())
        await asyncio.sleep(5.0)
        assert len(asyncio.all_tasks()) < users
        assert engine.in_flight == 0

    lab.drive(engine, script)
    asked = [record.asked_output_tokens for record in engine.take().requests]
    assert {tokens: asked.count(tokens) for tokens in (3, 4, 5)} == {3: 30, 4: 30, 5: 30}
    assert sorted(lab.script.users) == list(range(30))


def test_an_open_loop_counts_users_that_pause_to_its_most_and_says_so(lab) -> None:
    lab.script = Lines(3, Pause(100.0), 4)
    engine = lab.engine(LoadPoint(rate_rps=10.0), caps=Caps(max_concurrency=4, stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(5.0)
        assert lab.client.started == 4

    lab.drive(engine, script)
    assert any("4 are in flight or pause" in event.text for event in engine.take().events)


MOVES = st.lists(
    st.tuples(st.sampled_from(["concurrency", "rate", "cut", "wait"]), st.integers(0, 20), st.floats(0.001, 1.0)),
    min_size=1,
    max_size=10,
)
STEPS = st.lists(st.integers(1, 20) | st.sampled_from([0.0, 0.05, 0.4]).map(Pause), min_size=1, max_size=5)


@given(MOVES, STEPS, st.integers(0, 1000))
@settings(max_examples=10)
def test_sent_is_ended_plus_in_flight_whatever_users_say(make_lab, moves, steps: list[int | Pause], seed: int) -> None:
    lab, rng = make_lab(), Random(seed)
    lab.script = Lines(1, *steps, Pause(0.05))
    outcomes = [Outcome.OK] * 3 + [Outcome.TIMEOUT, Outcome.HTTP_ERROR]
    engine = lab.engine(closed(3), lambda _: lab.Answer(rng.choice([0.0, 0.2]), 0.01, rng.choice(outcomes)))
    bins, records = [], []

    def check(engine: LoadEngine) -> None:
        batch = engine.take()
        bins.extend(batch.bins)
        records.extend(batch.requests)
        if bins:
            assert sum(b.sent - b.ok - b.errors - b.cancelled for b in bins) == bins[-1].in_flight
        assert lab.client.running <= engine.in_flight

    async def script() -> None:
        for verb, amount, wait_s in moves:
            if verb == "concurrency":
                engine.command(closed(amount))
            elif verb == "rate":
                engine.command(LoadPoint(rate_rps=float(amount), output_tokens=5))
            elif verb == "cut":
                engine.cut()
            await asyncio.sleep(wait_s)
            check(engine)

    lab.drive(engine, script)
    check(engine)
    assert bins[-1].in_flight == engine.in_flight == lab.client.running == 0
    assert sum(b.sent for b in bins) == len(records)


def test_a_load_of_one_shots_sends_as_its_nth_request_the_nth_prompt_of_its_source(lab) -> None:
    lab.prompts = PromptSource(Workload(seed=5))
    engine = lab.engine(closed(7), lambda n: lab.Answer(0.01 * (n % 3), 0.01, prompt_tokens=5000))
    sent, generate = [], lab.client.generate

    async def listening(prompt: str, *rest, **carried) -> None:
        sent.append(prompt)
        await generate(prompt, *rest, **carried)

    lab.client.generate = listening

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(LoadPoint(rate_rps=30.0, output_tokens=20))
        await asyncio.sleep(1.0)

    lab.drive(engine, script)
    source = PromptSource(Workload(seed=5))
    assert len(sent) > 30
    assert sent == [source.next(closed(7)).text for _ in sent]


def test_what_a_script_draws_moves_nothing_else_and_depends_on_its_user_alone(make_lab) -> None:
    def load(script: Lines | None, ttft_s: float) -> list[int]:
        point = LoadPoint(concurrency=5, output_tokens=5)
        records = spoken(make_lab(), script, point, 3.0, lambda _: make_lab.Answer(ttft_s), seed=9)
        return [record.dispatched_ns for record in records]

    quick, slow = Lines(5), Lines(5)
    assert load(quick, 0.05) == load(None, 0.05)
    load(slow, 0.3)
    assert len(quick.draws) == 5
    for number, draws in quick.draws.items():
        assert draws[: len(slow.draws[number])] == slow.draws[number]
        assert len(draws) > len(slow.draws[number])
    assert len({draws[0] for draws in quick.draws.values()}) == 5


def test_a_script_learns_from_usage(lab) -> None:
    counts = []
    lines = Lines(3)
    lines.calibrate = lambda asked, counted: counts.append((asked, counted))
    spoken(lab, lines, closed(1), 0.3, lambda _: lab.Answer(prompt_tokens=17))
    assert set(counts) == {(10, 17)}


def test_a_talk_that_says_nothing_at_all_ends_the_load_with_its_reason(lab) -> None:
    with pytest.raises(AssertionError, match="neither a prompt nor a pause"):
        spoken(lab, Lines(), closed(1), 1.0)
