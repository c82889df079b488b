"""Where the time went, and whose requests the server holds."""

from __future__ import annotations

import pytest

from llmtop.domain.samples import ServerSnapshot
from llmtop.telemetry.split import counter_rate, foreign_requests, infer_max_num_seqs, split_ttft


def test_the_parts_of_ttft_add_up() -> None:
    split = split_ttft(1.0, 0.7, 0.4, 0.2)
    assert split.network_s == pytest.approx(0.3)
    assert split.other_s == pytest.approx(0.1)
    assert split.network_s + split.queue_s + split.prefill_s + split.other_s == pytest.approx(split.client_s)


def test_no_part_is_made_up() -> None:
    split = split_ttft(1.0, None, 0.4, None)
    assert (split.network_s, split.queue_s, split.prefill_s, split.other_s) == (None, 0.4, None, None)


def test_a_server_that_measures_more_than_the_client_is_noise() -> None:
    assert split_ttft(0.50, 0.51, None, None).network_s == 0.0


@pytest.mark.parametrize(
    ("before", "after", "span_s", "rate"),
    [(10, 30, 4, 5), (10, 10, 1, 0), (30, 10, 1, None), (None, 1, 1, None), (1, None, 1, None), (1, 2, 0, None)],
)
def test_rates_of_counters(before: float | None, after: float | None, span_s: float, rate: float | None) -> None:
    assert counter_rate(before, after, span_s) == rate


@pytest.mark.parametrize(
    ("running", "waiting", "low", "high", "foreign"),
    [
        (10, 5, 15, 15, 0),
        (10, 5, 14, 14, 0),
        (10, 5, 12, 14, 0),
        (10, 5, 4, 5, 10),
        (10, None, 4, None, 6),
        (2, 0, 8, 8, 0),
        (None, 3, 1, 1, None),
    ],
)
def test_foreign_traffic(
    running: float | None, waiting: float | None, low: float, high: float | None, foreign: float | None
) -> None:
    snapshot = ServerSnapshot(t_s=0.0, running=running, waiting=waiting)
    assert foreign_requests(snapshot, low, high) == foreign


def _queued(running: float, **fields: float) -> ServerSnapshot:
    return ServerSnapshot(t_s=0.0, running=running, **({"waiting": 4.0, "preemptions_total": 0.0} | fields))


def test_slots_are_inferred_from_a_plateau_under_a_queue() -> None:
    assert infer_max_num_seqs([_queued(8)] * 4) == 8
    assert infer_max_num_seqs([_queued(8), _queued(7), _queued(8), _queued(8)]) == 8


@pytest.mark.parametrize(
    "snapshots",
    [
        [_queued(8)] * 3,
        [_queued(8, waiting=0)] * 5,
        [_queued(8, kv_usage=0.97)] * 5,
        [_queued(8), _queued(4), _queued(8), _queued(5)],
        [_queued(8, preemptions_total=float(count)) for count in range(5)],
    ],
)
def test_slots_are_not_inferred_from_less(snapshots: list[ServerSnapshot]) -> None:
    assert infer_max_num_seqs(snapshots) is None
