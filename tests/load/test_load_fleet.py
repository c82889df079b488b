"""Many load workers at once, as their parent hears them: on a virtual clock, with no process and no socket."""

from __future__ import annotations

import asyncio
from collections import Counter

import fleet
import pytest
from jumping import VirtualLoop

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import LoadBin
from llmtop.load.engine import LoadEngine
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.load.worker import tell_s

MOST_BYTES = 16_000
"""That a worker of 512 streams, 20 tokens/s each, tells in a second."""


class Heard:
    """A fleet that was driven for a while, with everything that its parent has told."""

    def __init__(self, workers: int, streams: int, seconds: float, dies_s: float | None = None, joins: int = 0) -> None:
        self.crew = fleet.Fleet(workers, streams)
        self.bins: list[LoadBin] = []
        self.requests: list[RequestRecord] = []
        self.bytes_per_worker_s = 0.0
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(self._drive(workers, streams, seconds, dies_s, joins))

    async def _drive(self, workers: int, streams: int, seconds: float, dies_s: float | None, joins: int) -> None:
        loop = asyncio.get_running_loop()
        fleet.CLOCK.now_s = loop.time
        setup, load = fleet.setup_of(workers, streams), LoadPoint(concurrency=workers * streams)
        self.engine = LoadEngine(Workers(setup, self.crew), Pacer.hold(load), Caps(stop_error_ratio=None), setup.now)
        running = asyncio.create_task(self.engine.run())
        if dies_s is not None:
            await asyncio.sleep(dies_s)
            self.crew.posts[0].end()
        if joins:
            await asyncio.sleep(4.0)
            self.crew.joining.put_nowait(dict.fromkeys(range(workers, workers + joins), "h9"))
        while loop.time() < seconds:
            await asyncio.sleep(0.25)
            self._hear()
        self.bytes_per_worker_s = self.crew.told_bytes / workers / seconds
        await self.engine.close()
        await running

    def _hear(self) -> None:
        batch = self.engine.take()
        self.bins += batch.bins
        self.requests += batch.requests
        if self.bins:
            ended = sum(b.ok + b.errors + b.cancelled for b in self.bins)
            assert sum(b.sent for b in self.bins) == ended + self.bins[-1].in_flight


def test_what_many_workers_send_is_told_once_and_nothing_is_missing() -> None:
    heard = Heard(workers=40, streams=8, seconds=10.0)
    sent, told = sum(b.sent for b in heard.bins), sum(post.streams.sent for post in heard.crew.posts)
    assert 0 <= told - sent <= 40 * 8, "but for the bin that is open"
    assert sum(b.ok for b in heard.bins) == len(heard.requests) > 200
    assert Counter(r.outcome for r in heard.requests) == {Outcome.OK: len(heard.requests)}
    assert heard.bins[-1].in_flight == 40 * 8
    assert len(heard.bins) == 40 - 1 or len(heard.bins) == 40, "one for each 250 ms, whoever told it when"
    steps = [round(b.t_s / 0.25) for b in heard.bins]
    assert steps == list(range(steps[0], steps[0] + len(steps)))


def test_of_a_worker_that_is_gone_all_that_it_had_told_of_is_lost() -> None:
    heard = Heard(workers=40, streams=8, seconds=6.0, dies_s=3.1)
    lost = [record for record in heard.requests if record.outcome is Outcome.LOST]
    assert {record.worker for record in lost} == {0}
    assert len(lost) == 8
    assert heard.bins[-1].in_flight == 39 * 8


def test_those_that_join_are_counted_from_then_on_and_the_law_holds_all_the_while() -> None:
    heard = Heard(workers=20, streams=8, seconds=14.0, joins=10)
    assert {record.outcome for record in heard.requests} == {Outcome.OK}
    assert {record.worker for record in heard.requests} == set(range(30))
    assert heard.bins[-1].in_flight == 30 * 8
    steps = [round(b.t_s / 0.25) for b in heard.bins]
    assert steps == list(range(steps[0], steps[0] + len(steps))), "one for each 250 ms, the join within them"


def test_a_worker_tells_few_bytes_however_many_tokens_it_reads() -> None:
    heard = Heard(workers=2, streams=512, seconds=4.0)
    assert sum(b.output_tokens for b in heard.bins) > 60_000
    assert 1_000 < heard.bytes_per_worker_s < MOST_BYTES


@pytest.mark.parametrize("workers", [1, 2, 40, 100, 200, 1000])
def test_workers_tell_at_least_with_each_bin_and_their_parent_is_not_drowned(workers: int) -> None:
    pause_s = tell_s(workers)
    assert 0.05 <= pause_s <= 0.25
    assert workers / pause_s <= max(800, 4 * workers)
