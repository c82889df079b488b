"""A screen's end of a run that a host's process attends to."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from llmtop.domain.commands import Command, Detach
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import NewUser
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.host.host import Host
from llmtop.host.options import HostOptions
from llmtop.host.running import Running


class Parting(Struct, frozen=True, kw_only=True):
    """What is said of a run once it is over, besides the last that is shown of it."""

    felt: NewUser | None = None
    """By canaries of the whole run; None: there were none."""
    states: tuple[EndpointState, ...] = ()
    """Those that the endpoint was in."""
    unread: str | None = None
    """Why an earlier measurement could not be read."""
    failed: str | None = None
    """Why an output (a sink) failed."""
    exit_code: int = 0
    """Of what could not be read, or has failed."""


class Attached:
    """An `Attendant` of a screen. `send` waits for nobody and raises nothing; `shown` never fails.

    Attributes:
        slo: what the run is judged by.
        view: it only looks on.
        holds: this screen began the run and has not left it: its going ends it.
        left: it went by `Detach`; the run goes on. No new `shown` comes.
        parting: None until the run is over and all was said of it.
        name: of the run, as `running` gives it; empty until it is known.
    """

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self.view = False
        self.holds = True
        self.left = False
        self.parting: Parting | None = None
        self.name = ""
        self._host: Host

    @classmethod
    def begin(cls, options: HostOptions) -> Self:
        """Start a run. Must be called before a screen takes the terminal.

        Raises SessionLost, MachineShort as OSError: no process can be started.
        """
        from llmtop.host import beside
        from llmtop.host.link import SessionLink

        attached = cls(options.slo)
        link = SessionLink(options.session)
        attached._host = Host(link, options.slo, baselines=beside.reader(options.baselines)).start()
        return attached

    @classmethod
    def join(cls, run: Running, *, view: bool) -> Self:
        """Look at a run that goes on.

        Raises:
            SessionLost: it has gone meanwhile, or is another llmtop's.
        """
        raise NotImplementedError

    def shown(self) -> Shown:
        """The newest of everything; after the run or its host has gone, the last of it, with `ended`."""
        return self._host.shown()

    def send(self, command: Command) -> None:
        if isinstance(command, Detach):
            return
        self._host.send(command)

    def close(self) -> None:
        """A screen that holds the run ends it in order and waits for that; another one leaves. May be called twice."""
        from llmtop.meter.canaries import new_user

        self._host.close()
        states = {event.state for event in self._host.facts.events if event.state is not None}
        unread = self._host.unread
        self.parting = Parting(
            felt=new_user(self._host.facts.canaries),
            states=tuple(states),
            unread=None if unread is None else str(unread),
            exit_code=0 if unread is None else unread.exit_code,
        )
