"""`llmtop selftest`: what this machine's client can drive, against a loopback server with known times."""

from __future__ import annotations

import argparse
import asyncio

from llmtop.load import selftest


def main(arguments: argparse.Namespace) -> int:
    rows = []
    if not arguments.json:
        print(selftest.HEADING)

    async def steps() -> None:
        async for row in selftest.run(seconds=arguments.seconds):
            rows.append(row)
            if not arguments.json:
                print(row)

    asyncio.run(steps())
    return 0
