"""The presets against measured curves. Each tolerance is what was found to be reachable, not what was reached.

The files in data/ carry their source, licence, hardware and configuration in their first lines.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

import pytest

from llmtop.simulator.engine import (
    Engine,
    Lengths,
    PredictedPoint,
    Preset,
    ReplayRequest,
    SimRequest,
    VirtualDriver,
    Visit,
    load_preset,
    open_loop,
    predict,
)

DATA = Path(__file__).parent / "data"


def curve(name: str) -> list[dict[str, str]]:
    lines = (DATA / f"{name}.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def whole_run(preset: Preset, rate: float, count: int, lengths: Lengths, cap: int) -> list[Visit]:
    """A load tool's run: `count` Poisson requests into an idle server, at most `cap` of them in flight."""
    driver = VirtualDriver(Engine(preset.config, preset.step_model, 1), preset.overhead, 1)
    return list(open_loop(driver, rate, count, lengths, max_in_flight=cap, seed=1))


class TestKvCliffOnOneRtx4090:
    """300 ShareGPT requests replayed on vLLM 0.19 with 2588 blocks; no HTTP, so no server times."""

    preset = load_preset("rtx4090-llama-3.1-8b").with_knobs(
        {"api_in_ms": 0.0, "api_in_us_per_token": 0.0, "api_out_ms": 0.0}
    )
    rows = curve("rtx4090_llama31_8b_sharegpt_requests")

    def test_times_of_the_replayed_requests(self) -> None:
        requests = [
            ReplayRequest(float(row["arrival_s"]), int(row["input_toks"]), int(row["output_toks"])) for row in self.rows
        ]
        prediction = predict(self.preset, requests=requests)
        point = prediction.points[0]
        measured: dict[str, list[float]] = {"ttft": [], "tpot": [], "e2e": []}
        for row in self.rows:
            queued, first, last = (float(row[name]) for name in ("queued_s", "first_token_s", "last_token_s"))
            measured["ttft"].append(1e3 * (first - queued))
            measured["tpot"].append(1e3 * (last - first) / (int(row["output_toks"]) - 1))
            measured["e2e"].append(1e3 * (last - queued))
        for name, found in (("ttft", point.ttft_ms), ("tpot", point.tpot_ms), ("e2e", point.e2e_ms)):
            values = measured[name]
            assert found.mean == pytest.approx(sum(values) / len(values), rel=0.05), name
            assert found.p50 == pytest.approx(quantile(values, 0.5), rel=0.08), name
            assert found.p90 == pytest.approx(quantile(values, 0.9), rel=0.08), name
            assert found.p99 == pytest.approx(quantile(values, 0.99), rel=0.08), name
        assert prediction.makespan_s == pytest.approx(183.6, rel=0.05)
        assert 180 <= point.preemptions <= 320
        assert len(prediction.requests) == 300

    def test_gauges_over_the_run(self) -> None:
        engine = Engine(self.preset.config, self.preset.step_model)
        left = [
            SimRequest(
                id=row["request_id"],
                arrival_ns=round(float(row["arrival_s"]) * 1e9),
                prompt_tokens=int(row["input_toks"]),
                max_tokens=int(row["output_toks"]),
            )
            for row in self.rows
        ]
        now_ns, fullest = 0, [0.0] * 300
        running_at_60 = 0
        while left or engine.has_work:
            while left and left[0].arrival_ns <= now_ns:
                engine.submit(left.pop(0))
            plan = engine.plan(now_ns)
            if plan is None:
                now_ns = left[0].arrival_ns
                continue
            if now_ns < 60e9:
                running_at_60 = engine.running
            second = now_ns // 1_000_000_000
            fullest[second] = max(fullest[second], engine.kv_usage)
            now_ns = plan.end_ns
            engine.commit(plan)
        assert 30 <= running_at_60 <= 45
        assert max(fullest[:7]) >= 0.97
        assert sum(usage >= 0.90 for usage in fullest[6:150]) == 144
        assert sum(usage >= 0.97 for usage in fullest[6:150]) >= 120


class TestSlotCliffOnOneH100:
    """vLLM 0.11 with 128 slots; the client holds at most 440 in flight and adds some 13 ms to every TTFT."""

    preset = load_preset("h100-llama-3.1-8b").with_knobs(
        {
            "max_num_seqs": 128,
            "max_model_len": 512,
            "enable_prefix_caching": False,
            "enable_chunked_prefill": False,
        }
    )
    rows: ClassVar = {float(row["offered_rps"]): row for row in curve("h100_llama31_8b_rate_seqs128")}

    def point(self, rate: float, cap: int | None = None) -> PredictedPoint:
        lengths = Lengths(prompt_tokens=204, output_tokens=64)
        count = max(100, round(40 * rate))
        return predict(self.preset, rate=[rate], lengths=lengths, max_in_flight=cap, requests_per_level=count).points[0]

    @pytest.mark.parametrize(("rate", "tolerance"), [(1.0, 0.10), (31.4, 0.10), (61.79, 0.10), (92.19, 0.15)])
    def test_below_the_cliff(self, rate: float, tolerance: float) -> None:
        point = self.point(rate)
        assert point.tpot_ms.p50 == pytest.approx(float(self.rows[rate]["tpot_ms"]), rel=tolerance)
        if rate < 90:
            assert point.ttft_ms.p99 < 60
        assert point.waiting_mean < 5

    @pytest.mark.parametrize("rate", [122.59, 183.38])
    def test_past_the_cliff(self, rate: float) -> None:
        point = self.point(rate, cap=440)
        assert point.requests_per_s == pytest.approx(102, rel=0.05)
        assert point.tpot_ms.p50 == pytest.approx(float(self.rows[rate]["tpot_ms"]), rel=0.10)
        assert point.ttft_ms.p50 == pytest.approx(float(self.rows[rate]["ttft_p50_ms"]), rel=0.10)
        assert point.running_mean > 126


class TestKneeAndSlotsOnOneA100:
    """Phi-4-mini, 200 in and out, 1000 requests a rate, at most 512 in flight; TTFT holds 280 ms of network."""

    preset = load_preset("a100-phi-4-mini")
    rows: ClassVar = {float(row["offered_rps"]): row for row in curve("a100_phi4mini_rate_guidellm")}
    lengths = Lengths(prompt_tokens=200, output_tokens=200)

    @pytest.mark.parametrize("rate", [2.0, 8.0, 16.0])
    def test_off_the_knee(self, rate: float) -> None:
        point = predict(self.preset, rate=[rate], lengths=self.lengths, requests_per_level=300).points[0]
        assert point.tpot_ms.p50 == pytest.approx(float(self.rows[rate]["itl_p50_ms"]), rel=0.12)

    def test_saturated(self) -> None:
        visits = whole_run(self.preset, 64.0, 1000, self.lengths, cap=512)
        row = self.rows[64.0]
        rate = 1000 / (max(visit.end_ns for visit in visits) * 1e-9)
        assert rate == pytest.approx(float(row["completed_rps"]), rel=0.05)
        ttft_ms = quantile([1e3 * visit.ttft_s for visit in visits], 0.5)
        assert ttft_ms == pytest.approx(float(row["ttft_p50_ms"]) - 280, rel=0.20)
        tpot_ms = quantile([1e3 * (visit.tpot_s or 0.0) for visit in visits], 0.5)
        assert tpot_ms == pytest.approx(float(row["itl_p50_ms"]), rel=0.12)


# users: (output tokens/s, TTFT p50 ms, ITL p50 ms); https://ai.wmx.dev/benchmarks, vLLM 0.23, 256 in, 128 out.
L4_QWEN = {
    2: (367, 37.8, 5.2),
    4: (698, 50.1, 5.3),
    8: (1312, 60.9, 5.5),
    16: (2277, 103.8, 6.0),
    32: (3773, 135.3, 7.1),
}


@pytest.mark.parametrize("users", L4_QWEN)
def test_compute_knee_on_one_l4(users: int) -> None:
    tokens, ttft_ms, itl_ms = L4_QWEN[users]
    point = predict("l4-qwen2.5-0.5b", concurrency=[users], prompt_tokens=256, output_tokens=128).points[0]
    assert point.tpot_ms.p50 == pytest.approx(itl_ms, rel=0.10)
    assert point.output_tokens_per_s == pytest.approx(tokens, rel=0.12)
    assert point.ttft_ms.p50 == pytest.approx(ttft_ms, rel=0.35)


# users: (TTFT mean ms, ITL mean ms, output tokens/s); NVIDIA NIM 1.8.0 performance page, 5000 in, 500 out.
NIM_70B = {
    1: (406.77, 18.58, 51.67),
    25: (688.69, 38.75, 623.4),
    50: (834.51, 59.73, 814.37),
    100: (7996.25, 92.91, 917.26),
    150: (34794.22, 92.86, 920.9),
    250: (88605.32, 93.2, 920.12),
}


def test_kv_cliff_of_an_engine_that_never_preempts() -> None:
    found = {
        users: predict(
            "2xh100-llama-3.3-70b-fp8",
            concurrency=[users],
            prompt_tokens=5000,
            output_tokens=500,
            requests_per_level=min(20 + users, 120),
        ).points[0]
        for users in NIM_70B
    }
    for users in (1, 25, 50, 100):
        assert found[users].tpot_ms.mean == pytest.approx(NIM_70B[users][1], rel=0.08), users
    for users in (150, 250):
        assert found[users].ttft_ms.mean == pytest.approx(NIM_70B[users][0], rel=0.25), users
        assert found[users].output_tokens_per_s == pytest.approx(NIM_70B[users][2], rel=0.10), users
    assert found[50].ttft_ms.mean < 2.5 * found[1].ttft_ms.mean
    assert found[100].ttft_ms.mean > 8 * found[50].ttft_ms.mean
    assert found[100].running_mean == pytest.approx(85, abs=1)
    assert all(point.preemptions == 0 for point in found.values())


@pytest.mark.parametrize("output_tokens", [100, 400])
def test_decode_slope_of_an_older_engine(output_tokens: int) -> None:
    """vLLM 0.8 on an H100 with 64 GB, whose slower memory is taken as 2 TB/s: TPOT over the batch."""
    batches = ("50", "200", "400", "800") if output_tokens == 100 else ("50", "200", "400")
    rows = [
        row
        for row in curve("h100_64g_llama31_8b_decode_closed")
        if row["output_len"] == str(output_tokens) and row["concurrency"] in batches
    ]
    tpot_ms = {}
    for row in rows:
        users = int(row["concurrency"])
        knobs = {
            "engine_version": "0.8",
            "bandwidth_gb_s": 2000.0,
            "num_gpu_blocks": 20934,
            "max_num_batched_tokens": 2048,
            "max_num_seqs": users,
            "enable_prefix_caching": False,
        }
        point = predict(
            "h100-llama-3.1-8b",
            concurrency=[users],
            prompt_tokens=5,
            output_tokens=output_tokens,
            requests_per_level=users,
            knobs=knobs,
        ).points[0]
        assert point.tpot_ms.mean == pytest.approx(float(row["tpot_mean_ms"]), rel=0.15), users
        assert point.tpot_ms.mean is not None
        tpot_ms[users] = point.tpot_ms.mean
    if output_tokens == 100:
        assert 22 <= 1e3 * (tpot_ms[400] - tpot_ms[50]) / 350 <= 35
