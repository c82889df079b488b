"""`llmtop doctor URL`: what an endpoint offers and what closes each gap."""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec

from llmtop.cli.output import print_json
from llmtop.cli.target import endpoint_of
from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Endpoint, EndpointInfo, Finding
from llmtop.domain.load import Caps
from llmtop.endpoint import EndpointClient
from llmtop.telemetry import GpuReader, Scraper, metrics_findings


def main(arguments: argparse.Namespace) -> int:
    info = asyncio.run(examine(endpoint_of(arguments, arguments.url)))
    if arguments.json:
        print_json(info)
    else:
        print(as_text(info))
    return 0


async def examine(endpoint: Endpoint) -> EndpointInfo:
    """The probe's findings and those of the metrics. Raises EndpointError where the endpoint cannot be driven."""
    origin_ns = time.perf_counter_ns()
    client = EndpointClient(endpoint, None, Caps(), origin_ns)
    try:
        info = await client.probe()
    finally:
        await client.close()
    told = msgspec.structs.replace(endpoint, model=info.model, dialect=info.dialect)
    scraper = Scraper(told, info.dialect, origin_ns)
    try:
        snapshot = await scraper.scrape()
    finally:
        await scraper.close()
    gpus = scraper.gpus or GpuReader().read(snapshot.t_s)
    rows = metrics_findings(DIALECTS[info.dialect], snapshot, scraper.known, scraper.missing, gpus)
    beside_metrics = [finding for finding in info.findings if finding.name != "metrics"]
    return msgspec.structs.replace(info, findings=(*beside_metrics, *rows))


def as_text(info: EndpointInfo) -> str:
    """One line a finding, and under a gap what closes it."""
    width = max(len(finding.name) for finding in info.findings)
    lines = [f"{info.model} · {info.server or info.dialect}", ""]
    for finding in info.findings:
        lines.append(f"  {_sign(finding)} {finding.name:<{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"    {'':<{width}}  → {finding.advice}")
    return "\n".join(lines)


def _sign(finding: Finding) -> str:
    return {True: "✓", False: "✗", None: "?"}[finding.ok]
