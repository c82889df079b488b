"""What the host of a run is started with: one value that also crosses to its process."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from llmtop.domain.slo import Slo
from llmtop.domain.terminal import TerminalState
from llmtop.session.options import SessionOptions

Demonstration = Literal["loop", "once"]
DETACHED_FOR_S = 7200.0
"""A run that its screen has left may be left alone for so long."""
CLOSE_S = 12.0
"""How long a session may take to leave: its requests are cancelled and the server is watched while it drains."""
PATIENCE_S = 30.0
"""How long a closing host waits for an opinion, an output or a report in the making; the load has ended by then."""


class HostOptions(Struct, frozen=True, kw_only=True):
    session: SessionOptions
    slo: Slo
    terminal: TerminalState | None = None
    """What the screen that begins the run is about to take; given back if that dies without a word."""
    baselines: tuple[str, ...] = ()
    """Earlier measurements that it is shown beside, as `host.beside.looked_up` gives them."""
    sinks: tuple[str, ...] = ()
    """Where its figures flow to while it runs: `prometheus=127.0.0.1:9464`."""
    demo: Demonstration | None = None
    """A demo has the wheel as soon as the engine answers: again and again, or once; None: nobody."""
    keep_on_hangup: bool = False
    """A screen that goes without a word has detached: the run goes on."""
    detached_for_s: float = DETACHED_FOR_S
    """So long may nobody with the wheel look at a detached run before it is ended."""
