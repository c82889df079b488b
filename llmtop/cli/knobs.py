"""`llmtop knobs [URL]`: which knobs of a server turn while it runs, and the scheduler that gives vLLM some."""

from __future__ import annotations

import argparse
import asyncio
from importlib import resources
from pathlib import Path

from llmtop.cli.exits import NO, YES
from llmtop.cli.output import complain, say
from llmtop.cli.target import endpoint_of, knobs_url_of
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps
from llmtop.endpoint.probe import probe
from llmtop.errors import UsageError
from llmtop.session.bank import Bank
from llmtop.wording.knobs import GATE_STANDS, stands_text


def main(arguments: argparse.Namespace) -> int:
    if arguments.print:
        if arguments.url is not None:
            raise UsageError("--print writes the scheduler's file, and asks no URL: give one of them")
        say(resources.files("llmtop.session").joinpath("llmtop_knobs.py").read_text(encoding="utf-8").rstrip())
        return YES
    if arguments.url is None and arguments.knobs_url is not None:
        raise UsageError("--knobs-url is where the knobs of a server turn: give the URL of that server, too")
    if arguments.url is None:
        say(Path(__file__).with_name("knobs.txt").read_text(encoding="utf-8").rstrip())
        return YES
    bank = asyncio.run(_looked(endpoint_of(arguments, arguments.url), knobs_url_of(arguments)))
    say(stands_text(bank.knobs, bank.most, bank.by) if bank.knobs else f"{bank.none}; {GATE_STANDS}")
    return YES if bank.knobs else NO


async def _looked(endpoint: Endpoint, url: str | None) -> Bank:
    """What turns. Raises EndpointError where the endpoint cannot be driven."""
    bank = Bank(endpoint, url)
    await bank.look(await probe(endpoint, Caps(), complain))
    return bank
