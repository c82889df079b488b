"""Which load is meant in a session, and which may be taken up again: a state of its own, whoever drives it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from llmtop.domain.frame import Offer
from llmtop.domain.load import LoadPoint
from llmtop.session.away import Away, Driven


class Meant:
    """By hand or steerer, through restarts that were asked for, and while a server is away."""

    def __init__(self) -> None:
        self.point: LoadPoint | None = None
        """What is to be driven as soon as somebody is there; None: what the plan says."""
        self.resumes: LoadPoint | None = None
        """What was driven before a restart that was asked for, unless somebody has commanded a load since."""
        self.offer: Offer | None = None
        self.away: Away | None = None
        self.driven = Driven()

    @property
    def rests(self) -> bool:
        return self.point is not None and not self.point.value

    def set(self, point: LoadPoint) -> None:
        """A hand has set a load: there is no other to take up again."""
        self.point, self.resumes, self.offer = point, None, None
        if self.away is not None:
            self.away.driven = None

    def rest(self, base: LoadPoint) -> None:
        self.point = base.at(base.axis, 0)

    def put_behind(self, point: LoadPoint, target: LoadPoint | None) -> LoadPoint:
        """The gate of `point`, and the load as it is now: whoever turned the gate may not have seen yet that it fell.

        What may be taken up again stays so, behind the same gate.

        Args:
            target: what is commanded; None: there is no load yet.
        """
        gate = point.gate
        self.point = now = point if target is None else replace(target, gate=gate)
        if self.resumes is not None:
            self.resumes = replace(self.resumes, gate=gate)
        if self.offer is not None:
            self.offer = replace(self.offer, point=replace(self.offer.point, gate=gate))
        if self.away is not None and self.away.driven is not None:
            self.away.driven = replace(self.away.driven, gate=gate)
        return now

    def fall(self, t_s: float, target: LoadPoint, *, restarted: bool) -> None:
        """The server went away under the load `target`."""
        if self.away is None:
            self.away, self.offer = Away(t_s, self.driven.at(t_s, target)), None
        self.away.restarted = self.away.restarted or restarted

    def take_apart(self, target: LoadPoint) -> None:
        """The server is to be started again: what is driven goes on after it."""
        self.resumes, self.away, self.offer = target, None, None
