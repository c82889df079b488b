"""A run without a screen: its host, one line of progress a second, and an end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.run import RunMeta
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.errors import SessionLost
from llmtop.host.host import LISTEN_S, Host, Link
from llmtop.host.outputs import Output
from llmtop.meter.facts import Facts
from llmtop.wording.figures import TEXT


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
        SessionLost: the run ended unasked, never began, or lost its endpoint; with the exit code of what went wrong.
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
    if watch.gone_at_s is not None:
        why = last.frame.endpoint.last_error or "nothing answers any more"
        where = f"; what was measured lies in {last.frame.run_file}" if last.frame.run_file else ""
        raise SessionLost(f"the endpoint went away after {TEXT.duration(watch.gone_at_s)}: {why}{where}")
    return RunResult(last.meta, last.frame, host.facts, last.assessment or Assessment(), bool(interrupted))


class _Watch:
    """Tells when a run without a screen is over.

    An outage cuts the load, and only a hand brings it back: where there is none, the run is over with it.
    """

    def __init__(self, search: bool) -> None:
        self.gone_at_s: float | None = None
        """When an endpoint that had answered was found to be gone."""
        self._answered = False
        self._search = search
        self._searching = False

    def over(self, shown: Shown) -> bool:
        if shown.ended is not None or self._gone(shown.frame):
            return True
        if self._search:
            begun, self._searching = self._searching, shown.steering.running
            return begun and not self._searching
        return shown.frame is not None and shown.frame.finished and shown.frame.in_flight == 0

    def _gone(self, frame: Frame | None) -> bool:
        if frame is None:
            return False
        self._answered = self._answered or frame.totals.ok > 0
        if (
            self._answered
            and frame.endpoint.state is EndpointState.DOWN
            and frame.in_flight == 0
            and not frame.finished
        ):
            self.gone_at_s = frame.t_s
        return self.gone_at_s is not None


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
