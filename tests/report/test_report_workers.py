"""Load workers in a report: the worst by name, the rest summed up; without several there is no word of them."""

from __future__ import annotations

import json
import re

from msgspec import structs

from llmtop.domain.client import CrewFigures, WorkerFigures
from llmtop.report import ReportInput
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import json_text

CREW = CrewFigures(
    began=200,
    heard=199,
    worst=(
        WorkerFigures(worker=7, name="h2:4711", state="lost", share=0.004, chunks_per_s=9_000.0, cpu=0.5),
        WorkerFigures(worker=3, name="h|1:4703", state="red", red_s=12, share=0.005, lag_p99_ms=31.0, offset_s=2.5),
    ),
    rest=198,
    rest_share=0.991,
    rest_chunks_per_s=1.99e6,
)


def test_they_stand_in_every_format(report: ReportInput) -> None:
    told = structs.replace(report, load_workers=CREW)
    markdown, page, document = markdown_text(told), html_text(told), json.loads(json_text(told))
    markdown = re.sub(r"[\u202f\u00a0]", " ", markdown)
    assert "## Load workers" in markdown
    assert r"| 3 h\|1:4703 | red 12 s | 0.50 % |" in markdown
    assert "| 198 others |  | 99.1 % | 1.99M |" in markdown
    assert "<h2>Load workers</h2>" in page
    assert '<td class="text">7 h2:4711</td><td class="text">lost</td>' in page
    assert document["load_workers"]["worst"][0]["name"] == "h2:4711"
    assert document["load_workers"]["rest"] == 198


def test_one_process_is_no_crew(report: ReportInput) -> None:
    assert report.load_workers is None
    assert "Load workers" not in markdown_text(report) + html_text(report)
