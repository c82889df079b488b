"""Laws of reading a page into figures and of adding up replicas."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.dialects import DIALECTS, number_at
from llmtop.domain.endpoint import Dialect
from llmtop.domain.samples import ServerSnapshot
from llmtop.telemetry.answers import read_slots
from llmtop.telemetry.exposition import SERIES_LIMIT, TooManySeries, is_figure
from llmtop.telemetry.signals import ENGINE_LIMIT, PageReader, PageValues, interval
from llmtop.telemetry.summary import Reading, summarise

TABLE = DIALECTS[Dialect.VLLM]
NAMES = sorted(
    {
        name
        for signals in TABLE.metrics.values()
        for signal in signals
        for name in (signal.name, f"{signal.name}_sum", f"{signal.name}_count")
    }
)
LINE = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(["", '{engine="0"}', '{engine="1"}', '{engine="0",tp_rank="1"}', '{block_size="None"}']),
    st.sampled_from(["0", "1", "2.5", "NaN", "+Inf", "x", ""]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n_ctx", "next_token", "0"]), inner),
    max_leaves=8,
)


def read(page: str) -> PageValues:
    return PageReader(TABLE).read(page)


def reading(figures: PageValues | None, name: str = "a", **fields: object) -> Reading:
    return structs.replace(Reading(name=name, table=TABLE, figures=figures, answers={}), **fields)


@given(st.lists(LINE, max_size=30))
def test_no_figure_appears_without_a_finite_sample_of_its_own(lines: list[tuple[str, str, str]]) -> None:
    figures = read("".join(f"{name}{labels} {value}\n" for name, labels, value in lines))
    real = {name for name, _, value in lines if value in ("0", "1", "2.5")}
    for field in (*figures.gauges, *figures.counters, *figures.quotients):
        own = [
            name
            for signal in TABLE.metrics[field]
            for name in (signal.name, signal.name.removesuffix("_total"), f"{signal.name}_count")
        ]
        assert real.intersection(own) or any(signal.label for signal in TABLE.metrics[field]), field
    numbers = [*figures.gauges.values(), *figures.counters.values()]
    assert all(math.isfinite(number) for number in numbers)


@given(st.lists(LINE, max_size=30), st.lists(LINE, max_size=30), st.text(max_size=200))
def test_no_pages_crash_the_way_to_a_snapshot(
    first: list[tuple[str, str, str]], second: list[tuple[str, str, str]], noise: str
) -> None:
    pages = ["".join(f"{name}{labels} {value}\n" for name, labels, value in lines) + noise for lines in (first, second)]
    before, after = (read(page) for page in pages)
    snapshot = summarise(1.0, 0.0, [reading(after, change=interval(before, after))])
    assert isinstance(snapshot, ServerSnapshot)


@given(JSON)
def test_no_json_answer_crashes_the_slots(answer: object) -> None:
    read_slots(answer)
    number_at(answer, "0.n_ctx.next_token")


def test_an_empty_page_gives_nothing_at_all() -> None:
    snapshot = summarise(3.0, 0.0, [reading(read(""))])
    assert snapshot == ServerSnapshot(t_s=3.0)


def test_ranks_of_one_engine_count_once_and_engines_add_up() -> None:
    rows = [("0", "0", 3), ("0", "1", 3), ("1", "0", 2), ("1", "1", 2)]
    page = "".join(f'vllm:num_requests_running{{dp_rank="{dp}",tp_rank="{tp}"}} {n}\n' for dp, tp, n in rows)
    figures = read(page)
    assert figures.gauges["running"] == 5
    assert {name: row[0] for name, row in figures.engines.items()} == {"0": 3, "1": 2}


def test_the_newest_name_that_is_there_counts() -> None:
    assert read("vllm:gpu_cache_usage_perc 0.4\n").gauges["kv_usage"] == 0.4
    assert read("vllm:gpu_cache_usage_perc 0.4\nvllm:kv_cache_usage_perc 0.5\n").gauges["kv_usage"] == 0.5
    assert read("vllm:gpu_cache_usage_perc 0.4\nvllm:kv_cache_usage_perc NaN\n").gauges["kv_usage"] == 0.4


def test_counters_match_with_and_without_total() -> None:
    assert read("vllm:num_preemptions 3\n").counters["preemptions_total"] == 3
    assert read("vllm:num_preemptions_total 3\n").counters["preemptions_total"] == 3


def test_labels_that_say_none_are_not_known() -> None:
    figures = read('vllm:cache_config_info{num_gpu_blocks="None",block_size="16",engine="0"} 1\n')
    assert "num_gpu_blocks" not in figures.gauges
    assert figures.gauges["block_size"] == 16


def test_a_first_reading_after_a_gap_in_a_metric_has_no_difference() -> None:
    before, after = read("vllm:num_requests_running 1\n"), read("vllm:generation_tokens_total 7\n")
    change = interval(before, after)
    assert not change.restarted
    assert change.counters == {}


def test_slots_of_replicas_add_up_only_when_all_tell_them() -> None:
    one = reading(read("vllm:num_requests_running 1\n"), "a", answers={"max_num_seqs": 8.0, "max_model_len": 100.0})
    other = reading(read("vllm:num_requests_running 1\n"), "b")
    assert summarise(0.0, 0.0, [one, other]).max_num_seqs is None
    told = structs.replace(other, answers={"max_num_seqs": 8.0})
    both = summarise(0.0, 0.0, [one, told])
    assert (both.max_num_seqs, both.max_model_len) == (16, 100)


def test_capacity_is_blocks_times_their_size_where_it_is_not_told() -> None:
    page = 'vllm:cache_config_info{num_gpu_blocks="10",block_size="16",engine="0"} 1\n'
    assert summarise(0.0, 0.0, [reading(read(page))]).kv_capacity_tokens == 160


def test_when_all_replicas_are_gone_their_last_values_stay() -> None:
    figures = read("vllm:num_requests_running 4\n")
    alone = summarise(0.0, 9.0, [reading(figures, gone=True)])
    assert (alone.running, alone.age_s) == (4, 9.0)
    fresh = reading(read("vllm:num_requests_running 1\n"), "b")
    assert summarise(0.0, 0.0, [reading(figures, gone=True), fresh]).running == 1


def test_older_llamacpp_slots_count_prompt_and_decoded_apart() -> None:
    slots = read_slots(
        [
            {
                "n_ctx": 100,
                "is_processing": True,
                "n_prompt_tokens": 30,
                "n_prompt_tokens_processed": 30,
                "n_prompt_tokens_cache": 0,
                "next_token": [{"n_decoded": 12}],
            }
        ]
    )
    assert slots is not None
    assert slots.used_tokens == 42


def test_numbers_are_picked_out_of_json() -> None:
    answer = {"data": [{"max_model_len": 2048, "name": "x", "big": "12", "yes": True}]}
    assert number_at(answer, "data.0.max_model_len") == 2048
    assert number_at(answer, "data.0.big") == 12
    for key in ("data.1.max_model_len", "data.0.name", "data.0.yes", "data", "nothing.0"):
        assert number_at(answer, key) is None


# ── Odd pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def engines(count: int) -> str:
    return "".join(f'vllm:num_requests_running{{engine="{number}"}} 1\n' for number in range(count))


def test_a_page_has_so_many_series_that_are_looked_for_and_any_number_of_others() -> None:
    foreign = "".join(f'foreign{{id="{number}"}} 1\n' for number in range(2 * SERIES_LIMIT))
    assert read(engines(SERIES_LIMIT) + foreign).gauges["running"] == SERIES_LIMIT
    with pytest.raises(TooManySeries):
        read(engines(SERIES_LIMIT + 1))
    assert SERIES_LIMIT == 5_000


def test_engines_beyond_the_limit_are_added_up_and_not_told_apart() -> None:
    assert len(read(engines(ENGINE_LIMIT)).engines) == ENGINE_LIMIT
    beyond = read(engines(ENGINE_LIMIT + 1))
    assert (beyond.engines, beyond.gauges["running"]) == ({}, ENGINE_LIMIT + 1)


def test_of_a_series_that_a_page_has_twice_the_first_counts() -> None:
    assert read('vllm:num_requests_running{a="1",b="2"} 3\nvllm:num_requests_running{b="2",a="1"} 4\n').gauges == {
        "running": 3.0
    }


def test_values_that_no_server_can_have_are_absent() -> None:
    for value in ("1e308", "-1", "NaN", "+Inf", "1e31"):
        assert read(f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 2\n").gauges == {"waiting": 2.0}
    two = read('vllm:num_requests_running{engine="0"} 1e30\nvllm:num_requests_running{engine="1"} 1e30\n')
    assert "running" not in two.gauges
    assert two.engines == {}


def test_a_mean_over_next_to_nothing_is_absent() -> None:
    page = "vllm:time_to_first_token_seconds_sum {}\nvllm:time_to_first_token_seconds_count {}\n"
    first, second = read(page.format(0, 0)), read(page.format(1e29, 1e-300))
    assert summarise(1.0, 0.0, [reading(second, change=interval(first, second))]).ttft_mean_s is None


@given(JSON, st.sampled_from([(5000, None), (10, 10)]))
def test_slots_without_number_are_none(answer: object, size: tuple[int, int | None]) -> None:
    count, total = size
    slots = read_slots([{"n_ctx": 100, "is_processing": answer}] * count)
    assert (slots.total if slots else None) == total


def dialect_page(dialect: Dialect) -> str:
    """A page with every name that a dialect's table looks for."""
    names = {
        name: None for signals in DIALECTS[dialect].metrics.values() for signal in signals for name in (signal.name,)
    }
    lines = [f'{name}{{engine="{engine}"}} {engine + 1}.5' for name in names for engine in range(2)]
    lines += [f'{name}_{part}{{engine="0"}} 3' for name in names for part in ("sum", "count", "total")]
    return "# HELP x y\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("dialect", [*Dialect])
def test_a_reader_that_knows_other_pages_finds_the_same_figures(dialect: Dialect) -> None:
    rng, page = random.Random(1), dialect_page(dialect)
    warm = PageReader(DIALECTS[dialect])
    warm.read(page)
    for _ in range(40):
        mutant = list(page)
        for _ in range(rng.choice((1, 3, 30))):
            at = rng.randrange(len(mutant))
            mutant[at : at + rng.choice((0, 1, 2))] = rng.choice(
                ['"', "{", "}", "\t", " ", "\n", ",", "#", "9", "-", "e"]
            )
        odd = "".join(mutant)
        figures = warm.read(odd)
        assert figures == PageReader(DIALECTS[dialect]).read(odd)
        assert all(map(is_figure, (*figures.gauges.values(), *figures.counters.values())))
