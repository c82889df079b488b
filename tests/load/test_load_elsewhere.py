"""Load workers on other machines, and any that fall silent: clocks, leases, what is counted and what is said."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, perf_counter_ns
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumping import VirtualLoop
from msgspec.structs import asdict

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Call, Event, FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.errors import FileError, SessionLost, UsageError, UsersError
from llmtop.load import luggage, pool
from llmtop.load import worker as worker_module
from llmtop.load.account import Worker
from llmtop.load.clocks import SHIFT_NS, Clock, shifted
from llmtop.load.here import WorkerFacts
from llmtop.load.luggage import laid_down, sent_files
from llmtop.load.merging import Merger, quiet, run_on
from llmtop.load.messages import Close, Cut, Follow, Ping, WorkerSetup, facts, orders, packed, receive
from llmtop.load.pacer import Pacer
from llmtop.load.pool import GIVEN_UP_NS, LEASE_S, SILENT_NS, Workers
from llmtop.load.users import Flight
from llmtop.load.worker import work
from llmtop.meter.binner import merge_bins
from llmtop.workload.prompts import PromptSource

SECOND = 1_000_000_000
PATIENCE_S = 20.0


def setup(workers: int = 1, **fields: Any) -> WorkerSetup:
    return WorkerSetup(
        **{
            "endpoint": Endpoint(base_url="http://127.0.0.1:9"),
            "info": None,
            "workload": Workload(),
            "caps": Caps(),
            "origin_ns": perf_counter_ns(),
            "seed": 0,
            "api": "chat",
            "workers": workers,
            **fields,
        }
    )


# ── Clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Far:
    """A machine whose clock is off by `offset_ns` and drifts, on a way of uneven length."""

    offset_ns: int
    ppm: float = 0.0
    rng: Random = field(default_factory=lambda: Random(1))

    def shows(self, now_ns: int) -> int:
        return now_ns + self.offset_ns + round(now_ns * self.ppm / 1e6)

    def ping(self, clock: Clock, now_ns: int) -> int:
        """One question and its answer; returns when that came."""
        ping = clock.ping(now_ns)
        asked_ns = now_ns + self.rng.randint(20_000, 5_000_000)
        back_ns = asked_ns + self.rng.randint(20_000, 5_000_000)
        assert clock.hear((ping.number, self.shows(asked_ns)), back_ns)
        return back_ns


@given(st.sampled_from([0, 5 * SECOND, -1_000_000 * SECOND, 3_600 * SECOND]), st.integers(0, 1000))
def test_an_offset_is_known_within_the_error_that_is_told(offset_ns: int, seed: int) -> None:
    clock, far, now_ns = Clock(), Far(offset_ns, rng=Random(seed)), 77 * SECOND
    for _ in range(8):
        now_ns = far.ping(clock, now_ns)
        assert abs(clock.offset_ns - offset_ns) <= clock.error_ns
    assert clock.error_ns <= 5_000_000 + 10_000


@pytest.mark.parametrize("ppm", [50.0, -50.0, 0.0])
def test_a_clock_that_drifts_is_followed_for_hours(ppm: float) -> None:
    clock, far, now_ns = Clock(), Far(5 * SECOND, ppm, Random(3)), 0
    for _ in range(8):
        now_ns = far.ping(clock, now_ns)
    offset_ns, shifts = clock.begin(), set()
    for second in range(1, 2 * 3600):
        now_ns = far.ping(clock, second * SECOND)
        true_ns = far.shows(now_ns) - now_ns
        assert abs(clock.offset_ns - true_ns) <= clock.error_ns
        told_ns = far.shows(now_ns) - offset_ns + clock.shift_ns
        assert abs(told_ns - now_ns) <= max(SHIFT_NS, clock.error_ns) + 2 * clock.error_ns
        shifts.add(clock.shift_ns)
    assert (len(shifts) > 20) == bool(ppm), "one that does not drift is left alone"


def answered(clock: Clock, at_ns: int, offset_ns: int, way_ns: int) -> None:
    """A question that took as long there as back."""
    ping = clock.ping(at_ns)
    clock.hear((ping.number, at_ns + way_ns + offset_ns), at_ns + 2 * way_ns)


def test_the_shortest_of_the_last_eight_answers_is_believed() -> None:
    clock = Clock()
    answered(clock, 0, 7_000, 10_000)
    for at in range(1, 8):
        answered(clock, at, 900_000, 4_000_000)
        assert clock.offset_ns == 7_000
    answered(clock, 8, 900_000, 4_000_000)
    assert clock.offset_ns == 900_000


@pytest.mark.parametrize(("moved_ns", "shifts"), [(1_900_000, False), (2_100_000, True), (-2_100_000, True)])
def test_stamps_are_shifted_once_a_clock_has_moved_by_two_milliseconds(moved_ns: int, shifts: bool) -> None:
    clock = Clock()
    answered(clock, 0, 0, 10_000)
    clock.begin()
    for at in range(1, 9):
        answered(clock, at, moved_ns, 10_000)
    assert clock.shift_ns == (-moved_ns if shifts else 0)


def test_an_answer_to_a_forgotten_question_says_nothing() -> None:
    clock = Clock()
    first = clock.ping(0)
    for at in range(1, 20):
        clock.ping(at)
    assert not clock.hear((first.number, 5), 100)
    assert not clock.hear((999, 5), 100)
    assert clock.offset_ns == 0


def test_it_is_news_where_a_clock_stands_when_it_moved_by_more_than_may_be_an_error() -> None:
    clock = Clock()
    told = []
    for second, offset_ns in enumerate([0, 400_000, 3_000_000, 3_100_000, 0], start=1):
        for _ in range(8):  # the answers of before are forgotten
            ping = clock.ping(second * SECOND)
            clock.hear((ping.number, second * SECOND + 100_000 + offset_ns), second * SECOND + 200_000)
        if second == 1:
            clock.begin()
        told.append(clock.news)
    assert told == [False, False, True, False, True]


STAMPS = ("scheduled_ns", "dispatched_ns", "sent_ns", "headers_ns", "first_token_ns", "first_answer_ns")


def record(**fields: Any) -> RequestRecord:
    stamps = {name: 10 * SECOND + at for at, name in enumerate((*STAMPS, "last_token_ns", "end_ns"))}
    rest = {"connect_ns": 7, "started_at": 1.0, "asked_prompt_tokens": 1, "asked_output_tokens": 1}
    return RequestRecord(
        **{**stamps, **rest, "prompt_tokens": 1, "output_tokens": 9, "chunks": 3, "outcome": Outcome.OK, **fields}
    )


def test_all_stamps_of_a_record_move_together() -> None:
    told = WorkerFacts(
        FactBatch(
            t_s=10.0,
            bins=(LoadBin(t_s=10.0, span_s=0.25, target=1.0, in_flight=0),),
            requests=(record(max_gap_ns=5, held_ns=1), record(first_token_ns=None, last_token_ns=None)),
            client=(ClientSample(t_s=10.0, span_s=1.0),),
            calls=(Call(t_s=10.0, duration_s=2.0, name="x", status=200),),
            events=(Event(10.0, "client", "x"),),
        ),
        1,
        (1, 2),
        (Flight(3, 10 * SECOND, 10 * SECOND, 1, 1, None),),
    )
    moved = shifted(told, -3_000_000)
    for before, after in zip(told.batch.requests, moved.batch.requests, strict=True):
        changed = {name for name, value in asdict(before).items() if value != asdict(after)[name]}
        named = {name for name in (*STAMPS, "last_token_ns", "end_ns") if getattr(before, name) is not None}
        assert changed == named
        assert {getattr(after, name) - getattr(before, name) for name in named} == {-3_000_000}
        assert (after.ttft_s, after.tpot_s, after.e2e_s) == (before.ttft_s, before.tpot_s, before.e2e_s)
    assert moved.started[0].dispatched_ns == moved.started[0].scheduled_ns == 10 * SECOND - 3_000_000
    for kind in ("bins", "client", "calls", "events"):
        assert [each.t_s for each in getattr(moved.batch, kind)] == [pytest.approx(9.997)]
    assert moved.batch.bins[0].span_s == 0.25
    assert shifted(told, 0) is told


# ── What is told late ─────────────────────────────────────────────────────────────────────────────────────────────────


def load_bin(t_s: float, **fields: Any) -> LoadBin:
    return LoadBin(**{"t_s": t_s, "span_s": 0.25, "target": 1.0, "in_flight": 0, **fields})


MOVES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=24)


@given(st.lists(MOVES, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_whoever_is_waited_for_joins_or_dies_nothing_is_lost_and_every_bin_keeps_the_law(workers, rng: Random) -> None:
    """sent = ended + in flight after every merged bin, though bins come late, and workers join and end."""
    merger: Merger[LoadBin] = Merger(0.25, quiet, run_on)
    queues = [[] for _ in workers]
    for queue, moves in zip(queues, workers, strict=True):
        in_flight = 0
        for interval, (sent, most_ended) in enumerate(moves, start=1):
            ended = min(most_ended, in_flight + sent)
            in_flight += sent - ended
            queue.append(load_bin(interval * 0.25 + 0.01, sent=sent, ok=ended, in_flight=in_flight))
    merged, living, last = [], set(range(len(workers))), dict.fromkeys(range(len(workers)), 0)
    joins = set(rng.sample(sorted(living)[1:], rng.randint(0, len(workers) - 1)))
    living -= joins
    while any(queues[number] for number in living) or joins:
        if joins and (rng.random() < 0.2 or not any(queues[number] for number in living)):
            living.add(joins.pop())
            continue
        number = rng.choice([number for number in living if queues[number]])
        several = rng.randint(1, 5)
        told, queues[number] = queues[number][:several], queues[number][several:]
        merger.add(number, told)
        last[number] = told[-1].in_flight
        if len(living) > 1 and rng.random() < 0.1:
            living.discard(number)
            merger.end(number, load_bin(0.0, errors=last[number]))
        awaited = {each for each in living if rng.random() < 0.7}
        merged += [merge_bins(list(group.values())) for group in merger.take(awaited)]
        sent = sum(b.sent for b in merged)
        assert not merged or sent == sum(b.ok + b.errors for b in merged) + merged[-1].in_flight
    merged += [merge_bins(list(group.values())) for group in merger.take(set())]
    told_sent = sum(b.sent for b in merged)
    assert told_sent == sum(b.ok + b.errors for b in merged) + merged[-1].in_flight
    for number in living:
        assert not queues[number]
    assert merged[-1].in_flight == sum(last[number] for number in living)


def test_what_comes_late_is_in_the_first_group_that_was_not_handed_out_and_keeps_its_worker_in_step() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet, run_on)
    quarters = [0.25 * place for place in range(1, 9)]
    merger.add(0, [load_bin(t_s, sent=1) for t_s in quarters[:6]])
    assert len(merger.take({0})) == 6
    merger.add(1, [load_bin(t_s, sent=1, output_tokens=5, target=3.0) for t_s in quarters])
    merger.add(0, [load_bin(t_s, sent=1) for t_s in quarters[6:]])
    groups = merger.take({0, 1})
    assert [group[1].sent for group in groups] == [7, 1]
    assert [group[1].output_tokens for group in groups] == [35, 5]
    assert groups[0][1].target == 3.0
    assert groups[0][1].t_s == quarters[6]


# ── Silence ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class FakePost:
    """The way to a worker that is what the test makes of it."""

    def __init__(self, name: str = "h2:4711", offset_ns: int = 0) -> None:
        self.name, self.offset_ns = name, offset_ns
        self.got: list[Any] = []
        self.ended = self.closed = False
        self.how = "was lost: the connection is closed"
        self._told: asyncio.Queue[WorkerFacts | None] = asyncio.Queue()

    def send(self, *messages: Any) -> None:
        for message in messages:
            assert not self.closed or isinstance(message, Close)
            self.got.append(orders.decode(packed(message)[4:]))
            if isinstance(message, Ping):
                self.tell(pong=(message.number, perf_counter_ns() + self.offset_ns))
            if isinstance(message, WorkerSetup):
                self.setup = message
                self.tell()

    def tell(self, *bins: LoadBin, **fields: Any) -> None:
        self._told.put_nowait(WorkerFacts(FactBatch(t_s=0.0, bins=bins), **{"in_flight": 0, **fields}))

    def end(self) -> None:
        self._told.put_nowait(None)

    async def told(self) -> WorkerFacts | None:
        return await self._told.get()

    async def fate(self) -> str:
        return self.how

    async def close(self) -> None:
        self.closed = True
        self.end()


class FakeCrew:
    def __init__(self, posts: list[FakePost], elsewhere: bool = True) -> None:
        self.posts, self.elsewhere = posts, elsewhere
        self.size = len(posts)
        self.joining: asyncio.Queue[Mapping[int, str]] = asyncio.Queue()
        self.beginning = self.most = 0
        self.closed = False
        self.fails: int | None = None

    async def post(self, setup: WorkerSetup) -> FakePost:
        self.beginning += 1
        self.most = max(self.most, self.beginning)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.beginning -= 1
        if setup.worker == self.fails:
            raise SessionLost("h9 refuses connections")
        return self.posts[setup.worker]

    async def more(self) -> Mapping[int, str]:
        return await self.joining.get()

    async def close(self) -> None:
        assert all(post.closed for post in self.posts if post.got)
        self.closed = True


class Pool:
    """Workers that have come, looked at as time goes on."""

    def __init__(self, count: int, elsewhere: bool) -> None:
        self.posts = [FakePost(f"h{number}:4711") for number in range(count)]
        origin_ns = perf_counter_ns() - 100 * SECOND
        self.workers = Workers(setup(count, origin_ns=origin_ns), FakeCrew(self.posts, elsewhere))
        self.each = [Worker(n, post, Clock() if elsewhere else None) for n, post in enumerate(self.posts)]
        self.workers._workers.extend(self.each)
        self.workers._ready = lambda: None
        self.now_ns = self.workers._setup.now()
        for number in range(count):
            self.tell(number)

    def tell(self, number: int, *bins: LoadBin, **fields: Any) -> None:
        self.workers._heard(self.each[number], WorkerFacts(FactBatch(t_s=0.0, bins=bins), **{"in_flight": 0, **fields}))
        self.each[number].heard_ns = self.now_ns

    def pass_s(self, seconds: float, *speaking: int) -> None:
        end_ns = self.now_ns + round(seconds * SECOND)
        while self.now_ns < end_ns:
            self.now_ns += SECOND // 10
            for number in speaking:
                self.tell(number)
            self.workers._look(self.now_ns)

    def events(self) -> list[Event]:
        return list(self.workers.take().events)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_who_is_silent_is_named_once_and_again_when_he_is_back(elsewhere: bool) -> None:
    made = Pool(2, elsewhere)
    made.pass_s(1.4, 0)
    assert made.events() == []
    made.pass_s(0.3, 0)
    (event,) = made.events()
    assert (event.kind, event.severity) == ("client", "warning")
    assert event.text.startswith("Load worker 1 (h1:4711) is silent for 1.6 s: ")
    made.pass_s(1.0, 0)
    assert made.events() == []
    made.tell(1)
    (back,) = made.events()
    assert back.text.startswith("Load worker 1 (h1:4711) is heard again after ")
    made.pass_s(1.7, 0)
    assert len(made.events()) == 1


def test_figures_go_on_without_who_is_silent_and_what_it_tells_later_is_counted() -> None:
    made = Pool(2, elsewhere=False)
    for number in (0, 1):
        made.tell(number, load_bin(0.25, sent=4, in_flight=4), in_flight=4)
    bins = list(made.workers.take().bins)
    assert [b.in_flight for b in bins] == [8]
    made.pass_s(SILENT_NS / 1e9 + 0.2, 0)
    made.tell(0, load_bin(0.5, ok=4), load_bin(0.75, sent=4, in_flight=4))
    bins += made.workers.take().bins
    assert [b.in_flight for b in bins] == [8, 4, 8], "its own stand as they were last told"
    made.tell(1, load_bin(0.5, ok=2, in_flight=2), load_bin(0.75, ok=2), load_bin(1.0, sent=1, in_flight=1))
    made.tell(0, load_bin(1.0, in_flight=4))
    bins += made.workers.take().bins
    assert [(b.sent, b.ok, b.in_flight) for b in bins] == [(8, 0, 8), (0, 4, 4), (4, 0, 8), (1, 4, 5)]
    assert sum(b.sent for b in bins) == sum(b.ok for b in bins) + bins[-1].in_flight
    ends = [b.t_s for b in bins]
    assert ends == sorted(set(ends)), "time goes forward"


def test_bins_end_in_order_and_not_after_now_whatever_a_workers_clock_says() -> None:
    made = Pool(1, elsewhere=True)
    ends = []
    for t_s in (0.25, 9e6, 0.5, 0.75):
        made.tell(0, load_bin(t_s))
        batch = made.workers.take()
        ends += [b.t_s for b in batch.bins]
        assert all(end <= batch.t_s for end in ends)
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_a_worker_says_of_its_machine_names_it_where_it_is_not_ours(elsewhere: bool) -> None:
    made = Pool(1, elsewhere)
    events = Event(1.0, "client", "Only 40 files may be open", "warning"), Event(1.0, "load", "Rows come again")
    made.workers._heard(made.each[0], WorkerFacts(FactBatch(t_s=1.0, events=events), 0))
    first = "h0:4711: " if elsewhere else ""
    assert [event.text for event in made.events()] == [f"{first}Only 40 files may be open", "Rows come again"]


def test_who_did_not_look_for_a_while_calls_nobody_silent() -> None:
    made = Pool(2, elsewhere=True)
    for away_s in (60, 2):
        made.now_ns += away_s * SECOND
        made.workers._look(made.now_ns)
        assert made.events() == []


def test_one_elsewhere_is_pinged_each_second_of_a_lease_of_three_and_written_off_after_that() -> None:
    assert LEASE_S == 3.0
    assert GIVEN_UP_NS > LEASE_S * SECOND, "no request counts as lost that may still be sent"
    made = Pool(1, elsewhere=True)
    made.pass_s(LEASE_S + 0.5, 0)
    assert [type(order) for order in made.posts[0].got] == [Ping] * 3


async def test_one_elsewhere_is_given_up_when_its_lease_has_run_out_and_one_here_is_waited_for() -> None:
    for elsewhere in (True, False):
        made = Pool(2, elsewhere)
        for worker in made.each:
            worker.hearing = asyncio.create_task(asyncio.sleep(PATIENCE_S))
        made.pass_s(GIVEN_UP_NS / 1e9 - 0.2, 0)
        assert made.each[1].given_up is None
        made.pass_s(0.5, 0)
        given_up = made.each[1].given_up
        assert (given_up is not None) == elsewhere
        assert made.each[0].given_up is None
        assert given_up is None or "nothing was heard of it for 4." in given_up
        for worker in made.each:
            worker.hearing.cancel()
        ended = await asyncio.gather(*(worker.hearing for worker in made.each), return_exceptions=True)
        assert len(ended) == 2


# ── A crew elsewhere ──────────────────────────────────────────────────────────────────────────────────────────────────


async def begun(
    posts: list[FakePost], crew: FakeCrew | None = None, given: WorkerSetup | None = None
) -> tuple[Workers, asyncio.Task[None]]:
    crew = crew or FakeCrew(posts)
    workers = Workers(given or setup(crew.size), crew)
    ready = asyncio.Event()
    running = asyncio.create_task(workers.run(ready.set))
    await asyncio.wait({running, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert ready.is_set()
    return workers, running


@pytest.mark.parametrize("offset_ns", [5 * SECOND, -1_000_000 * SECOND])
async def test_a_worker_elsewhere_gets_the_origin_by_its_own_clock_and_a_lease(offset_ns: int) -> None:
    post = FakePost(offset_ns=offset_ns)
    workers, running = await begun([post])
    assert post.setup.environment == ()
    ours = workers._setup.origin_ns
    (met,) = workers.take().workers
    assert (met.worker, met.name) == (0, "h2:4711")
    assert abs(met.offset_s * 1e9 - offset_ns) <= met.error_s * 1e9 + 200
    assert abs(post.setup.origin_ns - ours - offset_ns) <= met.error_s * 1e9 + 200
    assert post.setup.lease_s == pool.LEASE_S
    workers.follow(Pacer.hold(LoadPoint(concurrency=1)), 5)
    workers.cut(1)
    assert [type(order) for order in post.got if not isinstance(order, Ping)] == [WorkerSetup, Follow, Cut]
    pings = sum(isinstance(order, Ping) for order in post.got)
    workers._look(workers._setup.now() + 2 * SECOND)
    assert sum(isinstance(order, Ping) for order in post.got) == pings + 1, "it hears that we are here"
    workers.close()
    await running
    assert post.closed


async def test_what_lets_somebody_in_goes_with_the_setup_to_those_elsewhere_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    pages = ("http://me:pa55@127.0.0.1:9/metrics", "prometheus://p:9090?selector=app=vllm")
    endpoint = Endpoint(
        base_url="http://127.0.0.1:9", api_key_env="MY_KEY", basic_auth_env="NOT_SET", metrics_urls=pages
    )
    for elsewhere in (True, False):
        post = FakePost()
        workers, running = await begun([post], FakeCrew([post], elsewhere), setup(endpoint=endpoint))
        assert post.setup.environment == ((("MY_KEY", "s3cret"),) if elsewhere else ())
        assert (post.setup.lease_s, post.setup.waits) == (LEASE_S, not elsewhere)
        assert post.setup.endpoint.metrics_urls == (() if elsewhere else pages)
        workers.close()
        await running


async def test_a_connection_that_is_lost_loses_its_requests_and_gives_its_share_to_the_others() -> None:
    posts = [FakePost(f"h{number}:1") for number in range(3)]
    workers, running = await begun(posts)
    workers.follow(Pacer.hold(LoadPoint(concurrency=6)), 0)
    posts[1].tell(
        load_bin(0.25, sent=2, in_flight=2), in_flight=2, started=tuple(Flight(n, 0, 0, 1, 1, None) for n in (1, 2))
    )
    began = monotonic()
    posts[1].end()
    told: list[FactBatch] = []
    async with asyncio.timeout(PATIENCE_S):
        while not any(batch.events for batch in told):
            told.append(workers.take())
            await asyncio.sleep(0.01)
    assert monotonic() - began < LEASE_S, "at once, not when it was silent for too long"
    (event,) = [event for batch in told for event in batch.events]
    assert event.text == (
        "Load worker 1 (h1:1) was lost: the connection is closed; 2 requests are lost, its share goes to the other 2"
    )
    assert [r.outcome for batch in told for r in batch.requests] == [Outcome.LOST] * 2
    for place, post in enumerate((posts[0], posts[2])):
        assert [order for order in post.got if isinstance(order, Follow)][-1].pacer.share == (place, 2)
    workers.close()
    await running


# ── Who joins ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def told_until(workers: Workers, wanted: Callable[[list[FactBatch]], object]) -> list[FactBatch]:
    told: list[FactBatch] = []
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(told):
            told.append(workers.take())
            await asyncio.sleep(0.005)
    return told


def said(told: list[FactBatch]) -> list[tuple[str, str]]:
    return [(event.text, event.severity) for batch in told for event in batch.events]


def shares(*posts: FakePost) -> list[tuple[int, int]]:
    """What each was told last of its part of the load."""
    return [[order for order in post.got if isinstance(order, Follow)][-1].pacer.share for post in posts]


async def test_those_that_join_get_a_share_at_once_with_their_clocks_and_prompts_of_their_own() -> None:
    posts = [FakePost("h1:1"), FakePost("h2:1"), FakePost("h3:1", offset_ns=5 * SECOND), FakePost("h3:2"), FakePost()]
    crew = FakeCrew(posts)
    crew.size = 2
    workers, running = await begun(posts, crew)
    workers.follow(Pacer.hold(LoadPoint(concurrency=8)), 0)
    assert shares(*posts[:2]) == [(0, 2), (1, 2)]
    crew.joining.put_nowait({2: "h3", 3: "h3"})
    told = await told_until(workers, said)
    assert said(told) == [("load host h3 joined: 2 workers, the load is shared by 4 now", "info")]
    assert shares(*posts[:4]) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    met = {each.worker: each for batch in told for each in batch.workers}
    assert abs(met[2].offset_s - 5.0) <= met[2].error_s + 1e-6
    shift_ns = posts[2].setup.origin_ns - workers._setup.origin_ns
    assert shift_ns == pytest.approx(5 * SECOND, abs=met[2].error_s * 1e9 + 1e3)
    begins = [post.setup.begins_at for post in posts[:4]]
    numbers = [set(range(first, first + 200, 2)) for first in begins]
    assert begins[:2] == [0, 1]
    assert len(set.union(*numbers)) == sum(map(len, numbers)), "no prompt of one is another's"
    crew.joining.put_nowait({4: "h2"})
    ((text, _),) = said(await told_until(workers, said))
    assert text == "load host h2 joined: 1 worker, the load is shared by 5 now"
    workers.close()
    await running
    assert all(post.closed for post in posts)


@pytest.mark.parametrize("first", [None, pool.FAR])
def test_the_prompts_of_a_worker_begin_where_its_setup_says(first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def source(*arguments: Any, **options: Any) -> PromptSource:
        made.append(options)
        return PromptSource(*arguments, **options)

    monkeypatch.setattr(worker_module, "PromptSource", source)
    worker_module._setup_of(setup(2, worker=1, first=first), None)  # type: ignore[arg-type]
    assert [(each["start"], each["step"]) for each in made] == [(1 if first is None else first, 2)]


async def test_one_that_cannot_join_is_said_and_the_load_goes_on_as_it_was() -> None:
    posts = [FakePost(f"h{number}:1") for number in range(4)]
    crew = FakeCrew(posts)
    crew.size, crew.fails = 2, 2
    workers, running = await begun(posts, crew)
    workers.follow(Pacer.hold(LoadPoint(concurrency=8)), 0)
    crew.joining.put_nowait({2: "h9"})
    told = await told_until(workers, said)
    assert said(told) == [("a load host that joined cannot be used: h9 refuses connections", "warning")]
    crew.joining.put_nowait({3: "h3"})
    assert said(await told_until(workers, said))[-1][0].endswith("the load is shared by 3 now")
    assert shares(posts[0], posts[1], posts[3]) == [(0, 3), (1, 3), (2, 3)]
    assert not running.done()
    workers.close()
    await running


async def test_one_that_is_on_its_way_holds_no_figures_up_and_gets_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [FakePost("h1:1"), FakePost("h2:1")]
    monkeypatch.setattr(posts[1], "tell", lambda *_, **__: None)  # it begins, and does not answer
    crew = FakeCrew(posts)
    crew.size = 1
    workers, running = await begun(posts, crew)
    crew.joining.put_nowait({1: "h2"})
    async with asyncio.timeout(PATIENCE_S):
        while len(workers._workers) < 2:
            await asyncio.sleep(0.005)
    posts[0].tell(load_bin(0.25, sent=2, in_flight=2), in_flight=2)
    told = await told_until(workers, lambda told: any(batch.bins for batch in told))
    assert sum(b.sent for batch in told for b in batch.bins) == 2
    workers.follow(Pacer.hold(LoadPoint(concurrency=8)), 0)
    assert shares(posts[0]) == [(0, 1)]
    assert not [order for order in posts[1].got if isinstance(order, Follow)]
    workers.close()
    await running


async def test_one_that_never_answers_keeps_the_others_waiting_for_a_while_and_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "JOIN_S", 1.0)
    posts = [FakePost(f"h{number}:1") for number in range(3)]
    crew = FakeCrew(posts)
    crew.size = 1
    workers, running = await begun(posts, crew)
    workers.follow(Pacer.hold(LoadPoint(concurrency=8)), 0)
    monkeypatch.setattr(posts[2], "tell", lambda *_, pong=None, **__: pong and FakePost.tell(posts[2], pong=pong))
    crew.joining.put_nowait({1: "h1", 2: "h2"})
    told = await told_until(workers, lambda told: len(said(told)) > 1)
    lost, joined = sorted(text for text, _ in said(told))
    assert lost.startswith("Load worker 2 (h2:1) was lost: nothing was heard of it for 1.0 s")
    assert joined.startswith("load host h1 joined: 1 worker, ")
    assert shares(*posts[:2]) == [(0, 2), (1, 2)]
    assert not [order for order in posts[2].got if isinstance(order, Follow)]
    assert not running.done()
    workers.close()
    await running


async def test_rows_that_were_dealt_out_are_sent_by_those_that_have_them(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a"}\n')
    posts = [FakePost("h1:1"), FakePost("h3:1")]
    crew = FakeCrew(posts, elsewhere=False)
    workers, running = await begun(posts, crew, setup(1, workload=Workload(source="jsonl", file=str(file))))
    crew.joining.put_nowait({1: "h3"})
    (told,) = said(await told_until(workers, said))
    assert (
        told[0] == "load host h3 joined: 1 worker for the next run: what this one sends was dealt out at its beginning"
    )
    assert not posts[1].got
    workers.close()
    await running


async def test_who_joined_carries_the_load_alone_when_all_others_are_gone_and_is_the_last_to_be_lost() -> None:
    posts = [FakePost("h1:1"), FakePost("h2:1")]
    crew = FakeCrew(posts)
    crew.size = 1
    workers, running = await begun(posts, crew)
    workers.follow(Pacer.hold(LoadPoint(concurrency=8)), 0)
    crew.joining.put_nowait({1: "h2"})
    await told_until(workers, said)
    posts[0].end()
    told = await told_until(workers, lambda told: any(severity == "error" for _, severity in said(told)))
    assert said(told)[-1][0].endswith("its share goes to the other 1")
    assert shares(posts[1]) == [(0, 1)]
    assert not running.done()
    posts[1].end()
    with pytest.raises(SessionLost, match="It was the last one"):
        await running


async def test_many_begin_at_once_and_not_too_many() -> None:
    posts = [FakePost(f"h{number}:1") for number in range(50)]
    crew = FakeCrew(posts)
    workers, running = await begun(posts, crew)
    assert crew.most == pool.STARTING
    assert [worker.number for worker in workers._workers] == list(range(50))
    workers.close()
    await running
    assert crew.closed
    assert all(post.closed for post in posts)


async def test_one_that_cannot_begin_ends_all_that_began_with_its_error() -> None:
    posts = [FakePost(f"h{number}:1") for number in range(40)]
    crew = FakeCrew(posts)
    crew.fails = 20
    with pytest.raises(SessionLost, match="h9 refuses connections"):
        await Workers(setup(40), crew).run(lambda: None)
    assert crew.closed
    assert crew.beginning == 0


async def test_a_file_that_cannot_be_sent_ends_the_run_before_anybody_begins(tmp_path) -> None:
    crew = FakeCrew([FakePost()])
    gone = setup(workload=Workload(source="jsonl", file=str(tmp_path / "gone.jsonl")))
    with pytest.raises(FileError, match=r"gone\.jsonl"):
        await Workers(gone, crew).run(lambda: None)
    assert crew.closed


# ── The lease, as a worker keeps it ───────────────────────────────────────────────────────────────────────────────────


class Out:
    """The pipe of a worker's facts, which nobody reads after `read` of them."""

    def __init__(self, read: float = math.inf) -> None:
        self.told: list[WorkerFacts] = []
        self._read = read

    def write(self, piece: bytes) -> None:
        self.told.append(facts.decode(piece[4:]))

    async def drain(self) -> None:
        if len(self.told) > self._read:
            await asyncio.Event().wait()


def hearing(*messages: Any) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for message in messages:
        reader.feed_data(packed(message))
    return reader


@pytest.mark.parametrize("stuck", [False, True])
async def test_without_a_word_of_its_parent_a_load_ends_with_its_lease(stuck: bool, capsys) -> None:
    """Though its pipes stay open, and though nobody reads what it tells."""
    out = Out(1 if stuck else math.inf)
    reader = hearing(Ping(1), setup(lease_s=0.3), Follow(Pacer.hold(LoadPoint(concurrency=2)), 0))
    began = monotonic()
    working = asyncio.create_task(work(reader, out))  # type: ignore[arg-type]
    await asyncio.wait_for(working, PATIENCE_S)
    assert monotonic() - began >= 0.3
    assert "nothing was heard for 0.3 s" in capsys.readouterr().err
    assert out.told[0].pong is not None
    assert out.told[0].pong[0] == 1


def test_pings_keep_a_lease_and_are_answered_with_the_time(capsys) -> None:
    out = Out()

    async def pinged() -> None:
        reader = hearing(setup(lease_s=3.0))
        working = asyncio.create_task(work(reader, out))  # type: ignore[arg-type]
        for number in range(12):
            reader.feed_data(packed(Ping(number)))
            await asyncio.sleep(1.0)
        assert not working.done()
        reader.feed_data(packed(Close()))
        await working

    before = perf_counter_ns()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(pinged())
    pongs = [told.pong for told in out.told if told.pong is not None]
    assert [number for number, _ in pongs] == list(range(12))
    assert before < pongs[0][1] < pongs[-1][1] < perf_counter_ns()
    assert capsys.readouterr().err == ""


# ── Files that go along ───────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_certificates_and_keys_lie_where_nobody_else_looks(tmp_path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    for name in ("rows.jsonl", "ca.pem", "me.pem", "me.key"):
        (here / name).write_text(f"what {name} holds")
    endpoint = Endpoint(
        base_url="https://h",
        ca_file=str(here / "ca.pem"),
        client_cert=str(here / "me.pem"),
        client_key=str(here / "me.key"),
    )
    whole = setup(endpoint=endpoint, workload=Workload(source="jsonl", file=str(here / "rows.jsonl")))
    sent = orders.decode(packed(pool.replace(whole, files=sent_files(whole), environment=(("KEY", "s3cret"),)))[4:])
    assert isinstance(sent, WorkerSetup)
    assert "s3cret" not in repr(sent)
    assert "KEY" in repr(sent)
    laid = laid_down(sent, there)
    assert laid.files == ()
    paths = [laid.workload.file, laid.endpoint.ca_file, laid.endpoint.client_cert, laid.endpoint.client_key]
    for path, name in zip(paths, ("rows.jsonl", "ca.pem", "me.pem", "me.key"), strict=True):
        assert path is not None
        assert path.startswith(str(there))
        assert path.endswith(name)
        assert Path(path).read_text() == f"what {name} holds"


def test_what_is_too_much_to_send_is_said_before_it_is(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(Random(1).randbytes(3 << 20))
    whole = setup(workers=200, workload=Workload(source="jsonl", file=str(rows)))
    assert len(sent_files(whole)) == 1
    monkeypatch.setattr(luggage, "MOST_SENT", 500 << 20)
    with pytest.raises(UsageError, match="600 MiB would have to be sent to 200 load workers, and 500 are the most"):
        sent_files(whole)
    assert sent_files(pool.replace(whole, recorded=b"x")) == (), "a trace that was read goes in its own form"


async def test_users_that_are_code_must_lie_on_the_host_as_they_do_here(tmp_path) -> None:
    users = tmp_path / "users.py"
    users.write_text("async def run(user):\n    await user.chat('x')\n")
    whole = setup(workload=Workload(source="python", file=str(users)), lease_s=3.0)
    sent = pool.replace(whole, files=sent_files(whole))
    assert laid_down(sent, tmp_path).workload.file == str(users)
    users.write_text("async def run(user):\n    await user.chat('y')\n")
    for problem in ("is another file on ", "is not on "):
        out = Out()
        await asyncio.wait_for(work(hearing(sent), out), PATIENCE_S)  # type: ignore[arg-type]
        fault = out.told[-1].fault
        assert fault is not None
        assert fault[0] == str(users)
        assert fault[1].startswith(problem)
        assert str(UsersError(*fault)).startswith(f"{users}: {problem}")
        users.unlink(missing_ok=True)


async def test_a_worker_that_hears_nothing_at_all_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.load.worker.SETUP_S", 0.05)
    await asyncio.wait_for(work(asyncio.StreamReader(), Out()), PATIENCE_S)  # type: ignore[arg-type]
    assert await receive(hearing(Ping(7)), orders) == Ping(7)
