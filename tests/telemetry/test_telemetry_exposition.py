"""The parser of metrics pages, against prometheus-client's own parser and against garbage."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmtop.telemetry.exposition import CACHE_LIMIT, ExpositionParser, Sample, parse_exposition

NAME = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True).filter(
    lambda name: not name.endswith("_created")
)
LABEL = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: not name.startswith("__"))
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUE = st.one_of(
    st.floats(allow_nan=True).map(repr),
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(["+Inf", "-Inf", "NaN", "1e+06", "1.5E-3", "0"]),
)
ROW = st.tuples(
    NAME, st.dictionaries(LABEL, TEXT, max_size=4), VALUE, st.one_of(st.none(), st.integers(0, 2**40)), st.booleans()
)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _line(row: tuple[str, dict[str, str], str, int | None, bool]) -> str:
    name, labels, value, stamp, comma = row
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    head = f"{name}{{{inside}{',' if comma else ''}}}" if labels else name
    return f"{head} {value}" + (f" {stamp}" if stamp is not None else "")


def _plain(samples: list[Sample]) -> list[tuple[str, dict[str, str], str]]:
    return [(series.name, series.labels, repr(value)) for series, value in samples]


def _oracle(page: str) -> list[tuple[str, dict[str, str], str]]:
    return [
        (sample.name, dict(sample.labels), repr(float(sample.value)))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


@given(st.lists(ROW, max_size=12))
def test_reads_what_the_oracle_reads(rows: list[tuple[str, dict[str, str], str, int | None, bool]]) -> None:
    page = "".join(f"{_line(row)}\n" for row in rows)
    parser = ExpositionParser()
    assert _plain(parser.parse(page)) == _oracle(page)
    assert _plain(parser.parse(page.encode())) == _oracle(page), "the second reading goes through the cache"


@given(st.one_of(st.text(), st.binary(), st.lists(st.sampled_from('a{}="\\ \t\n#,:1.eN_'), max_size=60).map("".join)))
@example('a{b="c 5')
@example('a{b="c\\" 5')
@example('a{b="c"}x 5')
@example("a 1 2 3")
@example("{} 1")
@example('{"a"} 1')
@example("\x00 1")
@example(" 1")
def test_no_page_crashes_it_and_reading_twice_changes_nothing(page: str | bytes) -> None:
    parser = ExpositionParser()
    first = _plain(parser.parse(page))
    assert _plain(parser.parse(page)) == first
    assert all(name for name, _, _ in first)


@given(st.lists(ROW, min_size=1, max_size=6), st.data())
def test_a_page_cut_anywhere_gives_a_prefix_of_its_samples(
    rows: list[tuple[str, dict[str, str], str, int | None, bool]], data: st.DataObject
) -> None:
    page = "".join(f"{_line(row)}\n" for row in rows)
    whole = _plain(parse_exposition(page))
    cut = _plain(parse_exposition(page[: data.draw(st.integers(0, len(page)))]))
    assert cut[:-1] == whole[: max(len(cut) - 1, 0)]


def test_a_metric_without_a_number_is_absent_and_not_zero() -> None:
    page = "vllm:num_requests_waiting\nvllm:num_requests_running \nvllm:a ?\nvllm:b -\nvllm:c 1 2 3\n"
    assert parse_exposition(page) == []


def test_birth_stamps_of_counters_and_exemplars_are_left_out() -> None:
    page = (
        "# TYPE a counter\n"
        'a_total{code="200"} 3 # {trace_id="x y"} 1 1.5\n'
        'a_created{code="200"} 1.7e9\n'
        "  b\t4\r\n"
        "c 5\r\n"
    )
    parser = ExpositionParser()
    for _ in range(2):
        assert [(series.name, value) for series, value in parser.parse(page)] == [
            ("a_total", 3.0),
            ("b", 4.0),
            ("c", 5.0),
        ]


def test_quoted_names_of_the_newer_format() -> None:
    samples = parse_exposition('{"vllm.running",engine="0"} 4\n{"plain"} 1\n')
    assert [(series.name, series.labels, value) for series, value in samples] == [
        ("vllm.running", {"engine": "0"}, 4.0),
        ("plain", {}, 1.0),
    ]


def test_only_wanted_names_are_kept() -> None:
    parser = ExpositionParser({"a"})
    for _ in range(2):
        assert [(series.name, value) for series, value in parser.parse("a 1\nb 2\na_created 3\n")] == [("a", 1.0)]


def test_special_values_are_values() -> None:
    infinite, less, nothing = (value for _, value in parse_exposition("a +Inf\nb -Inf\nc NaN\n"))
    assert infinite == math.inf
    assert less == -math.inf
    assert math.isnan(nothing)


@pytest.mark.parametrize("rounds", [3])
def test_labels_that_never_repeat_do_not_fill_the_memory(rounds: int) -> None:
    parser = ExpositionParser()
    for number in range(rounds):
        page = "".join(f'a{{id="{number}-{index}"}} 1\n' for index in range(CACHE_LIMIT // 2))
        assert len(parser.parse(page)) == CACHE_LIMIT // 2
    assert len(parser._heads) <= CACHE_LIMIT + CACHE_LIMIT // 2
