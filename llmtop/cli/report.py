"""`llmtop report RUN`: a recording written down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from llmtop.domain.request import RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.domain.slo import Slo, parse_slo
from llmtop.meter import Facts, whole_run_timeline
from llmtop.recording import RunReader
from llmtop.report import ReportInput, report_input, write_report
from llmtop.session.assessor import Assessor


def main(arguments: argparse.Namespace) -> int:
    run = Path(arguments.run)
    slo = parse_slo(arguments.slo) if arguments.slo else None
    if arguments.output:
        path = Path(arguments.output)
        write_report(read(run, slo), path)
        print(path)
    else:
        for path in write_reports(run, slo):
            print(path)
    return 0


def write_reports(run: Path, slo: Slo | None) -> tuple[Path, ...]:
    """HTML and Markdown beside the run file."""
    report = read(run, slo)
    paths = tuple(run.with_suffix(suffix) for suffix in (".html", ".md"))
    for path in paths:
        write_report(report, path)
    return paths


def read(run: Path, slo: Slo | None) -> ReportInput:
    """A run file, judged by `slo` or by its own profile's. Raises RunFileError."""
    with RunReader(run) as reader:
        facts, gpus = Facts(cap=None), set[str]()

        def told() -> Iterator[FactBatch]:
            for batch in reader.batches():
                facts.extend(batch)
                gpus.update(gpu.name for gpu in batch.gpu)
                yield batch

        timeline = whole_run_timeline(told(), reader.length_s)
        meta = reader.meta
        slo = slo or meta.profile.slo
        if not reader.complete:
            print(f"llmtop: {run}: the run was cut off after {reader.length_s:.0f} s", file=sys.stderr)
        return report_input(
            meta,
            facts,
            Assessor(lambda: meta, slo)(facts, full=True),
            timeline,
            slo=slo,
            length_s=reader.length_s,
            complete=reader.complete,
            records=_records(reader),
            gpus=sorted(gpus),
        )


def _records(reader: RunReader) -> Iterator[RequestRecord]:
    for batch in reader.batches():
        yield from batch.requests
