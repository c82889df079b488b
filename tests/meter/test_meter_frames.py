"""Frames are a function of the facts: conservation, one time axis, and no invented values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import NewUser
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Canary, FactBatch, LoadChange
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.meter.frames import FrameBuilder, whole_run_timeline

STATUS = EndpointStatus(state=EndpointState.UP)


def batch(t_s: float, **counts: object) -> FactBatch:
    fields: dict[str, object] = {"target": 4.0, "in_flight": 4, **counts}
    return FactBatch(t_s=t_s, bins=(LoadBin(t_s=t_s, span_s=0.25, **fields),))  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=60))
def test_sent_is_ended_plus_in_flight(steps: list[tuple[int, int, int]]) -> None:
    builder = FrameBuilder()
    in_flight = 0
    for number, (sent, ok, errors) in enumerate(steps, 1):
        in_flight += sent
        ok = min(ok, in_flight)
        errors = min(errors, in_flight - ok)
        in_flight -= ok + errors
        builder.consume(batch(number * 0.25, sent=sent, ok=ok, errors=errors, in_flight=in_flight))
    totals = builder.frame(STATUS).totals
    assert totals.sent == totals.ok + totals.errors + totals.cancelled + totals.in_flight


@given(st.lists(st.lists(st.floats(1, 1e4), max_size=8), min_size=1, max_size=30))
def test_percentiles_are_numpys(bins: list[list[float]]) -> None:
    builder = FrameBuilder()
    for number, values in enumerate(bins, 1):
        builder.consume(batch(number * 0.25, ttft_ms=tuple(values)))
    window = [value for values in bins[-20:] for value in values]
    shown = builder.window().ttft
    assert shown.n == len(window)
    if window:
        assert np.isclose(shown.p95 or 0, np.percentile(window, 95))
        assert np.isclose(shown.p50 or 0, np.percentile(window, 50))


def test_all_columns_share_one_axis_and_the_last_point_is_the_panels_number() -> None:
    builder = FrameBuilder(step_s=0.5, span_s=10)
    for number in range(1, 101):
        builder.consume(batch(number * 0.25, ttft_ms=(float(number),), output_tokens=5))
    timeline = builder.timeline()
    lengths = {len(getattr(timeline, name)) for name in timeline.__struct_fields__[2:]}
    assert lengths == {20}
    assert timeline.end_s == 25.0
    assert timeline.ttft_p95_ms[-1] == builder.window().ttft.p95
    assert timeline.output_tokens_per_s[-1] == 20.0


def test_a_gap_stays_a_gap() -> None:
    builder = FrameBuilder()
    builder.consume(batch(0.5))
    timeline = builder.timeline()
    assert timeline.ttft_p95_ms == (None,)
    assert timeline.waiting == (None,)
    assert timeline.error_ratio == (None,)
    assert builder.window().output_tokens_per_s == 0.0


def test_while_nothing_comes_back_the_oldest_wait_bounds_ttft() -> None:
    builder = FrameBuilder()
    builder.consume(batch(0.5, prefilling=3, oldest_prefill_s=7.5))
    assert builder.timeline().ttft_p95_ms == (7500.0,)


def test_old_server_values_stay_with_their_age_but_leave_the_chart() -> None:
    builder = FrameBuilder()
    builder.consume(FactBatch(t_s=0.25, server=(ServerSnapshot(t_s=0.2, running=3.0, waiting=0.0),)))
    builder.consume(batch(0.5))
    builder.consume(batch(9.0))
    frame = builder.frame(STATUS)
    assert frame.server is not None
    assert (frame.server.running, frame.server.age_s) == (3.0, 8.8)
    assert frame.timeline.running[0] == 3.0
    assert frame.timeline.running[-1] is None


def test_foreign_traffic_is_what_the_server_has_beyond_ours() -> None:
    builder = FrameBuilder()
    builder.consume(batch(0.25, in_flight=4))
    builder.consume(FactBatch(t_s=0.5, server=(ServerSnapshot(t_s=0.4, running=9.0, waiting=2.0),)))
    assert builder.frame(STATUS).foreign == 7.0


def felt(t_s: float, *canaries: Canary, **counts: object) -> FactBatch:
    return structs.replace(batch(t_s, **counts), canaries=canaries)


def test_what_a_new_user_feels_is_that_of_the_canaries_of_the_last_minute() -> None:
    builder = FrameBuilder()
    assert builder.frame(STATUS).new_user is None
    for t_s, ttft_s in ((1.0, 9.0), (30.0, 0.2), (50.0, 0.4), (70.0, None), (71.0, 0.9)):
        builder.consume(felt(t_s, Canary(t_s - 0.5, ttft_s, "" if ttft_s else "HTTP 503")))
    frame = builder.frame(STATUS, canary_since_s=68.0)
    assert frame.new_user == NewUser(n=4, failed=1, p50_ms=400.0, max_ms=900.0)
    assert frame.new_user_waits_s == 3.0
    builder.consume(batch(131.0))
    assert builder.frame(STATUS).new_user is None
    assert builder.frame(STATUS).new_user_waits_s is None


def test_each_canary_is_drawn_once_where_its_token_came_and_a_failed_one_nowhere() -> None:
    builder = FrameBuilder(step_s=0.5)
    for canaries in ((), (Canary(0.1, 0.3), Canary(0.2, None, "timeout")), (), (Canary(0.6, 0.3), Canary(0.8, 0.1))):
        builder.consume(felt(builder.t_s + 0.25, *canaries))
    builder.consume(batch(1.5))
    assert builder.timeline().canary_ms == (pytest.approx(300.0), pytest.approx(300.0), None)


def test_totals_window_and_every_other_column_are_the_same_with_canaries_and_without() -> None:
    builders = FrameBuilder(), FrameBuilder()
    for number in range(1, 40):
        told = batch(number * 0.25, sent=2, ok=2, ttft_ms=(float(number),))
        builders[0].consume(told)
        builders[1].consume(structs.replace(told, canaries=(Canary(number * 0.25 - 0.2, 0.1),)))
    bare, beside = (builder.frame(STATUS) for builder in builders)
    assert beside.new_user is not None
    timeline = structs.replace(beside.timeline, canary_ms=bare.timeline.canary_ms)
    assert structs.replace(beside, timeline=timeline, new_user=None) == bare


def test_the_canary_is_no_foreign_request() -> None:
    builder = FrameBuilder()
    builder.consume(batch(0.25, in_flight=4))
    builder.consume(FactBatch(t_s=0.5, server=(ServerSnapshot(t_s=0.4, running=4.0, waiting=1.0),)))
    assert builder.frame(STATUS).foreign == 1.0
    assert builder.frame(STATUS, canary_since_s=0.1).foreign == 0.0
    builder.consume(felt(0.75, Canary(0.3, 0.4), in_flight=4))
    assert builder.frame(STATUS).foreign == 0.0, "it was there a moment ago"


def test_the_target_is_the_last_change() -> None:
    builder = FrameBuilder()
    builder.consume(FactBatch(t_s=0.1, changes=(LoadChange(0.1, LoadPoint(concurrency=8)),)))
    assert builder.frame(STATUS).target.concurrency == 8


def test_a_whole_run_fits_into_the_asked_number_of_points() -> None:
    batches = [batch(number * 0.25, ttft_ms=(1.0,)) for number in range(1, 4 * 3600)]
    timeline = whole_run_timeline(batches, 3600.0)
    assert 500 <= len(timeline.ttft_p95_ms) <= 600


def test_a_long_time_in_which_nothing_was_told_costs_no_more_than_the_timeline() -> None:
    """And gives the same one as if each step of it had been reckoned."""
    builder, every_step = FrameBuilder(step_s=1.0, span_s=20.0), FrameBuilder(step_s=1.0, span_s=20.0)
    builder.consume(batch(1.0, target=1.0))
    builder.consume(batch(3e7, target=7.0))
    every_step.consume(batch(50.0, target=7.0))
    timeline = builder.timeline()
    assert timeline.end_s == 3e7
    assert timeline.target == every_step.timeline().target == (7.0,) * 20
