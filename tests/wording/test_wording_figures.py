"""Figures: one rule of digits and units, whatever stands between them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.slo import METRICS, SloTarget, metric_of, parse_slo
from llmtop.wording.figures import PAGE, TEXT, TIGHT, UNKNOWN, clock, nice_above
from llmtop.wording.names import target_name

shares = st.floats(0, 1)
milliseconds = st.floats(0.001, 5e6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", TIGHT.digits(0)),
        ("0.042", TIGHT.digits(0.0421)),
        ("0.999", TIGHT.digits(0.999)),
        ("1.42", TIGHT.digits(1.416)),
        ("10.0", TIGHT.digits(9.999)),
        ("38.0", TIGHT.digits(38)),
        ("100", TIGHT.digits(99.96)),
        ("2 410", TIGHT.digits(2409)),
        ("0.40ms", TIGHT.latency(0.403)),
        ("38.0 ms", TEXT.latency(38.04)),
        ("999 ms", TEXT.latency(999.4)),
        ("1.00 s", TEXT.latency(999.7)),
        ("1.42s", TIGHT.latency(1416)),
        ("123 s", TEXT.latency(123456)),
        ("20.0 min", TEXT.latency(1.2e6)),
        ("0 %", TEXT.percent(0)),
        ("0.00 %", TEXT.percent(0.00001)),
        ("0.14 %", TEXT.percent(0.0014)),
        ("71.0%", TIGHT.percent(0.71)),
        ("99.9 %", TEXT.percent(0.9999)),
        ("100 %", TEXT.percent(1)),
        ("+12.3 %", TEXT.change(0.1234)),
        ("-4.00%", TIGHT.change(-0.04)),
        ("+150 %", TEXT.change(1.5)),
        ("0 %", TEXT.change(0)),
        ("1 234 567", TEXT.whole(1234567)),
        ("3\u202f243", PAGE.whole(3243)),
        ("1 024", TEXT.exact(1024)),
        ("58.4", TEXT.exact(58.43)),
        ("32", TEXT.load(32.4, "concurrency")),
        ("8", TEXT.load(8.003, "concurrency")),
        ("2", TEXT.load(2.4, "concurrency")),
        ("1", TEXT.load(0.3, "concurrency")),
        ("2.40", TEXT.load(2.4, "rate")),
        ("1 024", TEXT.load(1024.3, "concurrency")),
        ("8.25", TEXT.load(8.25, "rate")),
        ("300 ms", TEXT.round_latency(300)),
        ("2s", TIGHT.round_latency(2000)),
        ("20k", TIGHT.round_count(20_000)),
        ("0.5 s", TEXT.duration(0.5)),
        ("42.3 s", TEXT.duration(42.3)),
        ("10s", TIGHT.duration(10)),
        ("1 min", TEXT.duration(59.8)),
        ("2min", TIGHT.duration(120)),
        ("6 min 12 s", TEXT.duration(372)),
        ("1 h 02 min", TEXT.duration(3730)),
        ("2h", TIGHT.duration(7200)),
        ("03:12", clock(192.9)),
        ("1:03:12", clock(3792)),
    ],
)
def test_figures(text: str, value: str) -> None:
    assert value == text


@given(milliseconds)
def test_a_latency_is_never_wider_than_its_field(ms: float) -> None:
    assert len(TIGHT.latency(ms)) <= 7


@given(st.floats(0, 9e8))
def test_a_count_is_never_wider_than_its_field(value: float) -> None:
    assert len(TIGHT.count(value)) <= 6


@given(milliseconds, shares, st.floats(0, 9e8))
def test_a_figure_has_the_same_digits_wherever_it_stands(ms: float, share: float, value: float) -> None:
    for figures in (TEXT, PAGE):
        written = (figures.latency(ms), figures.percent(share), figures.count(value), figures.duration(ms))
        same = (TIGHT.latency(ms), TIGHT.percent(share), TIGHT.count(value), TIGHT.duration(ms))
        for one, other in zip(written, same, strict=True):
            assert one.replace("\u202f", "").replace(" ", "") == other.replace(" ", "")


@given(shares)
def test_only_none_is_zero_and_only_all_is_a_hundred(share: float) -> None:
    assert (TEXT.percent(share) == "0 %") == (share * 100 == 0)
    assert (TEXT.percent(share) == "100 %") == (share * 100 >= 100)


def test_none_is_not_zero() -> None:
    for written in (TEXT.count, TEXT.percent, TEXT.whole, TEXT.latency, TEXT.exact):
        assert written(None) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("TTFT p95 < 2 s", SloTarget("ttft", 2.0, "p95")),
        ("TTFT p95 < 2 s", SloTarget("ttft", 2.0)),
        ("TPOT p50 < 50 ms", parse_slo("tpot_p50<50ms").targets[0]),
        ("errors < 0.5 %", SloTarget("error_ratio", 0.005)),
        ("queue < 10", SloTarget("queue", 10)),
        ("KV cache < 80 %", SloTarget("kv", 0.8)),
    ],
)
def test_a_limit_reads_as_it_is_said(text: str, target: SloTarget) -> None:
    assert TEXT.target(target) == text
    assert TIGHT.target(target) == f"{target_name(target.name)}<{TIGHT.limit(target.metric, target.limit)}"
    assert metric_of(target.name) == target.metric


@pytest.mark.parametrize("metric", METRICS)
def test_a_measured_figure_has_the_unit_of_its_limit(metric: str) -> None:
    unit = TEXT.limit(metric, 0.5).lstrip("0123456789.")
    assert TEXT.measured(metric, 0.5).lstrip("0123456789.") == unit
    assert TEXT.measured(metric, None) == UNKNOWN


@given(st.floats(1e-6, 1e9))
def test_nice_is_the_next_of_1_2_5(value):
    nice = nice_above(value)
    lead = nice / 10 ** math.floor(math.log10(nice) + 1e-9)
    assert min(abs(lead - good) for good in (1, 2, 5, 10)) < 1e-6
    assert value <= nice * (1 + 1e-6)
    assert nice <= value * 2.5 * (1 + 1e-6)
