"""Every tool's file of one toy run gives the same figures, by our definitions, or says that it does not hold them."""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmtop.domain.slo import Slo, parse_slo
from llmtop.errors import FileError
from llmtop.exchange import aiperf, benchmark_report, files, guidellm_report, vllm
from llmtop.exchange.files import read, sides_in
from llmtop.exchange.foreign import grouped, level_of
from llmtop.exchange.heads import looks_foreign
from llmtop.exchange.levels import levels_csv, parse_levels

DATA = Path(__file__).parent / "data"
FILES = (
    *("vllm_bench_serve.json", "vllm_bench_serve_detailed.json", "vllm_bench_serve_append.jsonl", "sglang_bench.jsonl"),
    *("guidellm_benchmarks_v2.json", "aiperf_profile_export_aiperf.json", "aiperf_profile_export.jsonl"),
    *("inference_perf_summary_lifecycle_metrics.json", "inference_perf_stage_0_lifecycle_metrics.json"),
    *("llmd_benchmark_report_v0_2_1.json", "inferencex_agg_row.json"),
)
NOT_HELD = {"sglang_bench.jsonl": ("failed",), "inferencex_agg_row.json": ("ok", "failed", "requests_per_s")}
LAW = {"ok": 4, "failed": 1, "output_tokens_per_s": 73.333333, "requests_per_s": 6.666667}
TIMES = {"ttft_p50": 0.130, "tpot_p50": 0.0115, "e2e_p50": 0.245}


def changed(name: str, **keys: Any) -> dict[str, Any]:
    """A file of one object, with other values."""
    return {**json.loads((DATA / name).read_text()), **keys}


def put(folder: Path, value: Any, name: str = "x.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_format_of_the_toy_run_tells_the_same(name: str) -> None:
    for run in read(DATA / name):
        for key, value in LAW.items():
            told = getattr(run, key)
            if key in NOT_HELD.get(name, ()):
                assert told is None, key
            else:
                assert told == pytest.approx(value, rel=1e-6), key
        for key, value in TIMES.items():
            assert run.figure(key) == pytest.approx(value, rel=1e-6), key
        assert (run.prompt_tokens, run.output_tokens) == (128, 11)
        level = level_of(run)
        assert level is not None
        assert level.n == (0 if name == "inferencex_agg_row.json" else 4)
        assert looks_foreign(DATA / name)


def test_a_yaml_report_is_the_same_as_its_json() -> None:
    pytest.importorskip("yaml")
    (one,), (other,) = (read(DATA / f"llmd_benchmark_report_v0_2_1.{end}") for end in ("yaml", "json"))
    assert one == other


def test_without_its_library_a_yaml_report_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(FileError, match=r"pip install 'llmtop\[yaml\]'; or give the report as JSON"):
        read(DATA / "llmd_benchmark_report_v0_2_1.yaml")


def test_the_load_is_as_commanded_else_as_delivered_and_that_is_said() -> None:
    loads = {name: [(run.axis, run.load) for run in read(DATA / name)] for name in FILES}
    assert loads["vllm_bench_serve_append.jsonl"] == [("concurrency", 2), ("concurrency", 4)]
    assert loads["guidellm_benchmarks_v2.json"] == loads["sglang_bench.jsonl"] == [("concurrency", 2)]
    assert loads["inference_perf_stage_0_lifecycle_metrics.json"] == [("rate", 10)]
    (group,) = grouped("x", read(DATA / "aiperf_profile_export.jsonl"))
    assert group.levels[0].load == pytest.approx(1.8166667), "requests/s times mean E2E"
    assert group.notes == ("AIPerf: the load is not told; 1.82 were in flight by Little's law",)


def test_the_server_is_taken_from_a_report_of_one_engine() -> None:
    (run,) = read(DATA / "llmd_benchmark_report_v0_2_1.json")
    assert (run.running, run.waiting, run.kv_usage) == (1.8, 0.0, 0.125)


def test_packed_files_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    data = (DATA / "sglang_bench.jsonl").read_bytes()
    packed, marked = tmp_path / "a.gz", tmp_path / "b"
    packed.write_bytes(gzip.compress(data))
    marked.write_bytes(b"\xef\xbb\xbf" + data)
    assert read(packed) == read(marked) == read(DATA / "sglang_bench.jsonl")
    assert looks_foreign(packed)
    assert looks_foreign(marked)


# -- definitions -------------------------------------------------------------------------------------------------------


def test_guidellms_time_per_output_token_is_none_of_ours() -> None:
    (run,) = read(DATA / "guidellm_benchmarks_v2.json")
    assert run.figure("tpot_mean") == pytest.approx(0.01325), "theirs has 24.8 ms, with TTFT in it"


def test_guidellms_percentiles_over_tokens_are_no_tpot_of_requests_of_several_lengths(tmp_path: Path) -> None:
    report = changed("guidellm_benchmarks_v2.json")
    (benchmark,) = report["benchmarks"]
    benchmark["requests"]["successful"] = benchmark["requests"]["successful"][:2]
    benchmark["metrics"]["output_token_count"]["successful"]["max"] = 12
    (run,) = read(put(tmp_path, report))
    assert (run.figure("tpot_p50"), run.samples) == (None, ())
    assert run.figure("ttft_p50") == pytest.approx(0.13)


def test_stamps_that_do_not_fit_together_are_no_latency(tmp_path: Path) -> None:
    report = changed("guidellm_benchmarks_v2.json")
    times = report["benchmarks"][0]["requests"]["successful"][1]["info"]["timings"]
    for stamp, says in ((3.0, r"first_token_iteration: lies 1\.794e\+09 s after"), (1794000000.3, "lies -0.18")):
        times["request_start"] = stamp
        with pytest.raises(FileError, match=says):
            read(put(tmp_path, report))


def test_an_interactivity_is_one_over_tpot(tmp_path: Path) -> None:
    row = changed("inferencex_agg_row.json", tp=4)
    del row["median_tpot"]
    (run,) = read(put(tmp_path, [row]))
    assert run.figure("tpot_p50") == pytest.approx(0.0115)
    assert run.output_tokens_per_s == pytest.approx(4 * 73.333333), "per GPU, times the GPUs"


def test_older_summaries_of_aiperf_and_genai_perf_say_mean_for_avg(tmp_path: Path) -> None:
    older = changed("aiperf_profile_export_aiperf.json")
    for key in ("schema_version", "aiperf_version", "error_request_count"):
        del older[key]
    older = {
        k: {("mean" if m == "avg" else m): v for m, v in x.items()} if isinstance(x, dict) else x
        for k, x in older.items()
    }
    older["input_config"] = {"perf_analyzer": {"stimulus": {"concurrency": 8}}, "model_names": ["toy"]}
    (run,) = read(put(tmp_path, older))
    assert (run.tool, run.load, run.model, run.ok, run.failed) == ("genai-perf", 8, "toy", 4, 1)
    assert run.figure("ttft_mean") == pytest.approx(0.14)


def test_the_load_of_aiperf_is_that_of_its_one_phase_of_profiling(tmp_path: Path) -> None:
    def load(*phases: dict[str, Any]) -> tuple[str, float | None, str]:
        config = {"models": {"items": [{"name": "org/toy"}]}, "phases": list(phases), "loadgen": None}
        (run,) = read(put(tmp_path, changed("aiperf_profile_export_aiperf.json", input_config=config)))
        return run.axis, run.load, run.model

    warm = {"name": "warmup", "kind": "warmup", "concurrency": 2}
    first, rated = (
        {"name": "a", "kind": "profiling", "concurrency": 8},
        {"name": "profiling", "rate": 3.5, "concurrency": 64},
    )
    assert load(warm, first) == ("concurrency", 8, "org/toy")
    assert load(warm, rated) == ("rate", 3.5, "org/toy"), "what is in flight is capped there"
    assert load(first, rated) == ("concurrency", None, "org/toy"), "figures of several phases are of no load"


def test_units_are_read_and_not_guessed(tmp_path: Path) -> None:
    report = changed("aiperf_profile_export_aiperf.json", time_to_first_token={"unit": "us", "p50": 130_000})
    assert read(put(tmp_path, report))[0].figure("ttft_p50") == pytest.approx(0.13)
    report["time_to_first_token"]["unit"] = "fortnights"
    with pytest.raises(FileError, match=r"time_to_first_token\.unit: is 'fortnights'"):
        read(put(tmp_path, report))


def test_warm_up_is_left_out_and_what_the_tool_cancelled_is_nobodys(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (DATA / "aiperf_profile_export.jsonl").read_text().splitlines()]
    warm, cut = json.loads(json.dumps(lines[0])), json.loads(json.dumps(lines[0]))
    warm["metadata"]["benchmark_phase"] = "warmup"
    cut["metadata"]["was_cancelled"] = True
    (run,) = read(put(tmp_path, "\n".join(json.dumps(line) for line in (warm, cut, *lines))))
    assert (run.ok, run.failed, run.samples[-1].status) == (4, 1, 503)
    with pytest.raises(FileError, match=r"metadata\.benchmark_phase: has no record of the phase profiling"):
        read(put(tmp_path, json.dumps(warm)))


def test_vllms_latencies_without_its_errors_are_no_requests(tmp_path: Path) -> None:
    (run,) = read(put(tmp_path, changed("vllm_bench_serve.json", latencies=[0.2, 0.24, 0.4, 0.25, 0.0])))
    assert run.samples == ()
    detailed = changed("vllm_bench_serve_detailed.json", latencies=[0.2, 0.24, 0.4, 0.25, 0.0])
    detailed["itls"] = [[0.1], [0.12], [0.2], [0.11], []]
    (run,) = read(put(tmp_path, detailed))
    assert run.figure("tpot_p50") == pytest.approx(0.0115), "by tokens, not by the chunks that they came in"
    detailed["completed"] = 3
    assert read(put(tmp_path, detailed))[0].samples == (), "arrays that do not fit what is stated are not believed"


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("aiperf_profile_export_aiperf.json", {"schema_version": "2.0"}, "schema_version: is 2.0; 1.0, 1.1"),
        ("llmd_benchmark_report_v0_2_1.json", {"version": "0.1"}, "version: is 0.1; 0.2 and 0.2.1 are read"),
        ("guidellm_benchmarks_v2.json", {"metadata": {"version": 1}}, "metadata.version: is 1; reports of version 2"),
        ("vllm_bench_serve.json", {"median_ttft_ms": "fast"}, "median_ttft_ms: must be a number, not 'fast'"),
        ("vllm_bench_serve.json", {"median_ttft_ms": -1}, "median_ttft_ms: must be a number from 0"),
        ("vllm_bench_serve.json", {"completed": True}, "completed: must be a number"),
        ("vllm_bench_serve_detailed.json", {"ttfts": [0.1, 0.1, {}, 0, 0]}, r"ttfts\[2\]: must be a number"),
        ("vllm_bench_serve_detailed.json", {"errors": 7}, "errors: must be an array"),
        ("vllm_bench_serve.json", {"input_sequence_throughput": 1}, "embedding benchmark"),
        ("vllm_bench_serve_detailed.json", {"itls": [[], [], [1e6, 2e6], [], []]}, r"itls\[2\]: lies 3e\+06 s after"),
        ("vllm_bench_serve.json", {"max_concurrency": 1e11}, r"a load must be a number from 0\.001 to"),
        ("guidellm_benchmarks_v2.json", {"benchmarks": [7]}, r"benchmarks\[0\]: must be an object"),
        ("inference_perf_summary_lifecycle_metrics.json", {"successes": []}, "successes: must be an object"),
    ],
)
def test_a_wrong_value_is_told_with_file_and_key(tmp_path: Path, name: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(FileError, match=says) as caught:
        read(put(tmp_path, changed(name, **change)))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("7", "entry 1 is no object"),
        ("[1]", "entry 1 is no object"),
        ("[]", "has nothing in it"),
        ("hello", "is of no known format"),
        ('{"a": 1}', r"is of no known format \(its first keys: a\)"),
        ('{"\x1b[2J": 1}', "is not JSON"),
        ('{"\\u001b[2J": 1}', r"first keys: \\x1b\[2J"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "a number in it that nobody means"),
        ('{"a": 1}\n{"a"', "line 2 is not JSON"),
        ("version: [\n", "YAML"),
    ],
)
def test_what_is_no_result_is_told_and_nothing_else(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        read(put(tmp_path, text))


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 10_000)
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(b" " * 1_000_000))
    with pytest.raises(FileError, match="unpacks to more than"):
        read(packed)
    packed.write_bytes(gzip.compress(b"{}" * 100)[:-20])
    with pytest.raises(FileError, match="gzip"):
        read(packed)
    monkeypatch.setattr(files, "MOST_ENTRIES", 2)
    with pytest.raises(FileError, match="more than 2"):
        read(put(tmp_path, '{"a":1}\n{"a":1}\n{"a":1}\n'))
    assert not looks_foreign(tmp_path)
    assert not looks_foreign(tmp_path / "none")


ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e-320, 1e12, 1e308, math.inf, math.nan, 10**400, 0.5, 3),
    *("", "x", "inf", "\x1b[2J", [], [1], [[]], {}, {"a": 1}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in it."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


@example(seed=460660)
@example(seed=1093286)
@example(seed=924265)
@example(seed=6599)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_says_it_is_read_and_written_again_or_refused(seed: int, tmp_path: Path) -> None:
    rng = Random(seed)
    value = json.loads((DATA / rng.choice([name for name in FILES if name.endswith(".json")])).read_text())
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice([path for path in places(value) if path])
        inside = value
        for key in way:
            inside = inside[key]
        inside[last] = copy.deepcopy(rng.choice(ODD))
    path = put(tmp_path, json.dumps(value))
    try:
        runs = read(path)
    except FileError:
        return
    for group in grouped("x", runs):
        assert len(parse_levels(levels_csv(group.side(Slo()).levels))) == len(group.levels)
    for written in (vllm.written, guidellm_report.written):
        json.loads(written(runs[:1]))
    for run in runs:
        json.loads(aiperf.written([run]))
        json.loads(benchmark_report.written([run]))


# -- levels ------------------------------------------------------------------------------------------------------------


def ladder(n: int, ttft_ms: dict[int, tuple[float, float]]) -> str:
    """`vllm bench serve --append-result` of `n` requests a load, by TTFT p50 and p95."""
    rows = []
    for load, (p50, p95) in ttft_ms.items():
        rate = load / (p50 / 1e3 + 1)
        row = changed(
            "vllm_bench_serve.json",
            max_concurrency=load,
            completed=n,
            failed=0,
            median_ttft_ms=p50,
            p95_ttft_ms=p95,
            request_throughput=rate,
            output_throughput=rate * 11,
            mean_e2el_ms=p50 + 1000,
        )
        rows.append(
            json.dumps({k: v for k, v in row.items() if k not in ("mean_ttft_ms", "std_ttft_ms", "p99_ttft_ms")})
        )
    return "\n".join(rows)


KNEE = {
    1: (50.0, 60.0),
    2: (51.0, 61.0),
    4: (52.0, 63.0),
    8: (54.0, 66.0),
    16: (57.0, 70.0),
    24: (600.0, 800.0),
    32: (1100.0, 1500.0),
}


def test_capacity_and_cliff_are_told_by_stated_statistics(tmp_path: Path) -> None:
    path = put(tmp_path, ladder(300, KNEE))
    (side,) = sides_in(path, parse_slo("ttft_p95<500ms"))
    assert (side.capacity.at_slo, side.capacity.fails_at) == (16, 24)
    assert side.cliff.at is not None
    assert 14 < side.cliff.at < 24
    assert [point.ttft_p95_ms for point in side.curve.points[:2]] == pytest.approx([60, 61])
    (side,) = sides_in(path, parse_slo("ttft_p99<500ms"))
    assert side.capacity.at_slo is None, "no p99 is stated, and a p95 that holds proves none"
    assert side.capacity.fails_at == 24, "a p95 beyond the limit proves that p99 is"
    assert {side.traits[name] for name in ("model", "lengths", "measured by")} == {"toy", "2 tok", "vllm bench serve"}


def test_too_few_requests_prove_nothing_and_unknown_counts_less(tmp_path: Path) -> None:
    (side,) = sides_in(put(tmp_path, ladder(20, KNEE)), parse_slo("ttft_p95<500ms"))
    assert (side.capacity.at_slo, side.capacity.fails_at) == (None, None)
    (side,) = sides_in(DATA / "inferencex_agg_row.json", Slo())
    assert side.capacity.at_slo is None
    assert side.curve.points[0].ttft_p50_ms == pytest.approx(130)
    assert side.curve.points[0].attainment is None


def test_of_one_load_twice_the_last_counts_and_that_is_said(tmp_path: Path) -> None:
    text = ladder(300, {2: (50.0, 60.0)}) + "\n" + ladder(300, {2: (70.0, 80.0)})
    (group,) = grouped("x", read(put(tmp_path, text)))
    assert [level.stated.figure("ttft", "p50") for level in group.levels if level.stated] == [0.07]
    assert "more than once: the last counts" in group.notes[0]


def test_what_was_driven_otherwise_is_another_side(tmp_path: Path) -> None:
    rows = [changed("vllm_bench_serve.json"), changed("vllm_bench_serve.json", model_id="other")]
    rows.append(changed("vllm_bench_serve.json", request_rate=3.0))
    sides = sides_in(put(tmp_path, rows), Slo())
    assert [(side.name, side.axis, side.traits["model"]) for side in sides] == [
        ("x@1", "concurrency", "toy"),
        ("x@2", "concurrency", "other"),
        ("x@3", "rate", "toy"),
    ]
    assert not math.isnan(sides[2].levels[0].load)
