"""`llmtop dashboard`: a dashboard for Grafana of the figures that `--out prometheus` shows."""

from __future__ import annotations

import argparse

import msgspec

from llmtop.cli.output import say
from llmtop.domain.slo import Slo, parse_slo
from llmtop.sinks.dashboard import dashboard


def main(arguments: argparse.Namespace) -> int:
    slo = Slo() if arguments.slo is None else parse_slo(arguments.slo)
    say(msgspec.json.format(msgspec.json.encode(dashboard(slo)), indent=2).decode())
    return 0
