"""Counters of replicas that come, go and start anew: what they add up to, as laws."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect
from llmtop.telemetry.signals import Interval, PageValues
from llmtop.telemetry.summary import TOGETHER_S, Reading, Totals, summarise, weighted

BEGAN_S = 1000.0
FIELD = "generation_tokens_total"


def reading(
    key: str, value: float, start_s: float | None = None, *, gone: bool = False, anew: bool = False, **gauges: float
) -> Reading:
    told = gauges if start_s is None else gauges | {"process_start_s": start_s}
    return Reading(
        name=key,
        key=key,
        table=DIALECTS[Dialect.VLLM],
        figures=PageValues(dict(told), {FIELD: value}, {}, {}),
        change=Interval(True, {}, {}) if anew else None,
        answers={},
        gone=gone,
    )


@dataclass
class Server:
    """One replica, as it truly is."""

    start_s: float
    count: float
    last: float = 0.0
    """What it had counted when it was seen last."""
    was_seen: bool = False
    restarted: bool = False
    gone: bool = False


@dataclass
class Fleet:
    servers: dict[str, Server] = field(default_factory=dict)
    grown: float = 0.0
    """What all have counted while they were seen."""

    def scrape(self, first: bool) -> list[Reading]:
        told = []
        for key, server in self.servers.items():
            if not server.gone:
                if not server.was_seen and not first:
                    self.grown += server.count if server.start_s >= BEGAN_S else 0.0
                elif server.was_seen:
                    self.grown += server.count - (0.0 if server.restarted else server.last)
                anew = server.restarted and server.was_seen
                server.last, server.was_seen, server.restarted = server.count, True, False
            else:
                anew = False
            if server.was_seen:
                told.append(reading(key, server.last, server.start_s, gone=server.gone, anew=anew))
        return told


STEP = st.tuples(
    st.sampled_from(["work", "work", "work", "come", "come late", "go", "return", "restart", "scrape", "scrape"]),
    st.integers(0, 3),
    st.integers(0, 10**9),
)


@settings(max_examples=300)
@given(st.lists(STEP, max_size=40), st.integers(0, 10**12))
def test_totals_grow_by_what_replicas_count_while_they_are_seen_and_by_nothing_else(
    steps: list[tuple[str, int, int]], past: int
) -> None:
    """One replica stays all the while, so that the service as a whole never starts anew."""
    fleet = Fleet({"stays": Server(1.0, past)})
    totals = Totals(BEGAN_S)
    before = begun = totals.take(0.0, fleet.scrape(True))[FIELD]
    assert begun == past
    for t_s, (what, which, amount) in enumerate([*steps, ("scrape", 0, 0)], 1):
        own = list(fleet.servers.values())
        server = own[which % len(own)]
        match what:
            case "work":
                server.count += amount
            case "come":
                fleet.servers[f"r{t_s}"] = Server(float(which), amount)
            case "come late":
                fleet.servers[f"r{t_s}"] = Server(BEGAN_S + t_s, amount)
            case "go" | "return" if server is not own[0]:
                server.gone = what == "go"
            case "restart" if server is not own[0] and not server.restarted:
                server.count, server.restarted, server.start_s = 0.0, True, BEGAN_S + t_s
            case "scrape":
                now = totals.take(float(t_s), fleet.scrape(False)).get(FIELD, 0.0)
                assert now >= before
                assert now - begun == fleet.grown
                assert not totals.restarted
                before = now


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=9))
def test_one_server_alone_is_told_as_it_exports(counts: list[int]) -> None:
    totals = Totals(BEGAN_S)
    for t_s, count in enumerate(counts):
        anew = t_s > 0 and count < counts[t_s - 1]
        assert totals.take(float(t_s), [reading("", count, 1.0, anew=anew)]) == {FIELD: count}
        assert totals.restarted is anew


@pytest.mark.parametrize(("apart_s", "together"), [(0.0, True), (TOGETHER_S, True), (TOGETHER_S + 0.1, False)])
def test_replicas_start_anew_together_within_so_long(apart_s: float, together: bool) -> None:
    assert TOGETHER_S == 30.0
    totals = Totals(BEGAN_S)
    totals.take(0.0, [reading("a", 10), reading("b", 10)])
    totals.take(1.0, [reading("a", 1, anew=True), reading("b", 10, anew=apart_s == 0.0)])
    assert totals.restarted is (apart_s == 0.0)
    if apart_s:
        totals.take(1.0 + apart_s, [reading("a", 1), reading("b", 1, anew=True)])
        assert totals.restarted is together


def test_the_only_one_that_is_left_starts_anew_and_so_does_the_service() -> None:
    totals = Totals(BEGAN_S)
    totals.take(0.0, [reading("a", 10), reading("b", 10)])
    assert totals.take(1.0, [reading("a", 3, anew=True), reading("b", 10, gone=True)]) == {FIELD: 3}
    assert totals.restarted
    assert totals.take(2.0, [reading("a", 4), reading("b", 12)]) == {FIELD: 4}, "what b did before is past"
    assert totals.take(3.0, [reading("a", 4), reading("b", 15)]) == {FIELD: 7}


def test_the_start_of_a_service_is_that_of_the_eldest_it_began_with() -> None:
    totals = Totals(BEGAN_S)
    first = summarise(0.0, 0.0, [reading("a", 1, 50.0), reading("b", 1, 40.0)], totals)
    later = summarise(
        1.0, 0.0, [reading("a", 1, 50.0), reading("b", 1, 2000.0, anew=True), reading("c", 1, 3.0)], totals
    )
    assert (first.process_start_s, later.process_start_s) == (40.0, 40.0)


@pytest.mark.parametrize(
    ("usages", "usage"),
    [
        ([(0.5, 100.0)], 0.5),
        ([(0.9, 100.0), (0.1, 300.0)], 0.3),
        ([(0.9, 100.0), (0.1, None)], 0.5),
        ([(0.9, 0.0), (0.1, 5.0)], 0.5),
    ],
)
def test_kv_usage_is_weighted_by_capacity_where_all_tell_it(
    usages: list[tuple[float, float | None]], usage: float
) -> None:
    assert math.isclose(weighted(usages), usage)


@given(st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(1, 1e9)), min_size=1, max_size=9))
def test_kv_usage_of_several_lies_between_theirs(usages: list[tuple[float, float | None]]) -> None:
    own = [usage for usage, _ in usages]
    assert min(own) - 1e-9 <= weighted(usages) <= max(own) + 1e-9


def test_kv_capacity_and_usage_of_replicas_of_two_sizes() -> None:
    large = reading("a", 1, kv_usage=0.2, kv_capacity_tokens=3000.0)
    small = reading("b", 1, kv_usage=1.0, num_gpu_blocks=100.0, block_size=10.0)
    both = summarise(0.0, 0.0, [large, small])
    assert both.kv_usage == pytest.approx(0.4)
    gone = summarise(0.0, 0.0, [large, reading("b", 1, gone=True, kv_usage=1.0)])
    assert (gone.kv_usage, gone.kv_capacity_tokens) == (0.2, 3000)
