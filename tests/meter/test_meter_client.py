"""The client's own slowness is judged from raw samples, the same way live, replayed and read from an old file."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.client import ClientCause, ClientReason
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample
from llmtop.meter.client import PAUSE_MS, SPOILT, Baseline, ClientJudge, judge
from llmtop.meter.facts import Facts
from llmtop.meter.frames import FrameBuilder

STATUS = EndpointStatus(state=EndpointState.UP)


def sample(t_s: float = 1.0, **figures: object) -> ClientSample:
    return ClientSample(t_s=t_s, **{"reads": 1000, "coalesced": 10, **figures})  # type: ignore[arg-type]


def red(t_s: float, worker: int = 0) -> ClientSample:
    return sample(t_s, cpu=0.99, worker=worker)


def record(start_s: float, end_s: float, **fields: object) -> RequestRecord:
    values: dict[str, object] = {
        "scheduled_ns": round(start_s * 1e9),
        "dispatched_ns": round(start_s * 1e9),
        "sent_ns": round(start_s * 1e9),
        "connect_ns": 0,
        "headers_ns": None,
        "first_token_ns": None,
        "first_answer_ns": None,
        "last_token_ns": None,
        "end_ns": round(end_s * 1e9),
        "started_at": 0.0,
        "asked_prompt_tokens": 1,
        "asked_output_tokens": 1,
        "prompt_tokens": 1,
        "output_tokens": 1,
        "outcome": Outcome.OK,
    }
    return RequestRecord(**{**values, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("p99_ms", "tpot_ms", "cpu", "loop_lag_ms", "coalesced", "state"),
    [
        (0.9, 20.0, 0.1, 1.0, False, "green"),
        (1.9, 20.0, 0.1, 1.0, False, "green"),
        (2.1, 20.0, 0.1, 1.0, False, "amber"),
        (2.1, 100.0, 0.1, 1.0, False, "green"),  # 5 % of TPOT is more than 2 ms
        (5.1, 100.0, 0.1, 1.0, False, "amber"),
        (10.1, 20.0, 0.1, 1.0, False, "red"),
        (10.1, None, 0.1, 1.0, False, "amber"),  # without tokens there is no TPOT to be over half of
        (None, 20.0, 0.69, 1.0, False, "green"),
        (None, 20.0, 0.70, 1.0, False, "amber"),
        (None, 20.0, 0.85, 1.0, False, "red"),
        (0.1, 20.0, None, 26.0, False, "amber"),
        (1.5, 20.0, 0.1, 1.0, True, "red"),
    ],
)
def test_thresholds(
    p99_ms: float | None, tpot_ms: float | None, cpu: float | None, loop_lag_ms: float, coalesced: bool, state: str
) -> None:
    seen = sample(lag_p99_ms=p99_ms, tpot_ms=tpot_ms, cpu=cpu, loop_lag_ms=loop_lag_ms)
    found, reason = judge(seen, coalesced)
    assert found == state
    assert (reason is None) == (state == "green")


@pytest.mark.parametrize(
    ("figures", "coalesced", "reason"),
    [
        ({"lag_p99_ms": 9.0, "tpot_ms": 10.0}, False, ClientReason(cause=ClientCause.LAG, value=9.0, of=10.0)),
        ({"lag_p99_ms": 3.0, "tpot_ms": 10.0}, False, ClientReason(cause=ClientCause.LAG, value=3.0)),
        ({"coalesced": 400}, True, ClientReason(cause=ClientCause.COALESCED, value=400, of=1000)),
        ({"cpu": 0.8}, False, ClientReason(cause=ClientCause.CPU, value=0.8)),
        ({"loop_lag_ms": 30.0}, False, ClientReason(cause=ClientCause.LOOP, value=30.0)),
        ({"lag_p99_ms": 3.0, "cpu": 0.9}, False, ClientReason(cause=ClientCause.CPU, value=0.9)),
    ],
)
def test_the_worst_finding_is_the_reason(figures: dict[str, float], coalesced: bool, reason: ClientReason) -> None:
    assert judge(sample(**figures), coalesced)[1] == reason


def test_a_kernel_stamp_does_not_move_with_a_late_read() -> None:
    late = sample(lag_p99_ms=15.0, tpot_ms=4.0)
    assert judge(late, False)[0] == "red"
    by_kernel = replace(late, stamp_source="kernel")
    assert judge(by_kernel, False)[0] == "amber"
    assert judge(replace(by_kernel, lag_p99_ms=25.0), False)[0] == "red"
    assert judge(replace(by_kernel, lag_p99_ms=25.0, tpot_ms=60.0), False)[0] == "amber", "not half of TPOT"
    assert judge(by_kernel, True)[0] == "red", "coalesced reads spoil any stamp"


def test_a_server_that_writes_several_tokens_at_a_time_is_not_the_clients_fault() -> None:
    baseline = Baseline()
    for _ in range(5):
        assert not baseline.rose(sample(coalesced=600, lag_p99_ms=0.4))
    assert not baseline.rose(sample(coalesced=650, lag_p99_ms=3.0))
    assert baseline.rose(sample(coalesced=750, lag_p99_ms=9.0))
    assert not baseline.rose(sample(reads=50, coalesced=50, lag_p99_ms=9.0))


@pytest.mark.parametrize("odd", [100, 1000])
def test_one_odd_second_moves_the_baseline_by_a_fifth(odd: int) -> None:
    baseline = Baseline()
    for coalesced in (600, odd):
        assert not baseline.rose(sample(coalesced=coalesced, lag_p99_ms=0.4))
    moved = round(600 + (odd - 600) / 5)
    assert not baseline.rose(sample(coalesced=moved + 90, lag_p99_ms=9.0))
    assert baseline.rose(sample(coalesced=moved + 110, lag_p99_ms=9.0))


def test_the_worst_worker_speaks_for_all() -> None:
    (second,) = ClientJudge().take(
        [
            sample(1.1, cpu=0.3, lag_p99_ms=0.2, tpot_ms=10.0, chunks_per_s=100.0),
            sample(1.1, worker=1, cpu=0.2, lag_p99_ms=9.0, tpot_ms=10.0, chunks_per_s=50.0, workers_lost=1),
        ]
    )
    health = second.health
    assert health.state == "red"
    assert health.reason == ClientReason(cause=ClientCause.LAG, value=9.0, of=10.0, worker=1)
    assert (health.cpu, health.lag_p99_ms, health.chunks_per_s) == (0.3, 9.0, 150.0)
    assert (health.workers, health.workers_lost) == (2, 1)
    assert [each.worker for each in second.red] == [1]


@pytest.mark.parametrize(
    ("of", "red_ones", "amber_ones", "state"),
    [
        (1, 1, 0, "red"),
        (4, 1, 0, "red"),
        (5, 1, 0, "amber"),
        (200, 1, 0, "amber"),
        (200, 49, 0, "amber"),
        (200, 50, 0, "red"),
        (200, 0, 49, "green"),
        (200, 0, 50, "amber"),
        (4, 0, 1, "amber"),
    ],
)
def test_one_of_many_processes_does_not_make_a_second_void(of: int, red_ones: int, amber_ones: int, state: str) -> None:
    cpus = [0.99] * red_ones + [0.75] * amber_ones + [0.1] * (of - red_ones - amber_ones)
    samples = [sample(1.0, worker=worker, cpu=cpu) for worker, cpu in enumerate(cpus)]
    (second,) = ClientJudge().take(samples)
    assert second.health.state == state
    assert [each.worker for each in second.red] == list(range(red_ones)), "its own requests are void all the same"
    worst = ClientCause.CPU if state != "green" else None
    assert (second.health.reason and second.health.reason.cause) == worst


def test_a_state_that_an_old_file_recorded_is_kept() -> None:
    old = ClientSample(t_s=1.0, state="red", reason="worker 1: too late", lag_p99_ms=0.1, workers=3)
    (second,) = ClientJudge().take([old])
    assert (second.health.state, second.health.workers) == ("red", 3)
    assert second.health.reason == ClientReason(cause=ClientCause.TOLD, text="worker 1: too late")
    facts = Facts.of(
        [FactBatch(t_s=1.0, client=(old,), requests=(record(0.1, 0.9, client_limited=False), record(0.1, 0.9)))]
    )
    assert facts.client.column("red").tolist() == [1.0]
    assert facts.requests.column("client_limited").tolist() == [0.0, 0.0], "what was judged then is not judged again"


def test_a_request_is_void_where_its_own_process_was_the_bottleneck_during_its_life() -> None:
    lives = [(3.0, 3.9), (3.0, 4.1), (4.2, 4.3), (4.9, 6.0), (5.0, 6.0), (1.0, 9.0)]
    told = (*(record(*life) for life in lives), record(4.2, 4.3, worker=1))
    seconds = (sample(4.0), red(5.0), sample(5.0, worker=1), sample(9.0))
    limited = Facts.of([FactBatch(t_s=9.0, client=seconds, requests=told)]).requests.column("client_limited")
    assert limited.tolist() == [0, 1, 1, 1, 0, 1, 0]


def test_what_ended_well_in_the_second_that_runs_is_in_no_verdict_yet() -> None:
    facts = Facts()
    bad = record(2.1, 2.2, outcome=Outcome.HTTP_ERROR)
    facts.extend(FactBatch(t_s=2.0, client=(sample(2.0),)))
    facts.extend(FactBatch(t_s=2.5, requests=(record(1.0, 1.9), record(1.0, 2.2), bad)))
    limited = facts.requests.column("client_limited")
    assert limited[0] == 0
    assert math.isnan(limited[1])
    assert limited[2] == 0, "bad news is not kept back"
    judged = {"well": sample(3.0), "late": red(3.0)}
    for name, second in judged.items():
        later = Facts()
        later.extend(FactBatch(t_s=2.0, client=(sample(2.0),)))
        later.extend(FactBatch(t_s=2.5, requests=(record(1.0, 2.2),)))
        later.extend(FactBatch(t_s=3.0, client=(second,)))
        assert later.requests.column("client_limited").tolist() == [float(name == "late")]


SECONDS = st.lists(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 30.0), st.integers(0, 1000)), min_size=1, max_size=3),
    min_size=1,
    max_size=8,
)
LIVES = st.lists(st.tuples(st.floats(0, 8), st.floats(0, 3), st.integers(0, 2)), max_size=30)


@settings(deadline=None, max_examples=60)
@given(seconds=SECONDS, lives=LIVES)
def test_the_judgement_depends_on_what_was_told_and_not_on_how(
    seconds: list[list[tuple[float, float, int]]], lives: list[tuple[float, float, int]]
) -> None:
    """Live, a record comes up to a second before the sample that judges it; a report reads both at once."""
    groups = [
        tuple(
            sample(float(at), worker=worker, cpu=cpu, lag_p99_ms=lag_ms, coalesced=coalesced, tpot_ms=10.0)
            for worker, (cpu, lag_ms, coalesced) in enumerate(group)
        )
        for at, group in enumerate(seconds, 1)
    ]
    records = sorted((record(start, start + lasts, worker=who) for start, lasts, who in lives), key=lambda r: r.end_ns)
    live, frames, told = Facts(cap=None), FrameBuilder(), []
    for tick in range(1, 4 * (len(groups) + 1) + 1):
        t_s = tick / 4
        requests = tuple(r for r in records if t_s - 0.25 < r.end_ns / 1e9 <= t_s or (tick == 1 and r.end_ns == 0))
        client = groups[tick // 4 - 1] if tick % 4 == 0 and tick // 4 <= len(groups) else ()
        told.append(FactBatch(t_s=t_s, requests=requests, client=client))
        live.extend(told[-1])
        frames.consume(told[-1])
    whole = FactBatch(
        t_s=told[-1].t_s,
        requests=tuple(r for batch in told for r in batch.requests),
        client=tuple(each for batch in told for each in batch.client),
    )
    read, at_once = Facts.of(told), Facts.of([whole])
    shown = FrameBuilder()
    shown.consume(whole)
    assert shown.frame(STATUS).client == frames.frame(STATUS).client
    for facts in (read, at_once):
        for table, name in (("requests", "client_limited"), ("client", "red")):
            np.testing.assert_array_equal(
                getattr(facts, table).column(name), getattr(live, table).column(name), err_msg=name
            )


# -- pauses -----------------------------------------------------------------------------------------------------------


def streamed(first_s: float, first_tokens: int = 1, **fields: object) -> RequestRecord:
    """A request of 1 s whose first token was stamped there, half a second after it was sent."""
    sent_s, last_s = first_s - 0.5, first_s + 0.5
    stamps = {"sent_ns": sent_s, "first_token_ns": first_s, "last_token_ns": last_s}
    stamped = {name: round(at_s * 1e9) for name, at_s in stamps.items()}
    return record(sent_s, last_s, first_chunk_tokens=first_tokens, **{**stamped, **fields})


@pytest.mark.parametrize(
    ("pause_ms", "source", "ended", "void"),
    [
        (200.0, "kernel", streamed(4.5, 3), True),
        (200.0, "kernel", streamed(4.5, 1), False),  # alone in its read: the stamp is its own
        (200.0, "kernel", streamed(3.9, 3), False),  # the second before
        (200.0, "kernel", streamed(5.1, 3), False),
        (200.0, "kernel", streamed(4.5, 3, worker=1), False),
        (200.0, "kernel", streamed(4.5, 3, sent_ns=-6_000_000_000), False),  # 0.2 s of 10.5 s are below 2 %
        (PAUSE_MS, "kernel", streamed(4.5, 3), False),
        (PAUSE_MS + 1.0, "kernel", streamed(4.5, 3), True),
        (200.0, "select", streamed(4.5, 1), True),
        (200.0, "select", streamed(3.9, 1), True),  # its last token came in the pause
        (200.0, "select", streamed(5.1, 1), False),
    ],
)
def test_a_pause_voids_the_requests_whose_stamps_it_may_have_spoilt(
    pause_ms: float, source: str, ended: RequestRecord, void: bool
) -> None:
    still = sample(5.0, loop_lag_ms=pause_ms, stamp_source=source)
    seconds = [FactBatch(t_s=t_s, client=(sample(t_s, stamp_source=source),)) for t_s in (4.0, 6.0)]
    judged = [seconds[0], FactBatch(t_s=5.0, client=(still,)), seconds[1]]
    told = FactBatch(t_s=4.9, requests=(ended,))
    for batches in ([told, *judged], [*judged, told]):
        assert Facts.of(batches).requests.column("client_limited").tolist() == [float(void)]


@settings(deadline=None, max_examples=15)
@given(
    pauses=st.lists(st.tuples(st.floats(0.3, 3.0), st.floats(0.2, 5.0)), min_size=1, max_size=6),
    tpot_s=st.sampled_from((0.004, 0.02, 0.06)),
    offset_s=st.floats(0.0, 0.05),
)
def test_what_is_left_after_pauses_of_the_client_is_true(
    pauses: list[tuple[float, float]], tpot_s: float, offset_s: float
) -> None:
    """A server of known times; a client that stands still, and then finds all that came meanwhile in one read."""
    ttft_s, tokens = 0.05, 40
    spans, at_s = [], 0.0
    for run_s, still_s in pauses:
        spans.append((at_s + run_s, at_s + run_s + still_s))
        at_s = spans[-1][1]
    length_s = at_s + 4.0  # the longest answer takes 2.4 s: some begin and end after the last pause
    batches = []
    for i in range(int(length_s / 0.03)):
        sent_s = offset_s + 0.03 * i
        if any(start <= sent_s < end for start, end in spans):
            continue  # nothing is sent by a process that stands still
        came = sent_s + ttft_s + tpot_s * np.arange(tokens)
        read = np.array([next((end for start, end in spans if start <= t < end), t) for t in came])
        stamps = np.array([came[read == r].max() for r in read])  # one stamp a read, that of its last byte
        first_tokens, chunks = int((read == read[0]).sum()), len(set(read))
        fields = {"sent_ns": sent_s, "first_token_ns": stamps[0], "last_token_ns": stamps[-1]}
        stamped = {name: round(float(t) * 1e9) for name, t in fields.items()}
        counts = {"output_tokens": tokens, "first_chunk_tokens": first_tokens, "chunks": chunks}
        batches.append(FactBatch(t_s=read[-1], requests=(record(sent_s, read[-1], **stamped, **counts),)))
    for number in range(1, int(length_s) + 5):
        late_s = max((min(end, number) - start for start, end in spans if number - 1 < end <= number), default=0.0)
        over = [end for start, end in spans if start < number < end]
        if not over:  # a second that ends while the process stands still is closed with the next
            seconds = [s for s in batches if s.client]
            last_s = seconds[-1].t_s if seconds else 0.0
            told = sample(
                float(number), span_s=number - last_s, loop_lag_ms=1e3 * late_s, tpot_ms=1e3 * tpot_s, lag_p99_ms=0.5
            )
            batches.append(FactBatch(t_s=float(number), client=(replace(told, stamp_source="kernel"),)))
    facts = Facts.of(sorted(batches, key=lambda batch: batch.t_s))
    kept = facts.requests.column("client_limited") == 0
    tpot = facts.requests.column("tpot_s")[kept]
    assert kept.sum() > 5
    assert np.abs(facts.requests.column("ttft_s")[kept] / ttft_s - 1).max() < SPOILT
    assert np.abs(tpot[np.isfinite(tpot)] / tpot_s - 1).max() < SPOILT
