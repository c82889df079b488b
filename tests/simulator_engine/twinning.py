"""Levels of a simulated server as a client would have measured them, in virtual time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llmtop.meter.quantiles import quantile
from llmtop.simulator.engine import Engine, Lengths, Preset, VirtualDriver, Visit, closed_loop, open_loop
from llmtop.simulator.engine.twin import Known, Measured

DATA = Path(__file__).parent / "data"


def known_of(preset: Preset, lengths: Lengths, *, slots: int | None = None) -> Known:
    """What a server shows of itself on /metrics and in its settings."""
    config = preset.config
    return Known(
        slots=slots or config.max_num_seqs,
        kv_tokens=config.capacity_tokens,
        block_tokens=config.block_size,
        budget_tokens=config.max_num_batched_tokens,
        prompt_cv=lengths.prompt_cv,
        output_cv=lengths.output_cv,
    )


def measured(
    preset: Preset,
    load: float,
    lengths: Lengths,
    *,
    count: int,
    seed: int = 0,
    rate: bool = False,
    cap: int | None = None,
) -> Measured:
    """One level: a warm-up of one and a half requests a user, then those that are sent until `count` have been.

    Args:
        load: users, or requests/s with `rate`.
        cap: with `rate`, the most that the client has in flight.
    """
    driver = VirtualDriver(Engine(preset.config, preset.step_model, seed), preset.overhead, seed)
    if rate:
        visits = open_loop(driver, load, count + count // 4, lengths, max_in_flight=cap, seed=seed)
        warm_up = count // 4
    else:
        alone_s = lengths.output_tokens * 0.02
        visits = closed_loop(driver, round(load), lengths, stagger_s=alone_s)
        warm_up = round(load) + round(load) // 2
    for _visit in islice(visits, warm_up):
        pass
    driver.restart_gauges()
    first = warm_up if rate else driver.sent
    return _level(driver, visits, load, range(first, first + count), lengths)


def _level(driver: VirtualDriver, visits: Iterator[Visit], load: float, cohort: range, lengths: Lengths) -> Measured:
    ended = []
    for visit in visits:
        if visit.number in cohort:
            ended.append(visit)
            if len(ended) == len(cohort):
                break
    ended = [visit for visit in ended if not visit.rejected]
    gauges = driver.gauges
    seconds = (gauges.until_ns - gauges.since_ns) * 1e-9
    ttft, e2e = (sorted(getattr(visit, name) for visit in ended) for name in ("ttft_s", "e2e_s"))
    tpot = sorted(tpot for visit in ended if (tpot := visit.tpot_s) is not None)
    outputs = mean([visit.output_tokens for visit in ended])
    return Measured(
        load=load,
        n=len(ended),
        prompt_tokens=mean([visit.prompt_tokens for visit in ended]),
        output_tokens=outputs,
        tpot_s=mean(tpot),
        ttft_s=mean(ttft),
        e2e_s=mean(e2e),
        requests_per_s=gauges.output_tokens / seconds / outputs,
        output_tokens_per_s=gauges.output_tokens / seconds,
        ttft_p50_s=quantile(ttft, 0.5),
        ttft_p95_s=quantile(ttft, 0.95),
        tpot_p50_s=quantile(tpot, 0.5),
        tpot_p95_s=quantile(tpot, 0.95),
        running=gauges.running_ns * 1e-9 / seconds,
        kv_usage=gauges.kv_usage_max,
        cached=lengths.shared_prefix,
    )


def mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)


def h100_levels() -> list[Measured]:
    """A measured sweep of request rates on a real server with 128 slots; the client held at most 440 in flight."""
    lines = (DATA / "h100_llama31_8b_rate_seqs128.csv").read_text().splitlines()
    levels = []
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        figures = {name: float(value) for name, value in row.items()}
        rate = figures["completed_rps"]
        levels.append(
            Measured(
                load=figures["offered_rps"],
                n=round(60 * rate),
                prompt_tokens=204,
                output_tokens=64,
                tpot_s=figures["tpot_ms"] * 1e-3,
                ttft_s=figures["ttft_p50_ms"] * 1e-3,
                ttft_p50_s=figures["ttft_p50_ms"] * 1e-3,
                ttft_p95_s=figures["ttft_p95_ms"] * 1e-3,
                e2e_s=figures["e2e_p50_ms"] * 1e-3,
                requests_per_s=rate,
                output_tokens_per_s=figures["output_tok_s"],
            )
        )
    return levels
