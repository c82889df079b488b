"""`llmtop report RUN`: a recording written down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmtop.domain.slo import parse_slo
from llmtop.host.review import review, write_reports
from llmtop.report import write_report
from llmtop.wording.figures import TEXT


def main(arguments: argparse.Namespace) -> int:
    run = Path(arguments.run)
    slo = parse_slo(arguments.slo) if arguments.slo else None
    if not arguments.output:
        for path in write_reports(run, slo):
            print(path)
        return 0
    report = review(run, slo)
    if not report.complete:
        print(f"llmtop: {run}: the run was cut off after {TEXT.duration(round(report.length_s))}", file=sys.stderr)
    path = Path(arguments.output)
    write_report(report, path)
    print(path)
    return 0
