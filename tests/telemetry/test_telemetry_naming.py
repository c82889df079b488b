"""Names of metrics as they arrive: whatever a path or a collector made of them, the figures are the same."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest

from llmtop.dialects import DIALECTS
from llmtop.dialects.naming import AS_EXPORTED, BARE_SIGNS, Naming, naming_on, own_names
from llmtop.dialects.recognition import recognise_page
from llmtop.domain.endpoint import Dialect
from llmtop.telemetry.signals import PageReader

from .test_telemetry_captures import FILES, PAGES, _figures, _table_of

NAMINGS = [Naming("ray_"), Naming("ray_", True), Naming("", True), Naming("tenant_7:"), Naming("my_exporter_", True)]


def renamed(page: bytes, dialect: Dialect, naming: Naming) -> bytes:
    """A page whose engine's names are written in another way."""
    starts = b"|".join(re.escape(start.encode()) for start in DIALECTS[dialect].detection.metric_prefixes)
    return re.sub(
        b"(?m)^(# (?:HELP|TYPE) )?((?:" + starts + b")[A-Za-z0-9_:]*)",
        lambda found: (found[1] or b"") + naming.of(found[2].decode()).encode(),
        page,
    )


@pytest.mark.parametrize("name", PAGES)
def test_renamed_figures_are_the_same(name: str) -> None:
    dialect = _table_of(name)
    table, page = DIALECTS[dialect], FILES[name]
    if not any(own.encode() in page for own in own_names(table)):
        return
    colons = any(":" in start for start in table.detection.metric_prefixes)
    for naming in NAMINGS:
        other = renamed(page, dialect, naming)
        is_same = naming.of("vllm:x") == "vllm:x" or (naming.joined and not naming.prefix and b":" not in page)
        if colons or naming.prefix:
            assert is_same or naming_on(other, table) == Naming(naming.prefix, naming.joined and colons), naming
        assert recognise_page(other) is dialect, naming
        assert PageReader(table).read(other) == _figures(name), naming


@pytest.mark.parametrize("name", PAGES)
def test_the_order_of_lines_is_nothing(name: str) -> None:
    lines = FILES[name].splitlines(keepends=True)
    Random(name).shuffle(lines)
    shuffled, before = PageReader(DIALECTS[_table_of(name)]).read(b"".join(lines)), _figures(name)
    assert shuffled.counters == pytest.approx(before.counters)
    assert {key: value for key, value in shuffled.gauges.items() if key in ("running", "waiting", "kv_usage")} == {
        key: value for key, value in before.gauges.items() if key in ("running", "waiting", "kv_usage")
    }


@pytest.mark.parametrize(
    "page",
    [
        b"my_vllm_exporter_up 1\nvllm_exporter_build_info 1\nnum_requests_running 4\n",
        b"# HELP ray_vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\n",
        b"notvllm:num_requests_running_extra 1\nvllm_num_requests_runningx 1\n",
        b"",
    ],
)
def test_names_that_look_alike_are_nobodys(page: bytes) -> None:
    assert recognise_page(page) is None
    assert naming_on(page, DIALECTS[Dialect.VLLM]) is None


def test_a_page_as_it_was_exported_is_read_as_it_is() -> None:
    assert naming_on(b"vllm:num_requests_running 1\n", DIALECTS[Dialect.VLLM]) == AS_EXPORTED


def series(name: str, value: float, **labels: str) -> str:
    told = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value}\n"


def test_a_total_of_parts_by_two_labels_is_counted_once() -> None:
    parts = [("1", "a", 1.0), ("2", "b", 2.0)]
    page = series("sglang:num_running_reqs", 3.0, priority="", tenant="")
    page += "".join(series("sglang:num_running_reqs", value, priority=p, tenant=t) for p, t, value in parts)
    page += series("sglang:num_running_reqs", 1.0, priority="1", tenant="")
    assert PageReader(DIALECTS[Dialect.SGLANG]).read(page).gauges["running"] == 3.0


TRTLLM = {
    "request_success_total": 4,
    "num_requests_running": 3,
    "num_requests_waiting": 7,
    "kv_cache_hit_rate": 0.1,
    "kv_cache_utilization": 0.42,
    "time_to_first_token_seconds_sum": 2,
    "time_to_first_token_seconds_count": 4,
}


@pytest.mark.parametrize("start", ["", "trtllm:", "trtllm_", "ray_trtllm_"])
def test_tensorrt_llm_is_read_with_its_prefix_another_and_none(start: str) -> None:
    lines = "".join(series(start + name, value, model_name="m") for name, value in TRTLLM.items())
    assert recognise_page(lines.encode()) is Dialect.TRTLLM
    found = PageReader(DIALECTS[Dialect.TRTLLM]).read(lines)
    assert found.gauges == {"running": 3.0, "waiting": 7.0, "kv_usage": 0.42, "prefix_hit_ratio": 0.1}
    assert found.quotients == {"ttft_mean_s": (2.0, 4.0)}


def test_one_or_two_bare_names_are_anybodys() -> None:
    bare = DIALECTS[Dialect.TRTLLM].detection.bare_metrics
    pages = ["".join(series(name, 1.0) for name in bare[:count]).encode() for count in (BARE_SIGNS - 1, BARE_SIGNS)]
    assert [recognise_page(page) for page in pages] == [None, Dialect.TRTLLM]
    assert BARE_SIGNS == 3


@pytest.mark.parametrize(
    ("lines", "running"),
    [
        (['{model_name="m"} 3', '{model_name="n"} 20'], 3.0),
        (['{model_name="n"} 3', '{model_name="o"} 20'], 23.0),
        (['{engine="0"} 1', '{engine="1"} 2', " 3"], 3.0),
        (['{tenant="all"} 3', '{tenant="a"} 2', '{tenant="b"} 1'], 3.0),
    ],
)
def test_of_several_models_and_of_totals_the_figure_is_that_of_the_driven_one(lines: list[str], running: float) -> None:
    page = "".join(f"vllm:num_requests_running{line}\n" for line in lines)
    assert PageReader(DIALECTS[Dialect.VLLM], "m").read(page).gauges["running"] == running


@pytest.mark.parametrize("start", ["\ufeff", "  ", "\t", '{"'])
def test_a_mark_blanks_and_quotes_before_a_name_are_nothing(start: str) -> None:
    end = '",engine="0"}' if start == '{"' else ""
    page = f"{start}vllm:num_requests_running{end} 3\n"
    assert recognise_page(page.encode().removeprefix(b"\xef\xbb\xbf")) is Dialect.VLLM
    assert PageReader(DIALECTS[Dialect.VLLM]).read(page).gauges["running"] == 3.0


def test_a_share_above_one_is_in_another_unit_and_not_known() -> None:
    for told, is_known in ((1.0, True), (1.005, True), (1.02, False), (42.0, False)):
        page = f"vllm:kv_cache_usage_perc {told}\nvllm:num_requests_running 1\n"
        assert ("kv_usage" in PageReader(DIALECTS[Dialect.VLLM]).read(page).gauges) is is_known


@pytest.mark.parametrize("total", [{"priority": ""}, {}])
@pytest.mark.parametrize("engines", [("0",), ("0", "1")])
def test_a_total_beside_its_parts_is_counted_once(total: dict[str, str], engines: tuple[str, ...]) -> None:
    table, parts = DIALECTS[Dialect.SGLANG], ("low", "high", "x")
    page, whole = "", ""
    for engine in engines:
        for at, name in enumerate(("sglang:num_running_reqs", "sglang:num_queue_reqs")):
            more: dict[str, Any] = {"dp_rank": engine, "model_name": "m"}
            values = [at + int(engine) + n for n in range(len(parts))]
            page += "".join(series(name, value, priority=p, **more) for p, value in zip(parts, values, strict=True))
            page += series(name, sum(values), **total, **more)
            whole += series(name, sum(values), **more)
    found, expected = PageReader(table).read(page), PageReader(table).read(whole)
    assert found == expected
    assert found.gauges["running"] == sum(3 * int(engine) + 3 for engine in engines)
