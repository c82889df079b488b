"""A plausible run for the reports: the simulated laptop, ramped step by step past its 32 slots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import pytest
from msgspec import structs

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.frame import Timeline
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.over_time import Drift
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import Event, FactBatch, LoadChange, Mark, RunMeta
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import (
    Bound,
    Capacity,
    CliffVerdict,
    Confidence,
    Curve,
    Diagnosis,
    Kind,
    LevelPoint,
    SloVerdict,
    TargetVerdict,
)
from llmtop.meter.facts import Facts
from llmtop.meter.frames import whole_run_timeline
from llmtop.report import ReportInput, report_input

SLOTS = 32
LEVELS = (1, 2, 4, 8, 16, 24, 28, 32, 36, 40, 48, 64)
LEVEL_S = 30.0
LENGTH_S = LEVEL_S * len(LEVELS)
SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms,error_ratio<1%,queue<10,kv<80%")
PROFILE = Profile(
    name="ramp",
    description="From nothing to twice the expected peak: where does it break?",
    plan=LoadPlan(
        stages=(Stage(name="steps", duration_s=LENGTH_S, shape=Steps(tuple(map(float, LEVELS)))),),
        base=LoadPoint(concurrency=1, prompt_tokens=192, output_tokens=64),
    ),
    slo=SLO,
)
META = RunMeta(
    llmtop_version="0.1.0",
    started_at=1_795_500_000.0,
    endpoint=Endpoint(
        base_url="http://127.0.0.1:8000",
        model="llmtop-tiny",
        api_key_env="MY_KEY",
        simulated=True,
    ),
    info=EndpointInfo(
        dialect=Dialect.VLLM,
        model="llmtop-tiny",
        server="vLLM 0.33.0",
        max_model_len=2048,
        max_num_seqs=SLOTS,
        has_metrics=True,
        pins_output=True,
        has_usage=True,
    ),
    profile=PROFILE,
    host="bench-1",
    seed=7,
    stamp_source="kernel",
    preset="laptop",
    ended_s=LENGTH_S,
)


def ttft_s(users: float) -> float:
    queued = max(0.0, users - SLOTS)
    return 0.195 + 0.004 * users + 0.11 * queued + 0.0016 * queued**2


def tpot_s(users: float) -> float:
    return 0.0135 + 0.00052 * min(users, SLOTS)


def service_s(users: float) -> float:
    return ttft_s(users) + 64 * tpot_s(users)


@pytest.fixture(scope="session")
def batches() -> tuple[FactBatch, ...]:
    return tuple(_batches())


def _batches() -> Iterator[FactBatch]:
    rng = Random(7)
    for second in range(int(LENGTH_S)):
        users = LEVELS[int(second // LEVEL_S)]
        before = LEVELS[int(second // LEVEL_S) - 1] if second >= LEVEL_S else 0
        waiting = max(0, users - SLOTS)
        per_s = users / service_s(users)
        count = int(per_s) + (rng.random() < per_s % 1)
        spread = [math.exp(rng.gauss(0, 0.18 + 0.25 * (waiting > 0))) for _ in range(count)]
        records = tuple(_record(second + rng.random(), users, factor, rng) for factor in spread)
        ok = sum(record.outcome is Outcome.OK for record in records)
        t_s = second + 1.0
        changed = second % LEVEL_S == 0
        yield FactBatch(
            t_s=t_s,
            bins=(
                LoadBin(
                    t_s=t_s,
                    span_s=1.0,
                    target=users,
                    in_flight=users,
                    sent=count + (users - before if changed else 0),
                    ok=ok,
                    errors=count - ok,
                    output_tokens=int(64 * per_s * rng.uniform(0.94, 1.06)),
                    ttft_ms=tuple(record.ttft_s * 1e3 for record in records if record.ttft_s is not None),
                    tpot_ms=tuple(record.tpot_s * 1e3 for record in records if record.tpot_s is not None),
                ),
            ),
            requests=records,
            server=(
                ServerSnapshot(
                    t_s=t_s,
                    running=min(users, SLOTS),
                    waiting=float(waiting),
                    kv_usage=min(0.98, min(users, SLOTS) * 0.0245 + rng.uniform(0, 0.01)),
                ),
            )
            if not 130 <= second < 138
            else (),
            client=(ClientSample(t_s=t_s, lag_p99_ms=rng.uniform(0.2, 0.6), cpu=0.1 + users / 400),),
            changes=(LoadChange(float(second), LoadPoint(concurrency=users), "stage", "steps"),) if changed else (),
            marks={200: (Mark(200.4, "max_num_seqs <32>"),), 262: (Mark(262.0, "someone else's job"),)}.get(second, ()),
            events=(Event(131.0, "server", "metrics stalled for 8 s", "warning"),) if second == 131 else (),
        )


def _record(at_s: float, users: int, factor: float, rng: Random) -> RequestRecord:
    sent_ns = int(at_s * 1e9)
    first_ns = sent_ns + int(ttft_s(users) * factor * 1e9)
    last_ns = first_ns + int(63 * tpot_s(users) * rng.uniform(0.95, 1.05) * 1e9)
    failed = users > 50 and rng.random() < 0.02
    return RequestRecord(
        scheduled_ns=sent_ns,
        dispatched_ns=sent_ns,
        sent_ns=sent_ns,
        connect_ns=0,
        headers_ns=sent_ns + 2_000_000,
        first_token_ns=None if failed else first_ns,
        first_answer_ns=None if failed else first_ns,
        last_token_ns=None if failed else last_ns,
        end_ns=last_ns,
        started_at=META.started_at + at_s,
        asked_prompt_tokens=192,
        asked_output_tokens=64,
        prompt_tokens=192,
        output_tokens=0 if failed else 64,
        chunks=0 if failed else 64,
        token_source=TokenSource.USAGE,
        outcome=Outcome.HTTP_ERROR if failed else Outcome.OK,
        status=503 if failed else 200,
        error="<b>queue</b> full" if failed else None,
    )


def _level(users: int) -> LevelPoint:
    waiting = max(0.0, users - SLOTS)
    p50 = ttft_s(users) * 1e3
    return LevelPoint(
        load=users,
        n=round(LEVEL_S * users / service_s(users)),
        errors=4 if users > 50 else 0,
        ttft_p50_ms=p50,
        ttft_p95_ms=p50 * (1.35 if waiting == 0 else 2.0),
        tpot_p50_ms=tpot_s(users) * 1e3,
        tpot_p95_ms=tpot_s(users) * 1e3 * 1.08,
        e2e_p50_ms=service_s(users) * 1e3,
        output_tokens_per_s=64 * users / service_s(users),
        requests_per_s=users / service_s(users),
        waiting=waiting,
        kv_usage=min(0.98, min(users, SLOTS) * 0.0245),
        attainment=1.0 if waiting == 0 else max(0.1, 0.97 - 0.02 * waiting),
        faint=users == 1,
    )


def _slower(users: int) -> LevelPoint:
    level = _level(users)
    return structs.replace(
        level,
        ttft_p50_ms=(level.ttft_p50_ms or 0) * 2,
        ttft_p95_ms=(level.ttft_p95_ms or 0) * 2,
        output_tokens_per_s=(level.output_tokens_per_s or 0) * 0.8,
    )


ASSESSMENT = Assessment(
    t_s=LENGTH_S,
    judgement=Judgement(ok=False, sentence="36 concurrent users keep the SLO, 40 do not", final=True),
    headline="SLO FAIL TTFT p95 2.6s · 36 at SLO · cliff ~32 ±1 · queue-bound: raise --max-num-seqs",
    slo=SloVerdict(
        ok=False,
        targets=(
            TargetVerdict(name="ttft_p95", limit=2.0, value=2.61, high=2.84, n=2210, ok=False, text="TTFT p95 2.61s"),
            TargetVerdict(name="tpot_p95", limit=0.05, value=0.0322, high=0.0325, n=2210, ok=True),
            TargetVerdict(name="error_ratio", limit=0.01, value=0.0018, high=0.0046, n=2214, ok=True),
            TargetVerdict(name="queue", limit=10, value=4.0, ok=True),
            TargetVerdict(name="kv", limit=0.8, value=None, ok=None),
        ),
        attainment=0.912,
        goodput_rps=5.6,
    ),
    cliff=CliffVerdict(
        kind=Kind.CLIFF,
        at=32.4,
        low=31.2,
        high=34.1,
        cause=Bound.QUEUE,
        evidence=("running stops at 32 while waiting grows with every user", "KV cache at 78 %, no preemption"),
        confidence=Confidence.FIRM,
    ),
    diagnosis=Diagnosis(
        bound=Bound.QUEUE,
        evidence=("32 running, 32 waiting, KV cache at 78 %",),
        advice="raise --max-num-seqs to about 40",
        confidence=Confidence.FIRM,
    ),
    capacity=Capacity(
        at_slo=36,
        fails_at=40,
        knee=32.4,
        limited_by="max_num_seqs",
        recommended=32,
        soak=25,
        best_tokens_at=32,
        sentence="supports 36 concurrent users",
    ),
    curves=(
        Curve(label="before the restart", points=tuple(_slower(users) for users in LEVELS[2:6]), ghost=True),
        Curve(label="192/64 tokens", points=tuple(_level(users) for users in LEVELS)),
    ),
    drifts=(Drift(metric="ttft", per_hour=0.4, low=0.1, high=0.7, significant=True, text="TTFT +40%/h"),),
)


@pytest.fixture(scope="session")
def report(batches: tuple[FactBatch, ...]) -> ReportInput:
    facts = Facts.of(batches)
    return report_input(
        META,
        facts,
        structs.replace(ASSESSMENT, failures=facts.failures.groups()),
        whole_run_timeline(batches, LENGTH_S),
        slo=SLO,
        length_s=LENGTH_S,
        records=(record for batch in batches for record in batch.requests),
        gpus=("NVIDIA L4",),
    )


@pytest.fixture(scope="session")
def empty_report() -> ReportInput:
    """A run that was stopped before anything came back."""
    return report_input(META, Facts(), Assessment(), Timeline(), slo=SLO, length_s=0.4, complete=False)
