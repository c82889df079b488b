"""A run without a screen: the same session, in this process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from msgspec import Struct

from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.endpoint import StampingLoop
from llmtop.meter import Facts
from llmtop.session.assessor import Assessor
from llmtop.session.options import SessionOptions
from llmtop.session.session import TICK_S, Session


class RunResult(Struct, frozen=True):
    meta: RunMeta
    frame: Frame
    facts: Facts
    assessment: Assessment
    interrupted: bool


async def run_headless(
    options: SessionOptions, slo: Slo, show: Callable[[Frame, Assessor], None], *, search: bool = False
) -> RunResult:
    """Play the profile's plan to its end, or search for the capacity; Ctrl-C and SIGTERM end it in order.

    Args:
        show: called once a second with the newest frame.
        search: drive by a capacity search instead of the plan.

    Raises:
        EndpointError, RunFileError: see `Session.start`.
    """
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    session = Session(options)
    facts = Facts()
    wanted: list[Command] = []
    assessor = Assessor(lambda: session.meta, slo, wanted.append)
    assessment: Assessment | None = None
    try:
        await session.start()
        if search:
            assessor.start()
        shown_s = 0.0
        while not interrupted.is_set() and not session.failed.done():
            await asyncio.sleep(TICK_S)
            _extend(facts, session)
            frame = session.frame()
            if frame.t_s - shown_s >= 1.0:
                shown_s = frame.t_s
                if search:
                    assessment = await asyncio.to_thread(assessor, facts, assessment, full=False)
                show(frame, assessor)
            for command in wanted:
                await session.command(command)
            wanted.clear()
            if not assessor.running if search else frame.finished and frame.in_flight == 0:
                break
        if session.failed.done():
            session.failed.result()
    finally:
        await session.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    _extend(facts, session)
    final = assessor(facts, assessment, full=True)
    return RunResult(session.meta, session.frame(), facts, final, interrupted.is_set())


def run_to_end(
    options: SessionOptions, slo: Slo, show: Callable[[Frame, Assessor], None], *, search: bool = False
) -> RunResult:
    """`run_headless` on an event loop of its own, which stamps as well as the system can."""
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(run_headless(options, slo, show, search=search))


def _extend(facts: Facts, session: Session) -> None:
    for batch in session.take_facts():
        facts.extend(batch)
