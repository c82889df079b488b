"""Every rendering of a judgement says the same: line, sentence, summary, JSON, JUnit, report, verdict of the file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from llmtop.analysis import cliff
from llmtop.cli import summary
from llmtop.cli.assess import as_text
from llmtop.cli.exits import exit_code
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Ramp, Shape, Spike, Stage, Steps
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import LOST, Ending, FactBatch, LoadChange, RunMeta
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.domain.thresholds import parse_limits
from llmtop.exchange.junit import junit
from llmtop.host.judging import Judge
from llmtop.host.review import assess_run, review
from llmtop.meter.facts import Facts
from llmtop.meter.frames import FrameBuilder
from llmtop.recording.writer import RunWriter
from llmtop.report.markdown import markdown_text
from llmtop.wording.replicas import SHARE_OUT, balancer_binds

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms,error_ratio<1%,queue<10,kv<80%")
RUNS = 54
"""And three times as many by hand."""
SHAPES: dict[Question, Shape] = {
    Question.HOLD: Hold(concurrency=12),
    Question.SOAK: Hold(concurrency=12),
    Question.PEAK: Ramp(0, 24),
    Question.SPIKE: Spike(4, 24),
    Question.CLIFF: Steps((2, 4, 8, 12, 16, 24)),
    Question.CAPACITY: Steps((2, 4, 8, 12, 16, 24)),
}


@dataclass(frozen=True)
class Run:
    meta: RunMeta
    batches: tuple[FactBatch, ...]

    @property
    def errors(self) -> float:
        outcomes = [record.outcome for batch in self.batches for record in batch.requests]
        ended = [outcome for outcome in outcomes if outcome is not Outcome.CANCELLED]
        return sum(outcome.is_error for outcome in ended) / max(1, len(ended))


def a_run(seed: int) -> Run:
    """A server of a few slots, driven as the question wants it; failures early, in the middle, late, or never."""
    rng = random.Random(seed)
    question = list(SHAPES)[seed % len(SHAPES)]
    length_s = rng.choice((10.0, 24.0, 60.0))
    slots, tpot_s = rng.choice((6, 16, 40)), rng.choice((0.01, 0.03, 0.06))
    fails, at = rng.choice((0.0, 0.0, 0.3, 0.9)), rng.choice((0.1, 0.5, 0.85))
    red = rng.random() < 0.1
    stopped_s = length_s * rng.choice((1.0, 1.0, 1.0, 0.5))
    plan = LoadPlan(stages=(Stage(name="s", duration_s=length_s, shape=SHAPES[question]),))
    profile = Profile(name="p", question=question, peak=12.0, plan=plan, slo=SLO, recover_within_s=10.0)
    batches: list[FactBatch] = []
    free_s, points, told = [0.0] * slots, [], -1
    users: list[float] = []
    for tick in range(round(4 * stopped_s)):
        t_s = tick / 4
        load = _load(SHAPES[question], t_s / length_s)
        changes = ()
        if load != told:
            told, changes = load, (LoadChange(t_s, LoadPoint(concurrency=load), "stage", "s"),)
        records = []
        users = [*users, *([t_s] * (load - len(users)))][: max(load, 0)]
        for user in range(len(users)):
            while users[user] <= t_s + 0.25:
                sent_s = max(users[user], t_s)
                slot = min(range(slots), key=free_s.__getitem__)
                begun_s = max(sent_s, free_s[slot])
                failed = fails > 0 and abs(sent_s / length_s - at) < 0.1 and rng.random() < fails
                end_s = sent_s + 0.01 if failed else begun_s + 0.1 + 20 * tpot_s * rng.uniform(0.9, 1.1)
                if not failed:
                    free_s[slot] = end_s
                users[user] = end_s
                points.append((end_s, _record(sent_s, begun_s + 0.1, end_s, failed)))
        due = [(end_s, record) for end_s, record in points if end_s <= t_s + 0.25]
        points = [(end_s, record) for end_s, record in points if end_s > t_s + 0.25]
        records = [record for _, record in sorted(due, key=lambda each: each[0])]
        batches.append(
            FactBatch(
                t_s=t_s + 0.25,
                changes=changes,
                requests=tuple(records),
                bins=(_bin(t_s + 0.25, load, records),),
                server=(ServerSnapshot(t_s=t_s + 0.25, running=min(load, slots), waiting=max(0, load - slots)),),
                client=(_client(t_s + 0.25, red),) if tick % 4 == 3 else (),
            )
        )
    ending = Ending.PLAN if stopped_s == length_s else rng.choice((Ending.HAND, Ending.GONE, Ending.RESTART))
    meta = RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://127.0.0.1:1"),
        info=EndpointInfo(dialect=Dialect.VLLM, model="m"),
        profile=profile,
        ending=ending,
        ended_s=batches[-1].t_s,
    )
    return Run(meta, tuple(batches))


def _load(shape: Shape, share: float) -> int:
    match shape:
        case Hold(concurrency=users):
            return users or 0
        case Ramp(start, stop):
            return round(start + (stop - start) * share)
        case Spike(base, peak, rise, fall):
            return round(peak if rise <= share < fall else base)
        case Steps(levels):
            return round(levels[min(len(levels) - 1, int(share * len(levels)))])
    raise AssertionError(shape)


def _record(sent_s: float, first_s: float, end_s: float, failed: bool) -> RequestRecord:
    sent_ns, first_ns, end_ns = (round(1e9 * each) for each in (sent_s, first_s, end_s))
    return RequestRecord(
        scheduled_ns=sent_ns,
        dispatched_ns=sent_ns,
        sent_ns=sent_ns,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None if failed else first_ns,
        first_answer_ns=None,
        last_token_ns=None if failed else end_ns,
        end_ns=end_ns,
        started_at=0.0,
        asked_prompt_tokens=192,
        asked_output_tokens=20,
        prompt_tokens=192,
        output_tokens=0 if failed else 20,
        outcome=Outcome.HTTP_ERROR if failed else Outcome.OK,
        status=500 if failed else 200,
    )


def _bin(t_s: float, load: int, records: list[RequestRecord]) -> LoadBin:
    failed = sum(record.outcome.is_error for record in records)
    ok = len(records) - failed
    return LoadBin(
        t_s=t_s,
        span_s=0.25,
        target=load,
        in_flight=load,
        sent=len(records),
        ok=ok,
        errors=failed,
        output_tokens=20 * ok,
    )


def _client(t_s: float, red: bool) -> ClientSample:
    return ClientSample(t_s=t_s, lag_p99_ms=400.0 if red else 0.1, cpu=0.2, tpot_ms=30.0)


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Intervals are not looked at here, and cost most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cliff, "REPLICATES", 2)
        yield


@pytest.fixture(scope="module", params=[0, *(pytest.param(part, marks=pytest.mark.faults) for part in (1, 2, 3))])
def judged(request: pytest.FixtureRequest) -> list[tuple[Run, Assessment]]:
    """With what a twin foresees, which costs as much as all else, for the first and the last of each question."""
    runs = [a_run(seed) for seed in range(RUNS * request.param, RUNS * (request.param + 1))]
    foreseen = {*range(len(SHAPES)), *range(RUNS - len(SHAPES), RUNS)}
    return [
        (run, Judge(SLO, foresees=number in foreseen)(Facts.of(run.batches), run.meta))
        for number, run in enumerate(runs)
    ]


@pytest.mark.parametrize("judged", [0], indirect=True)
def test_the_runs_are_of_every_answer_to_every_question(judged: list[tuple[Run, Assessment]]) -> None:
    answers = {(each.judgement.question, each.judgement.ok) for _, each in judged}
    assert {(question, False) for question in SHAPES} <= answers
    assert {question for question, ok in answers if ok is None} >= {Question.HOLD, Question.PEAK, Question.SPIKE}
    assert {question for question, ok in answers if ok} >= {Question.HOLD, Question.PEAK, Question.CLIFF}
    assert any(each.judgement.void for _, each in judged)


def test_no_rendering_contradicts_another(judged: list[tuple[Run, Assessment]]) -> None:
    for run, assessment in judged:
        judgement = assessment.judgement
        suite = ElementTree.fromstring(junit("p", assessment))
        code = exit_code(judgement)
        text = summary.text(run.meta, _frame(run), assessment)
        assert judgement.final
        assert text.startswith(judgement.sentence)
        assert as_text(assessment, assessment.cliff).startswith(judgement.sentence)
        assert (code == 0) is (judgement.ok is True)
        assert (int(suite.get("failures", 0)) + int(suite.get("errors", 0)) == 0) is (code == 0)
        assert assessment.headline.startswith("SLO FAIL") is (judgement.ok is False)
        assert assessment.headline.startswith(("SLO not known", "SLO --")) is (judgement.ok is None)
        assert ("not known" in judgement.sentence.lower()[:10] or judgement.void) <= (judgement.ok is None)


def test_the_last_lines_name_the_balancer_as_the_verdict_of_the_file_does(
    judged: list[tuple[Run, Assessment]],
) -> None:
    run, assessment = judged[0]
    binds = balancer_binds("pod-2", 1.6)
    uneven = msgspec.structs.replace(assessment.diagnosis, evidence=(binds, "waiting 6"), advice=SHARE_OUT)
    found = msgspec.structs.replace(assessment, diagnosis=uneven)
    assert binds in as_text(found, found.cliff)
    lines = summary.text(run.meta, _frame(run), found).splitlines()
    assert lines[lines.index(binds) + 1].lower() == SHARE_OUT
    assert binds not in summary.text(run.meta, _frame(run), assessment)


def test_a_broken_limit_is_never_a_yes(judged: list[tuple[Run, Assessment]]) -> None:
    for _, assessment in judged:
        if assessment.slo.ok is False:
            assert assessment.judgement.ok is not True, assessment.judgement.sentence
        if assessment.judgement.void:
            assert assessment.judgement.ok is None


def test_errors_count_wherever_in_the_run_they_came(judged: list[tuple[Run, Assessment]]) -> None:
    """Of the questions about a load: those of where the wall is answer with a level below."""
    for run, assessment in judged:
        if run.errors > 0.05 and assessment.judgement.question in (Question.HOLD, Question.SOAK, Question.SPIKE):
            assert assessment.judgement.ok is not True, assessment.judgement.sentence


def test_a_plan_that_was_left_has_no_yes(judged: list[tuple[Run, Assessment]]) -> None:
    for run, assessment in judged:
        if run.meta.ending is not Ending.PLAN and assessment.judgement.question in (Question.HOLD, Question.SOAK):
            assert assessment.judgement.ok is not True


def test_the_file_says_what_the_run_said(judged: list[tuple[Run, Assessment]], tmp_path: Path) -> None:
    for number, (run, assessment) in enumerate(judged[: len(SHAPES)]):
        path = tmp_path / f"{number}.llmtop"
        writer = RunWriter(path, run.meta)
        for batch in run.batches:
            writer.write(batch)
        assert run.meta.ended_s is not None
        writer.close(run.meta.ended_s, run.meta.ending)
        assert assess_run(path, SLO)[0] == assessment
        report = review(path, SLO)
        assert report.assessment == assessment
        assert markdown_text(report).startswith("# " + assessment.judgement.sentence.split(":")[0].split("_")[0][:12])


def test_an_opinion_formed_on_the_way_changes_nothing_at_the_end(judged: list[tuple[Run, Assessment]]) -> None:
    for run, assessment in judged[-len(SHAPES) :]:
        judge, facts = Judge(SLO), Facts()
        for batch in run.batches:
            facts.extend(batch)
            if batch.t_s % 5 == 0:
                judge(facts, msgspec.structs.replace(run.meta, ended_s=None, ending=None))
        assert judge(facts, run.meta) == assessment


def _frame(run: Run) -> Frame:
    builder = FrameBuilder()
    for batch in run.batches:
        builder.consume(batch)
    return builder.frame(EndpointStatus(state=EndpointState.UP), max_concurrency=64, profile="p", finished=True)


@pytest.mark.parametrize("judged", [0], indirect=True)
def test_a_threshold_is_judged_as_the_same_limit_would_be_if_it_were_the_slo(
    judged: list[tuple[Run, Assessment]],
) -> None:
    """Whatever the question, whatever became of the run: over the same span, by the same figures."""
    seen = set()
    for run, _ in judged[::7]:
        facts = Facts.of(run.batches)
        for limit in ("ttft_p95<2s", "ttft_p50<300ms", "e2e_p95<1s", "error_ratio<1%"):
            judge = Judge(parse_slo(limit), foresees=False, thresholds=parse_limits(limit.replace("<", ">")))
            judgement = (told := judge(facts, run.meta, full=True)).judgement
            (threshold,) = judgement.thresholds
            seen.add((judgement.question, threshold.ok))
            if judgement.void or run.meta.ending in LOST:
                assert threshold.ok is None
            else:
                own = next((target.ok for target in told.slo.targets), None)
                assert threshold.ok is own, (judgement.question, judgement.sentence, threshold.text)
                assert not (judgement.ok and threshold.ok is False)
    assert {question for question, _ in seen} == set(SHAPES)
    assert {ok for _, ok in seen} == {True, False, None}
