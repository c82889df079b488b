"""What stands for a host until that is there: what it forms opinions with takes its time to be imported."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmtop.domain.commands import Command, Quit, Seen, StopLoad
from llmtop.domain.shown import Shown
from llmtop.host.messages import Parting

if TYPE_CHECKING:
    from llmtop.analysis.demo import Demo
    from llmtop.host.host import Host, Link
    from llmtop.host.options import HostOptions
    from llmtop.host.outputs import Output


class Coming:
    """An `Attendant`: the host, once `come` has made it. Before, frames are shown, and what is asked waits."""

    left = False

    def __init__(self, link: Link, options: HostOptions, outputs: Sequence[Output]) -> None:
        self.slo = options.slo
        self._link, self._options, self._outputs = link, options, outputs
        self._host: Host | None = None
        self.asked = False
        """Somebody waits for it."""
        self._waiting: list[Command] = []
        self._lock = threading.Lock()

    def come(self) -> None:
        """Make the host and start it; in a thread of its own."""
        from llmtop.host import beside
        from llmtop.host.host import Host

        baselines = beside.reader(self._options.baselines)
        steerer = _demo_of(self._options)
        host = Host(self._link, self.slo, outputs=self._outputs, baselines=baselines, steerer=steerer).start()
        with self._lock:
            self._host = host
            for command in self._waiting:
                host.send(command)

    def shown(self) -> Shown:
        return Shown(frame=self._link.frame()) if self._host is None else self._host.shown()

    def send(self, command: Command) -> None:
        self.asked = True
        with self._lock:
            if self._host is not None:
                self._host.send(command)
            elif isinstance(command, Seen):
                self._link.send(command)
            elif isinstance(command, Quit | StopLoad):
                self._waiting = []  # nothing that was asked before begins a load after it
                self._link.send(command)
            else:
                self._waiting.append(command)

    def close(self) -> None:
        """Raises LlmtopError: an output failed."""
        (self._host or self._link).close()

    def parting(self, failed: str | None, exit_code: int) -> Parting:
        """What is said once it is closed.

        Args:
            failed: why an output failed, and its exit code.
        """
        if self._host is None:
            return Parting(failed=failed, exit_code=exit_code)
        from llmtop.meter.canaries import new_user

        facts, unread = self._host.facts, self._host.unread
        return Parting(
            felt=new_user(facts.canaries),
            states=tuple({event.state for event in facts.events if event.state is not None}),
            unread=None if unread is None else str(unread),
            failed=failed,
            exit_code=exit_code if unread is None else unread.exit_code,
        )


def _demo_of(options: HostOptions) -> Demo | None:
    """On the simulated engine as it is started; None: the run is no demo."""
    if options.demo is None:
        return None
    from llmtop.analysis.demo import Demo
    from llmtop.simulator.engine import LIVE_KNOBS, load_preset

    config = load_preset(options.session.preset).config
    return Demo({knob.name: float(getattr(config, knob.name)) for knob in LIVE_KNOBS}, once=options.demo == "once")
