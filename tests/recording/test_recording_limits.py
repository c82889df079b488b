"""What a row may hold: every field of every fact has a range, and what is said to us is kept so that it can be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.plain import plain
from llmtop.domain.profile import Profile
from llmtop.domain.run import Event, Mark, RunMeta
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.meter.quantiles import bucketed
from llmtop.recording import limits, schema
from llmtop.recording.meta import MOST_MODELS
from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter

ANY = st.none() | st.floats()
TEXT = st.text(st.characters(codec=None), max_size=20)


def _read(table: schema.FactTable[Any], fact: Any) -> Any:
    return table.reader(list(table.columns))(table.row(fact))


@given(running=ANY, total=ANY, started=ANY, replicas=st.lists(st.tuples(TEXT, ANY, ANY, ANY), max_size=3), word=TEXT)
def test_whatever_a_server_says_is_kept_so_that_it_can_be_read(
    running: float | None, total: float | None, started: float | None, replicas: list[Any], word: str
) -> None:
    """A figure out of its range is not known; a text keeps what can be kept of it."""
    told = ServerSnapshot(
        t_s=1.0,
        running=running,
        flops_total=total,
        process_start_s=started,
        replicas=tuple(replicas),
        estimated=(word,),
    )
    back = _read(schema.SERVER, told)
    assert back.running == (running if running is not None and 0 <= running <= limits.MOST_LOAD else None)
    assert len(back.replicas) == len(replicas)
    assert _read(schema.GPU, GpuSnapshot(t_s=1.0, index=0, name=word, temperature_c=total)).index == 0
    assert _read(schema.EVENT, Event(1.0, "load", word)).text == plain(
        word.encode("utf-8", "backslashreplace").decode()
    )


def test_a_text_is_kept_as_far_as_it_can_be_read() -> None:
    assert len(_read(schema.MARK, Mark(1.0, "é" * 100_000)).text) == limits.LONGEST_TEXT


@pytest.mark.parametrize("table", schema.BATCH_TABLES.values(), ids=lambda table: table.name)
def test_no_column_takes_what_no_run_brings_about(table: schema.FactTable[Any]) -> None:
    """It is named with what it may be and what it is, in a text that can be shown."""
    for column, hint in table.hints.items():
        read = table.reader([column])
        kind = limits.bare(hint)
        for value in (b"\x00", "[[[[", math.inf, -math.inf, 1e308, -1e31, 2**63 - 1, -(2**63)):
            a_text = kind is str and isinstance(value, str)
            a_count = kind is float and isinstance(value, int) and value > 0
            if a_text or a_count or (column == "burstiness" and value in (math.inf, 1e308)):
                continue
            with pytest.raises(schema.BrokenRow, match=f"^{column} must be .*, and is ") as refused:
                read([value])
            assert str(refused.value).isprintable()


def test_units_have_the_same_range() -> None:
    (low_ns, high_ns), (low_ms, high_ms), (low_s, high_s) = (limits.range_of(f"x_{unit}") for unit in ("ns", "ms", "s"))
    assert (low_ns / 1e9, high_ns / 1e9) == (low_ms / 1e3, high_ms / 1e3) == (low_s, high_s) == (-60, 366 * 86400)


def test_what_is_admitted_is_what_a_run_may_hold() -> None:
    """Larger would break a reader, smaller would refuse a run."""
    assert limits.range_of("output_tokens", int) == (0, 2**53)
    assert limits.range_of("target") == limits.range_of("rate_rps") == (0, 1e9)
    assert limits.range_of("in_flight", int) == limits.range_of("prefilling", int) == (0, 1_000_000)
    assert limits.range_of("flops_total") == (0, 1e30)
    assert limits.range_of("started_at") == limits.range_of("process_start_s") == (0, 2.5e11)
    assert (limits.LONGEST_TEXT, limits.MOST_VALUES, limits.LONGEST_LIST) == (65_536, 65_536, 2**21)
    assert bucketed([round(limits.LONGEST_RUN_S * 1e9)])[0][0] < limits.BUCKETS


def test_a_value_of_a_list_out_of_its_range_is_named_by_its_column() -> None:
    columns = list(schema.BIN.columns)
    row = dict.fromkeys(columns) | {"t_s": 1.0, "span_s": 0.25, "target": 1.0, "in_flight": 1}
    numbers = dict.fromkeys(
        ("prefilling", "sent", "ok", "errors", "cancelled", "output_tokens", "prompt_tokens", "gaps"), 0
    )
    good = row | numbers | dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms", "gap_counts"), "[]")
    read = schema.BIN.reader(columns)
    assert read(list(good.values())).span_s == 0.25
    for name, text in (("ttft_ms", "[1e13]"), ("gap_counts", "[[2000, 1]]"), ("gap_counts", "[[1, -1]]")):
        with pytest.raises(schema.BrokenRow, match=f"{name} must be a list as JSON"):
            read(list((good | {name: text}).values()))


def test_whatever_an_endpoint_says_of_itself_is_kept_so_that_it_can_be_read(tmp_path: Path) -> None:
    info = EndpointInfo(
        dialect=Dialect.VLLM,
        model="m\ud800" * 30_000,
        models=tuple(f"{number:0100}" for number in range(100_000)),
        max_model_len=10**30,
        max_num_seqs=-1,
        server="v" * 100_000,
    )
    where, what = Endpoint(base_url="http://127.0.0.1:1"), Profile(name="p", description="d" * 70_000)
    path = tmp_path / "run.llmtop"
    RunWriter(path, RunMeta(llmtop_version="0", started_at=1.7e9, endpoint=where, info=info, profile=what)).close(0.0)
    with RunReader(path) as run:
        kept = run.meta.info
    assert kept is not None
    assert (kept.max_model_len, kept.max_num_seqs, len(kept.models)) == (None, None, MOST_MODELS)
    assert len(kept.model) == limits.LONGEST_TEXT
