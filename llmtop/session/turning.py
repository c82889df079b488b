"""Knobs of the server while it runs: what is turned on it, and what others have turned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.run import EventKind
from llmtop.errors import EndpointError, UsageError
from llmtop.session.bank import Bank
from llmtop.session.journal import Journal
from llmtop.session.known import Known
from llmtop.session.targets import Target
from llmtop.wording.knobs import moved_text

KNOBS_S = 10.0
"""How often it is looked whether somebody else has turned a knob of a real server."""


class Turning:
    """One hand at a time is on the server (`alone`): a turn, a look or a restart."""

    def __init__(self, known: Known, journal: Journal) -> None:
        self.alone = asyncio.Lock()
        self._known, self._journal = known, journal

    async def turn(self, target: Target, wish: SetKnob | InjectFault) -> None:
        """Do it, and say what was done or why not; what stands otherwise afterwards is a configuration of its own."""
        async with self.alone:
            known, tell, before = self._known, self._journal.tell, target.knobs.get(wish.name)
            whose: EventKind = "simulator" if target.bank is None else "server"
            try:
                done = await target.turn(wish)
                tell(whose, done)
                if isinstance(wish, SetKnob):
                    known.turned[wish.name] = wish.value
                    known.begin_chapter(target, done if before is None else f"{wish.name} {before:g} → {wish.value:g}")
            except EndpointError as error:
                tell(whose, error.problem, "warning")
                if (now := target.knobs.get(wish.name)) != before:
                    known.begin_chapter(target, f"{wish.name} {before} → {now}")
            except UsageError as error:
                tell(whose, str(error), "warning")

    async def watch(self, target: Target, bank: Bank, there: Callable[[], bool]) -> None:
        """Others may turn the server's knobs as well: what they turned is a configuration of its own, too.

        Args:
            there: whether somebody can be asked.
        """
        while True:
            await asyncio.sleep(KNOBS_S)
            async with self.alone:
                before = bank.knobs
                if there() and await bank.again():
                    text = moved_text(before, bank.knobs)
                    self._journal.tell("server", text, "warning")
                    self._known.begin_chapter(target, text)
