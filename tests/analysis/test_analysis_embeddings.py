"""A run of embeddings: judged by E2E alone, without a word of tokens, slots that nobody told, or a first token."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.analysis.assess import assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile, Question, Workload
from llmtop.domain.run import RunMeta
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo, usual_slo, without_meaning
from llmtop.domain.verdicts import Bound, Kind
from llmtop.meter.facts import Facts

from .facts_by_hand import bins_of, facts_of, record

LEVELS = (1, 4, 16, 64)
STAGE_S = 30.0
SERVICE_S = 0.05
AT_ONCE = 2
"""Requests that the server works on together; all others wait."""


def run_of() -> tuple[Facts, RunMeta]:
    requests, bins, server, changes = [], [], [], []
    for place, users in enumerate(LEVELS):
        start_s = place * STAGE_S
        e2e_s = SERVICE_S * max(1.0, users / AT_ONCE)
        point = LoadPoint(concurrency=users, prompt_tokens=192)
        changes.append((start_s, point))
        for n in range(int(STAGE_S / e2e_s * users)):
            sent_s = start_s + n / users * e2e_s
            # A percent of spread, or no bend has an interval.
            made = record(sent_s, e2e_s=e2e_s * (1 + 0.01 * (n * 7 % 11 - 5) / 5), tokens=0)
            requests.append(replace(made, first_token_ns=None, chunks=0))
        bins += [replace(each, t_s=each.t_s + start_s) for each in bins_of(STAGE_S, users, ok=1)]
        server += [
            ServerSnapshot(
                t_s=start_s + n,
                running=float(min(users, AT_ONCE)),
                waiting=float(max(0, users - AT_ONCE)),
                kv_usage=0.02,
            )
            for n in range(int(STAGE_S))
        ]
    stage = Stage(name="steps", duration_s=STAGE_S * len(LEVELS), shape=Steps(tuple(map(float, LEVELS))))
    profile = Profile(
        name="e",
        workload=Workload(api="embeddings"),
        plan=LoadPlan(stages=(stage,), base=LoadPoint(concurrency=1, prompt_tokens=192)),
        question=Question.CLIFF,
        slo=usual_slo("embeddings"),
    )
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://h"),
        info=EndpointInfo(dialect=Dialect.VLLM, model="m", apis=("embeddings",)),
        profile=profile,
        ended_s=STAGE_S * len(LEVELS),
    )
    return facts_of(requests=requests, bins=bins, server=server, changes=changes), meta


@pytest.fixture(scope="module")
def found() -> Assessment:
    facts, meta = run_of()
    return assess(facts, meta, meta.profile.slo, now_s=meta.ended_s or 0.0)


def test_its_bend_is_one_of_e2e(found: Assessment) -> None:
    assert {verdict.metric for verdict in found.cliffs} == {"e2e"}
    assert found.cliff.kind in (Kind.CLIFF, Kind.GRADUAL)
    assert found.cliff.at == pytest.approx(AT_ONCE, abs=1)


def test_its_capacity_is_that_of_the_e2e_limit(found: Assessment) -> None:
    assert (found.capacity.at_slo, found.capacity.fails_at) == (16, 64)
    assert "most requests/s" in found.judgement.sentence
    assert "192 tokens" in found.judgement.sentence
    assert "output tokens" not in found.judgement.sentence


def test_no_flag_is_named_that_nothing_proves(found: Assessment) -> None:
    assert found.diagnosis.advice is None
    assert found.diagnosis.bound is Bound.NONE
    assert found.cliff.cause is Bound.NONE
    words = " ".join((found.headline, found.judgement.sentence, *found.cliff.evidence, *found.diagnosis.evidence))
    assert "max" not in words.replace("at most", "").replace("most requests", "")
    assert "TTFT" not in words


def test_an_slo_of_embeddings_limits_what_there_is() -> None:
    assert without_meaning(usual_slo("embeddings"), "embeddings") is None
    assert without_meaning(Slo(), "embeddings") is not None
    assert without_meaning(Slo(), "chat") is None
    assert usual_slo("responses") == Slo()
    wrong = without_meaning(parse_slo("e2e_p95<1s,tpot_p50<1s"), "embeddings")
    assert wrong is not None
    assert wrong.name == "tpot_p50"
