"""Load workers by name: the worst first, the rest summed up, and nothing of one process alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.analysis import assess
from llmtop.domain.client import CrewFigures
from llmtop.domain.endpoint import Endpoint, EndpointState, EndpointStatus
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadWorker, RunMeta
from llmtop.domain.samples import ClientSample
from llmtop.domain.slo import Slo
from llmtop.meter.client import ClientJudge
from llmtop.meter.crew import MOST_SHOWN, MOST_TOLD, CrewTally
from llmtop.meter.facts import Facts
from llmtop.meter.frames import FrameBuilder

HERE = EndpointStatus(state=EndpointState.UP, label="gateway:8000")


def sample(t_s: float, worker: int, lag_ms: float = 0.1, chunks: float = 1000.0) -> ClientSample:
    return ClientSample(t_s=t_s, worker=worker, lag_p99_ms=lag_ms, tpot_ms=20.0, cpu=0.2, chunks_per_s=chunks)


def second(t_s: float, lags_ms: dict[int, float]) -> FactBatch:
    return FactBatch(t_s=t_s, client=tuple(sample(t_s, worker, lag) for worker, lag in lags_ms.items()))


def met(*numbers: int, **said: object) -> FactBatch:
    workers = tuple(LoadWorker(0.0, n, f"h{n}:47{n:02}", **said) for n in numbers)  # type: ignore[arg-type]
    return FactBatch(t_s=0.0, workers=workers)


def tally(*batches: FactBatch) -> CrewTally:
    judge, made = ClientJudge(), CrewTally()
    for batch in batches:
        made.take(batch.workers, judge.take(batch.client))
    return made


def test_the_slowest_names_itself_in_the_health_of_a_frame() -> None:
    builder = FrameBuilder()
    for batch in (met(0, 1, 2), second(1.0, {0: 0.1, 1: 15.0, 2: 0.2})):
        builder.consume(batch)
    frame = builder.frame(HERE)
    assert frame.client is not None
    assert frame.client.reason is not None
    assert (frame.client.reason.worker, frame.client.reason.name) == (1, "h1:4701")
    assert frame.client.state == "red"
    assert [each.worker for each in frame.crew.worst] == [1, 2, 0]
    assert (frame.crew.began, frame.crew.heard) == (3, 3)


def test_of_one_process_nothing_is_told() -> None:
    builder = FrameBuilder()
    builder.consume(second(1.0, {0: 15.0}))
    assert builder.frame(HERE).crew == CrewFigures()
    assert tally(second(1.0, {0: 15.0})).whole() is None


def test_one_that_tells_nothing_of_the_newest_second_is_silent_and_one_that_is_gone_lost() -> None:
    gone = FactBatch(t_s=2.0, workers=(LoadWorker(2.0, 2, "h2:4702", lost=True),))
    crew = tally(met(0, 1, 2), second(1.0, {0: 0.1, 1: 0.1, 2: 0.1}), gone, second(2.0, {0: 0.1})).now()
    assert [(each.worker, each.state) for each in crew.worst] == [(2, "lost"), (1, "silent"), (0, "green")]
    assert (crew.began, crew.heard) == (3, 1)
    assert crew.worst[0].chunks_per_s is None


def test_one_that_has_just_begun_is_not_silent() -> None:
    crew = tally(met(0, 1), second(1.0, {0: 0.1})).now()
    assert [each.state for each in crew.worst] == ["green", "green"]
    crew = tally(met(0, 1), second(1.0, {0: 0.1}), second(4.0, {0: 0.1})).now()
    assert [each.state for each in crew.worst] == ["silent", "green"]


def test_over_a_run_each_is_told_at_worst_with_what_it_read() -> None:
    crew = tally(met(0, 1), second(1.0, {0: 15.0, 1: 0.1}), second(2.0, {0: 0.1, 1: 3.0})).whole()
    assert crew is not None
    first, other = crew.worst
    assert (first.worker, first.state, first.red_s, first.lag_p99_ms) == (0, "red", 1, 15.0)
    assert (other.worker, other.state, other.red_s, other.lag_p99_ms) == (1, "amber", 0, 3.0)
    assert first.chunks_per_s == 1000.0


@given(st.dictionaries(st.integers(0, 90), st.tuples(st.floats(0, 30), st.floats(1, 1e5)), min_size=2, max_size=80))
def test_the_worst_come_first_and_shares_and_chunks_add_up(told: dict[int, tuple[float, float]]) -> None:
    samples = tuple(sample(1.0, worker, lag, chunks) for worker, (lag, chunks) in told.items())
    made = tally(FactBatch(t_s=1.0, client=samples))
    for crew, most in ((made.now(), MOST_SHOWN), (made.whole(), MOST_TOLD)):
        assert crew is not None
        assert crew.began == len(told) == len(crew.worst) + crew.rest
        assert len(crew.worst) == min(most, len(told))
        assert sum(each.share or 0.0 for each in crew.worst) + (crew.rest_share or 0.0) == pytest.approx(1.0)
        all_chunks = sum(each.chunks_per_s or 0.0 for each in crew.worst) + (crew.rest_chunks_per_s or 0.0)
        assert all_chunks == pytest.approx(sum(chunks for _, chunks in told.values()))
        shown = {each.worker for each in crew.worst}
        least = min(each.lag_p99_ms or 0.0 for each in crew.worst)
        assert all(lag <= least for worker, (lag, _) in told.items() if worker not in shown)


def test_red_seconds_void_the_requests_of_their_worker_alone_which_is_called_by_its_name() -> None:
    facts = Facts()
    for batch in (met(0, 1), second(1.0, {0: 0.1, 1: 15.0})):
        facts.extend(batch)
    facts.extend(FactBatch(t_s=1.2, requests=tuple(_record(worker) for worker in (0, 1))))
    facts.extend(second(2.0, {0: 0.1, 1: 0.1}))
    workers, limited = facts.requests.column("worker"), facts.requests.column("client_limited")
    assert dict(zip(workers, limited, strict=True)) == {0.0: 0.0, 1.0: 1.0}
    assert facts.crew.called(1) == "h1:4701"


def _record(worker: int) -> RequestRecord:
    return RequestRecord(
        scheduled_ns=500_000_000,
        dispatched_ns=500_000_000,
        sent_ns=500_000_000,
        connect_ns=0,
        headers_ns=600_000_000,
        first_token_ns=600_000_000,
        first_answer_ns=600_000_000,
        last_token_ns=1_100_000_000,
        end_ns=1_100_000_000,
        started_at=0.0,
        asked_prompt_tokens=10,
        asked_output_tokens=10,
        prompt_tokens=10,
        output_tokens=10,
        chunks=10,
        outcome=Outcome.OK,
        worker=worker,
    )


@pytest.mark.parametrize(
    ("lags_ms", "told"),
    [
        ({0: 0.1, 1: 15.0, 2: 0.1}, "1 request left out: the client was the bottleneck, load worker 1 (h1:4701) alone"),
        ({0: 0.1, 1: 15.0, 2: 15.0}, "2 requests left out: the client was the bottleneck"),
    ],
)
def test_the_verdict_names_the_one_whose_requests_it_leaves_out(lags_ms: dict[int, float], told: str) -> None:
    facts = Facts()
    ended = FactBatch(t_s=1.2, requests=tuple(_record(worker) for worker in (0, 1, 2)))
    for batch in (met(0, 1, 2), second(1.0, lags_ms), ended, second(2.0, {0: 0.1, 1: 0.1, 2: 0.1})):
        facts.extend(batch)
    meta = RunMeta(
        llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://x"), profile=Profile(name="x")
    )
    assert assess(facts, meta, Slo(), now_s=3.0).judgement.left_out == (told,)
