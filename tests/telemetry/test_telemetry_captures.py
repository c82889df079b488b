"""Pages of real servers give the figures that they state, read a second time with prometheus-client's parser."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmtop.dialects import DIALECTS, Combine, MetricKind, Signal, number_at
from llmtop.dialects.recognition import recognise_page
from llmtop.domain.endpoint import Dialect
from llmtop.telemetry.answers import read_slots
from llmtop.telemetry.signals import PageReader, PageValues, interval
from llmtop.telemetry.summary import Reading, summarise

with tarfile.open(Path(__file__).with_name("data") / "captures.tar.xz") as archive:
    FILES = {member.name: handle.read() for member in archive if (handle := archive.extractfile(member)) is not None}
PAGES = sorted(name for name in FILES if "metrics" in name and not name.endswith((".headers", ".status")))
DIALECT_OF = {"vllm": Dialect.VLLM, "llamacpp": Dialect.LLAMACPP, "dynamo": Dialect.DYNAMO}


def _table_of(name: str) -> Dialect:
    return DIALECT_OF[name.partition("/")[0]]


@cache
def _figures(name: str) -> PageValues:
    return PageReader(DIALECTS[_table_of(name)]).read(FILES[name])


class Stated:
    """A page by the oracle's eyes."""

    def __init__(self, page: bytes) -> None:
        self.samples = [sample for family in text_string_to_metric_families(page.decode()) for sample in family.samples]

    def values(self, name: str, signal: Signal) -> list[float]:
        return [
            float(sample.value)
            for sample in self.samples
            if sample.name == name
            and math.isfinite(sample.value)
            and all(sample.labels.get(key, text) == text for key, text in signal.where.items())
        ]

    def total(self, name: str, signal: Signal) -> float | None:
        values = self.values(name, signal)
        return sum(values) if values else None

    def value(self, signal: Signal) -> float | tuple[float, float] | None:
        if signal.kind is MetricKind.LABEL:
            texts = [sample.labels.get(signal.label or "") for sample in self.samples if sample.name == signal.name]
            numbers = [float(text) for text in texts if text not in (None, "None")]
            return (numbers[0] if signal.combine is Combine.FIRST else sum(numbers)) if numbers else None
        if signal.kind in (MetricKind.MEAN, MetricKind.RATIO):
            mean = signal.kind is MetricKind.MEAN
            above = self.total(f"{signal.name}_sum" if mean else signal.name, signal)
            below = self.total(f"{signal.name}_count" if mean else signal.over or "", signal)
            return None if above is None or below is None else (above * signal.scale, below)
        values = self.values(signal.name, signal)
        if not values:
            return None
        value = {Combine.MAX: max, Combine.FIRST: lambda each: each[0], Combine.SUM: sum}.get(
            signal.combine, lambda each: sum(each) / len(each)
        )(values)
        if signal.over is not None:
            below = self.total(signal.over, signal)
            return value / below if below else None
        if signal.minus is not None:
            value -= self.total(signal.minus, signal) or 0.0
        return float(value) * signal.scale


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_of_a_page_is_the_one_it_states(name: str) -> None:
    stated, figures = Stated(FILES[name]), _figures(name)
    read = {**figures.gauges, **figures.counters, **figures.quotients}
    for field, signals in DIALECTS[_table_of(name)].metrics.items():
        expected = next((value for signal in signals if (value := stated.value(signal)) is not None), None)
        assert read.get(field) == (pytest.approx(expected) if expected is not None else None), field


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_recognised_and_compares_equal_to_itself(name: str) -> None:
    assert recognise_page(FILES[name]) is (_table_of(name) if "component" not in name else None)
    figures = _figures(name)
    change = interval(figures, figures)
    assert not change.restarted
    assert set(change.counters.values()) <= {0.0}


# Read by eye in the pages: running, waiting, KV usage, preemptions, output tokens.
BY_EYE = {
    "vllm/metrics_idle_fresh.body": (0, 0, 0, 0, 0),
    "vllm/metrics_loaded_tiny_p128_c8.txt": (8, 0, 0.06274509803921569, 0, 3959),
    "vllm/metrics_dp2_loaded.txt": (8, 4, 0.6956521739130435, 0, 3374),
    "llamacpp/metrics_loaded.txt": (4, 4, None, None, 6388),
    "dynamo/frontend_metrics_loaded_c16.txt": (16, 0, None, None, 4428),
}


@pytest.mark.parametrize("name", BY_EYE)
def test_main_figures(name: str) -> None:
    figures = _figures(name)
    read = {**figures.gauges, **figures.counters}
    fields = ("running", "waiting", "kv_usage", "preemptions_total", "generation_tokens_total")
    assert tuple(read.get(field) for field in fields) == BY_EYE[name]


def _snapshots(*names: str) -> Iterator[msgspec.Struct]:
    before = None
    for name in names:
        figures = _figures(name)
        change = interval(before, figures) if before is not None else None
        reading = Reading(
            name="a", table=DIALECTS[_table_of(name)], figures=figures, change=change, answers={"max_num_seqs": 4.0}
        )
        yield summarise(1.0, 0.0, [reading])
        before = figures


def test_kv_pressure_of_vllm_shows_as_preemptions_and_a_full_cache() -> None:
    calm, pressed = _snapshots("vllm/metrics_preempting_c2.txt", "vllm/metrics_preempting_c16.txt")
    assert calm.preemptions_total == 0
    assert calm.kv_usage < 0.7
    assert pressed.preemptions_total == 44
    assert pressed.kv_usage == pytest.approx(20 / 23)
    assert (pressed.running, pressed.waiting) == (3, 13)
    assert (pressed.num_gpu_blocks, pressed.block_size, pressed.kv_capacity_tokens) == (24, 128, 3072)
    assert pressed.ttft_mean_s == pytest.approx((143.43874406814575 - 0.7461934089660645) / 58)
    assert pressed.prefix_hit_ratio == 0


def test_means_are_of_the_interval_between_two_pages() -> None:
    names = ("vllm/metrics_loaded_tiny_p128_c8.txt", "vllm/metrics_loaded_tiny_p128_c16.txt")
    first, second = _snapshots(*names)
    before, after = (Stated(FILES[name]) for name in names)
    signal = DIALECTS[Dialect.VLLM].metrics["ttft_mean_s"][0]
    sums = [page.total(f"{signal.name}_sum", signal) for page in (before, after)]
    counts = [page.total(f"{signal.name}_count", signal) for page in (before, after)]
    assert first.ttft_mean_s is None, "one page has no interval"
    assert second.ttft_mean_s == pytest.approx((sums[1] - sums[0]) / (counts[1] - counts[0]))


def test_engines_of_one_server_keep_their_rows_and_multiply_its_slots() -> None:
    (both,) = _snapshots("vllm/metrics_dp2_loaded.txt")
    assert both.replicas == (("0", 4, 0, 0.6956521739130435), ("1", 4, 4, 0.6956521739130435))
    assert both.max_num_seqs == 8
    (one,) = _snapshots("vllm/metrics_loaded_tiny_p128_c8.txt")
    assert one.replicas == ()


def test_flops_that_never_moved_are_not_a_measurement() -> None:
    (idle,) = _snapshots("vllm/metrics_loaded_tiny_p128_c8.txt")
    assert idle.flops_total is None
    assert idle.memory_bytes_total is None


def test_two_api_processes_export_no_process_figures_and_still_the_engine() -> None:
    (page,) = _snapshots("vllm/metrics_api_servers2.txt")
    assert page.process_start_s is None
    assert page.running is not None


def test_speculation_is_accepted_tokens_over_drafted_ones() -> None:
    figures = _figures("vllm/metrics_spec_decode.txt")
    accepted, drafted = figures.quotients["spec_accept_ratio"]
    assert 0 < accepted <= drafted


def test_a_restart_is_seen() -> None:
    old, fresh = _figures("vllm/metrics_loaded_tiny_p128_c8.txt"), _figures("vllm/metrics_idle_fresh.body")
    change = interval(old, fresh)
    assert change.restarted
    assert change.counters == {}


@pytest.mark.parametrize(
    ("name", "busy", "used"),
    [
        ("slots_idle.body", 0, 0),
        ("slots_3of4.json", 1, 496),
        ("slots_kv_unified.json", 4, 1984),
        ("slots_loaded.json", 4, 388),
    ],
)
def test_slots_of_llamacpp(name: str, busy: int, used: float) -> None:
    slots = read_slots(msgspec.json.decode(FILES[f"llamacpp/{name}"]))
    assert slots is not None
    assert (slots.busy, slots.total, slots.used_tokens, slots.capacity_tokens) == (busy, 4, used, 8192)


def test_a_refused_slots_answer_is_not_an_idle_server() -> None:
    assert read_slots(msgspec.json.decode(FILES["llamacpp/slots_none_free.json"])) is None


def test_what_vllm_tells_of_its_scheduler_in_development_mode() -> None:
    answer = msgspec.json.decode(Path(__file__).with_name("data").joinpath("vllm_server_info.json").read_bytes())
    facts = DIALECTS[Dialect.VLLM].json_facts
    told = {
        field: number_at(answer, fact.key)
        for field, ways in facts.items()
        for fact in ways
        if fact.path.startswith("/server_info")
    }
    assert told["max_num_seqs"] == 8
    assert told["max_num_batched_tokens"] == 2048
