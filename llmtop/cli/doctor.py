"""`llmtop doctor URL`: what an endpoint offers and what closes each gap."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from llmtop.cli.output import print_json, say
from llmtop.cli.target import endpoint_of
from llmtop.domain.endpoint import Endpoint, EndpointInfo, Finding
from llmtop.domain.load import Caps
from llmtop.endpoint.access import Access
from llmtop.endpoint.path import examine_path
from llmtop.endpoint.probe import probe
from llmtop.telemetry.findings import examine_metrics


def main(arguments: argparse.Namespace) -> int:
    info = asyncio.run(examine(endpoint_of(arguments, arguments.url)))
    if arguments.json:
        print_json(info)
    else:
        say(as_text(info))
    return 0


async def examine(endpoint: Endpoint) -> EndpointInfo:
    """The probe's findings, how an answer arrives, and what the metrics tell.

    Raises EndpointError where the endpoint cannot be driven.
    """
    info = await probe(endpoint, Caps())
    path = await examine_path(endpoint, info)
    rows = await examine_metrics(msgspec.structs.replace(endpoint, model=info.model), info.dialect)
    beside_metrics = [finding for finding in info.findings if finding.name != "metrics"]
    return msgspec.structs.replace(Access(endpoint).shown(info), findings=(*beside_metrics, path, *rows))


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
