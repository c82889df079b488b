"""`llmtop doctor URL`: what an endpoint offers and what closes each gap."""

from __future__ import annotations

import argparse
import asyncio
from textwrap import TextWrapper

import msgspec

from llmtop.cli.output import complain, print_json, say
from llmtop.cli.target import endpoint_of
from llmtop.domain.endpoint import Endpoint, EndpointInfo, Finding
from llmtop.domain.load import Caps
from llmtop.endpoint.access import Access
from llmtop.endpoint.path import LIMIT_S, examine_path
from llmtop.endpoint.probe import probe
from llmtop.endpoint.waiting import waiting
from llmtop.telemetry.findings import examine_metrics
from llmtop.wording.findings import explained

WIDTH = 80
"""Columns of a terminal that nobody has made wider."""


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
    info = await probe(endpoint, Caps(), complain)
    with waiting(complain, "an answer that is long enough to see how it arrives", LIMIT_S):
        path = await examine_path(endpoint, info)
    rows = await examine_metrics(msgspec.structs.replace(endpoint, model=info.model), info.dialect)
    beside_metrics = [finding for finding in info.findings if finding.name not in ("metrics", path.name)]
    findings = tuple(map(explained, (*beside_metrics, path, *rows)))
    return msgspec.structs.replace(Access(endpoint).shown(info), findings=findings)


def as_text(info: EndpointInfo) -> str:
    """A row a finding, and under a gap what it means and what to type, in lines that a narrow terminal has room for."""
    width = max(len(finding.name) for finding in info.findings)
    lines = [f"{info.model} · {info.server or info.dialect}", ""]
    for finding in info.findings:
        margin = " " * (width + 6)
        lines += _wrapped(finding.found, f"  {_sign(finding)} {finding.name:<{width}}  ", margin)
        lines += _wrapped(finding.means or "", margin, margin)
        lines += _wrapped(finding.advice or "", f"{margin}→ ", f"{margin}  ")
    return "\n".join(lines)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    """Lines of a text; none for none. An option or a URL is never broken."""
    wrapper = TextWrapper(WIDTH, first, later, break_long_words=False, break_on_hyphens=False)
    return wrapper.wrap(text)


def _sign(finding: Finding) -> str:
    return {True: "✓", False: "✗", None: "?"}[finding.ok]
