"""What the twin foresees, in a report: told where there is one, drawn inside the chart, and never moving its axes."""

from __future__ import annotations

import json
import re

from msgspec import structs

from llmtop.domain.foresight import ForeseenPoint, Foresight, Interval
from llmtop.domain.load import Axis
from llmtop.report import ReportInput, foreseen
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import json_text


def around(value: float) -> Interval:
    return Interval(value, value / 1.1, 1.1 * value)


def told(*settings: tuple[str, float], axis: Axis = "concurrency", far: float = 48) -> Foresight:
    points = tuple(
        ForeseenPoint(
            load=load,
            ttft_p50_ms=around(300.0),
            ttft_p95_ms=around(400.0),
            tpot_p50_ms=around(20.0),
            tpot_p95_ms=around(22.0),
            output_tokens_per_s=around(500.0),
            requests_per_s=around(8.0),
        )
        for load in (2.0, 8.0, far)
    )
    label = ", ".join(f"{name} {value:g}" for name, value in settings)
    known = {"users": around(40.0), "wall": around(32.0), "points": points, "off": 0.03, "band": 0.1, "levels": 9}
    return Foresight(settings=settings, label=label, axis=axis, **known)  # type: ignore[arg-type]


AROUND = (told(), told(("max_num_seqs", 16.0)), told(("max_num_seqs", 64.0)), told(("num_gpu_blocks", 9000.0)))


def test_a_report_without_a_twin_says_nothing_of_one(report: ReportInput) -> None:
    assert report.foreseen == ()
    assert foreseen.TITLE not in markdown_text(report)
    assert "twin" not in html_text(report).split("</style>")[1]


def test_other_settings_are_told_with_their_bounds_and_how_sure_that_is(report: ReportInput) -> None:
    said = markdown_text(structs.replace(report, foreseen=AROUND))
    assert f"## {foreseen.TITLE}\n\nForeseen, not measured: the twin was fitted on 9 levels and misses" in said
    assert "| As it stands | 40 | 36 | 44 | 32 | 500 |" in said
    assert "| 64 slots | 40 | 36 | 44 | 32 | 500 |" in said
    assert "KV blocks | 40 |" in said
    assert "As it stands" in html_text(structs.replace(report, foreseen=AROUND))
    assert len(json.loads(json_text(structs.replace(report, foreseen=AROUND)))["foreseen"]) == 4


def test_the_most_slots_are_drawn_in_their_band_and_no_axis_moves(report: ReportInput) -> None:
    plain, drawn = html_text(report), html_text(structs.replace(report, foreseen=(*AROUND[:3], AROUND[3])))
    assert drawn.count('class="area twin"') == drawn.count('class="line twin"') == 3, "TTFT, TPOT and tokens/s"
    assert drawn.count("twin: max_num_seqs 64 (\u00b110") == 3
    ticks = re.compile(r'<span class="label [xy][^>]*>[^<]*</span>')
    assert ticks.findall(drawn) == ticks.findall(plain)


def test_what_lies_beyond_the_chart_is_not_drawn_on_its_edge(report: ReportInput) -> None:
    beyond = structs.replace(report, foreseen=(told(), told(("max_num_seqs", 64.0), far=5000.0)))
    within = structs.replace(report, foreseen=(told(), told(("max_num_seqs", 64.0))))
    lines = [re.search(r'class="line twin" d="([^"]*)"', html_text(each)) for each in (beyond, within)]
    assert [line and line[1].count("L") for line in lines] == [1, 2]
    other_axis = structs.replace(report, foreseen=(told(axis="rate"), told(("max_num_seqs", 64.0), axis="rate")))
    assert 'class="line twin"' not in html_text(other_axis)


def test_names_of_settings_are_escaped(report: ReportInput) -> None:
    odd = structs.replace(report, foreseen=(told(), told(("<b>x</b>", 2.0))))
    assert "<b>x</b>" not in html_text(odd)
    assert "<b>x</b>" not in markdown_text(odd)
