"""A server that went away under a run: since when, under which load, and whether another one is back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.settings import is_slots
from llmtop.wording.restarts import SILENT

START_BLUR_S = 1.0
"""Start times of one process, as different pages round them."""
BRAKED_S = 15.0
"""A brake that spoke so shortly before it was known that the server had gone, spoke because of that."""
Traits = tuple[tuple[str, str], ...]
SLOTS = "max_num_seqs"
_COUNTERS = ("generation_tokens_total", "prompt_tokens_total", "requests_total")


@dataclass(slots=True)
class Away:
    """What is known while nobody is there, or nobody who generates."""

    since_s: float
    driven: LoadPoint | None
    """The load that was commanded then; None: none."""
    restarted: bool = False
    """The metrics say that another process answers."""
    absent: bool = False
    """Nobody listened at a time."""
    stage: str = SILENT
    """How far it is, in words."""

    def reach(self, stage: str) -> None:
        """A probe has come so far."""
        self.stage = stage

    def started_anew(self, same: bool | None, changed: bool) -> bool:
        """Whether what is back is another process.

        Args:
            same: from `same_process`.
            changed: it tells other settings than before.
        """
        return self.restarted or same is False or (same is None and (self.absent or changed))


class Driven:
    """The load that somebody meant: what a server that goes away makes of it by the brake is not."""

    def __init__(self) -> None:
        self._meant: LoadPoint | None = None
        self._braked_s: float | None = None

    def note(self, changes: Iterable[LoadChange]) -> None:
        for change in changes:
            if change.reason == "brake":
                self._braked_s = change.t_s
            else:
                self._meant, self._braked_s = change.point, None

    def at(self, t_s: float, target: LoadPoint) -> LoadPoint | None:
        """The load that is meant now; None: none is.

        Args:
            target: what is commanded.
        """
        braked = self._braked_s is not None and t_s - self._braked_s <= BRAKED_S
        meant = self._meant if braked and self._meant is not None else target
        return meant if meant.value else None


def same_process(before: ServerSnapshot | None, after: ServerSnapshot | None) -> bool | None:
    """Whether two scrapes are of one process, by its start time or else by its counters; None: they do not tell."""
    if before is None or after is None:
        return None
    if before.process_start_s is not None and after.process_start_s is not None:
        return abs(before.process_start_s - after.process_start_s) <= START_BLUR_S
    counted = [(getattr(before, name), getattr(after, name)) for name in _COUNTERS]
    known = [(old, new) for old, new in counted if old and new is not None]
    return all(new >= old for old, new in known) if known else None


def absent_in(batch: FactBatch) -> bool:
    """Whether a request of a batch found nobody who listened."""
    return any(record.refused and record.sent_ns is None for record in batch.requests)


def turned(traits: Iterable[tuple[str, str]], knobs: Mapping[str, float], engines: int = 1) -> Traits:
    """What a server told of itself, with the knobs as they stand now.

    Args:
        engines: how many have those knobs each; some servers tell the slots of all together, by a name of their own.
    """
    told = tuple(traits)
    slots = None if any(name == SLOTS for name, _ in told) else knobs.get(SLOTS)
    now = {name: value * engines for name, _ in told if is_slots(name) and (value := slots) is not None} | dict(knobs)
    return tuple((name, f"{now[name]:g}" if name in now else value) for name, value in told)
