"""What keeps a wrong figure off the screen: one law for each bound, age, weight and gap of bins, columns and frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from msgspec import structs

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, Timeline, Totals
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import Event, FactBatch, LoadChange, Mark
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.meter.binner import Binner, merge_bins
from llmtop.meter.facts import Facts, Table
from llmtop.meter.frames import STALE_S, WINDOW_S, FrameBuilder, whole_run_timeline
from llmtop.meter.split import split_ttft

STATUS = EndpointStatus(state=EndpointState.UP)


def load_bin(t_s: float, **fields: object) -> LoadBin:
    return LoadBin(**{"t_s": t_s, "span_s": 0.25, "target": 4.0, "in_flight": 0, **fields})  # type: ignore[arg-type]


def binned(t_s: float, **fields: object) -> FactBatch:
    return FactBatch(t_s=t_s, bins=(load_bin(t_s, **fields),))


def scraped(t_s: float, **fields: object) -> FactBatch:
    return FactBatch(t_s=t_s, server=(ServerSnapshot(t_s=t_s, **fields),))  # type: ignore[arg-type]


def built(*batches: FactBatch) -> FrameBuilder:
    builder = FrameBuilder()
    for batch in batches:
        builder.consume(batch)
    return builder


def frame(*batches: FactBatch) -> Frame:
    return built(*batches).frame(STATUS)


def record(**fields: object) -> RequestRecord:
    return RequestRecord(
        **{
            "scheduled_ns": 1_000_000_000,
            "dispatched_ns": 2_000_000_000,
            "sent_ns": 3_000_000_000,
            "connect_ns": 0,
            "headers_ns": None,
            "first_token_ns": 5_000_000_000,
            "first_answer_ns": 5_000_000_000,
            "last_token_ns": 9_000_000_000,
            "end_ns": 15_000_000_000,
            "started_at": 0.0,
            "asked_prompt_tokens": 17,
            "asked_output_tokens": 18,
            "prompt_tokens": 19,
            "output_tokens": 21,
            "chunks": 20,
            "max_gap_ns": 700_000_000,
            "cached_tokens": 12,
            "outcome": Outcome.OK,
            **fields,
        }  # type: ignore[arg-type]
    )


# ── Age ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("age_s", "shown"), [(0.0, 3.0), (STALE_S - 0.5, 3.0), (STALE_S - 0.4, None)])
def test_a_chart_counts_the_age_that_a_scrape_had_when_it_came(age_s: float, shown: float | None) -> None:
    """Half a second lies between the scrape and the point of the chart."""
    timeline = built(scraped(0.5, age_s=age_s, running=3.0, waiting=3.0, kv_usage=3.0), binned(1.0)).timeline()
    assert (timeline.running[-1], timeline.waiting[-1], timeline.kv_usage[-1]) == (shown, shown, shown)


@pytest.mark.parametrize(("late_s", "shown"), [(STALE_S, 9.0), (STALE_S + 0.5, None)])
def test_the_clients_lag_leaves_the_chart_with_age(late_s: float, shown: float | None) -> None:
    health = FactBatch(t_s=0.5, client=(ClientSample(t_s=0.5, lag_p99_ms=9.0),))
    assert built(health, binned(0.5 + late_s)).timeline().client_lag_ms[-1] == shown


@pytest.mark.parametrize(("late_s", "age_s"), [(STALE_S, 0.5), (STALE_S + 1.0, 0.5 + STALE_S + 1.0)])
def test_a_panels_scrape_gets_older_once_scrapes_no_longer_come(late_s: float, age_s: float) -> None:
    server = frame(scraped(1.0, age_s=0.5, running=3.0), binned(1.0 + late_s)).server
    assert server is not None
    assert (server.age_s, server.running) == (age_s, 3.0)


def test_time_never_goes_back() -> None:
    assert frame(binned(2.0), scraped(1.5)).t_s == 2.0
    assert frame(FactBatch(t_s=1.0, bins=(load_bin(2.0),))).t_s == 2.0
    facts = Facts()
    assert facts.t_s == 0.0
    facts.extend(FactBatch(t_s=3.0))
    facts.extend(FactBatch(t_s=2.0))
    assert facts.t_s == 3.0


# ── Windows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_panel_forgets_a_bin_that_ended_a_window_ago() -> None:
    builder = built(binned(1.0, ttft_ms=(900.0,)), binned(2.0, ttft_ms=(100.0,)))
    builder.consume(binned(0.75 + WINDOW_S))
    assert builder.window().ttft.n == 2
    builder.consume(binned(1.0 + WINDOW_S))
    assert (builder.window().ttft.n, builder.window().ttft.max) == (1, 100.0)
    assert builder.timeline().ttft_p95_ms[-1] == 100.0


def test_tokens_in_the_chart_are_those_of_the_last_second() -> None:
    """Of the bins that end in it: the first of them began a little before."""
    tokens = (90, 30, 10, 10, 10, 10)
    builder = built(*(binned(0.25 * i, output_tokens=count) for i, count in enumerate(tokens, 3)))
    assert builder.timeline().output_tokens_per_s[-1] == pytest.approx(70 / 1.25)
    assert builder.window().output_tokens_per_s == pytest.approx(160 / 1.5)


def test_requests_per_second_are_those_that_ended_well_over_the_time_seen() -> None:
    window = built(binned(0.25, ok=3, errors=1), binned(0.5, ok=2, cancelled=4)).window()
    assert window.requests_per_s == pytest.approx(5 / 0.5)
    assert window.error_ratio == pytest.approx(1 / 6)
    assert window.span_s == WINDOW_S
    assert built().window().requests_per_s is None
    assert built(binned(0.25, cancelled=1)).window().error_ratio is None


def test_distributions_are_numpys_to_the_last_percentile() -> None:
    values = [5.0, 1.0, 4.0, 9.0, 2.0, 2.5]
    window = built(binned(0.5, ttft_ms=tuple(values), tpot_ms=tuple(values[:3]), e2e_ms=tuple(values[:1]))).window()
    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99))
    assert structs.astuple(window.ttft) == pytest.approx((6, sum(values) / 6, p50, p90, p95, p99, 9.0))
    assert (window.tpot.n, window.e2e.n, window.e2e.p99) == (3, 1, 5.0)


def test_the_chart_holds_both_percentiles_of_both_latencies() -> None:
    timeline = built(binned(0.5, ttft_ms=(2.0, 4.0, 1.0), tpot_ms=(8.0, 4.0, 6.0))).timeline()
    assert (timeline.ttft_p50_ms, timeline.tpot_p50_ms) == ((2.0,), (6.0,))
    assert [timeline.ttft_p95_ms[0], timeline.tpot_p95_ms[0]] == pytest.approx([3.8, 7.8])


def test_the_median_gap_is_weighted_by_the_gaps_of_each_bin() -> None:
    window = built(
        binned(0.25, gaps=1, gap_ms=(100.0, 110.0, 120.0)),
        binned(0.5, gaps=99, gap_ms=(10.0, 90.0, 130.0)),
        binned(0.75),
    ).window()
    assert window.gap_p50_ms == pytest.approx(10.9)
    assert (window.gap_p99_ms, window.gap_max_ms) == (110.0, 130.0)
    empty = built(binned(0.25)).window()
    assert (empty.gap_p50_ms, empty.gap_p99_ms, empty.gap_max_ms) == (None, None, None)


def test_the_oldest_wait_bounds_ttft_only_while_no_first_token_comes() -> None:
    waits = binned(1.0, oldest_prefill_s=7.5)
    assert built(waits).timeline().ttft_p50_ms == (7500.0, 7500.0)
    assert built(binned(0.5, ttft_ms=(20.0,)), waits).timeline().ttft_p50_ms == (20.0, 20.0)
    assert built(binned(0.5, ttft_ms=(20.0,)), waits).timeline().ttft_p95_ms == (20.0, 20.0)
    assert built(binned(0.5)).timeline().ttft_p50_ms == (None,)


# ── Counters of the server ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scrapes", "rate"),
    [
        (((1.0, 10.0), (3.0, 16.0)), 3.0),
        (((1.0, 10.0),), None),
        (((1.0, None), (3.0, 16.0)), None),
        (((1.0, 10.0), (3.0, None)), None),
        (((1.0, 10.0), (3.0, 4.0)), 0.0),  # the server has restarted
        (((1.0, 10.0), (1.0, 16.0)), None),
        (((0.0, 0.0), (1.0, 10.0), (3.0, 16.0)), 3.0),
    ],
)
def test_preemptions_per_second_need_two_scrapes_that_count_them(
    scrapes: tuple[tuple[float, float | None], ...], rate: float | None
) -> None:
    assert frame(*(scraped(t_s, preemptions_total=total) for t_s, total in scrapes)).window.preemptions_per_s == rate


@pytest.mark.parametrize(
    ("ours", "running", "waiting", "foreign"),
    [
        ({"in_flight": 4}, 9.0, 2.0, 7.0),
        ({"in_flight": 4}, 9.0, None, 5.0),
        ({"in_flight": 4}, 3.0, 0.0, 0.0),
        ({"in_flight": 1, "ok": 3, "errors": 2, "cancelled": 1}, 9.0, 0.0, 2.0),  # it may have counted them before
        ({"in_flight": 4}, None, 2.0, None),
    ],
)
def test_foreign_traffic_leaves_out_all_that_was_ours_of_late(
    ours: dict[str, int], running: float | None, waiting: float | None, foreign: float | None
) -> None:
    assert frame(binned(0.25, **ours), scraped(0.5, running=running, waiting=waiting)).foreign == foreign


def test_foreign_traffic_compares_with_our_largest_bin_and_not_the_newest() -> None:
    batches = binned(0.25, in_flight=8), binned(0.5, in_flight=1), scraped(0.5, running=9.0)
    assert frame(*batches).foreign == 1.0
    assert frame(scraped(0.5, running=9.0)).foreign == 9.0
    assert frame(binned(0.25)).foreign is None


# ── What a frame holds ────────────────────────────────────────────────────────────────────────────────────────────────


def test_totals_add_up_bin_by_bin_and_in_flight_is_the_last() -> None:
    first = binned(0.25, sent=9, ok=1, errors=2, cancelled=3, output_tokens=4, in_flight=3)
    second = binned(0.5, sent=8, ok=5, errors=1, cancelled=2, output_tokens=7, in_flight=2)
    assert frame(first, second).totals == Totals(17, 6, 3, 5, 2, 11)


def test_a_frame_tells_nothing_that_was_not_said() -> None:
    empty = FrameBuilder().frame(STATUS)
    assert (empty.target, empty.totals, empty.seq) == (LoadPoint(concurrency=0), Totals(), 1)
    assert (empty.recording, empty.finished, empty.foreign, empty.token_source) == (False, False, None, None)
    assert (empty.stage, empty.braked, empty.run_file, empty.replay, empty.max_concurrency) == (*[None] * 4, 1024)


def test_a_frame_carries_the_newest_of_everything_and_of_what_is_told_fifty() -> None:
    count = 51
    told = frame(
        FactBatch(
            t_s=1.0,
            changes=tuple(LoadChange(0.0, LoadPoint(concurrency=i)) for i in range(count)),
            marks=tuple(Mark(0.0, str(i)) for i in range(count)),
            events=tuple(Event(0.0, "load", str(i)) for i in range(count)),
            gpu=(GpuSnapshot(t_s=0.0, index=0), GpuSnapshot(t_s=0.0, index=1), GpuSnapshot(t_s=1.0, index=0)),
        )
    )
    assert [change.point.concurrency for change in told.changes] == list(range(1, count))
    assert (
        [mark.text for mark in told.marks] == [event.text for event in told.events] == list(map(str, range(1, count)))
    )
    assert [(gpu.index, gpu.t_s) for gpu in told.gpus] == [(0, 1.0), (1, 0.0)]
    assert told.target.concurrency == count - 1


def test_the_source_of_token_counts_is_that_of_a_good_request() -> None:
    good, failed = record(token_source=TokenSource.USAGE), record(outcome=Outcome.TIMEOUT)
    assert frame(FactBatch(t_s=1.0, requests=(good, failed))).token_source == TokenSource.USAGE


# ── Time axes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_live_chart_holds_two_minutes_in_steps_of_half_a_second() -> None:
    timeline = built(*(binned(0.5 * i, in_flight=i) for i in range(1, 300))).timeline()
    assert (timeline.step_s, timeline.end_s, len(timeline.in_flight)) == (0.5, 149.5, 240)
    assert timeline.in_flight[-1] == 299
    assert timeline.target[0] == 4.0


def test_a_bin_that_comes_late_fills_every_step_up_to_it() -> None:
    timeline = built(binned(0.5, in_flight=1), binned(1.9999991, in_flight=2)).timeline()
    assert timeline.in_flight == (1, 2, 2, 2)
    assert built(binned(0.4999985)).timeline() == Timeline(end_s=0.0, step_s=0.5)


@pytest.mark.parametrize(
    ("length_s", "step_s"), [(10.0, 0.5), (300.0, 0.5), (301.0, 1.0), (600.0, 1.0), (750.0, 1.5), (3600.0, 6.0)]
)
def test_the_steps_of_a_whole_run_are_halves_of_a_second_and_at_most_600(length_s: float, step_s: float) -> None:
    timeline = whole_run_timeline([binned(length_s)], length_s)
    assert timeline.step_s == step_s
    assert len(timeline.in_flight) == int(length_s / step_s) <= 600


# ── Bins ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_without_a_second_token_has_no_tpot_and_one_without_any_no_e2e() -> None:
    binner = Binner()
    binner.finished(record(output_tokens=1, chunks=1))
    binner.finished(record(first_token_ns=None, last_token_ns=None))
    closed = binner.close(1.0, target=1, in_flight=0)
    assert (closed.ok, closed.tpot_ms, closed.e2e_ms) == (2, (), (6000.0,))


def test_a_bin_holds_what_its_owner_knows_and_starts_anew() -> None:
    binner = Binner()
    assert binner.close(0.25, target=2.5, in_flight=1).span_s == 0.25
    binner.sent()
    for gap_ms in (10, 20, 90):
        binner.tokens(2, gap_ms * 1_000_000)
    binner.first_token(5_000_000)
    closed = binner.close(1.0, target=2.5, in_flight=3, prefilling=2, oldest_prefill_s=0.5)
    assert (closed.span_s, closed.target, closed.in_flight) == (0.75, 2.5, 3)
    assert (closed.prefilling, closed.oldest_prefill_s) == (2, 0.5)
    assert (closed.sent, closed.output_tokens, closed.prompt_tokens, closed.ttft_ms) == (1, 6, 0, (5.0,))
    assert closed.gap_ms == pytest.approx((20.0, 20 + 0.98 * 70, 90.0))
    assert (closed.gap_sum_ms, closed.gap_max_ms) == (120.0, 90.0)
    assert closed.gap_counts == ((212, 1), (228, 1), (263, 1))
    bare = binner.close(2.0, target=0, in_flight=0)
    assert bare == LoadBin(t_s=2.0, span_s=1.0, target=0, in_flight=0)


MERGED: dict[str, Callable[[float, float], float]] = {
    "t_s": max,
    "span_s": max,
    **dict.fromkeys(("target", "in_flight", "prefilling", "sent", "ok", "errors", "cancelled"), lambda a, b: a + b),
    **dict.fromkeys(("output_tokens", "prompt_tokens", "gaps"), lambda a, b: a + b),
    "oldest_prefill_s": max,
}


def test_bins_of_two_workers_make_one_field_by_field() -> None:
    first, second = (LoadBin(**{name: 10 * worker + i for i, name in enumerate(MERGED)}) for worker in (3, 1))
    for bins in ([first, second], [second, first]):
        merged = merge_bins(bins)
        assert {name: getattr(merged, name) for name in MERGED} == {
            name: rule(getattr(first, name), getattr(second, name)) for name, rule in MERGED.items()
        }
        assert (merged.ttft_ms, merged.gap_ms) == ((), None)


def test_merged_gaps_are_weighted_and_a_worker_without_any_has_no_say() -> None:
    few = load_bin(0.25, gaps=1, gap_ms=(100.0, 110.0, 130.0), ttft_ms=(1.0,), tpot_ms=(2.0,), e2e_ms=(3.0,))
    many = load_bin(0.25, gaps=99, gap_ms=(10.0, 120.0, 125.0), ttft_ms=(4.0,), tpot_ms=(5.0,), e2e_ms=(6.0,))
    few = structs.replace(few, gap_sum_ms=100.0, gap_counts=((265, 1),))
    many = structs.replace(many, gap_sum_ms=990.0, gap_counts=((200, 90), (265, 9)))
    merged = merge_bins([few, many, load_bin(0.25)])
    assert (merged.gap_sum_ms, merged.gap_counts) == (1090.0, ((200, 90), (265, 10)))
    assert merged.gap_ms == pytest.approx((10.9, 120.0, 130.0))
    assert (merged.ttft_ms, merged.tpot_ms, merged.e2e_ms) == ((1.0, 4.0), (2.0, 5.0), (3.0, 6.0))
    assert merged.oldest_prefill_s is None
    assert merge_bins([load_bin(0.25), load_bin(0.25, oldest_prefill_s=2.0)]).oldest_prefill_s == 2.0
    assert merge_bins([few]) is few


# ── Columns ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_column_of_a_request_holds_its_own_figure() -> None:
    facts = Facts()
    facts.extend(FactBatch(t_s=1.0, requests=(record(),)))
    figures = {
        **{"scheduled_s": 1.0, "sent_s": 3.0, "first_token_s": 5.0, "end_s": 15.0},
        **{"ttft_s": 2.0, "tpot_s": 0.2, "e2e_s": 6.0, "prompt_tokens": 19.0, "output_tokens": 21.0},
        **{"ok": 1.0, "error": 0.0, "cancelled": 0.0},
    }
    assert {name: facts.requests.column(name).tolist() for name in figures} == {
        name: [pytest.approx(figure)] for name, figure in figures.items()
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_end_is_good_bad_or_ours(outcome: Outcome) -> None:
    facts = Facts()
    facts.extend(FactBatch(t_s=1.0, requests=(record(outcome=outcome, sent_ns=None),)))
    kinds = [facts.requests.column(name)[0] for name in ("ok", "cancelled", "error")]
    neither = {Outcome.OK: [1, 0, 0], Outcome.CANCELLED: [0, 1, 0], Outcome.TEXTLESS: [0, 0, 0]}
    wanted = neither.get(outcome, [0, 0, 1])
    assert kinds == wanted
    assert all(np.isnan(facts.requests.column(name)[0]) for name in ("sent_s", "ttft_s", "e2e_s"))


def test_a_full_table_drops_a_quarter_at_a_time_and_more_only_if_it_must() -> None:
    table = Table(("a",), cap=8)
    table.extend([(float(i),) for i in range(8)])
    assert (len(table), table.dropped) == (8, 0)
    table.extend([(8.0,)])
    assert (len(table), table.dropped) == (7, 2)
    table.extend([(float(i),) for i in range(9, 14)])
    assert table.column("a").tolist() == [6.0, 7.0, *map(float, range(8, 14))]
    table.extend([])
    assert (len(table), table.dropped) == (8, 6)


def test_a_table_grows_past_its_first_room_without_losing_a_row() -> None:
    table = Table(("a", "b"))
    for i in range(600):
        table.extend([(float(i), -float(i))])
    assert table.column("a").tolist() == list(range(600))
    assert table.column("b").tolist() == [-i for i in range(600)]
    table.extend([(0.0, 0.0)] * 2000)
    assert (len(table), table.dropped) == (2600, 0)
    with pytest.raises(KeyError):
        table.column("c")


def test_a_soak_keeps_four_samples_for_each_request_and_a_file_read_back_keeps_all() -> None:
    batch = FactBatch(
        t_s=1.0,
        requests=(record(),) * 40,
        bins=(load_bin(1.0),) * 40,
        server=(ServerSnapshot(t_s=1.0),) * 40,
    )
    soak = Facts(cap=8)
    whole = Facts.of([batch, batch])
    for _ in range(2):
        soak.extend(batch)
    tables = ("requests", "bins", "server")
    assert [getattr(soak, name).dropped for name in tables] == [40] * 3  # one batch is always kept whole
    soak.extend(FactBatch(t_s=1.0, bins=(load_bin(1.0),), requests=(record(),)))
    assert (len(soak.bins), len(soak.requests)) == (32, 8)
    assert [len(getattr(whole, name)) for name in tables] == [80] * 3


# ── Where TTFT went ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_parts_of_ttft_are_never_below_zero_and_need_all_they_are_made_of() -> None:
    assert split_ttft(1.0, 0.5, 0.4, 0.2).other_s == 0.0
    for parts in ((None, 0.4, 0.2), (0.7, None, 0.2), (0.7, 0.4, None)):
        assert split_ttft(1.0, *parts).other_s is None
    assert split_ttft(1.0, 0.7, None, None).network_s == pytest.approx(0.3)


def test_one_answer_that_was_counted_by_events_makes_the_runs_tokens_a_guess() -> None:
    counted, guessed = record(token_source=TokenSource.USAGE), record(token_source=TokenSource.CHUNKS)
    for order in ((counted, guessed), (guessed, counted)):
        built = frame(FactBatch(t_s=1.0, requests=order))
        assert built.token_source is TokenSource.CHUNKS
        assert built.guesses_tokens
    assert not frame(FactBatch(t_s=1.0, requests=(counted,))).guesses_tokens
