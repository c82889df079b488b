"""`llmtop check FILE`: one user of a Python file, as a timeline."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from msgspec.structs import replace

from llmtop.channel import machine_environment, outward_environment
from llmtop.cli.exits import NO, YES
from llmtop.cli.output import complain, print_json, say
from llmtop.cli.target import asked_url, check_simulated, confirm, endpoint_of, knobs_of
from llmtop.domain.endpoint import Endpoint, safe_url
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.plain import plain
from llmtop.domain.rehearsed import Rehearsal
from llmtop.endpoint.access import Access
from llmtop.endpoint.clock import StampingLoop
from llmtop.endpoint.probe import probe
from llmtop.errors import UsageError
from llmtop.load.steps import IMPORT_S, ends_within
from llmtop.session.rehearsing import rehearse
from llmtop.simulator.server.process import SimulatorProcess
from llmtop.wording.timeline import timeline
from llmtop.workload.examples import NAMES, users_file
from llmtop.workload.userfile import UserFile, check, load


def main(arguments: argparse.Namespace) -> int:
    if arguments.file is None:
        raise UsageError(f"check which file? one with `async def run(user)`, or an example: {', '.join(NAMES)}")
    if "://" in arguments.file:
        raise UsageError(f"{plain(safe_url(arguments.file))} is a URL: the file comes first, llmtop check FILE URL")
    path = check(users_file(arguments.file))
    if arguments.print:
        say(path.read_text().rstrip("\n"))
        return YES
    url = asked_url(arguments)
    if url is None:
        check_simulated(arguments.sim or "laptop", knobs_of(arguments.set))
    elif arguments.set:
        raise UsageError("--set turns knobs of the simulated engine; a real server has none that turn from here")
    endpoint = None if url is None else endpoint_of(arguments, url)
    if endpoint is not None:
        confirm(endpoint, arguments.yes)
    with _as_in_a_run(() if endpoint is None else endpoint.secret_variables):
        with ends_within(IMPORT_S):
            file = load(path)
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            told = runner.run(_rehearsed(file, endpoint, arguments))
    if arguments.json:
        print_json({"exit_code": YES if told.ok else NO, **_fields(told)})
    else:
        say(timeline(told))
    return YES if told.ok else NO


@contextmanager
def _as_in_a_run(secret: tuple[str, ...]) -> Iterator[None]:
    """What the file prints is none of ours; and of the environment it sees what the processes of a run are handed, so
    that what needs more fails here already.
    """
    whole = dict(os.environ)
    seen = machine_environment() | outward_environment(*secret)
    for name in whole.keys() - seen.keys():
        del os.environ[name]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.environ.update(whole)


def _fields(told: Rehearsal) -> dict[str, object]:
    return {name: getattr(told, name) for name in told.__struct_fields__}


async def _rehearsed(file: UserFile, endpoint: Endpoint | None, arguments: argparse.Namespace) -> Rehearsal:
    if endpoint is not None:
        return await _at(endpoint, file, arguments)
    server = await SimulatorProcess.start(arguments.sim or "laptop", knobs_of(arguments.set), arguments.seed)
    try:
        return await _at(Endpoint(base_url=server.base_url, simulated=True), file, arguments)
    finally:
        await server.close()


async def _at(endpoint: Endpoint, file: UserFile, arguments: argparse.Namespace) -> Rehearsal:
    caps = Caps()
    info = await probe(endpoint, caps, complain)
    lengths = {name: getattr(arguments, name) for name in ("prompt_tokens", "output_tokens", "shared_prefix")}
    point = LoadPoint(concurrency=1, **{name: value for name, value in lengths.items() if value is not None})
    told = await rehearse(
        file, endpoint, info, point, visits=arguments.visits, within_s=arguments.within, seed=arguments.seed, caps=caps
    )
    return replace(told, model=Access(endpoint).heard(told.model))
