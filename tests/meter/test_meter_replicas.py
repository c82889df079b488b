"""How unevenly replicas are loaded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.balance import Imbalance, Row
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.meter.facts import Facts
from llmtop.meter.replicas import LEAST, UNEVEN, imbalance, is_uneven
from llmtop.wording.replicas import called, short_name, uneven

LOADS = st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(0, 1e6)), max_size=9)


def rows(*loads: tuple[float | None, float | None]) -> list[Row]:
    return [(f"r{at}", running, waiting, None) for at, (running, waiting) in enumerate(loads)]


@pytest.mark.parametrize(
    ("loads", "found"),
    [
        ([], None),
        ([(5, 5)], None),
        ([(0, 0), (0, 0)], None),
        ([(3, 1), (3, 1)], Imbalance("r0", 1.0, 4.0)),
        ([(2, 0), (8, 2)], Imbalance("r1", 10 / 6, 6.0)),
        ([(2, None), (8, None)], Imbalance("r1", 1.6, 5.0)),
        ([(4, 0), (None, None), (8, 0)], Imbalance("r2", 8 / 6, 6.0)),
        ([(4, 0), (None, 9)], None),
    ],
)
def test_the_fullest_is_named_with_its_load_over_the_mean(
    loads: list[tuple[float, float]], found: Imbalance | None
) -> None:
    assert imbalance(rows(*loads)) == found


@given(LOADS)
def test_it_lies_between_one_and_the_number_of_replicas_and_names_one_that_has_the_most(
    loads: list[tuple[float, float | None]],
) -> None:
    told = rows(*loads)
    found = imbalance(told)
    if found is not None:
        assert 1.0 - 1e-9 <= found.ratio <= len(told) + 1e-9
        own = {name: (running or 0.0) + (waiting or 0.0) for name, running, waiting, _ in told}
        assert own[found.name] == max(own.values())


@pytest.mark.parametrize(
    ("ratio", "mean", "told"),
    [(1.5, 2.0, True), (1.499, 2.0, False), (9.0, 1.999, False)],
)
def test_the_threshold_is_one_and_a_half_times_the_mean_of_two_requests(ratio: float, mean: float, told: bool) -> None:
    assert (UNEVEN, LEAST) == (1.5, 2.0)
    assert is_uneven(Imbalance("a", ratio, mean)) is told
    assert not is_uneven(None)


def test_facts_have_a_row_for_each_replica_that_is_there() -> None:
    snapshots = (
        ServerSnapshot(t_s=1.0, replicas=(("a", 1, 2, 0.5), ("b", None, None, None))),
        ServerSnapshot(t_s=2.0, replicas=(("a", 3, None, None), ("b", 4, 0, 0.25))),
        ServerSnapshot(t_s=3.0, running=1.0),
    )
    facts = Facts.of([FactBatch(t_s=3.0, server=snapshots)])
    assert facts.replica_names.texts == ["a", "b"]
    assert facts.replicas.column("t_s").tolist() == [1.0, 2.0, 2.0]
    assert facts.replicas.column("replica").tolist() == [0.0, 0.0, 1.0]
    assert facts.replicas.column("running").tolist() == [1.0, 3.0, 4.0]
    facts.extend(FactBatch(t_s=4.0, server=(ServerSnapshot(t_s=4.0),)))
    assert not (facts.replicas.column("running") > 0).any(), "several answered in turn: none of it was anybody's"


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("vllm-6f7c9-x2x4q", "vllm-6f7c9-7kq8d"), "x2x4q"),
        (("vllm-0", "vllm-1"), "0"),
        (("127.0.0.1:8001", "127.0.0.1:8002"), ":8001"),
        (("10.0.0.1:8000", "10.0.0.2:8000"), "10.0.0.1:8000"),
        (("a", "b"), "a"),
        (("pod-a",), "pod-a"),
        (("pod-a", "pod-a-b"), "pod-a"),
    ],
)
def test_a_short_name_is_what_tells_it_from_the_others(names: tuple[str, ...], short: str) -> None:
    assert short_name(names[0], names) == short


@given(st.lists(st.text("ab-:.0", min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_short_names_differ_as_the_names_do_and_are_never_empty(names: list[str]) -> None:
    short = [short_name(name, names) for name in names]
    assert all(short)
    assert len(set(short)) == len(names)


def test_engines_are_called_so() -> None:
    assert (called("1"), called("pod-1")) == ("engine 1", "pod-1")
    assert uneven("pod-2", 2.14) == "pod-2 has 2.1 x the mean"
