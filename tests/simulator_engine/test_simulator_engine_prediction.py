"""`predict`: pure, complete, and true to the demo's promise."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest

from llmtop.errors import UsageError
from llmtop.simulator.engine import Latency, Lengths, Prediction, ReplayRequest, load_preset, predict


def test_the_demo_has_a_knee_at_16_users_and_a_cliff_at_32() -> None:
    points = predict("laptop", concurrency=[8, 16, 32, 36, 40, 48]).points
    found = {point.concurrency: point for point in points}
    tokens = {users: point.output_tokens_per_s for users, point in found.items()}
    assert tokens[16] / tokens[8] > 1.4
    assert tokens[32] / tokens[16] < 1.4
    assert found[32].ttft_ms.p50 < 1.4 * found[8].ttft_ms.p50
    assert found[32].ttft_ms.p95 < 500 < 1000 < found[36].ttft_ms.p95
    assert found[48].ttft_ms.p50 > 4 * found[32].ttft_ms.p50
    assert found[48].running_mean == pytest.approx(32, abs=0.2)
    assert found[48].waiting_mean == pytest.approx(16, abs=2)
    assert found[48].kv_usage_max < 0.8, "the slots bind, not the KV cache"


def test_other_walls_of_the_demo_are_a_knob_away() -> None:
    longer = predict("laptop", concurrency=[48], prompt_tokens=1000).points[0]
    assert longer.kv_usage_max > 0.95
    assert longer.running_mean < 16
    wider = predict("laptop", concurrency=[40], knobs={"max_num_seqs": 64}).points[0]
    assert wider.running_mean > 36
    assert wider.waiting_mean < 1


def test_users_who_start_by_themselves_are_no_convoy() -> None:
    at_once, apart = (predict("laptop", concurrency=[48], stagger_s=stagger).points[0] for stagger in (0.0, None))
    assert (apart.ttft_ms.p95 or 0.0) < 0.9 * (at_once.ttft_ms.p95 or 0.0)


def test_a_request_that_does_not_fit_is_an_error_and_not_a_table_of_zeros() -> None:
    for asked in ({"prompt_tokens": 2000}, {"output_tokens": 1900}):
        with pytest.raises(UsageError, match="do not fit laptop: a request may have 2048"):
            predict("laptop", concurrency=[1], **asked)
    assert predict("laptop", concurrency=[1], prompt_tokens=1984, requests_per_level=1).points[0].n == 1


def test_the_same_arguments_give_the_same_prediction() -> None:
    first, second = (predict("laptop", rate=[2.0, 6.0], seed=4) for _ in range(2))
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(second)
    assert predict("laptop", rate=[2.0, 6.0], seed=5) != first


def test_a_level_does_not_depend_on_the_others() -> None:
    alone = predict("laptop", concurrency=[8]).points[0]
    assert predict("laptop", concurrency=[4, 8]).points[1] == alone


def test_a_point_has_every_figure() -> None:
    point = predict("laptop", concurrency=[4]).points[0]
    for latency in (point.ttft_ms, point.tpot_ms, point.e2e_ms):
        figures = msgspec.structs.asdict(latency)
        assert list(figures) == ["mean", "p50", "p90", "p95", "p99"]
        assert figures["p50"] <= figures["p90"] <= figures["p95"] <= figures["p99"]
    assert point.n == len(point.samples.ttft_s) == len(point.samples.tpot_s) == len(point.samples.e2e_s) == 200
    assert point.requests_per_s == pytest.approx(point.output_tokens_per_s / 64)
    assert 0 < point.running_mean <= 4
    assert point.rate_rps is None


def test_open_loop_below_capacity_delivers_what_is_offered() -> None:
    point = predict("laptop", rate=[4.0], burstiness=math.inf).points[0]
    assert point.requests_per_s == pytest.approx(4.0, rel=0.03)
    assert (point.rate_rps, point.concurrency) == (4.0, None)


def test_bursts_hurt() -> None:
    smooth, poisson, bursty = (
        predict("laptop", rate=[8.0], burstiness=shape).points[0].ttft_ms.p95 or 0.0 for shape in (math.inf, 1.0, 0.1)
    )
    assert smooth < poisson < bursty


def test_users_that_start_apart_do_not_march_in_step() -> None:
    together, apart = (
        predict("laptop", concurrency=[16], stagger_s=stagger, knobs={"jitter": 0.0}).points[0].ttft_ms.p50 or 0.0
        for stagger in (0.0, 2.0)
    )
    assert apart < together / 1.5


def test_a_client_cap_bounds_what_is_in_the_system() -> None:
    point = predict("laptop", rate=[50.0], max_in_flight=40, requests_per_level=400).points[0]
    assert point.running_mean + point.waiting_mean <= 40
    assert point.running_mean == pytest.approx(32, abs=1)


def test_a_full_queue_turns_requests_away() -> None:
    point = predict("laptop", rate=[30.0], knobs={"max_num_queued_reqs": 10}).points[0]
    assert point.rejections > 100
    assert point.n + point.rejections == 900
    assert point.waiting_mean <= 10


def test_a_replay_reports_every_request() -> None:
    requests = [ReplayRequest(10.0, 100, 20), ReplayRequest(10.5, 5000, 20), ReplayRequest(11.0, 50, 1)]
    prediction = predict("laptop", requests=requests)
    assert prediction.axis == "replay"
    rows = prediction.requests
    assert [row.input_tokens for row in rows] == [100, 5000, 50]
    assert rows[0].ttft_s is not None
    assert rows[0].e2e_s == pytest.approx(rows[0].ttft_s + 19 * (rows[0].tpot_s or 0.0))
    assert (rows[1].ttft_s, rows[1].e2e_s) == (None, None), "longer than the model allows"
    assert rows[2].tpot_s is None
    assert prediction.points[0].rejections == 1
    assert prediction.makespan_s == pytest.approx(1.0 + (rows[2].e2e_s or 0.0), abs=0.2)


def test_a_prediction_survives_json() -> None:
    prediction = predict("laptop", concurrency=[1], lengths=Lengths(output_tokens=1), requests_per_level=3)
    assert prediction.points[0].tpot_ms == Latency()
    assert msgspec.json.decode(msgspec.json.encode(prediction), type=Prediction) == prediction


@pytest.mark.parametrize("arguments", [{}, {"concurrency": [1], "rate": [1.0]}, {"concurrency": [0]}, {"rate": [-1.0]}])
def test_what_cannot_be_meant(arguments: dict[str, list[float]]) -> None:
    with pytest.raises(UsageError, match="predict"):
        predict("laptop", **arguments)  # type: ignore[arg-type]


def test_a_preset_can_be_given_as_it_is() -> None:
    preset = load_preset("laptop").with_knobs({"max_num_seqs": 2})
    assert predict(preset, concurrency=[8], requests_per_level=40).points[0].running_mean <= 2


def test_the_engine_imports_no_clock_no_loop_and_no_numpy() -> None:
    code = "import sys, llmtop.simulator.engine; print([m for m in ('asyncio', 'socket', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
