"""The canary lane: one small request now and then, of which the load and all its figures know nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.domain.run import Canary
from llmtop.load.canary import FAR_HEADS, POINT, CanaryLane
from llmtop.workload.prompts import PromptSource
from llmtop.workload.words import HEAD_WORDS

Lab, Answers = Any, Callable[[int], Any]


class Beside:
    """A lane on the loop of a lab, with a client of its own that answers the n-th canary as `answers(n)` says."""

    def __init__(self, lab: Lab, answers: Answers, rate_rps: float = 0.5) -> None:
        lab.engine(LoadPoint(concurrency=1), answers)
        self.client, self.prompts, self.loaded = lab.client, lab.prompts, True
        self.client.close = self._close
        self.closed = False
        self.lane = CanaryLane(rate_rps, self.client, lab.prompts, "chat", lab.loop.clock_ns, lambda: self.loaded)

    async def _close(self) -> None:
        self.closed = True

    async def fly(self, seconds: float, *then: Callable[[], None]) -> list[Canary]:
        """What the lane tells in so many seconds, after each of which something is done."""
        flying = asyncio.create_task(self.lane.run())
        for act in (*then, lambda: None):
            await asyncio.sleep(seconds)
            act()
        told = list(self.lane.take())
        flying.cancel()
        await asyncio.wait({flying})
        return told


def flown(lab: Lab, beside: Beside, seconds: float, *then: Callable[[], None]) -> list[Canary]:
    with asyncio.Runner(loop_factory=lambda: lab.loop) as runner:
        return runner.run(beside.fly(seconds, *then))


def driven(lab: Lab, point: LoadPoint, answers: Answers, lane: bool, canary: Answers, **of: Any) -> tuple[Any, ...]:
    """Six seconds of load, with the lane beside it or not: (what was told of the load, the engine, the lane)."""
    beside = Beside(lab, canary)
    engine = lab.engine(point, answers, **of)

    async def six_seconds() -> None:
        flying = asyncio.create_task(beside.lane.run()) if lane else None
        await asyncio.sleep(6.6)  # between two bins
        if flying is not None:
            flying.cancel()
            await asyncio.wait({flying})

    lab.drive(engine, six_seconds)
    return engine.take(), engine, beside


def numbers(value: object) -> list[float]:
    """All that are in it, in their order, but for the wall clock's."""
    if isinstance(value, Struct):
        value = tuple(getattr(value, name) for name in value.__struct_fields__ if name != "started_at")
    if isinstance(value, tuple):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize(
    "point",
    [
        LoadPoint(concurrency=8, output_tokens=16),
        LoadPoint(concurrency=8, output_tokens=16, gate=2),
        LoadPoint(rate_rps=5.0, concurrency=None, output_tokens=16),
    ],
    ids=["closed", "gated", "open"],
)
def test_all_that_is_told_of_the_load_is_the_same_with_a_canary_and_without(
    make_lab: type[Lab], point: LoadPoint
) -> None:
    answers = lambda n: make_lab.Answer(0.1037 + 0.0113 * (n % 7), 0.01031)  # noqa: E731
    runs = []
    for lane in (False, True):
        lab = make_lab()
        batch, _, beside = driven(lab, point, answers, lane, lambda _: make_lab.Answer(ttft_s=0.3))
        sent = sum(each.sent for each in batch.bins)
        assert sent == sum(each.ok + each.errors + each.cancelled for each in batch.bins) == len(batch.requests)
        assert (beside.client.started > 0) == lane
        assert not batch.canaries
        runs.append(numbers((batch.bins, batch.changes, batch.requests)))
    assert len(runs[0]) > 500
    assert runs[0] == pytest.approx(runs[1], rel=1e-6, abs=1e-6), "but for what a float of virtual time rounds"


def test_no_brake_and_no_gate_know_of_it(lab: Lab) -> None:
    fails = lab.Answer(outcome=Outcome.HTTP_ERROR, status=500)
    point = LoadPoint(concurrency=4, output_tokens=4, gate=1)
    caps = Caps(stop_error_ratio=0.01)
    _, engine, beside = driven(lab, point, lambda _: None, True, lambda n: fails if n else lab.Answer(0.2), caps=caps)
    assert engine.braked is None
    first, *others = beside.lane.take()
    assert first.ttft_s == pytest.approx(0.2), "the gate is held by a request that never ends"
    assert len(others) == 2
    assert {(each.ttft_s, each.error) for each in others} == {(None, "HTTP 500")}


def test_it_is_sent_at_the_instants_of_a_grid_with_one_token_and_64_of_prompt(lab: Lab) -> None:
    told = flown(lab, beside := Beside(lab, lambda _: lab.Answer(ttft_s=0.25)), 9.0)
    assert [each.t_s for each in told] == pytest.approx([2.0, 4.0, 6.0, 8.0])
    assert {round(each.ttft_s or 0.0, 9) for each in told} == {0.25}
    assert set(beside.client.asked) == {1}
    assert (POINT.prompt_tokens, POINT.output_tokens, POINT.gate) == (64, 1, None)
    assert beside.prompts.calibrated == [(64, 200)] * 4
    assert beside.closed


def test_while_one_waits_no_other_is_sent_and_its_age_is_known(lab: Lab) -> None:
    beside = Beside(lab, lambda n: lab.Answer(ttft_s=5.1 if n == 0 else 0.1))
    seen: list[float | None] = []
    told = flown(lab, beside, 3.0, *(lambda: seen.append(beside.lane.since_s),) * 3)
    assert beside.client.peak == 1
    assert [each.t_s for each in told] == pytest.approx([2.0, 8.0, 10.0]), "none is made up for"
    assert seen[0] == seen[1] == pytest.approx(2.0)
    assert seen[2] is None


def test_without_load_none_is_sent_and_the_one_in_flight_is_given_up_at_once(lab: Lab) -> None:
    beside = Beside(lab, lambda n: None if n == 0 else lab.Answer())

    def stop() -> None:
        beside.loaded = False
        beside.lane.look()

    def go_on() -> None:
        assert beside.client.running == 0
        assert beside.client.started == 1
        beside.loaded = True

    told = flown(lab, beside, 5.5, stop, go_on)
    assert [each.t_s for each in told] == pytest.approx([12.0, 14.0, 16.0]), (
        "what was given up tells nothing of the server"
    )


def test_what_a_server_does_is_told_and_never_ends_it(lab: Lab) -> None:
    ends = [
        lab.Answer(outcome=Outcome.HTTP_ERROR, status=429),
        lab.Answer(outcome=Outcome.TIMEOUT, status=None),
        lab.Answer(outcome=Outcome.TEXTLESS),
        lab.Answer(ttft_s=0.5),
    ]
    told = flown(lab, Beside(lab, lambda n: ends[n % 4]), 9.0)
    assert [each.error for each in told] == ["HTTP 429", "timeout", "textless", ""]
    assert [each.ttft_s is None for each in told] == [True, True, True, False]


def test_no_canary_begins_as_another_or_as_a_prompt_of_the_load() -> None:
    salt = 123_456_789_000
    load, lane = PromptSource(Workload(), salt=salt), PromptSource(Workload(), salt=salt + FAR_HEADS)
    point = LoadPoint(concurrency=1, prompt_tokens=64, output_tokens=1)
    prompts = [source.next(point) for source in (load, lane) for _ in range(2000)]
    heads = {tuple(prompt.text.split()[:HEAD_WORDS]) for prompt in prompts}
    assert len(heads) == len(prompts)
    assert {prompt.tokens for prompt in prompts} == {64}
    assert Random(0).choice(prompts).messages is None
