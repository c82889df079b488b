"""The wheel of a run when it is not in a hand: whoever steers is asked, and its wishes become commands."""

from __future__ import annotations

import threading
from collections.abc import Callable

from msgspec.structs import replace

from llmtop.analysis import CapacitySearch, explore, hold
from llmtop.analysis.demo import Demo
from llmtop.analysis.steady import Steerer
from llmtop.domain.commands import AddMark, Command, Note, Pilot, SetKnob, SetLoad, StopLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta, SearchEnded
from llmtop.domain.shown import Scene
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Steering, Step
from llmtop.domain.verdicts import Bound
from llmtop.meter.facts import Facts
from llmtop.wording import demo, holding, mapping

IDLE_S = 60.0
"""So long after the last that a hand did, a demo goes on by itself."""


class Helm:
    """Lets at most one steerer drive; what it learns is noted among the facts of the run.

    `look` belongs to one thread, the rest to any. Nobody waits for a steerer that thinks: one that has lost the wheel
    meanwhile sends nothing any more.

    Args:
        send: where commands go.
        wanted: begin a search as soon as the endpoint has answered, unless a hand is faster.
        steerer: what begins then, instead of a capacity search. A demo stays at hand when it has lost the wheel, and
            goes on when it is asked to, or `IDLE_S` after the last that a hand did; never by itself after a stop.
    """

    def __init__(
        self, slo: Slo, send: Callable[[Command], None], wanted: bool = False, steerer: Steerer | None = None
    ) -> None:
        self._slo = slo
        self._send = send
        self._wanted = wanted or steerer is not None
        self._demo = steerer if isinstance(steerer, Demo) else None
        """Until it has shown its last scene."""
        self._given = None if self._demo is not None else steerer
        self._idle_s: float | None = None
        """Since when no hand has done anything; None: a demo does not go on by itself."""
        self._lock = threading.Lock()
        self._steerer: Steerer | None = None
        self._by: Pilot = "search"
        self._step: Step | None = None
        self._looked_s = 0.0
        self._gate: tuple[int | None] | None = None
        """The gate that a hand has turned while the load was held, which stands before all that is wanted."""

    @property
    def steering(self) -> Steering:
        with self._lock:
            return Steering(self._steerer is not None, "" if self._step is None else self._step.text, self._by)

    @property
    def scene(self) -> Scene | None:
        """Of a demo: what it shows, or how it goes on while a hand has the wheel."""
        with self._lock:
            scene = None if self._demo is None else self._demo.scene
            if scene is None or self._steerer is self._demo:
                return scene
            return replace(scene, caption=demo.STOPPED if self._idle_s is None else demo.IN_HAND)

    @property
    def closely(self) -> bool:
        """Whether who steers wants to look as often as there is news, which costs it little."""
        with self._lock:
            return isinstance(self._steerer, hold.EdgeHold)

    def steer(self, by: Pilot, meta: RunMeta | None, point: LoadPoint | None = None) -> str | None:
        """Let a steerer begin, in the place of another that has the wheel. Returns why it cannot; None: it has it.

        Args:
            point: the requests to steer, and their load now; None: those of the profile.
        """
        with self._lock:
            return self._begin(by, meta, point)

    def _begin(self, by: Pilot, meta: RunMeta | None, point: LoadPoint | None = None) -> str | None:
        if self._steerer is not None and self._by == by:
            return None
        if meta is None or meta.info is None:
            return "the endpoint is not connected yet"
        base = point or meta.profile.plan.base
        if by == "demo" and self._demo is None:
            return demo.NOT_HERE
        if (refusal := _why_not(by, self._slo, base, meta)) is not None:
            return refusal
        self._leave()
        self._gate = None
        if by == "demo" and self._demo is not None:
            if self._demo.scene is not None:
                self._demo.resume()
            steerer: Steerer = self._demo
        else:
            steerer = self._given or _made(by, self._slo, base, meta)
        self._steerer, self._step, self._by = steerer, None, by
        self._wanted, self._given = False, None
        return None

    def release(self, *, stopped: bool = False) -> None:
        """A hand takes the wheel: the steerer ends where it stands; what it has learned stays among the facts.

        Args:
            stopped: the load was stopped: nobody goes on by himself.
        """
        with self._lock:
            self._wanted = False
            self._leave()
            self._idle_s = None if stopped else self._looked_s

    def touched(self, *, server: bool = False) -> None:
        """A hand has done something that leaves the wheel where it is.

        Args:
            server: to the server: no demo turns that, too, at the same time.
        """
        with self._lock:
            if server and self._steerer is not None and self._steerer is self._demo:
                self._leave()
            self._idle_s = None if self._idle_s is None else self._looked_s

    def holds_behind(self, gate: int | None) -> bool:
        """A hand turns the gate alone: whether a load is held, which goes on to be behind it."""
        with self._lock:
            holds = self._steerer is not None and self._by == "hold"
            if holds:
                self._gate = (gate,)
            return holds

    def _leave(self) -> None:
        if self._steerer is None:
            return
        left, self._steerer = self._steerer, None
        load = None if self._step is None or self._step.point is None else int(self._step.point.value)
        if left is self._demo and self._demo is not None:
            self._idle_s = self._looked_s
            for turn in self._demo.put_back():
                self._send(turn)
            self._send(AddMark(demo.TAKEN_MARK))
            return
        if self._by == "search":
            self._send(Note(SearchEnded(self._looked_s, "hand")))
        elif self._by == "map":
            self._send(AddMark(mapping.TAKEN_MARK))
        elif load is not None:
            self._send(AddMark(holding.ends(load, holding.HAND)))

    def look(self, facts: Facts, meta: RunMeta, cliff: float | None = None, bound: Bound = Bound.NONE) -> str | None:
        """Ask the steerer, note what it has learned, and send what it wants if that is new. The load ends with it,
        unless its last step says that it stays.

        Args:
            cliff: where latency turns, by the opinion of now; None: not known.
            bound: what binds, by the same.

        Returns:
            What it has found, when it has just ended.
        """
        with self._lock:
            self._looked_s = facts.t_s
            if self._wanted:
                self._begin("search" if self._demo is None else "demo", meta)
            self._go_on(meta)
            steerer = self._steerer
        if steerer is None:
            return None
        if isinstance(steerer, hold.EdgeHold):
            steerer.cliff = cliff
        elif isinstance(steerer, Demo):
            steerer.bound = bound
        step = steerer.next(facts, facts.t_s)
        with self._lock:
            if self._steerer is not steerer:
                return None
            before = self._step.want if self._step is not None else None
            self._step = step
            for fact in step.learned:
                self._send(Note(fact))
            for mark in step.marks:
                self._send(AddMark(mark))
            for turn in step.turns:
                self._send(turn)
            if step.want is None:
                self._steerer = None
                self._demo = None if steerer is self._demo else self._demo
                if not step.stays:
                    self._send(StopLoad())
                return step.text
            if step.want != before:
                self._send(self._gated(step.want))
            return None

    def _go_on(self, meta: RunMeta) -> None:
        """Let a demo have the wheel again that nobody has held for a while."""
        if self._demo is None or self._idle_s is None or self._steerer is self._demo:
            return
        if self._steerer is not None:
            self._idle_s = self._looked_s
        elif self._looked_s - self._idle_s >= IDLE_S:
            self._begin("demo", meta)

    def _gated(self, want: SetLoad | SetKnob) -> SetLoad | SetKnob:
        if self._gate is None or isinstance(want, SetKnob):
            return want
        return replace(want, point=replace(want.point, gate=self._gate[0]))


def _why_not(by: Pilot, slo: Slo, base: LoadPoint, meta: RunMeta) -> str | None:
    """Why who is asked for cannot steer such requests; None: nothing speaks against it."""
    match by:
        case "hold":
            return hold.why_not(slo, base)
        case "map":
            return explore.why_not(slo, base, meta.profile.workload)
        case "search" | "demo":
            return None


def _made(by: Pilot, slo: Slo, base: LoadPoint, meta: RunMeta) -> Steerer:
    most = meta.profile.caps.max_concurrency
    match by:
        case "hold":
            return hold.EdgeHold(slo, base, max_concurrency=most)
        case "map":
            return explore.Explorer(slo, base, meta)
        case "search" | "demo":
            return CapacitySearch(slo, base, max_concurrency=most)
