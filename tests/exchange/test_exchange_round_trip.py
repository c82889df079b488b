"""What goes out to another tool's format and comes back is what it was, in all that both hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtop.analysis import assess_levels
from llmtop.analysis.levels import Level, Stated
from llmtop.domain.slo import parse_slo
from llmtop.errors import UsageError
from llmtop.exchange import aiperf, benchmark_report, guidellm_report, vllm
from llmtop.exchange.files import read
from llmtop.exchange.foreign import NAMES, Foreign, Sample, stated_of
from llmtop.exchange.levels import levels_csv, parse_levels

GUIDELLM = (*("mean", "median", "mode", "variance", "std_dev", "min", "max", "count", "total_sum", "percentiles"),)
FIGURES = ("prompt_tokens", "output_tokens", "ok", "failed", "duration_s", "output_tokens_per_s", "requests_per_s")
HELD: dict[str, tuple[str, ...]] = {
    "vllm": ("when", "model", "axis", "load", *FIGURES),
    "guidellm": ("when", "model", "axis", "load", *FIGURES),
    "aiperf": ("when", "model", "axis", "load", *FIGURES),
    "records": ("ok", "failed"),
    "br": ("when", "model", "axis", "load", "tool", "version", "running", "waiting", "kv_usage", *FIGURES),
}
WRITERS: dict[str, Callable[[Sequence[Foreign]], str]] = {
    "vllm": vllm.written,
    "guidellm": guidellm_report.written,
    "aiperf": aiperf.written,
    "records": aiperf.written_records,
    "br": benchmark_report.written,
}
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECONDS = st.floats(1e-3, 100)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Requests that differ in everything; some failed."""
    found = []
    for at in range(draw(st.integers(1, 6))):
        prompt, output = draw(st.integers(1, 4000)), draw(st.integers(1, 500))
        if at and draw(st.booleans()):
            found.append(Sample(start_s=float(at), prompt_tokens=prompt, error="busy"))
            continue
        ttft, tpot = draw(SECONDS), draw(st.floats(1e-3, 1))
        found.append(
            Sample(
                at + draw(st.floats(0, 0.5)),
                ttft,
                tpot if output > 1 else None,
                ttft + tpot * (output - 1),
                prompt,
                output,
            )
        )
    return tuple(found)


@st.composite
def runs(draw: st.DrawFn, *, requests: bool | None = None) -> Foreign:
    """A load as a tool has measured it, request by request or not."""
    own = draw(samples()) if (draw(st.booleans()) if requests is None else requests) else ()
    well = [each for each in own if each.error is None]
    stated = stated_of(own)
    if not own:
        known = draw(st.sets(st.sampled_from(NAMES)))
        stated = {name: draw(SECONDS) for name in NAMES if name in known or name.endswith("_mean")}
    ok = len(well) if own else draw(st.integers(1, 10_000))
    rate = draw(st.floats(0.01, 1000))
    axis = draw(st.sampled_from(["concurrency", "rate"]))
    return Foreign(
        tool="llmtop",
        version="1.0",
        when="2026-11-26T12:00:00+00:00",
        model="org/toy",
        axis="rate" if axis == "rate" else "concurrency",
        load=float(draw(st.integers(1, 1000))) if axis == "concurrency" else draw(st.floats(0.01, 100)),
        prompt_tokens=sum(each.prompt_tokens or 0 for each in well) / ok if own else float(draw(st.integers(1, 9999))),
        output_tokens=sum(each.output_tokens or 0 for each in well) / ok if own else float(draw(st.integers(2, 999))),
        ok=ok,
        failed=len(own) - len(well) if own else draw(st.integers(0, 99)),
        duration_s=ok / rate,
        output_tokens_per_s=draw(st.floats(0.1, 1e5)),
        requests_per_s=rate,
        running=4.5,
        waiting=0.25,
        kv_usage=0.5,
        stated=stated,
        samples=own,
    )


def again(form: str, run: Foreign, folder: Path) -> Foreign:
    """What comes back."""
    path = folder / "x.json"
    path.write_text(WRITERS[form]([run]))
    (found,) = read(path)
    return found


def same(one: Foreign, other: Foreign, names: Sequence[str], unheld: str = "-") -> None:
    """Args: unheld: how the names of statistics begin that the format has not."""
    for name in names:
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9), name
    for name in NAMES:
        value = one.figure(name)
        if value is not None and not name.startswith(unheld):
            assert other.figure(name) == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("form", ["vllm", "guidellm", "aiperf", "br"])
@given(run=runs())
@QUICK
def test_a_load_comes_back(form: str, run: Foreign, tmp_path: Path) -> None:
    back = again(form, run, tmp_path)
    # GuideLLM's TPOT is over tokens: without the requests that is none of ours.
    same(run, back, HELD[form], "tpot" if form == "guidellm" and not run.samples else "-")
    same(
        back,
        again(form, back, tmp_path),
        [each.name for each in fields(Foreign) if each.name not in ("samples", "stated", "traits")],
    )


@pytest.mark.parametrize("form", ["vllm", "guidellm", "records"])
@given(run=runs(requests=True))
@QUICK
def test_requests_come_back(form: str, run: Foreign, tmp_path: Path) -> None:
    back = again(form, run, tmp_path)
    same(run, back, HELD[form])
    assert len(back.samples) == len(run.samples)
    sent = sorted(run.samples, key=lambda each: each.start_s or 0.0)
    for one, other in zip(sent, back.samples, strict=True):
        for name in ("ttft_s", "tpot_s", "e2e_s", "prompt_tokens", "output_tokens", "error"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-6), name


def test_a_guidellm_report_has_all_that_its_own_reader_wants() -> None:
    """GuideLLM 0.8.1's own model takes it: each summary has these keys, and none of them is null."""
    two = (Sample(0.0, 0.1, 0.01, 0.2, 128, 11), Sample(0.1, 0.2, 0.03, 0.26, 128, 3), Sample(0.2, error="busy"))
    run = Foreign(tool="x", load=2.0, ok=2, failed=1, requests_per_s=4.0, output_tokens_per_s=28.0, samples=two)
    (benchmark,) = json.loads(guidellm_report.written([run]))["benchmarks"]
    summaries = {name: each for name, each in benchmark["metrics"].items() if "successful" in each and "total" in each}
    summaries.pop("request_totals")
    assert len(summaries) == 18
    for name, each in summaries.items():
        for status in ("successful", "incomplete", "errored", "total"):
            keys = {*each[status]} - {"pdf"}
            assert keys == {*GUIDELLM}, name
            assert None not in [each[status][key] for key in keys]
            assert len(each[status]["percentiles"]) == 11
    tpot = summaries["inter_token_latency_ms"]["successful"]
    assert tpot["mean"] == pytest.approx((10 * 10 + 2 * 30) / 12), "over tokens"
    assert summaries["time_per_output_token_ms"]["successful"]["max"] == pytest.approx(260 / 3), "with TTFT in it"


def test_several_loads_stand_in_the_formats_that_have_a_place_for_them(tmp_path: Path) -> None:
    base = Foreign(tool="x", ok=4, failed=0, requests_per_s=1.0, stated={"e2e_mean": 2.0})
    several = [replace(base, load=load) for load in (1.0, 2.0, 4.0)]
    for write in (vllm.written, guidellm_report.written):
        path = tmp_path / "x"
        path.write_text(write(several))
        assert [run.load for run in read(path)] == [1, 2, 4]


def test_records_of_requests_without_an_end_are_refused() -> None:
    run = Foreign(tool="x", samples=(Sample(0.0, 0.1, None, None, 1, 1),), ok=1)
    with pytest.raises(UsageError, match="which 1 of 1 lack: take the summary"):
        aiperf.written_records([run])


# -- tables ------------------------------------------------------------------------------------------------------------


def levels(seed: int) -> list[Level]:
    """A knee between 16 and 24, measured request by request."""
    rng = np.random.default_rng(seed)
    found = []
    for load in (1, 2, 4, 8, 16, 24, 32):
        n = 200
        ttft = rng.lognormal(np.log(0.05 if load < 20 else 0.08 * (load - 18)), 0.2, n)
        tpot = rng.lognormal(np.log(0.01), 0.1, n)
        e2e = ttft + 63 * tpot
        tpot[: n // 10] = e2e[: n // 10] = np.nan
        rate = load / float(np.nanmean(e2e))
        found.append(
            Level(
                load=float(load),
                ttft_s=ttft,
                tpot_s=tpot,
                e2e_s=e2e,
                e2e_mean_s=float(np.nanmean(e2e)),
                errors=load // 16,
                status=503,
                requests_per_s=rate,
                output_tokens_per_s=64 * rate,
                waiting=max(0.0, load - 20.0),
                running=min(load, 20.0),
                kv_usage=load / 64,
                prompt_tokens=192.0,
                output_tokens=64.0,
            )
        )
    return found


def test_a_table_of_levels_comes_back_with_the_same_verdict() -> None:
    slo = parse_slo("ttft_p95<500ms,error_ratio<5%")
    before = levels(seed=1)
    after = parse_levels(levels_csv(before))
    assert assess_levels(after, slo=slo) == assess_levels(before, slo=slo)


def test_a_table_of_stated_levels_comes_back() -> None:
    told = {"ttft_p50": 0.13, "ttft_p95": 0.191, "tpot_mean": 0.0132, "e2e_std": 0.07}
    one = Level(load=2.5, stated=Stated(300, told), errors=3, requests_per_s=6.6)
    unknown = Level(load=4.0, stated=Stated(0, told))
    broken = Level(load=8.0, errors=12)
    found = parse_levels(levels_csv([one, unknown, broken]))
    assert [level.stated for level in found] == [one.stated, unknown.stated, None]
    assert [(level.n, level.errors) for level in found] == [(300, 3), (0, 0), (0, 12)]
