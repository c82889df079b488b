"""The parser of metrics pages, against prometheus-client's own parser and against garbage."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmtop.telemetry.exposition import (
    CACHE_LIMIT,
    FIGURE_LIMIT,
    LINE_BYTES,
    SLICE_BYTES,
    ExpositionParser,
    Sample,
    is_figure,
    parse_exposition,
)
from tests.growth import is_linear

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


# ── Odd pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGES = (
    '# HELP vllm:x y\n# TYPE vllm:running gauge\nvllm:running{engine="0",model_name="m"} 3.0\n'
    'vllm:kv{engine="0"} 0.25\nvllm:e2e_bucket{le="+Inf",m="a\\\\b\\"c\\nd"} 7 1234\na_total 5\n',
    '{"vllm.x",engine="0"} 4\nb{} 1\nc{x="y",} NaN\n',
)
PIECES = [*'{}"\\\n \t#,=1_a\ré-', "e5", "NaN", "+Inf", "\\n", '\\"', "# ", "0x1", "1_0"]
LEGAL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
STEP = r'[ \t]*[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"[ \t]*'
PLAIN_LINE = re.compile(
    rf"[ \t]*{LEGAL.pattern}[ \t]*(?:\{{(?:{STEP}(?:,{STEP})*,?)?[ \t]*\}})?[ \t]+[0-9.e+-]+(?:[ \t]+[0-9]+)?[ \t]*"
)
"""What the format says, without doubt, of a line with a sample."""


def mutant(rng: random.Random) -> str:
    """One of `PAGES` with a few mistakes."""
    page = list(rng.choice(PAGES))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        what, at = rng.random(), rng.randrange(len(page) + 1)
        if what < 0.4:
            page[at:at] = rng.choice(PIECES)
        elif what < 0.7:
            del page[at : at + rng.choice((1, 1, 2, 5))]
        else:
            begin = rng.randrange(len(page) + 1)
            page[at:at] = page[begin : begin + rng.randrange(12)]
    return "".join(page)


def disagreement(page: str, warm: ExpositionParser, *, asks_oracle: bool = True) -> str | None:
    """How two parsers differ over a page; None: not, or the other one refuses it."""
    ours = _plain(parse_exposition(page))
    if _plain(warm.parse(page)) != ours:
        return "a parser that knows other pages reads this page otherwise"
    if not asks_oracle:
        return None
    try:
        theirs = [sample for sample in _oracle(page) if not sample[0].endswith("_created")]
    except Exception:  # it raises what comes
        return None
    if any(sample not in theirs for sample in ours):
        return "read what is not there"
    if all(not line or line.startswith("#") or PLAIN_LINE.fullmatch(line) for line in page.split("\n")):
        return None if ours == theirs else "not read what is there"
    return None


def test_mistakes_on_a_page_are_read_as_the_oracle_reads_them_or_left_out() -> None:
    rng, warm = random.Random(1), ExpositionParser()
    for _ in range(3000):
        page = mutant(rng)
        assert disagreement(page, warm) is None, page


def test_a_tab_before_a_timestamp_is_read_by_a_parser_that_knows_the_line() -> None:
    parser = ExpositionParser()
    assert [value for _, value in parser.parse('a{b="c"} 5\n')] == [5.0]
    assert [value for _, value in parser.parse('a{b="c"} 6\t123\n')] == [6.0]


def test_a_value_may_follow_its_brace_at_once() -> None:
    assert [value for _, value in parse_exposition('a{b="c"}5\nb{}6 7\nc7\n')] == [5.0, 6.0]


def test_slices_are_small_and_together_the_page() -> None:
    page = "".join(f'a{{id="{index}"}} {index}\n' for index in range(5000)) + f'b{{c="{"x" * LINE_BYTES}"}} 1\nd 2\n'
    parts = list(ExpositionParser().slices(page))
    assert [sample for part in parts for sample in part] == parse_exposition(page)
    assert len(parts) > (len(page) - LINE_BYTES) // SLICE_BYTES
    assert [series.name for series, _ in parse_exposition(page)[5000:]] == ["d"], "a line without an end is no sample"
    longest = f'b{{c="{"x" * (LINE_BYTES - 10)}"}} 1\n'
    assert (len(longest), len(parse_exposition(longest))) == (LINE_BYTES, 1)


@given(st.lists(ROW, max_size=12), st.sets(NAME, max_size=3), st.booleans())
def test_what_is_wanted_is_what_all_are_less_the_others(
    rows: list[tuple[str, dict[str, str], str, int | None, bool]], others: set[str], blank: bool
) -> None:
    page = "".join(f"{' ' * blank}{_line(row)}\n" for row in rows) + '{"quoted",a="b"} 1\n'
    wanted = {row[0] for row in rows[::2]} | others | {"quoted"}
    parser = ExpositionParser(wanted)
    everything = [sample for sample in _plain(parse_exposition(page)) if sample[0] in wanted]
    assert _plain(parser.parse(page)) == everything == _plain(parser.parse(page))


def test_unwanted_lines_are_not_kept() -> None:
    parser = ExpositionParser({"vllm:running"})
    parser.parse("".join(f'foreign{{id="{index}"}} 1\n' for index in range(1000)) + "vllm:running 1\n")
    assert len(parser._heads) == 1


@pytest.mark.parametrize(
    "line",
    [
        lambda i: f'wanted{{id="{i}"}} 1\n',
        lambda i: f'foreign{{id="{i}"}} 1\n',
        lambda i: "wanted{" + 'a="b",' * 20 + "\n",
        lambda i: 'wanted{a="' + '\\"' * 50 + "\n",
        lambda i: "{" * 50 + "\n",
        lambda i: '{"' * 50 + "\n",
        lambda i: " \t" * 50 + "\n",
        lambda i: "\n",
        lambda i: 'wanted{a="',
        lambda i: "wanted{" + 'a="b",',
        lambda i: "\\",
    ],
)
def test_four_times_the_page_takes_about_four_times_the_time(line: Callable[[int], str]) -> None:
    lines = "".join(line(index) for index in range(40_000 // len(line(0)) + 1))

    def parse(size: int) -> None:
        ExpositionParser({"wanted"}).parse(lines[:size])

    is_linear(parse, 20_000)


def test_a_figure_is_finite_and_possible() -> None:
    assert [is_figure(value) for value in (0.0, 1.5, FIGURE_LIMIT)] == [True] * 3
    assert not any(map(is_figure, (-0.1, FIGURE_LIMIT * 1.01, math.nan, math.inf, -math.inf)))
