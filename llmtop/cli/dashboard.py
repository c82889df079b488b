"""`llmtop dashboard`: a dashboard for Grafana of the figures that `--out prometheus` shows."""

from __future__ import annotations

import argparse

import msgspec

from llmtop.cli.output import say
from llmtop.cli.slo import slo_without_profile
from llmtop.sinks.dashboard import dashboard


def main(arguments: argparse.Namespace) -> int:
    slo = slo_without_profile(arguments)
    say(msgspec.json.format(msgspec.json.encode(dashboard(slo)), indent=2).decode())
    return 0
