"""A demo on the simulated engine: five scenes, each of which pushes one limit until the verdict itself names it.

A pure state machine: `next(facts, now_s)` says which load and which knobs it wants now. A scene goes on by the verdict,
which it is told (`bound`), and by the time that an audience needs to see what happens; it names nothing that the
verdict does not. The preset `demo` is made so that with a scene's lengths and knobs its limit is the first that binds.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmtop.domain.commands import InjectFault, SetKnob, SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.shown import Scene
from llmtop.domain.steering import Step
from llmtop.domain.verdicts import Bound
from llmtop.meter.facts import Facts
from llmtop.wording import demo as wording

RISE_S = 6.0
"""At each load on the way up."""
BREAK_S, WAIT_S = 10.0, 20.0
"""What breaks is shown so long, and so much longer at most until the verdict names it."""
NAMED_S = 8.0
"""The verdict's word stands so long before the cure."""
CLEAR_S = 4.0
"""A fault has gone when users come back: requests that still met it would have the brake cut them again."""
CURE_S = 20.0
REST_S = 4.0


class Act(Struct, frozen=True, kw_only=True):
    """The script of one scene: what is set, how the load rises, and what cures it."""

    told: wording.Told
    causes: tuple[Bound, ...]
    """What the verdict says when the limit is felt."""
    prompt_tokens: int
    output_tokens: int
    users: tuple[int, ...]
    """On the way up; the last are those that break it."""
    knobs: Mapping[str, float] = {}
    """Where the preset's are not right."""
    cure: Mapping[str, float] = {}
    fault: str | None = None
    """Comes with the last users, and goes with the cure."""
    cured_users: int | None = None
    """None: as many as before."""

    def at(self, users: int) -> LoadPoint:
        return LoadPoint(concurrency=users, prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens)


ACTS = (
    Act(
        told=wording.SLOTS,
        causes=(Bound.QUEUE,),
        prompt_tokens=64,
        output_tokens=32,
        users=(3, 6, 16),
        knobs={"max_num_seqs": 6},
        cure={"max_num_seqs": 32},
    ),
    Act(
        told=wording.KV,
        causes=(Bound.KV,),
        prompt_tokens=96,
        output_tokens=48,
        users=(3, 6, 16),
        knobs={"max_num_seqs": 64, "num_gpu_blocks": 66},
        cure={"num_gpu_blocks": 1024},
    ),
    Act(
        told=wording.TOKEN_BUDGET,
        causes=(Bound.TOKEN_BUDGET,),
        prompt_tokens=512,
        output_tokens=32,
        users=(1, 2, 6),
        knobs={"max_num_seqs": 64, "max_num_batched_tokens": 32},
        cure={"max_num_batched_tokens": 128},
    ),
    Act(
        told=wording.COMPUTE,
        causes=(Bound.COMPUTE,),
        prompt_tokens=32,
        output_tokens=24,
        users=(4, 11, 48),
        knobs={"max_num_seqs": 64},
        cured_users=16,
    ),
    Act(
        told=wording.SICK,
        causes=(Bound.FAILED, Bound.REFUSED),
        prompt_tokens=128,
        output_tokens=32,
        users=(4, 12),
        fault="http_500",
        cured_users=16,
    ),
)


class Part(Struct, frozen=True, kw_only=True):
    """A stretch of a scene with one load, one caption and one setting of the server."""

    users: int
    lasts_s: float
    caption: str
    knobs: Mapping[str, float] = {}
    fault: str | None = None
    waits_s: float = 0.0
    """So much longer at most, until the verdict names what the scene is about."""
    told: wording.Told | None = None
    """Said with the verdict's own word; the part is left out where the verdict has none."""


def parts_of(act: Act) -> tuple[Part, ...]:
    """A scene from its first user to its rest."""
    told, top, knobs = act.told, act.users[-1], act.knobs
    cured = act.cured_users or top
    rises = [Part(users=users, lasts_s=RISE_S, caption=told.rises, knobs=knobs) for users in act.users[:-1]]
    broken = Part(users=top, lasts_s=BREAK_S, caption=told.breaks, knobs=knobs, fault=act.fault, waits_s=WAIT_S)
    named = Part(users=top, lasts_s=NAMED_S, caption="", knobs=knobs, fault=act.fault, told=told)
    clears = Part(users=act.users[0], lasts_s=CLEAR_S, caption=told.cured, knobs=knobs)
    cure = Part(users=cured, lasts_s=CURE_S, caption=told.cured, knobs={**knobs, **act.cure})
    rest = Part(users=act.users[0], lasts_s=REST_S, caption=wording.RESTS, knobs={**knobs, **act.cure})
    return (*rises, broken, named, *([clears] if act.fault else []), cure, rest)


class Demo:
    """Drives one scene after the other, and begins again after the last.

    Args:
        home: the knobs of the engine as it was started, which they are put back to.
        once: it ends after the last scene.
    """

    def __init__(self, home: Mapping[str, float], *, once: bool = False) -> None:
        self._home = dict(home)
        self._once = once
        self._act, self._part = 0, 0
        self._since_s: float | None = None
        """When this part began; None: at the next look."""
        self._knobs: dict[str, float] = dict(home)
        """As they stand, by what was sent."""
        self._fault: str | None = None
        self._marks: list[str] = []
        self.bound = Bound.NONE
        """What binds by the opinion of now: set by who asks for the next step."""
        self.scene: Scene | None = None
        """What is shown just now; None: nothing yet, or nothing any more."""

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look how far the part is and say what is wanted now. To be asked about once a second."""
        if self._since_s is None:
            self._begin(now_s)
        while self._is_over(now_s):
            if self._once and self._at_end:
                self.scene = None
                return Step(want=None, phase="done", text=wording.ENDED, turns=self.put_back())
            self._go_on(now_s)
        act, part = ACTS[self._act], self._now
        caption = part.caption if part.told is None else wording.named(self.bound, part.told)
        if part.told is None or self._named or self.scene is None:  # a word that the verdict takes back stays as it was
            self.scene = Scene(self._act + 1, len(ACTS), act.told.name, caption)
        marks, self._marks = tuple(self._marks), []
        return Step(
            want=SetLoad(act.at(part.users), "demo"),
            phase="confirm",
            turns=self._turned({**self._home, **part.knobs}, part.fault),
            text=self.scene.caption,
            marks=marks,
        )

    def resume(self) -> None:
        """After a hand had the wheel: the scene begins anew, whatever was turned meanwhile."""
        self._part, self._since_s = 0, None
        self._knobs = {}

    def put_back(self) -> tuple[SetKnob | InjectFault, ...]:
        """What gives the server back as it was started."""
        return self._turned(self._home, None)

    # ── How far it is ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _now(self) -> Part:
        return parts_of(ACTS[self._act])[self._part]

    @property
    def _named(self) -> bool:
        return self.bound in ACTS[self._act].causes

    @property
    def _at_end(self) -> bool:
        return self._act == len(ACTS) - 1 and self._part == len(parts_of(ACTS[-1])) - 1

    def _is_over(self, now_s: float) -> bool:
        assert self._since_s is not None
        part, lasted_s = self._now, now_s - self._since_s
        if part.told is not None and lasted_s == 0 and not self._named:
            return True
        return lasted_s >= part.lasts_s and (self._named or lasted_s >= part.lasts_s + part.waits_s)

    def _go_on(self, now_s: float) -> None:
        self._part, self._since_s = self._part + 1, now_s
        if self._part == len(parts_of(ACTS[self._act])):
            self._act, self._part = (self._act + 1) % len(ACTS), 0
            self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        self._since_s = now_s
        self._marks.append(wording.begins(self._act + 1, len(ACTS), ACTS[self._act].told.name))

    def _turned(self, knobs: Mapping[str, float], fault: str | None) -> tuple[SetKnob | InjectFault, ...]:
        """What makes the server stand so; a fault goes before, and comes after, all knobs."""
        turns: list[SetKnob | InjectFault] = []
        if self._fault not in (None, fault):
            turns.append(InjectFault(str(self._fault), on=False))
        turns += [SetKnob(name, value) for name, value in knobs.items() if self._knobs.get(name) != value]
        if fault is not None and fault != self._fault:
            turns.append(InjectFault(fault))
        self._knobs, self._fault = {**self._knobs, **knobs}, fault
        return tuple(turns)
