"""Reports: of a run, a page, Markdown, JSON and CSV, all from one `ReportInput`; and of runs beside each other."""

from __future__ import annotations

from llmtop.report.comparison import Beside, ComparisonInput
from llmtop.report.contents import ClientSummary, ReportInput, report_input
from llmtop.report.tables import json_text
from llmtop.report.writing import COMPARISON_FORMATS, FORMATS, check_report, write_comparison, write_report

__all__ = [
    "COMPARISON_FORMATS",
    "FORMATS",
    "Beside",
    "ClientSummary",
    "ComparisonInput",
    "ReportInput",
    "check_report",
    "json_text",
    "report_input",
    "write_comparison",
    "write_report",
]
