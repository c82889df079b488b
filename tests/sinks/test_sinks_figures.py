"""What flows out is what happened: counts never fall, histograms hold what counts, and all sinks render the same."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from sinks_fakes import META, NOT_KNOWN_YET, SECRET, accumulator, request, runs, second, toy

from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Curve, Kind, SloVerdict
from llmtop.meter.facts import Facts
from llmtop.sinks.figures import MOST_ERRORS, OTHER, Figures, Histogram, bounds_of
from llmtop.sinks.lines import line
from llmtop.sinks.otlp import payload
from llmtop.sinks.page import page


def counted(batches: list[FactBatch], name: str) -> list[float]:
    """The latencies of good requests that the house counts."""
    facts = Facts.of(batches)
    rows = (facts.requests.column("client_limited") == 0) & (facts.requests.column("ok") == 1)
    values = facts.requests.column(name)[rows]
    return [float(value) for value in values if not math.isnan(value)]


@given(runs())
def test_histograms_hold_the_requests_that_count(batches: list[FactBatch]) -> None:
    figures = accumulator()
    for batch in batches:
        figures.tell(batch)
    figures.end()
    now = figures.now()
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        found, values = getattr(now, name), counted(batches, name)
        assert found.count == len(values)
        assert found.sum == pytest.approx(sum(values))
        for bound, count in found.buckets:
            assert count == sum(value <= bound for value in values), (name, bound)
    records = [record for batch in batches for record in batch.requests]
    assert sum(now.requests.values()) == len(records), "void ones, too"
    assert {str(outcome) for outcome in Outcome} == now.requests.keys()
    assert now.output_tokens == sum(bin_.output_tokens for batch in batches for bin_ in batch.bins)


@given(runs())
def test_nothing_that_is_counted_falls(batches: list[FactBatch]) -> None:
    figures, before = accumulator(), accumulator().now()
    for batch in batches:
        figures.tell(batch)
        now = figures.now()
        for name, count in before.requests.items():
            assert now.requests[name] >= count
        assert now.void_requests >= before.void_requests
        for was, found in ((getattr(each, name) for each in (before, now)) for name in ("ttft_s", "tpot_s", "e2e_s")):
            assert found.sum >= was.sum
            assert all(count >= old for (_, old), (_, count) in zip(was.buckets, found.buckets, strict=True))
            counts = [*(count for _, count in found.buckets), found.count]
            assert counts == sorted(counts), "cumulative"
        before = now


def test_a_void_second_is_in_no_histogram() -> None:
    figures = accumulator()
    figures.tell(second(1.0, request(end_s=0.5)))
    figures.tell(second(2.0, request(end_s=1.5), red=True))
    assert figures.now().client_bound is True
    figures.tell(second(3.0, replace(request(end_s=2.5), dispatched_ns=2_000_000_000)))
    now = figures.now()
    assert (now.ttft_s.count, now.void_requests, now.requests["ok"], now.client_bound) == (2, 1, 3, False)


def test_limits_of_the_slo_are_among_the_buckets() -> None:
    now = accumulator().now()
    assert {1.7, 0.33} <= {bound for bound, _ in now.ttft_s.buckets}
    assert 0.045 in {bound for bound, _ in now.tpot_s.buckets}
    assert 12.0 in {bound for bound, _ in now.e2e_s.buckets}
    for latency in ("ttft", "tpot", "e2e"):
        bounds = bounds_of(latency, Slo())  # type: ignore[arg-type]
        assert list(bounds) == sorted(set(bounds))


def test_who_is_driven_is_told_without_what_lets_in() -> None:
    now = toy()
    assert now.endpoint == "http://127.0.0.1:8000"
    assert now.run.endswith("-toy")
    rendered = (page(now), line(now).decode(), json.dumps(payload(now, 0.0)))
    assert not any(SECRET in text for text in rendered)


def test_before_the_model_is_known_there_is_nothing_to_tell_and_its_name_stays() -> None:
    figures = accumulator(NOT_KNOWN_YET)
    assert not figures.now().is_known
    assert page(figures.now()) == ""
    figures.begin(META)
    assert figures.now().is_known
    assert META.info is not None
    figures.begin(replace(META, info=replace(META.info, model="another")))
    assert figures.now().model == META.info.model


def test_opinions_are_told_in_the_unit_of_the_load() -> None:
    figures = accumulator()
    figures.judged(
        Assessment(
            slo=SloVerdict(ok=True),
            cliff=CliffVerdict(kind=Kind.CLIFF, at=96.0, cause=Bound.QUEUE),
            capacity=Capacity(at_slo=64.0),
            curves=(Curve(label=""),),
        )
    )
    now = figures.now()
    assert (now.slo_ok, now.cliff_concurrency, now.cliff_cause, now.users_at_slo) == (True, 96.0, "queue", 64.0)
    assert now.cliff_rps is None
    assert now.rps_at_slo is None
    figures.tell(second(1.0, changes=(LoadChange(t_s=0.0, point=LoadPoint(rate_rps=2.0)),)))
    figures.judged(
        Assessment(
            cliff=CliffVerdict(kind=Kind.CLIFF, axis="rate", at=9.0, cause=Bound.KV),
            capacity=Capacity(at_slo=8.0),
            curves=(Curve(label="", axis="rate"),),
        )
    )
    now = figures.now()
    assert (now.cliff_rps, now.rps_at_slo, now.target_rps) == (9.0, 8.0, 2.0)
    assert now.cliff_concurrency is now.users_at_slo is now.target_concurrency is None


def test_what_is_old_is_not_known_and_nor_is_what_nobody_told() -> None:
    figures = accumulator()
    assert figures.now().client_bound is None
    figures.tell(second(1.0))
    assert (figures.now().server_kv_usage, figures.now().client_bound) == (0.25, False)
    figures.tell(FactBatch(t_s=9.0))
    now = figures.now()
    assert now.server_kv_usage is now.server_running is now.client_bound is None
    figures.tell(FactBatch(t_s=10.0, server=(ServerSnapshot(t_s=10.0),)))
    figures.tell(FactBatch(t_s=11.0, server=(ServerSnapshot(t_s=11.0, running=1.0),)))
    assert figures.now().server_running is None, "several servers answer in turn"


def test_latencies_of_a_path_that_keeps_answers_back_are_in_no_histogram() -> None:
    figures = accumulator()
    figures.judged(Assessment(path="a proxy buffers"))
    figures.tell(second(1.0, request()))
    now = figures.now()
    assert (now.ttft_s.count, now.tpot_s.count, now.e2e_s.count) == (0, 0, 1)


def test_kinds_of_failures_are_few() -> None:
    figures = accumulator()
    failed = [request(outcome=Outcome.HTTP_ERROR, status=400 + n) for n in range(2 * MOST_ERRORS)]
    figures.tell(second(1.0, *failed))
    now = figures.now()
    assert len(now.failed_s) == MOST_ERRORS + 1
    assert now.failed_s[OTHER].count == MOST_ERRORS


# ── The same figures everywhere ───────────────────────────────────────────────────────────────────────────────────────


def of_page(now: Figures) -> dict[tuple[str, str, str], float]:
    """(sample, outcome or cause, bound) of every sample."""
    return {
        (sample.name, sample.labels.get("outcome", ""), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(page(now))
        for sample in family.samples
    }


def of_push(now: Figures) -> dict[str, list[dict[str, object]]]:
    (resource,) = payload(now, META.started_at)["resourceMetrics"]
    (scope,) = resource["scopeMetrics"]
    kinds = ("gauge", "sum", "histogram")
    return {each["name"]: next(each[k] for k in kinds if k in each)["dataPoints"] for each in scope["metrics"]}


@given(runs())
def test_page_push_and_line_tell_the_same(batches: list[FactBatch]) -> None:
    figures = accumulator()
    for batch in batches:
        figures.tell(batch)
    now = figures.now()
    exposed, pushed, told = of_page(now), of_push(now), json.loads(line(now))
    for outcome, count in now.requests.items():
        assert exposed["llmtop_requests_total", outcome, ""] == told["requests"][outcome] == count
    asked = {
        str(attribute["value"]["stringValue"]): point["asInt"]
        for point in pushed["llmtop.requests"]
        for attribute in point["attributes"]  # type: ignore[attr-defined]
        if attribute["key"] == "llmtop.outcome"
    }
    assert asked == {outcome: str(count) for outcome, count in now.requests.items()}
    assert exposed["llmtop_output_tokens_total", "", ""] == told["output_tokens"] == now.output_tokens
    same = (
        ("llmtop_time_to_first_token_seconds", "gen_ai.client.operation.time_to_first_chunk", "ttft_s"),
        ("llmtop_time_per_output_token_seconds", "gen_ai.client.operation.time_per_output_chunk", "tpot_s"),
        ("llmtop_e2e_request_latency_seconds", "gen_ai.client.operation.duration", "e2e_s"),
    )
    for in_page, in_push, in_line in same:
        found: Histogram = getattr(now, in_line)
        point = pushed[in_push][0]
        assert exposed[f"{in_page}_count", "", ""] == told[in_line]["count"] == found.count == int(str(point["count"]))
        assert exposed[f"{in_page}_sum", "", ""] == told[in_line]["sum"] == found.sum == point["sum"]
        up_to, counts = 0, iter(point["bucketCounts"])  # type: ignore[call-overload]
        for (bound, count), explicit in zip(found.buckets, point["explicitBounds"], strict=True):  # type: ignore[call-overload]
            up_to += int(next(counts))
            assert bound == explicit
            assert count == up_to
        assert up_to + int(next(counts)) == found.count
        assert [list(bucket) for bucket in found.buckets] == told[in_line]["buckets"]


def test_the_toy_run_is_told_as_it_was() -> None:
    now = toy()
    exposed = of_page(now)
    assert exposed["llmtop_requests_total", "ok", ""] == 4
    assert exposed["llmtop_requests_total", "http_error", ""] == 1
    assert exposed["llmtop_time_to_first_token_seconds_sum", "", ""] == pytest.approx(0.56)
    assert exposed["llmtop_time_to_first_token_seconds_bucket", "", "0.1"] == 1
    assert exposed["llmtop_time_to_first_token_seconds_bucket", "", "+Inf"] == 4
    assert exposed["llmtop_target_concurrency", "", ""] == exposed["llmtop_in_flight_requests", "", ""] == 2
    assert math.isnan(exposed["llmtop_slo_ok", "", ""])
    assert now.failed_s["503"].count == 1
