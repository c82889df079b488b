"""The controller: who drives (a hand, a plan or the brake) and where to. Pure: every verb is told what time it is."""

from __future__ import annotations

import math

from msgspec.structs import replace

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Stage, Steps
from llmtop.domain.run import ChangeReason, Event, LoadChange
from llmtop.load.pacer import Pacer
from llmtop.wording.sentences import ROWS_SENT

ANNOUNCE_NS = 500_000_000
"""A moving load is announced at most this often."""
HOLD_TOLD_NS = 30_000_000_000
"""Holds that come within so long are one piece of news."""
LONGEST_HOLD_S = 30.0
"""Of one stage, because of a client that cannot keep up; then the plan goes on, its figures marked as the client's."""


class Controller:
    """Holds the pacer that the load follows and announces where it leads.

    Args:
        pacer: of a plan, or of a hand on the slider (a plan without stages).
        caps: the largest concurrency.
        now_ns: the run clock.
    """

    def __init__(self, pacer: Pacer, caps: Caps, now_ns: int) -> None:
        self._caps = caps
        self.changes: list[LoadChange] = []
        self.events: list[Event] = []
        self.braked: str | None = None
        """Why the brake drives."""
        self._plan_braked = False
        self.spent = False
        """Whether the load has ended because there is no more to send."""
        self._paused: tuple[LoadPlan, float, str] | None = None
        """(plan, where in it, stage) while a client that cannot keep up holds the plan."""
        self._hold_told_ns = -HOLD_TOLD_NS
        self._held: tuple[str, float] = ("", 0.0)
        self._announced_ns = 0
        self._announced: tuple[LoadPoint | None, str | None] = (None, None)
        self._take(pacer, now_ns)

    def start(self, now_ns: int) -> None:
        """The load starts now."""
        self.start_ns = now_ns
        self._announce(now_ns, "stage" if self.playing else "hand")

    @property
    def playing(self) -> bool:
        return bool(self.pacer.plan.stages)

    def elapsed_s(self, now_ns: int) -> float:
        return (now_ns - self.start_ns) / 1e9

    def target(self, now_ns: int) -> LoadPoint:
        """The load commanded now; no load at all once a plan has ended."""
        point = self.pacer.target(self.elapsed_s(now_ns))
        if point is None:
            return self.pacer.plan.base.at("concurrency", 0)
        if point.concurrency is not None and point.concurrency > self._caps.max_concurrency:
            return replace(point, concurrency=self._caps.max_concurrency)
        return point

    def stage(self, now_ns: int) -> tuple[str | None, float | None]:
        """Name of the stage and the seconds that it still lasts, where a plan drives."""
        stage, left_s = self.pacer.stage(self.elapsed_s(now_ns))
        if self._paused is not None:
            left_s = Pacer(self._paused[0]).stage(self._paused[1])[1]
        return (stage.name if stage is not None else None), left_s

    def finished(self, now_ns: int) -> bool:
        """Whether a plan has ended: played to its end, or cut short by the brake, or by the last row of a file."""
        return self._plan_braked or self.spent or (self.playing and self.pacer.target(self.elapsed_s(now_ns)) is None)

    def command(self, point: LoadPoint, now_ns: int, reason: ChangeReason = "hand") -> None:
        """This load from now on, whatever drove before."""
        if point.concurrency is not None and point.concurrency > self._caps.max_concurrency:
            cap = self._caps.max_concurrency
            text = f"{point.concurrency} is above the limit of {cap} in flight (--max-concurrency)"
            self.events.append(Event(now_ns / 1e9, "load", text, "warning"))
            point = replace(point, concurrency=cap)
        self._release()
        self._take(self._replaced(LoadPlan(stages=(), base=point), now_ns), now_ns)
        self._announce(now_ns, reason)

    def stop(self, now_ns: int) -> None:
        point = self.target(now_ns)
        self.command(point.at(point.axis, 0), now_ns, "stop")

    def brake(self, why: str, now_ns: int) -> None:
        """Down to one request in flight, and say why."""
        playing = self.playing and not self.finished(now_ns)
        self.command(self.target(now_ns).at("concurrency", 1), now_ns, "brake")
        self.braked = why
        self._plan_braked = playing
        self.events.append(Event(now_ns / 1e9, "load", f"Brake: {why}. Load is down to 1 in flight", "error"))

    def end(self, now_ns: int) -> None:
        """No more load: all rows of a file were sent."""
        if (load := self.target(now_ns)).value:
            self.command(load.at(load.axis, 0), now_ns, "stop")
        self.spent = True
        self.events.append(Event(now_ns / 1e9, "load", ROWS_SENT, "info"))

    def look(self, now_ns: int, client_red: bool) -> bool:
        """Announce what has moved; hold a rising stage while the client is the bottleneck.

        Returns:
            Whether `pacer` is another one than before.
        """
        moved = self._hold(now_ns) if client_red else self._go_on(now_ns)
        self._announce(now_ns, "stage")
        return moved

    def _take(self, pacer: Pacer, now_ns: int) -> None:
        self.pacer = pacer
        self.start_ns = now_ns

    def _replaced(self, plan: LoadPlan, now_ns: int, start_s: float = 0.0) -> Pacer:
        return self.pacer.replaced(plan, self.elapsed_s(now_ns), start_s)

    def _release(self) -> None:
        self.braked = None
        self._plan_braked = self.spent = False
        self._paused = None
        self._held = ("", 0.0)

    def _announce(self, now_ns: int, reason: ChangeReason) -> None:
        point, (stage, _) = self.target(now_ns), self.stage(now_ns)
        if (point, stage) == self._announced:
            return
        border = reason != "stage" or stage != self._announced[1]
        if border or now_ns - self._announced_ns >= ANNOUNCE_NS:
            self._announced = (point, stage)
            self._announced_ns = now_ns
            self.changes.append(LoadChange(now_ns / 1e9, point, reason, stage))

    def _hold(self, now_ns: int) -> bool:
        if self._paused is not None:
            return self._held[1] + self.elapsed_s(now_ns) >= LONGEST_HOLD_S and self._go_on(now_ns)
        elapsed_s = self.elapsed_s(now_ns)
        stage, _ = self.pacer.stage(elapsed_s)
        if stage is None or not _rises(stage):
            return False
        if self._held[0] != stage.name:
            self._held = (stage.name, 0.0)
        if self._held[1] >= LONGEST_HOLD_S:
            return False
        point = self.target(now_ns)
        self._paused = (self.pacer.plan, self.pacer.start_s + elapsed_s, stage.name)
        held = Stage(name=stage.name, duration_s=math.inf, shape=Hold(point.concurrency, point.rate_rps))
        self._take(self._replaced(LoadPlan(stages=(held,), base=point), now_ns), now_ns)
        if now_ns >= self._hold_told_ns + HOLD_TOLD_NS:
            self._hold_told_ns = now_ns
            text = f"The client is the bottleneck: {stage.name} holds until it can keep up"
            self.events.append(Event(now_ns / 1e9, "client", text, "warning"))
        return True

    def _go_on(self, now_ns: int) -> bool:
        if self._paused is None:
            return False
        plan, start_s, name = self._paused
        self._held = (name, self._held[1] + self.elapsed_s(now_ns))
        self._paused = None
        self._take(self._replaced(plan, now_ns, start_s), now_ns)
        return True


def _rises(stage: Stage) -> bool:
    return isinstance(stage.shape, Steps) or (isinstance(stage.shape, Ramp) and stage.shape.stop > stage.shape.start)
