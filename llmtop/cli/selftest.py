"""`llmtop selftest`: what this machine's client can drive, against a loopback server with known times."""

from __future__ import annotations

import argparse
import asyncio

from llmtop.cli.output import print_json
from llmtop.endpoint.clock import StampingLoop
from llmtop.load.selftest import HEADING, Row, run, verdict


def main(arguments: argparse.Namespace) -> int:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        rows = runner.run(_steps(arguments.seconds, not arguments.json))
    if arguments.json:
        print_json({"rows": rows, "verdict": verdict(rows)})
    else:
        print(f"\n{verdict(rows)}")
    return 0


async def _steps(seconds: float, narrate: bool) -> list[Row]:
    rows = []
    if narrate:
        print(HEADING, flush=True)
    async for row in run(seconds=seconds):
        rows.append(row)
        if narrate:
            print(row, flush=True)
    return rows
