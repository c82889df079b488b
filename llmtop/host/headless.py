"""A run without a screen: its host, one line of progress a second, and an end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from msgspec import Struct

from llmtop.analysis.sides import Side
from llmtop.analysis.steady import Steerer
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Seen
from llmtop.domain.frame import Frame
from llmtop.domain.run import Ending, RunMeta
from llmtop.domain.shown import Shown, SinkState
from llmtop.domain.slo import Slo
from llmtop.domain.thresholds import RunThreshold
from llmtop.errors import INTERRUPTED, LlmtopError, SessionLost
from llmtop.host import sockets
from llmtop.host.endings import End, EndWatch
from llmtop.host.host import LISTEN_S, Host, Link
from llmtop.host.outputs import Output
from llmtop.meter.facts import Facts

LOST_S = 30.0
"""A session that shows no new frame for so long, though it makes four a second, is as good as gone."""

PARTING = "interrupted"
"""Said where a second Ctrl-C allows nothing else."""

WAITED_S = 5.0
"""How often a run that has not begun is shown."""


class RunResult(Struct, frozen=True):
    meta: RunMeta
    frame: Frame
    facts: Facts
    assessment: Assessment
    end: End
    output_error: LlmtopError | None = None
    """An output failed; the run itself did not."""
    sinks: tuple[SinkState, ...] = ()
    """Where figures flowed to."""

    @property
    def interrupted(self) -> bool:
        return self.end.ending is Ending.HAND


def run_to_end(
    link: Link,
    slo: Slo,
    show: Callable[[Shown], None],
    *,
    search: bool = False,
    steerer: Steerer | None = None,
    outputs: Sequence[Output] = (),
    baselines: Sequence[Side] = (),
    thresholds: Sequence[RunThreshold] = (),
    watch: EndWatch | None = None,
    parting: str = PARTING,
    door: bool = False,
) -> RunResult:
    """Play the profile's plan to its end, or search for the capacity; signals that ask for an end end it in order.

    Args:
        link: the run; it is closed at the end. Called from the main thread, whose signals it takes.
        show: called once a second of the run, and every `WAITED_S` before it has begun.
        search: drive by a capacity search instead of the plan.
        steerer: drive by this instead of either.
        outputs: who else is told of the run.
        baselines: earlier measurements, judged by `slo`.
        thresholds: what the run may not come to.
        watch: says when it is over; None: one with the usual limits.
        parting: said when a second Ctrl-C ends this process at once.
        door: screens may come and look on, and somebody may stop it (`host.running`).

    Raises:
        SessionLost: the run ended unasked or never began; with the exit code of what went wrong.
        KeyboardInterrupt: a signal ended it before there was a run.
    """
    watch = watch or EndWatch(search or steerer is not None)
    host = Host(
        link,
        slo,
        outputs=(*outputs, watch),
        search=search,
        steerer=steerer,
        baselines=(lambda _: baselines) if baselines else None,
        thresholds=thresholds,
    )
    end, output_error = None, None
    with interruptions(parting) as interrupted, _door(host, interrupted) if door else nullcontext():
        try:
            end = _attend(host.start(), watch, show, interrupted)
        finally:
            try:
                host.close(Ending.HAND if end is None else end.ending)
            except LlmtopError as error:
                output_error = error
    last = host.shown()
    if last.ended is not None and last.ended.error is not None:
        where = None if last.frame is None or not last.frame.totals.sent else last.frame.run_file
        kept = "" if where is None else f"; what was measured until then lies in {where}"
        raise SessionLost(f"{last.ended.error}{kept}", last.ended.exit_code)
    if last.meta is None or last.frame is None:
        if interrupted:
            raise KeyboardInterrupt
        raise SessionLost("the run ended before it began")
    end = end or End(Ending.HAND, host.facts.t_s)
    return RunResult(last.meta, last.frame, host.facts, last.assessment or Assessment(), end, output_error, last.sinks)


def _door(host: Host, interrupted: list[int]) -> AbstractContextManager[None]:
    from llmtop.host.doors import looked_at

    return looked_at(host, lambda: interrupted.append(signal.SIGTERM))


def _attend(host: Host, watch: EndWatch, show: Callable[[Shown], None], interrupted: list[int]) -> End | None:
    """Show the run until it is over; None: the session has ended.

    Raises SessionLost.
    """
    shown_s, newest, unchanged, looks = 0.0, -1, 0, 0
    while (shown := host.shown()).ended is None:
        frame = shown.frame
        if interrupted:
            return End(Ending.HAND, 0.0 if frame is None else frame.t_s)
        if (end := watch.over(shown)) is not None:
            return end
        if frame is not None and frame.t_s - shown_s >= 1.0:
            shown_s = frame.t_s
            show(shown)
        looks += 1
        if frame is not None and frame.t_s == 0.0 and looks * LISTEN_S % WAITED_S == 0:
            show(shown)
        # Looks are counted, not seconds: after a pause of the whole machine the session gets its time again.
        fresh = frame is not None and frame.seq != newest
        if fresh:
            host.send(Seen())
        unchanged = 0 if fresh else unchanged + 1
        newest = newest if frame is None else frame.seq
        if unchanged * LISTEN_S >= LOST_S:
            where = f"; what was measured lies in {frame.run_file}" if frame is not None and frame.run_file else ""
            raise SessionLost(f"the session process has said nothing for {LOST_S:g} s{where}")
        time.sleep(LISTEN_S)
    return None


@contextmanager
def interruptions(parting: str = PARTING) -> Iterator[list[int]]:
    """The signals that ask for an end, as they come. Whoever started us with SIGHUP ignored (nohup) keeps it so.

    The second Ctrl-C ends this process at once, with `parting`; its session hears of that, and ends by itself.
    """
    came: list[int] = []

    def hear(number: int, _: object) -> None:
        if number == signal.SIGINT and number in came:
            os.write(2, f"llmtop: {parting}\n".encode(errors="backslashreplace"))
            sockets.remove_mine()
            os._exit(INTERRUPTED)
        came.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
