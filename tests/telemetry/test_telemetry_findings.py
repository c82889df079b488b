"""Doctor's rows on metrics, and the README's table of dialects."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.dialects import DIALECTS, Evidence
from llmtop.domain.endpoint import Dialect, Endpoint, Finding
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.telemetry.findings import COLUMNS, SCRAPES, dialect_table_markdown, examine_metrics, metrics_findings
from llmtop.wording.between import several_replicas


def _rows(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_server_without_a_page_gets_the_flag_that_gives_one() -> None:
    rows = _rows(metrics_findings(DIALECTS[Dialect.LLAMACPP], ServerSnapshot(t_s=0.0), (), "HTTP 501"))
    assert rows["server figures"] == Finding("server figures", False, "HTTP 501", "--metrics")
    assert rows["GPU"].ok is None
    assert rows.keys() == {"server figures", "GPU"}, "one row says it for all"
    rows = _rows(metrics_findings(DIALECTS[Dialect.LLAMACPP], ServerSnapshot(t_s=0.0, running=1.0), (), "HTTP 501"))
    assert rows["queue"].ok is False
    assert rows["queue"].found == "running 1, waiting n/a (metric absent)"
    assert rows["KV cache"].advice == "--metrics"


def test_what_a_page_lacks_is_told_once() -> None:
    for table in DIALECTS.values():
        if flag := table.advice.enable_metrics:
            row = metrics_findings(table, ServerSnapshot(t_s=0.0), (), f"http://h/metrics: HTTP 404: {flag}")[0]
            assert (row.found, row.advice) == ("http://h/metrics: HTTP 404", flag)
    flag = DIALECTS[Dialect.VLLM].advice.enable_metrics
    for said, seen, types in (
        ("http://h/metrics: HTTP 404", "http://h/metrics: HTTP 404", flag),
        (f"http://h/metrics: HTTP 404: {flag}", "http://h/metrics: HTTP 404", flag),
        ("u: HTTP 401, it is hidden: name it with --metrics-url", "u: HTTP 401, it is hidden", "name it with"),
    ):
        row = metrics_findings(DIALECTS[Dialect.VLLM], ServerSnapshot(t_s=0.0), (), said)[0]
        assert row.found == seen
        assert (row.advice or "").startswith(types or "")


def test_what_a_full_page_tells_is_in_the_rows() -> None:
    snapshot = ServerSnapshot(
        t_s=0.0,
        running=0.0,
        waiting=0.0,
        kv_usage=0.25,
        num_gpu_blocks=256,
        block_size=128,
        kv_capacity_tokens=32768,
        max_num_seqs=8,
        max_model_len=2048,
    )
    known = {"running", "waiting", "generation_tokens_total", "ttft_mean_s", "queue_mean_s"}
    gpu = GpuSnapshot(t_s=0.0, index=0, name="L4", memory_total_bytes=24 << 30, throttle=("thermal",))
    rows = _rows(metrics_findings(DIALECTS[Dialect.VLLM], snapshot, known, None, (gpu,)))
    assert rows["queue"].found == "running 0, waiting 0", "a measured zero is a zero"
    assert rows["KV cache"].found == "25% used, 32768 tokens (256 blocks of 128)"
    assert rows["slots"].found == "8 requests at once, context 2048 tokens"
    assert rows["server latency"].found == "TTFT, queue"
    assert "absent: prompt tokens" in rows["counters"].found
    assert rows["GPU"].found == "1 x L4, 24 GiB, throttled: thermal"
    assert all(row.ok for row in rows.values())


def test_estimates_are_marked() -> None:
    snapshot = ServerSnapshot(
        t_s=0.0, kv_usage=0.5, kv_capacity_tokens=300, estimated=("kv_usage", "kv_capacity_tokens")
    )
    rows = _rows(metrics_findings(DIALECTS[Dialect.LLAMACPP], snapshot, (), None))
    assert rows["KV cache"].found == "~50% used, ~300 tokens"


def test_replicas_in_turn_get_what_to_type_instead_of_one_replicas_figures() -> None:
    said = several_replicas("http://h/metrics", 2)
    rows = metrics_findings(DIALECTS[Dialect.VLLM], ServerSnapshot(t_s=0.0), (), said, in_turn=True)
    assert rows[0] == Finding(
        "server figures",
        False,
        "http://h/metrics: 2 replicas answer here in turn: none is one server's",
        "name the page of each with --metrics-url",
    )
    assert [row.name for row in rows] == ["server figures", "GPU"]


@pytest.mark.parametrize(
    ("answer", "hidden"),
    [
        ((403, b"{}", ""), True),
        ((401, b"<html>", ""), True),
        (b"<html>login</html>", True),
        ((302, b"", "Location: http://login.example/\r\n"), True),
        ((200, b"\x1f\x8b", "Content-Encoding: gzip\r\n"), True),
        ((404, b"{}", ""), False),
        (b"process_resident_memory_bytes 5\n", False),
    ],
)
async def test_no_flag_of_the_server_is_advised_where_something_hides_its_page(
    server: Any, answer: Any, hidden: bool
) -> None:
    server.pages["/metrics"] = answer
    rows = await examine_metrics(Endpoint(base_url=server.url), Dialect.VLLM)
    advised = " ".join(row.advice or "" for row in rows if row.name != "GPU")
    assert ("--metrics-url" in advised) is hidden
    assert ("--disable-log-stats" in advised) is not hidden


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((403, b"{}", ""), "HTTP 403, it wants an API key, or is hidden"),
        ((302, b"", "Location: http://login.example/\r\n"), "HTTP 302, sent on to http://login.example/"),
        ((404, b"{}", ""), "HTTP 404"),
        (b"process_resident_memory_bytes 5\n", "none of the metrics"),
    ],
)
async def test_of_an_unknown_server_it_is_told_what_the_usual_page_is(server: Any, answer: Any, seen: str) -> None:
    server.pages["/metrics"] = answer
    row = _rows(await examine_metrics(Endpoint(base_url=server.url), Dialect.OPENAI))["server figures"]
    assert row.ok is False
    assert f"{server.url}/metrics: " in row.found
    assert seen in row.found
    asked = len(server.paths())
    told = Endpoint(base_url=server.url, dialect=Dialect.OPENAI)
    assert _rows(await examine_metrics(told, Dialect.OPENAI))["server figures"].ok is False
    assert len(server.paths()) == asked, "a run by the dialect that was told reads no page either"


@pytest.mark.parametrize("dialect", Dialect)
def test_what_a_page_that_is_read_lacks_is_not_looked_for_at_another_address(dialect: Dialect) -> None:
    table = DIALECTS[dialect]
    rows = _rows(metrics_findings(table, ServerSnapshot(t_s=0.0, running=1.0), {"running"}, None))
    assert rows["counters"].advice == table.advice.enable_metrics
    assert (table.advice.more_slots or "none") in (rows["slots"].advice or "none")


@pytest.mark.parametrize("dialect", [each for each in Dialect if DIALECTS[each].detection.metric_prefixes])
async def test_a_page_without_a_number_yet_is_the_engines_page(server: Any, dialect: Dialect) -> None:
    signals, path = DIALECTS[dialect].metrics["running"], DIALECTS[dialect].metrics_path
    where = "".join(f'{key}="{text}",' for key, text in signals[0].where.items())
    server.pages[path] = f"{signals[0].name}{{{where}}} NaN\nprocess_resident_memory_bytes NaN\n".encode()
    rows = _rows(await examine_metrics(Endpoint(base_url=server.url), dialect))
    assert rows["server figures"].ok is False
    assert "no number yet" in rows["server figures"].found
    assert rows["queue"].found == "running n/a (metric absent), waiting n/a (metric absent)"
    server.pages[path] = b"process_resident_memory_bytes NaN\n"
    rows = _rows(await examine_metrics(Endpoint(base_url=server.url), dialect))
    assert "none of the metrics" in rows["server figures"].found


async def test_examining_a_server_asks_often_enough_to_see_replicas(server: Any) -> None:
    server.pages["/metrics"] = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"
    rows = _rows(await examine_metrics(Endpoint(base_url=server.url), Dialect.VLLM))
    assert rows["queue"].ok
    assert server.paths().count("/metrics") == SCRAPES == 4


def test_the_table_has_a_row_per_dialect_with_metrics_and_marks_what_no_capture_backs() -> None:
    lines = dialect_table_markdown().splitlines()
    assert lines[0] == f"| server | {' | '.join(COLUMNS)} |"
    titles = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    assert titles == [DIALECTS[each].title for each in Dialect if DIALECTS[each].metrics]
    assert len({line.count("|") for line in lines}) == 1
    for dialect, line in zip((each for each in Dialect if DIALECTS[each].metrics), lines[2:], strict=True):
        cells = line.strip("| ").split(" | ")[1:]
        for fields, cell in zip(COLUMNS.values(), cells, strict=True):
            signals = [signal for field in fields for signal in DIALECTS[dialect].metrics.get(field, ())]
            backed = any(signal.evidence is Evidence.CAPTURE for signal in signals)
            assert ("from source" in cell) == (bool(signals) and not backed and "/slots" not in cell)
            assert (cell == "none") == (not signals)


def test_vllms_row_is_backed_by_captures_alone() -> None:
    row = next(line for line in dialect_table_markdown().splitlines() if line.startswith("| vLLM"))
    assert "from source" not in row
    assert "`vllm:num_requests_waiting`" in row
