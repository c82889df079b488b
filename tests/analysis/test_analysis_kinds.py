"""Figures by name, by model, by turn and by visit: what counts in the whole counts in its parts, once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis.kinds import by_kind, calls_of, visits_of
from llmtop.analysis.percentiles import figures_of
from llmtop.domain.kinds import KindFigures
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Call, FactBatch
from llmtop.domain.samples import ClientSample
from llmtop.meter.facts import Facts


def named(name: str | None, count: int, *, every_s: float = 0.1, **fields: Any) -> list[RequestRecord]:
    own = {each: fields.pop(each) for each in ("model", "session", "turn", "cached_tokens") if each in fields}
    return [replace(record(place * every_s, **fields), name=name, **own) for place in range(count)]


def table_of(requests: Iterable[RequestRecord], until_s: float = 20.0) -> Facts:
    return facts_of(requests=requests, bins=bins_of(until_s, 4))


def row(rows: tuple[KindFigures, ...], name: str) -> KindFigures:
    (found,) = (each for each in rows if each.name == name and not each.others)
    return found


def test_a_run_without_names_or_models_has_no_rows() -> None:
    facts = table_of(named(None, 100))
    assert by_kind(facts, "name") == by_kind(facts, "model") == ()
    assert visits_of(facts) is None
    assert calls_of(facts) == ()


def test_each_name_has_its_own_latencies_errors_tokens_and_rates() -> None:
    slow = named("answer", 100, ttft_s=0.5, tokens=20)
    quick = named("search", 60, ttft_s=0.1, tokens=5) + named("search", 20, outcome=Outcome.HTTP_ERROR)
    rows = by_kind(table_of(slow + quick), "name")
    answer, search = row(rows, "answer"), row(rows, "search")
    assert (answer.n, answer.errors, answer.error_ratio) == (100, 0, 0.0)
    assert (search.n, search.errors, search.error_ratio) == (60, 20, 0.25)
    assert answer.ttft_p95_ms == pytest.approx(500.0)
    assert search.ttft_p95_ms == pytest.approx(100.0)
    assert answer.tpot_p50_ms == pytest.approx(500 / 19)
    assert (answer.output_tokens, search.output_tokens) == (20.0, 5.0)
    assert answer.requests_per_s == pytest.approx(100 / 20)
    assert answer.output_tokens_per_s == pytest.approx(20 * 100 / 20)


def test_requests_without_a_name_are_a_row_beside_those_that_have_one() -> None:
    rows = by_kind(table_of(named("a", 20) + named(None, 30)), "name")
    assert [(each.name, each.n) for each in rows] == [("a", 20), ("", 30)]
    models = by_kind(table_of(named("a", 20, model="lora") + named("a", 30)), "model", unnamed="base")
    assert [(each.name, each.n) for each in models] == [("lora", 20), ("base", 30)]


def test_names_count_together_what_the_run_counts() -> None:
    """Cancelled requests and those that the client held up are in no row, as they are in no figure of the run."""
    requests = [
        *named("a", 40),
        *named("b", 30, client_limited=True),
        *named("b", 25),
        *named("b", 5, outcome=Outcome.TIMEOUT),
        *named("c", 9, outcome=Outcome.CANCELLED),
    ]
    facts = table_of(requests)
    whole, rows = figures_of(facts, meta_of()).run, by_kind(facts, "name")
    assert sum(each.n for each in rows) == whole.n == 65
    assert sum(each.errors for each in rows) == whole.errors == 5
    assert [each.name for each in rows] == ["a", "b"]


def test_a_rate_is_of_the_seconds_in_which_the_client_was_not_the_bottleneck() -> None:
    red = [ClientSample(t_s=t_s, lag_p99_ms=80.0, reads=100, cpu=0.99) for t_s in np.arange(1.0, 11.0)]
    calm = [ClientSample(t_s=t_s, lag_p99_ms=0.1, reads=100, cpu=0.1) for t_s in np.arange(11.0, 21.0)]
    requests = [replace(record(10.0 + 0.1 * place, e2e_s=0.5), name="a") for place in range(95)]
    facts = facts_of(requests=requests, bins=bins_of(20.0, 4), client=[*red, *calm])
    (only,) = by_kind(facts, "name")
    assert only.requests_per_s == pytest.approx(9.5)


def test_too_few_requests_have_no_percentiles() -> None:
    (few,) = by_kind(table_of(named("a", 10)), "name")
    assert (few.n, few.ttft_p50_ms, few.ttft_p95_ms) == (10, None, None)
    (some,) = by_kind(table_of(named("a", 58)), "name")
    assert some.ttft_p50_ms is not None
    assert some.ttft_p95_ms is None


def test_latencies_that_a_path_spoils_are_void_for_every_name() -> None:
    (only,) = by_kind(table_of(named("a", 100)), "name", void=("ttft", "tpot"))
    assert only.ttft_p50_ms is only.tpot_p50_ms is None
    assert only.e2e_p50_ms == pytest.approx(1000.0)


@pytest.mark.parametrize(("names", "own"), [(12, 12), (13, 13), (14, 12)])
def test_so_many_names_stand_for_themselves(names: int, own: int) -> None:
    facts = table_of([each for place in range(names) for each in named(f"n{place}", 3)])
    rows = by_kind(facts, "name")
    assert [each.name for each in rows if not each.others] == [f"n{place}" for place in range(own)]
    assert sum(each.others for each in rows) == names - own


def test_of_more_names_the_most_frequent_stand_for_themselves_and_no_request_is_lost() -> None:
    facts = table_of([each for place in range(30) for each in named(f"n{place}", 2 + place)])
    rows = by_kind(facts, "name")
    assert [each.name for each in rows[:-1]] == [f"n{place}" for place in range(18, 30)]
    assert (rows[-1].others, len(rows)) == (18, 13)
    assert sum(each.n for each in rows) == sum(2 + place for place in range(30))


def test_a_name_for_each_request_costs_bounded_memory_and_counts_among_the_others() -> None:
    facts = table_of([each for place in range(1500) for each in named(f"n{place}", 1)])
    assert len(facts.names.texts) == 1000
    rows = by_kind(facts, "name")
    assert sum(each.n for each in rows) == 1500
    assert rows[-1].others == 1000 - 12 + 1


def test_turns_tell_what_the_prefix_cache_gives() -> None:
    requests = []
    for visit in range(80):
        for turn in range(1, 6):
            sent = replace(
                record(0.2 * visit + turn, ttft_s=0.6 / turn),
                session=visit,
                turn=turn,
                cached_tokens=0 if turn == 1 else 96,
            )
            requests.append(sent)
    told = visits_of(table_of(requests, 30.0))
    assert told is not None
    assert [(each.turn, each.n) for each in told.turns] == [(1, 80), (2, 80), (3, 240)]
    assert [each.cached_share for each in told.turns] == [0.0, 0.5, 0.5]
    assert told.turns[0].ttft_p95_ms == pytest.approx(600.0)
    assert told.turns[1].ttft_p95_ms == pytest.approx(300.0)


def visit(number: int, start_s: float, *outcomes: Outcome, held_up: bool = False) -> list[RequestRecord]:
    return [
        replace(
            record(start_s + 2 * place, outcome=outcome, client_limited=held_up and not place),
            session=number,
            turn=1 + place,
        )
        for place, outcome in enumerate(outcomes)
    ]


def test_a_visit_lasts_from_its_first_request_to_the_end_of_its_last() -> None:
    ok, bad = Outcome.OK, Outcome.STREAM_ERROR
    requests = [each for place in range(60) for each in visit(place, 0.1 * place, ok, ok, ok)]
    requests += visit(100, 1.0, ok, bad) + visit(101, 2.0, ok, Outcome.CANCELLED) + visit(102, 2.0, ok, held_up=True)
    told = visits_of(table_of(requests))
    assert told is not None
    assert (told.visits, told.failed) == (61, 1)
    assert told.duration_p50_s == pytest.approx(5.0)
    assert told.requests == pytest.approx((60 * 3 + 2) / 61)
    assert told.per_s == pytest.approx(61 / 20)


def test_calls_are_told_by_name_and_are_in_no_figure_of_the_endpoint() -> None:
    calls = [Call(t_s=0.1 * i, duration_s=0.2, name="retrieve", status=200) for i in range(90)]
    calls += [Call(t_s=1.0, duration_s=0.5, name="retrieve", status=500)]
    calls += [Call(t_s=1.0, duration_s=0.5, name="tool", error="no connection"), Call(t_s=2, duration_s=1, name="tool")]
    facts = table_of(named("a", 20))
    facts.extend(FactBatch(t_s=20.0, calls=tuple(calls)))
    retrieve, tool = calls_of(facts)
    assert (retrieve.name, retrieve.n, retrieve.errors) == ("retrieve", 91, 1)
    assert retrieve.p50_ms == pytest.approx(200.0)
    assert (tool.n, tool.errors, tool.p50_ms) == (2, 2, None)
    assert [each.n for each in by_kind(facts, "name")] == [20]


@pytest.mark.parametrize(("status", "fails"), [(399, 0), (400, 1), (200, 0), (None, 1)])
def test_a_call_fails_from_status_400_on_or_without_an_answer(status: int | None, fails: int) -> None:
    facts = Facts.of([FactBatch(t_s=1.0, calls=(Call(t_s=1.0, duration_s=0.1, name="x", status=status),))])
    assert calls_of(facts)[0].errors == fails


def test_calls_are_bounded_as_requests_are() -> None:
    facts = Facts(cap=100)
    for batch in range(30):
        facts.extend(FactBatch(t_s=batch, calls=tuple(Call(t_s=batch, duration_s=0.1, name="x") for _ in range(10))))
    assert 50 <= len(facts.calls) <= 100
    assert facts.calls[-1].t_s == 29
