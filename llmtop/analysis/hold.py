"""Control that keeps the load at the edge of its limits: as many users as keep the latency limit that breaks first.

A pure state machine: `next(facts, now_s)` looks at what the load did and says which load it wants now. An act is a step
of at most a tenth, and the next waits until the last can be seen: one E2E, in which whoever was sent before it is gone.
What a step aims at is reckoned by Little's law (`analysis.edge`), so that it needs no guess of how the server answers.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.edge import QUEUED, Nearness, Tails, flow_of, latency_limits, nearest, nearness
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Step
from llmtop.meter.facts import Facts
from llmtop.wording import holding

AIM = 0.95
"""Share of its limit at which a TTFT or an E2E is kept: both move faster than the load does."""
AIM_TPOT = 0.98
"""TPOT moves slower than the load does: 5 % less of it may be a third of the users."""
STEP = 0.1
"""Share of the load that one act moves; at least one user."""
LEAST_S = 1.0
"""Between two acts, where an E2E is shorter."""
FIRST_TOKENS = 8
"""Since the last act, with fewer of which it is not known what that has done."""
STILL = 0.05
"""Share of the load below which a difference is noise, and no act, where it rests on one E2E; it falls with the root of
their number: so a load that stays is known ever better, and one that moves does not dance."""
ERRORS = 0.01
"""Share of the requests that fail, above which a latency says nothing of the load."""
ERRORS_S = 10.0
"""Over which they are counted: as long as the brake does."""
LATE_S = 3.0
"""After a second in which the client was the bottleneck: the next may be one, too, and is judged up to 2 s later."""
RECENT_E2ES = 3.0
"""What rates and waits are taken over, where the last act is longer ago."""
HELD_S = 20.0
"""So long at one load, but for steps within `STILL`, is worth a mark."""
FROZEN_S = 5.0
"""So long without an act that is due, for whatever reason, is worth a mark."""


def why_not(slo: Slo, base: LoadPoint) -> str | None:
    """Why no load can be held for these limits and this kind of load; None: it can."""
    if base.rate_rps is not None:
        return holding.OPEN_LOOP
    return None if latency_limits(slo) else holding.NO_LIMIT


class EdgeHold:
    """Keeps the latency limit that breaks first at `AIM` of it, by moving users. See `why_not`.

    Args:
        slo: its latency limits count.
        base: the load now: its users are where it begins, at least one.
        max_concurrency: where the load ends.
    """

    def __init__(self, slo: Slo, base: LoadPoint, *, max_concurrency: int = 1024) -> None:
        self._targets = latency_limits(slo)
        self._most = max_concurrency
        self._base = base
        self._load = min(max(1, base.concurrency or 0), max_concurrency)
        self._before = self._load
        """Before the last step that was cut."""
        self._tails = Tails()
        self._start_s: float | None = None
        self._acted_s = 0.0
        """Since when this load is there."""
        self._turn_s = 0.0
        """When it was looked last whether to act, and since when samples were not pooled."""
        self._e2e_s = LEAST_S
        self._cliff: float | None = None
        self._nearest: Nearness | None = None
        self._changes = self._chapters = 0
        self._steady_s = math.inf
        self._told_held = False
        self._frozen: tuple[float, str] | None = None
        self._told_frozen = False
        self._few = False
        """Frozen for want of first tokens, which is usual of few users."""
        self._ended = ""
        self._marks: list[str] = []
        self.cliff: float | None = None
        """Where latency turns, as somebody else has found it; None: what is served at once counts."""

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look at the facts so far and say which load is wanted now. To be asked every 100 ms to 1 s."""
        if self._start_s is None:
            self._begin(facts, now_s)
        self._look_around(facts, now_s)
        if not self._ended:
            self._look(facts, now_s)
        marks, self._marks = tuple(self._marks), []
        if self._ended:
            return Step(want=None, phase="done", text=self._ended, marks=marks, stays=True)
        want = SetLoad(self._base.at("concurrency", self._load), "hold")
        return Step(want=want, phase="confirm", text=self._text(), marks=marks)

    # ── What else moves the load ──────────────────────────────────────────────────────────────────────────────────

    def _begin(self, facts: Facts, now_s: float) -> None:
        self._start_s = self._steady_s = now_s
        self._changes, self._chapters = len(facts.changes), len(facts.chapters)
        last = facts.changes[-1] if facts.changes else None
        there = last is not None and last.point.concurrency == self._load
        self._acted_s = self._turn_s = last.t_s if there and last is not None else math.inf
        self._marks.append(holding.begins(self._load))

    def _look_around(self, facts: Facts, now_s: float) -> None:
        """Since when the load is there, and what hands and the brake have done to it or to the server."""
        news, self._changes = facts.changes[self._changes :], len(facts.changes)
        for change in news:
            if change.reason in ("stop", "brake"):
                why = holding.STOPPED if change.reason == "stop" else holding.BRAKED
                self._ended = holding.ends(self._load, why)
                self._marks.append(self._ended)
                return
            if change.point.gate != self._base.gate:
                self._base = replace(self._base, gate=change.point.gate)
                self._begin_anew(now_s)
            if change.point.concurrency == self._load:
                self._acted_s = min(self._acted_s, change.t_s)
        if len(facts.chapters) > self._chapters:
            self._chapters = len(facts.chapters)
            self._begin_anew(now_s)

    def _begin_anew(self, now_s: float) -> None:
        """Another server from here on: what was seen of the one before says nothing of it."""
        self._tails = Tails()
        self._acted_s = self._turn_s = self._steady_s = now_s
        self._cliff = self.cliff = self._nearest = None
        self._before, self._told_held = self._load, False

    # ── What it sees and does ─────────────────────────────────────────────────────────────────────────────────────

    def _look(self, facts: Facts, now_s: float) -> None:
        red_s = facts.client.column("t_s")[facts.client.column("red") > 0]
        late_s = float(red_s[-1]) if len(red_s) else -math.inf
        since_s = max(self._acted_s, late_s)
        if now_s < max(self._acted_s, self._turn_s) + max(LEAST_S, self._e2e_s):
            return
        from_s = max(since_s, now_s - max(LEAST_S, RECENT_E2ES * self._e2e_s))
        first_s, count = facts.first_tokens.column("t_s"), int(np.sum(facts.first_tokens.column("t_s") > since_s))
        flow = flow_of(facts, from_s)
        if self._freeze(self._why_frozen(facts, now_s, late_s, count), now_s) or flow is None:
            return
        if now_s < max(self._acted_s, self._turn_s) + max(LEAST_S, flow.e2e_s):
            self._e2e_s = flow.e2e_s
            return
        self._e2e_s = flow.e2e_s
        tpot_s = self._pool(facts, since_s)
        if flow.queued:
            self._cliff = flow.served
        waits_s = facts.first_tokens.column("ttft_s")[first_s > from_s]
        means = {
            "wait_s": flow.ttft_s if flow.waiting >= QUEUED or len(waits_s) == 0 else float(waits_s.mean()),
            "tpot_s": flow.tpot_s if math.isnan(tpot_s) else (flow.tpot_s + tpot_s) / 2,  # half as much noise
        }
        aims = {"tpot": AIM_TPOT}
        self._nearest = nearest(
            [
                nearness(each, self._load, flow, self._tails.of(each), aims.get(each.metric, AIM), **means)
                for each in self._targets
            ]
        )
        self._turn_s = now_s
        self._act(self._nearest, now_s, STILL / math.sqrt(max(1.0, (now_s - from_s) / flow.e2e_s)))

    def _why_frozen(self, facts: Facts, now_s: float, late_s: float, count: int) -> str:
        self._few = False
        if now_s - late_s <= LATE_S:
            return holding.CLIENT
        ended = facts.requests.column("end_s") > now_s - ERRORS_S
        failed, well = (float(facts.requests.column(name)[ended].sum()) for name in ("error", "ok"))
        if failed > ERRORS * (failed + well):
            return holding.errors(failed / (failed + well))
        self._few = count < FIRST_TOKENS
        return holding.few(count, FIRST_TOKENS) if self._few else ""

    def _freeze(self, why: str, now_s: float) -> bool:
        """Stand still while there is a reason, and note it once it lasts."""
        if not why:
            self._frozen, self._told_frozen = None, False
            return False
        self._frozen = (now_s if self._frozen is None else self._frozen[0], why)
        self._steady_s = now_s
        if now_s - self._frozen[0] >= FROZEN_S and not self._told_frozen:
            self._told_frozen = True
            self._marks.append(holding.frozen(self._load, why))
        return True

    def _pool(self, facts: Facts, since_s: float) -> float:
        """Keep what requests have told since the last turn for the tails. Returns the mean TPOT of those that ended."""
        own = max(since_s, self._turn_s)
        first, table = facts.first_tokens, facts.requests
        self._tails.add("ttft", self._load, first.column("ttft_s")[first.column("t_s") > own])
        ended = (table.column("end_s") > own) & (table.column("ok") > 0)
        told = {metric: table.column(f"{metric}_s")[ended] for metric in ("tpot", "e2e")}
        tpot_s, e2e_s = (values_s[np.isfinite(values_s)] for values_s in told.values())
        self._tails.add("tpot", self._load, tpot_s)
        self._tails.add("e2e", self._load, e2e_s)
        return float(tpot_s.mean()) if len(tpot_s) else math.nan

    def _act(self, near: Nearness, now_s: float, still: float) -> None:
        """One step to where the nearest limit is kept; none where that is not far enough to be sure of, and one user
        less at least where it is broken."""
        wanted = near.load - self._load
        if near.share > 1:
            wanted = min(wanted, -1.0)
        elif abs(wanted) < max(1.0, still * self._load):
            self._before = self._load
            self._hold_on(now_s)
            return
        most = max(1, math.floor(STEP * self._load))
        step = max(-most, min(most, math.floor(wanted)))
        load = min(max(1, self._load + step), self._most)
        cut = step != math.floor(wanted)
        self._before = self._load if cut else load
        if cut:
            self._steady_s, self._told_held = now_s, False
        else:
            self._hold_on(now_s)
        if load != self._load:
            self._load, self._acted_s = load, math.inf

    def _hold_on(self, now_s: float) -> None:
        if now_s - self._steady_s >= HELD_S and not self._told_held:
            self._told_held = True
            self._marks.append(holding.held(self._load, now_s - self._steady_s, self._turns_at))

    @property
    def _turns_at(self) -> float | None:
        return self._cliff if self.cliff is None else self.cliff

    def _text(self) -> str:
        if self._frozen is not None and (self._told_frozen or not self._few):
            return holding.frozen(self._load, self._frozen[1])
        if self._before != self._load:
            return holding.moving(self._before, self._load)
        near = self._nearest
        if near is None:
            return holding.holding(self._load, None, self._turns_at, "", None)
        return holding.holding(self._load, near.edge, self._turns_at, near.target.name, near.figure_s)
