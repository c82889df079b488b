"""The HTML page: one file, sound markup, nothing unescaped, nothing secret."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from msgspec import structs

from llmtop.analysis.buffering import Arrival, without_spoilt
from llmtop.domain.foresight import Interval
from llmtop.domain.frame import NewUser
from llmtop.domain.kinds import CallFigures, KindFigures, TurnFigures, VisitFigures
from llmtop.domain.load import LoadPoint
from llmtop.domain.map import Map, MapCell, MapEdge
from llmtop.domain.run import LoadChange, Mark
from llmtop.report import ReportInput, prose
from llmtop.report.map import csv_text
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.wording.between import buffered

VOID = {"meta", "br", "link", "img", "input"}


class _Balance(HTMLParser):
    """Fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def facts_of(page: str) -> dict[str, dict[str, list[str | None]]]:
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    facts: dict[str, dict[str, list[str | None]]] = json.loads(found[1])
    return facts


def test_tags_match_and_the_verdict_is_the_heading(report: ReportInput, empty_report: ReportInput) -> None:
    for each, heading in ((report, "36 concurrent users keep"), (empty_report, "Not enough requests")):
        page = html_text(each)
        parser = _Balance()
        parser.feed(page)
        assert parser.open == []
        assert parser.seen.count("h1") == 1
        assert f"<h1>{heading}" in page


def test_the_page_loads_nothing_from_anywhere(report: ReportInput) -> None:
    page = html_text(report)
    assert not re.search(r"""(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest|//cdn""", page)
    assert len(page) < 400_000


def test_words_from_outside_are_escaped(report: ReportInput) -> None:
    evil = "</script><script>alert(1)</script>&\"'"
    meta = structs.replace(report.meta, label=evil)
    page = html_text(structs.replace(report, meta=meta, marks=(Mark(3.0, evil),)))
    assert page.count("<script>") == 1
    assert "&lt;b&gt;queue&lt;/b&gt; full" in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_what_a_new_user_felt_is_one_sentence_and_dots_on_the_timeline_of_ttft(report: ReportInput) -> None:
    canary_ms = tuple(400.0 + i if i % 4 == 0 else None for i in range(len(report.timeline.in_flight)))
    timeline = structs.replace(report.timeline, canary_ms=canary_ms)
    felt = NewUser(n=212, failed=3, p50_ms=400.0, max_ms=3200.0)
    told = structs.replace(report, timeline=timeline, figures=structs.replace(report.figures, new_user=felt))
    without, page, text = html_text(report), html_text(told), markdown_text(told)
    for said in (page, text):
        sentence = "a new user felt 400 ms (p50), at most 3.20 s: 212 canaries, 3 without a token."
        assert sentence in said.replace("\u202f", " ")
    (dots,) = re.findall(r'<path class="dots c" d="([^"]*)"', page)
    assert dots.count("M") == sum(value is not None for value in canary_ms)
    assert page.count('<span class="key c">new user</span>') == 1
    assert "new user" not in without
    assert 'class="dots c"' not in without
    void = structs.replace(told, assessment=structs.replace(told.assessment, path="the path buffers"))
    assert 'class="dots c"' not in html_text(void)


def test_no_figure_is_nan(report: ReportInput, empty_report: ReportInput) -> None:
    for each in (report, empty_report):
        assert not re.search(r"\b(?:nan|inf|None)\b", html_text(each))


def test_readouts_have_a_text_for_every_step_and_level(report: ReportInput) -> None:
    facts = facts_of(html_text(report))
    steps = len(report.timeline.in_flight)
    assert {len(column) for column in facts["timeline"].values()} == {steps}
    assert facts["timeline"]["clock"][-1] == "06:00"
    assert len(facts["curve"]["places"]) == len(facts["curve"]["texts"]) == 12
    assert "32 requests in flight" in (facts["curve"]["texts"][7] or "")


def test_a_gap_in_the_metrics_is_a_gap_in_the_chart(report: ReportInput) -> None:
    page = html_text(report)
    panel = page[page.index("<h3>KV cache") : page.index("<h3>Output tokens/s<b>")]
    line = re.search(r'<path class="line a" d="([^"]+)"', panel)
    assert line is not None
    assert line[1].count("M") == 2
    assert None in facts_of(page)["timeline"]["kv_usage"]


def test_cliff_interval_slo_and_marks_are_drawn(report: ReportInput) -> None:
    page = html_text(report)
    assert 'class="band cliff"' in page
    assert "cliff at 32, between 31 and 34" in page
    assert "SLO TTFT p95 &lt; 2 s" in page
    assert ">m1</span>" in page
    assert "before the restart" in page


def test_a_ramp_of_a_thousand_changes_does_not_blacken_the_charts(report: ReportInput) -> None:
    changes = tuple(LoadChange(i * 0.3, LoadPoint(concurrency=i), "stage", "ramp") for i in range(1000))
    page = html_text(structs.replace(report, changes=changes))
    assert page.count('class="change"') <= 63
    assert "1 change of load" in page


def test_panels_without_facts_are_left_out(report: ReportInput) -> None:
    steps = len(report.timeline.in_flight)
    blind = structs.replace(report.timeline, kv_usage=(None,) * steps, waiting=(None,) * steps, running=(None,) * steps)
    page = html_text(structs.replace(report, timeline=blind))
    assert "<h3>KV cache" not in page
    assert "<h3>Server" not in page
    assert "<h3>TTFT" in page


def test_latencies_that_a_path_makes_are_in_no_chart(report: ReportInput) -> None:
    why = buffered(whole=True)
    curves = tuple(
        structs.replace(curve, points=without_spoilt(curve.points, Arrival.WHOLE)) for curve in report.assessment.curves
    )
    assessment = structs.replace(report.assessment, path=why, curves=curves)
    page = html_text(structs.replace(report, assessment=assessment))
    assert [f'<p class="empty">{name}: void, {why}</p>' in page for name in ("TTFT", "TPOT")] == [True, True]
    assert not {"ttft_p95_ms", "ttft_p50_ms", "tpot_p95_ms", "tpot_p50_ms"} & facts_of(page)["timeline"].keys()


def test_secrets_stay_out(report: ReportInput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    assert "sk-very-secret" not in html_text(report)


def with_map(report: ReportInput, lengths: tuple[int, ...] = (192, 768)) -> ReportInput:
    cells = tuple(
        MapCell(load=load, prompt_tokens=length, n=n, stand=stand, ttft_p95_ms=900.0, off=None if n else 0.1)
        for length in lengths
        for load, n, stand in ((8.0, 80, "ok"), (16.0, 0, "near"), (24.0, 60, "broken"), (48.0, 0, "broken"))
    )
    contour = tuple(
        MapEdge(prompt_tokens=length, users=Interval(20, 18, 22), measured=True, held=8.0, after=0.05)
        for length in lengths
    )
    known = Map(
        cells=cells, contour=contour, kv_tokens=12288.0, off=0.03, text="contour: <b>20 users</b> at 192 tokens"
    )
    return structs.replace(report, assessment=structs.replace(report.assessment, map=known))


def test_the_map_is_a_figure_with_a_table_and_its_cells_are_csv(report: ReportInput) -> None:
    told = with_map(report)
    page, text = html_text(told), markdown_text(told)
    assert "The map" not in html_text(report) + markdown_text(report)
    assert "<h2>The map: users by prompt length</h2>" in page
    assert page.count('class="label cell ok"') == page.count('class="label cell broken"') == 2
    assert "dots foreseen near" in page
    assert "dashes foreseen broken" in page
    assert "<b>20 users" not in page
    assert "foreseen was 3" in page
    assert "| 768 | 20 | 18 | 22 | 8 | 16 | measured |" in text
    known = told.assessment.map
    assert known is not None
    rows = list(csv.DictReader(io.StringIO(csv_text(known))))
    assert len(rows) == 8
    assert [row["load"] for row in rows if row["prompt_tokens"] == "768" and row["source"] == "measured"] == [
        "8.0",
        "24.0",
    ]
    assert {row["off"] for row in rows if row["source"] == "foreseen"} == {"0.1"}


def test_a_map_of_one_prompt_length_is_no_map_of_a_report(report: ReportInput) -> None:
    alone = with_map(report, (192,))
    assert alone.map is None
    assert alone.assessment.map is not None, "the opinion is the run's own, whatever is drawn"
    assert with_map(report).map is not None


def with_kinds(report: ReportInput) -> ReportInput:
    named = tuple(
        KindFigures(name=name, n=60, errors=3, error_ratio=0.05, ttft_p95_ms=2510.0, ok=ok)
        for name, ok in (("<i>answer</i>", False), ("retrieve|x", True))
    )
    turns = (TurnFigures(turn=1, n=60), TurnFigures(turn=2, n=60, cached_share=0.5))
    visits = VisitFigures(visits=60, failed=3, requests=2.0, turns=turns)
    calls = (CallFigures(name="search", n=60, errors=6, p50_ms=12.0),)
    told = structs.replace(report.assessment, by_name=named, by_model=named, sessions=visits, calls=calls)
    return structs.replace(report, assessment=told)


def test_names_models_turns_and_calls_are_tables_and_words_from_outside_stay_words(report: ReportInput) -> None:
    page = html_text(with_kinds(report))
    assert page.count("&lt;i&gt;answer&lt;/i&gt;") == 2
    assert "<i>answer" not in page
    assert '<td class="text bad">SLO FAIL</td>' in page
    assert [page.count(f"<h3>{title}</h3>") for title in ("By name", "By model", "By turn", "Calls")] == [1] * 4
    assert "a request failed in 3" in page
    text = markdown_text(with_kinds(report))
    assert "| By name | n | errors |" in text
    assert "retrieve\\|x" in text
    assert "<i>" not in text


def test_a_run_of_one_kind_has_no_such_tables(report: ReportInput) -> None:
    one = structs.replace(with_kinds(report).assessment.by_name[0], name="only")
    for told in (report, structs.replace(report, assessment=structs.replace(report.assessment, by_name=(one,)))):
        assert prose.KINDS not in html_text(told) + markdown_text(told)
