"""What a deployment did about the load."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ReplicaStep = Literal["created", "ready", "serving"]
"""What a replica goes through on its way."""


class Scaling(Struct, frozen=True, kw_only=True):
    """What a deployment did about a rise of the load, or about its fall.

    Times are seconds after `from_s`; None: nobody told it, or it had not come. They are those of the last replica.
    """

    from_s: float
    """When the load rose (or fell); without such a move, when it was decided."""
    before: int
    """Replicas."""
    after: int
    """As many as were wanted; where nobody tells what is wanted, as many as came."""
    decided_s: float | None = None
    """When another number was wanted first."""
    created_s: float | None = None
    ready_s: float | None = None
    """It takes requests; of lost ones, when as many as before did again."""
    serving_s: float | None = None
    """It has generated its first token."""
    gone_s: float | None = None
    """Of fewer replicas: when the last of them was none any more."""
    seen_s: float = 0.0
    """How long it was followed."""
    lost: bool = False
    """Fewer than are wanted; where nobody tells how many are, fewer though the load had not fallen: they broke."""
    names: tuple[str, ...] = ()
    """Of lost ones, as far as they have names."""
    instead: tuple[str, ...] = ()
    """Who came in the place of lost ones; (): they themselves, or nobody."""
    missing: Literal[ReplicaStep, ""] = ""
    """The first step on the way to the last replica that had not come; empty: it came, as far as anybody tells."""
    came: int = 0
    """Replicas that had come as far as what is missing."""
    late_s: float | None = None
    """So long after the load was back the last replica served; None: it came in time, or not at all."""
    debt_s: float | None = None
    """As of a `Recovery`, from `from_s` on; of fewer replicas from the decision on."""
    missed: int | None = None
    n: int | None = None
    left_out: int = 0
    queue: float | None = None
    """Requests that waited for each replica when it was decided."""
    threshold: int | None = None
    """At a queue above that for each replica nothing would have been missed; None: no such queue is known."""
    keep: int | None = None
    """So many replicas kept before the rise, and nothing would have been missed; None: no such number is known."""
    advice: str = ""
    """The same in words, or why it is not known; empty: nothing was missed."""
    text: str = ""

    @property
    def up(self) -> bool:
        return self.after > self.before
