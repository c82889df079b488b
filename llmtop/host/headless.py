"""A run without a screen: its host, one line of progress a second, and an end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from llmtop.domain.frame import Frame
from llmtop.domain.run import RunMeta
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.errors import SessionLost
from llmtop.host.host import LISTEN_S, Host, Link
from llmtop.host.outputs import Output
from llmtop.meter.facts import Facts


class RunResult(Struct, frozen=True):
    meta: RunMeta
    frame: Frame
    facts: Facts
    assessment: Assessment
    interrupted: bool


def run_to_end(
    link: Link,
    slo: Slo,
    show: Callable[[Shown], None],
    *,
    search: bool = False,
    outputs: Sequence[Output] = (),
) -> RunResult:
    """Play the profile's plan to its end, or search for the capacity; Ctrl-C and SIGTERM end it in order.

    Args:
        link: the run; it is closed at the end. Called from the main thread, whose signals it takes.
        show: called once a second of the run.
        search: drive by a capacity search instead of the plan.
        outputs: who else is told of the run.

    Raises:
        SessionLost: the run ended unasked, or never began; with the exit code of what went wrong.
        LlmtopError: an output failed.
    """
    host = Host(link, slo, outputs=outputs, search=search)
    with _interruptions() as interrupted, host:
        watch = _Watch(search)
        shown_s = 0.0
        while not interrupted and not watch.over(shown := host.shown()):
            if shown.frame is not None and shown.frame.t_s - shown_s >= 1.0:
                shown_s = shown.frame.t_s
                show(shown)
            time.sleep(LISTEN_S)
    last = host.shown()
    if last.ended is not None and last.ended.error is not None:
        raise SessionLost(last.ended.error, last.ended.exit_code)
    if last.meta is None or last.frame is None:
        raise SessionLost("the run ended before it began")
    return RunResult(last.meta, last.frame, host.facts, last.assessment or Assessment(), bool(interrupted))


class _Watch:
    """Tells when a run without a screen is over."""

    def __init__(self, search: bool) -> None:
        self._search = search
        self._searching = False

    def over(self, shown: Shown) -> bool:
        if shown.ended is not None:
            return True
        if self._search:
            begun, self._searching = self._searching, shown.steering.running
            return begun and not self._searching
        return shown.frame is not None and shown.frame.finished and shown.frame.in_flight == 0


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """The signals that ask for an end, as they come."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
