"""Reports of a comparison: one file, all figures, nothing of it a tag, and replaced only by another of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmtop.domain.compared import Compared, Delta, Difference, LevelDelta, Verdict
from llmtop.domain.frame import Timeline
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Curve, LevelPoint
from llmtop.errors import FileError
from llmtop.report import COMPARISON_FORMATS, Beside, ComparisonInput, check_report, write_comparison
from llmtop.report.comparison import comparison_markdown, heading
from llmtop.report.comparison_page import comparison_html
from llmtop.report.overlay import STYLES, style_of, timeline_columns

NASTY = "<script>alert(1)</script> | `x` *y*"
LOADS = (4.0, 16.0)


def timeline(seconds: int, step_s: float = 1.0) -> Timeline:
    count = int(seconds / step_s)
    return Timeline(
        end_s=float(seconds),
        step_s=step_s,
        in_flight=tuple(float(at) for at in range(count)),
        ttft_p95_ms=tuple(100.0 + at for at in range(count)),
    )


def beside(name: str, factor: float = 1.0, seconds: int | None = 10) -> Beside:
    points = tuple(
        LevelPoint(load=load, n=100, ttft_p50_ms=50 * factor, ttft_p95_ms=90 * factor, output_tokens_per_s=load * 40)
        for load in LOADS
    )
    curve = Curve(label=name, points=points, ghost=True)
    made = None if seconds is None else timeline(seconds)
    return Beside(name=name, curve=curve, facts=(("file", f"{name}.llmtop"), ("model", "tiny")), timeline=made)


def told(before: str, after: str, interpolated: bool = False) -> Compared:
    delta = Delta(metric="ttft_p95", before=90.0, after=99.0, change=0.1, low=0.04, high=0.16, verdict=Verdict.WORSE)
    unknown = Delta(metric="tpot_p95", before=None, after=20.0)
    levels = tuple(
        LevelDelta(load=load, n=(0 if interpolated and at else 100, 100), deltas=(delta, unknown))
        for at, load in enumerate(LOADS)
    )
    return Compared(
        before=before,
        after=after,
        differs=(Difference("max_num_seqs", "32", "48"), Difference("gate", None, "16")),
        levels=levels,
        over_all=(replace(delta, before=None, after=None),),
        capacity=Delta(metric="capacity", before=32.0, after=48.0, change=0.5, verdict=Verdict.BETTER),
        verdict=Verdict.MIXED,
        sentence=f"`{after}` is better and worse than `{before}`; worse: TTFT p95 +10 %",
        notes=("one of the two lies on a line",) if interpolated else (),
    )


def report(*names: str, seconds: int | None = 10) -> ComparisonInput:
    return ComparisonInput(
        version="1.2.3",
        slo=parse_slo("ttft_p95<2s"),
        sides=tuple(beside(name, 1 + at / 10, seconds) for at, name in enumerate(names)),
        compared=tuple(told(names[0], name, interpolated=at > 0) for at, name in enumerate(names[1:])),
    )


def test_both_formats_say_the_whole_what_differs_and_every_figure_that_is_known() -> None:
    made = report("before", "after")
    for text in (comparison_html(made), comparison_markdown(made)):
        assert "is better and worse than" in text
        assert re.search(r"max\\?_num\\?_seqs", text)
        for figure in ("TTFT p95", "TPOT p95", "90.0", "99.0", "+10.0", "+4.00", "+16.0", "worse", "before.llmtop"):
            assert figure in text, figure
        assert "nan" not in text.lower()
        assert "None" not in text


def test_a_page_loads_nothing_and_has_a_line_for_each_measurement_in_each_chart() -> None:
    page = comparison_html(report("before", "after", "later"))
    assert not re.search(r'(?:src|href)="|@import|url\(', page)
    assert page.count("data-curve>") == 3, "TTFT p95 and p50, and tokens/s: nobody has measured TPOT or E2E"
    for style in ("was", "a", "b"):
        assert page.count(f'class="line {style}"') == 3 + 2, "and two panels over time"
        assert f'class="key {style}"' in page
    assert "later" in page


def test_more_measurements_than_colours_begin_again_but_never_with_that_of_the_one_before() -> None:
    styles = [style_of(at) for at in range(12)]
    assert styles.count(STYLES[0]) == 1
    assert set(styles) == set(STYLES)


def test_without_two_timelines_there_is_nothing_over_time() -> None:
    page = comparison_html(report("before", "after", seconds=None))
    assert "Over time" not in page
    assert timeline_columns(report("before", "after", seconds=None)) == {"clock": []}


def test_readouts_stand_on_one_clock_where_runs_differ_in_length_and_step() -> None:
    made = report("before", "after")
    short, long = made.sides
    long = Beside(name=long.name, curve=long.curve, timeline=timeline(40, 2.0))
    columns = timeline_columns(ComparisonInput(version="", slo=made.slo, sides=(short, long), compared=made.compared))
    clock = columns["clock"]
    assert isinstance(clock, list)
    assert len(clock) == 20
    first, second = columns["0.in_flight"], columns["1.in_flight"]
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert first[:6] == ["1", "3", "5", "7", "9", None], "the shorter run is over"
    assert second[-1] == "19"


@pytest.mark.parametrize("make", [comparison_html, comparison_markdown])
def test_names_from_outside_are_words(make: object) -> None:
    assert callable(make)
    text = make(report(NASTY, f"after {NASTY}"))
    assert "<script>alert" not in text


def test_a_heading_is_the_first_clause_of_what_is_said_and_the_rest_is_lost_nowhere() -> None:
    made = told("a", "b")
    assert heading(made) == ("`b` is better and worse than `a`.", "Worse: TTFT p95 +10 %.")
    worse = replace(made, sentence="`b` is worse than `a`: TTFT p95 +10 % and errors +2 points")
    assert heading(worse) == ("`b` is worse than `a`.", "TTFT p95 +10 % and errors +2 points.")
    same = replace(made, sentence="`b` is the same as `a` at 4 users: no difference; both carry as many")
    assert heading(same) == ("`b` is the same as `a` at 4 users.", "No difference; both carry as many.")


def test_a_comparison_replaces_one_of_ours_and_nothing_that_somebody_wrote(tmp_path: Path) -> None:
    for suffix in COMPARISON_FORMATS:
        path = tmp_path / f"c{suffix}"
        assert not write_comparison(report("before", "after"), path)
        assert write_comparison(report("before", "later"), path)
        path.write_text("mine")
        with pytest.raises(FileError):
            write_comparison(report("before", "after"), path)
        assert path.read_text() == "mine"
    with pytest.raises(FileError, match=re.escape(".html, .md")):
        check_report(tmp_path / "c.json", COMPARISON_FORMATS)
