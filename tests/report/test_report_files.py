"""Markdown, JSON and CSV, and the files they are written to."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest

from llmtop.domain.verdicts import Bound
from llmtop.errors import FileError
from llmtop.report import FORMATS, ReportInput, markdown, prose, write_report
from llmtop.report.markdown import markdown_text, text_curve
from llmtop.report.page import html_text
from llmtop.report.tables import csv_text, json_text
from llmtop.wording.figures import PAGE
from llmtop.wording.keys import FORMAT


def test_json_holds_the_whole_report(report: ReportInput) -> None:
    document = json.loads(json_text(report))
    assert document["format"] == FORMAT
    assert document["verdict"] == "36 concurrent users keep the SLO, 40 do not."
    assert document["assessment"]["capacity"]["at_slo"] == 36
    assert msgspec.convert(document, ReportInput) == report
    run = document["figures"]["run"]
    assert [document[key] for key in ("ttft", "tpot", "e2e", "icl")] == [
        run[name] for name in ("ttft_ms", "tpot_ms", "e2e_ms", "icl_ms")
    ]


def test_csv_has_a_row_for_each_level(report: ReportInput) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [float(row["load"]) for row in rows if row["earlier"] == "0"] == [
        point.load for point in report.assessment.curves[-1].points
    ]
    assert sum(row["earlier"] == "1" for row in rows) == 4
    assert rows[0]["curve"] == "before the restart"
    assert float(rows[-1]["ttft_p95_ms"]) == report.assessment.curves[-1].points[-1].ttft_p95_ms


def test_markdown_tables_are_whole_and_words_from_outside_are_harmless(report: ReportInput) -> None:
    text = markdown_text(report)
    assert text.startswith("# 36 concurrent users keep the SLO, 40 do not.\n")
    assert "<b>" not in text
    assert "- 03:20 max\\_num\\_seqs <32>" in text
    assert "TTFT p95 < 2 s" in text, "a sign of comparison is read as one"
    outside = "".join(text.split("```")[::2])
    tables = [block.splitlines() for block in outside.split("\n\n") if block.lstrip().startswith("|")]
    assert len(tables) >= 5
    for table in tables:
        assert len({line.count("|") - line.count("\\|") for line in table if line.strip()}) == 1


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a < b", "a < b"),
        ("<32>", "<32>"),
        ("x <= 2", "x <= 2"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- gone", "&lt;!-- gone"),
        ("<?php", "&lt;?php"),
        ("a & b", "a & b"),
        ("&lt;b&gt; &#60;", "&amp;lt;b&amp;gt; &amp;#60;"),
        ("> quoted", "\\> quoted"),
        (">quoted", "\\>quoted"),
    ],
)
def test_signs_that_would_begin_a_tag_or_a_reference_are_words_and_others_stay_readable(
    text: str, written: str
) -> None:
    assert markdown.plain_of(text) == written


def test_percentiles_of_every_part_stand_in_the_report_and_what_is_left_out_is_counted(report: ReportInput) -> None:
    text, page, run = markdown_text(report), html_text(report), report.figures.run
    e2e = run.e2e_ms
    shown = [PAGE.latency(value) for value in (e2e.mean, e2e.p50, e2e.p90, e2e.p95, e2e.p99, e2e.max)]
    cells = " | ".join(["E2E", PAGE.whole(e2e.n), *shown])
    assert f"| {' '.join(cells.split())} |" in text
    left_out = f"Not among them: 2 failed, {run.unjudged} ended before it was known whether the client held them up."
    rates = f"{PAGE.count(report.figures.levels[-1].requests_per_s)} requests/s"
    for told in (text, page):
        assert left_out in told
        assert "stage steps: " in told
        for level in report.figures.levels:
            assert f"{PAGE.load(level.load, level.axis)} requests in flight: " in told
        assert f"64 requests in flight: {rates}" in told


def test_the_text_curve_shows_the_bend(report: ReportInput, empty_report: ReportInput) -> None:
    lines = text_curve(report)
    assert lines[0] == "TTFT over requests in flight: o p50, x p95, | cliff, - SLO"
    body = lines[2:-1]
    assert sum(line.count("o") for line in body) >= 10
    assert all("|" in line or "o" in line or "x" in line for line in body)
    assert any(line.count("-") > 40 for line in body)
    assert max(map(len, lines)) <= 80
    assert text_curve(empty_report) == []


def test_every_format_is_written_even_for_a_run_without_requests(
    report: ReportInput, empty_report: ReportInput, tmp_path: Path
) -> None:
    for ending in FORMATS:
        for name, each in (("full", report), ("empty", empty_report)):
            path = tmp_path / f"{name}{ending}"
            write_report(each, path)
            assert path.read_text(encoding="utf-8").endswith("\n")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_report_takes_the_place_of_a_report_of_ours_and_of_nothing_else(
    ending: str, report: ReportInput, empty_report: ReportInput, tmp_path: Path
) -> None:
    path = tmp_path / f"r{ending}"
    assert not write_report(empty_report, path)
    assert write_report(report, path), "another report was there, which is said"
    assert not write_report(report, path), "the same was there"
    for mine in (b"mine", b"# Notes\n\nmine\n", b"{}", b"SQLite format 3\0 and so on"):
        path.write_bytes(mine)
        with pytest.raises(FileError, match="not written over"):
            write_report(report, path)
        assert path.read_bytes() == mine
    with pytest.raises(FileError, match="recording"):
        write_report(report, path, force=True)
    path.write_bytes(b"mine")
    assert write_report(report, path, force=True)
    assert b"mine" not in path.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "nothing is left beside"


@pytest.mark.parametrize("ending", [".html", ".md"])
def test_a_report_that_somebody_has_written_into_is_kept(ending: str, report: ReportInput, tmp_path: Path) -> None:
    path = tmp_path / f"r{ending}"
    write_report(report, path)
    path.write_text(path.read_text().replace("36 concurrent", "36 (so few?) concurrent"))
    with pytest.raises(FileError, match="not as llmtop wrote it"):
        write_report(report, path)


def test_endings_and_places_that_do_not_work(report: ReportInput, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"use \.html, \.md, \.json, \.csv"):
        write_report(report, tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write_report(report, tmp_path / "file" / "report.md")
    with pytest.raises(FileError, match="no folder"):
        write_report(report, tmp_path / "none" / "report.md")
    assert not (tmp_path / "none").exists()


def test_levels_measured_before_a_restart_stay_in_every_format(report: ReportInput) -> None:
    earlier, now = report.assessment.curves
    for text in (markdown_text(report), html_text(report)):
        levels = text.split("Level by level")[1]
        said, before = levels.split(f"{earlier.label}, measured earlier in the run and judged no more")
        assert now.label in said
        assert before.count(PAGE.latency(earlier.points[0].ttft_p50_ms)) >= 1


def test_requests_that_fail_are_no_cliff_of_latency(report: ReportInput) -> None:
    cliff = msgspec.structs.replace(report.assessment.cliff, cause=Bound.REFUSED, status=503, high=34.0)
    refused = msgspec.structs.replace(report, assessment=msgspec.structs.replace(report.assessment, cliff=cliff))
    assert prose.cliff_text(cliff) == "HTTP 503 from 34 on, beginning between 31 and 34."
    assert ("Refusals", "34", "HTTP 503 from 34 on, between 31 and 34") in prose.figures(refused)
    assert "| refusals" in "\n".join(text_curve(refused))
    assert "cliff at" not in html_text(refused)
    assert "HTTP 503 from 34 on" in html_text(refused)
