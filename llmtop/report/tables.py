"""The report for machines: JSON with everything, CSV with the levels."""

from __future__ import annotations

import csv
import io

import msgspec

from llmtop.domain.verdicts import LevelPoint
from llmtop.report import prose
from llmtop.report.contents import ReportInput
from llmtop.wording.keys import FORMAT

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
OVERALL = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2e": "e2e_ms", "icl": "icl_ms"}
"""Keys of the JSON report under which the whole run's distributions stand on top -> the field of `figures.run`."""
CSV_HEAD = ("curve", "axis", "earlier", *LevelPoint.__struct_fields__)


def json_text(report: ReportInput) -> str:
    """All of the report. Units are in the keys, distributions in milliseconds, shares from 0 to 1, null = not known."""
    fields: dict[str, object] = msgspec.to_builtins(report)
    overall = {key: getattr(report.figures.run, name) for key, name in OVERALL.items()}
    document = {"format": FORMAT, "verdict": prose.verdict(report), **overall, **fields}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def csv_text(report: ReportInput) -> str:
    """One row a level, earlier configurations first; an empty cell = not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for curve in report.assessment.curves:
        for point in sorted(curve.points, key=lambda point: point.load):
            values = (getattr(point, name) for name in LevelPoint.__struct_fields__)
            writer.writerow(map(_cell, (curve.label, curve.axis, curve.ghost, *values)))
    return out.getvalue()


def _cell(value: object) -> object:
    """As CSV; a text that a spreadsheet would take for a formula begins with an apostrophe, as OWASP advises."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return int(value) if isinstance(value, bool) else "" if value is None else value
