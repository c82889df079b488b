"""Reports of a run: an HTML page, Markdown, JSON and CSV, all from one `ReportInput`."""

from __future__ import annotations

from llmtop.report.contents import ClientSummary, ReportInput, report_input
from llmtop.report.tables import json_text
from llmtop.report.writing import FORMATS, check_report, write_report

__all__ = ["FORMATS", "ClientSummary", "ReportInput", "check_report", "json_text", "report_input", "write_report"]
