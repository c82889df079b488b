"""The page of traffic has 80 columns whatever it tells of, and says what is not known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.traffic import BusiestSpan, InFlight, LengthBin, TokenLengths, TrafficFigures
from llmtop.wording import traffic as words

NOTHING = TrafficFigures(
    source="made", requests=0, began_at=None, span_s=0.0, mean_rps=None, peak=None, busiest_hour=None,
    peak_to_mean=None, cv=None, cv_from=None, tick_s=None, prompt=None, output=None, correlation=None,
    shared_prefix=None, shared_from=None, in_flight=None,
)  # fmt: skip

figures = st.floats(1e-4, 1e7)
spans = st.builds(
    BusiestSpan, rate_rps=st.floats(1e-5, 1e5), requests=st.integers(0, 10**9), begins_s=st.floats(0, 1e7)
)


@st.composite
def lengths(draw: st.DrawFn) -> TokenLengths:
    first = draw(st.integers(0, 10))
    counts = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=23 - first))
    bins = tuple(LengthBin(2.0 ** (first + i), 2.0 ** (first + i + 1), count) for i, count in enumerate(counts))
    told = {name: draw(st.floats(1, 1e7)) for name in ("mean", "p50", "p90", "p95", "p99")}
    bins = (replace(bins[0], requests=bins[0].requests + 1), *bins[1:])
    return TokenLengths(
        requests=sum(counts), table=(), histogram=bins, coarse=draw(st.none() | st.floats(1, 10)), **told
    )


@st.composite
def known(draw: st.DrawFn) -> TrafficFigures:
    return TrafficFigures(
        source=draw(st.sampled_from(["LiteLLM spend logs", "vLLM in Prometheus"])),
        requests=draw(st.integers(0, 10**9)),
        began_at=draw(st.none() | st.floats(0, 4e9)),
        span_s=draw(st.floats(0, 1e8)),
        mean_rps=draw(st.none() | st.floats(1e-6, 1e5)),
        peak=draw(st.none() | spans),
        busiest_hour=draw(st.none() | spans),
        peak_to_mean=draw(st.none() | st.floats(1, 1e4)),
        cv=draw(st.none() | st.floats(0, 100)),
        cv_from=None,
        tick_s=draw(st.none() | st.floats(0.001, 60)),
        prompt=draw(st.none() | lengths()),
        output=draw(st.none() | lengths()),
        correlation=draw(st.none() | st.floats(-1, 1)),
        shared_prefix=draw(st.none() | st.floats(0, 1)),
        shared_from=draw(st.sampled_from(["cached", "blocks"])),
        in_flight=draw(
            st.none()
            | st.builds(
                InFlight,
                most=st.integers(1, 10**6),
                at_s=st.none() | st.floats(0, 1e8),
                e2e_p50_s=st.none() | st.floats(0, 1e5),
                known=st.floats(0.01, 1),
            )
        ),
        says=tuple(draw(st.lists(st.text("ab ", min_size=1, max_size=200), max_size=3))),
    )


@given(told=known())
@settings(max_examples=25)
def test_no_line_is_longer_than_a_terminal(told: TrafficFigures) -> None:
    told = replace(told, says=tuple(text.replace("ab", "a ") for text in told.says) + words.unknowns(told))
    lines = words.page(
        told, "requests.jsonl", "2026-01-01 00:00 UTC", lambda s: f"{s:.0f} s in", words.test_text("a.toml")
    )
    assert all(len(line) <= words.WIDTH for line in lines if " " in line.strip())
    assert lines[-1].endswith(".")


def test_what_is_not_known_is_said_once() -> None:
    few = replace(NOTHING, requests=29, span_s=10.0, mean_rps=3.0)
    enough = replace(few, requests=30)
    assert words.unknowns(NOTHING) == ("nothing tells how many requests came: no rate is known",)
    assert [text.split()[0] for text in words.unknowns(few)] == ["29"]
    assert ["ten minutes" in text for text in words.unknowns(enough)] == [True, True]
    assert "no rate" in words.unknowns(replace(few, mean_rps=None))[0]


@pytest.mark.parametrize(
    ("rank", "says"),
    [(0.2, "longer"), (0.19, "hardly"), (-0.2, "shorter"), (-0.001, "(rank correlation 0.00)")],
)
def test_what_ties_lengths_is_told(rank: float, says: str) -> None:
    assert says in words.correlation_text(rank)


@pytest.mark.parametrize(
    ("rate", "text"), [(13.38, "13.4 requests/s"), (0.09, "5.40 requests/min"), (0.0005, "1.80 requests/h")]
)
def test_slow_rates_are_told_by_the_minute_or_hour(rate: float, text: str) -> None:
    assert words.rate_text(rate) == text


def test_the_last_sentence_is_that_of_a_planner() -> None:
    told = replace(
        NOTHING,
        requests=10_000,
        mean_rps=1.0,
        peak=BusiestSpan(rate_rps=3.1, requests=1860, begins_s=0.0),
        peak_to_mean=3.1,
        cv=1.4,
        in_flight=InFlight(most=92, at_s=5.0, e2e_p50_s=2.1, known=1.0),
    )
    assert words.planner_text(told, words.test_text("mine.toml")) == (
        "Peak 3.10 requests/s, 3.1x the mean, CV 1.40: on such a server expect 92 in flight at 2.10 s; "
        "test with `llmtop run mine.toml URL`."
    )
