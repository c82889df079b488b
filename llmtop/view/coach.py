"""The coach: one line for newcomers on what just happened, and the key that goes on from there.

Pure; time is the frame's. It has no opinion of its own: causes and numbers are the assessment's, and it says neither
before the verdict does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.gain import Gain
from llmtop.domain.settings import is_kv, is_slots
from llmtop.domain.verdicts import Bound, Diagnosis, Kind
from llmtop.view.condition import Condition
from llmtop.view.verdict import FAILING, TIMELESS
from llmtop.wording import coach
from llmtop.wording.replicas import waits

LEAST_S = 6.0
"""A line stands at least so long: it wants to be read."""
STANDS_S = 20.0
"""What passes is said no longer than this."""
MOST = 2
"""So often a lesson is said in one run."""
SETTLED_S = 10.0
"""After a change of the load, what is seen is of two loads."""
BENT = 2.0
"""TTFT that is so many times what it was in calm is told by how much."""

Key = Callable[[str], str]
"""What stands on the key of a binding, by its id."""


class Lesson(Struct, frozen=True):
    """Something to say, and of which happening: another one is said anew."""

    name: str
    text: str
    of: object = None
    lasts: bool = False
    """Said as long as it is so, not only for a while."""
    urgent: bool = False
    """Takes the line at once."""
    claims: bool = False
    """Names a cause or a state: gone with it, however young."""

    @property
    def key(self) -> tuple[str, object]:
        return self.name, self.of


class Coach:
    """Remembers what it has said in one run."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._now: Lesson | None = None
        self._since_s = 0.0
        self._said: Counter[str] = Counter()
        self._spent: set[tuple[str, object]] = set()
        self._driven = False
        self._calm_ms: float | None = None
        self._felt: tuple[float | None, float | None, bool] = (None, None, False)
        """Of the limit that is told: TTFT against calm, requests that run, preemptions; as they were when it was first
        said: a line whose figures move every second cannot be read."""

    def see(self, frame: Frame | None, assessment: Assessment | None, condition: Condition) -> str:
        """What to say now; empty: nothing."""
        silent = condition.lost is not None or condition.draining or condition.frozen or not condition.wheel.mine
        if frame is None or silent:
            self._now = None
            return ""
        self._remember(frame, assessment)
        self._since_s = min(self._since_s, frame.t_s)  # a replay was wound back
        lessons = list(self._lessons(frame, assessment or Assessment(), condition))
        self._spent &= {lesson.key for lesson in lessons}
        self._now = self._next(lessons, frame.t_s)
        return "" if self._now is None else self._now.text

    def _next(self, lessons: list[Lesson], t_s: float) -> Lesson | None:
        """The line that stands, brought up to date; or the first that has still something to say."""
        now, stood_s = self._now, t_s - self._since_s
        if now is not None:
            at = next((at for at, lesson in enumerate(lessons) if lesson.key == now.key), None)
            fresh = self._first(lessons[:at])
            urgent = fresh is not None and fresh.urgent
            young = stood_s < LEAST_S and not urgent
            if at is None and young and not now.claims:
                return now
            if at is not None and (young or (fresh is None and (now.lasts or stood_s < STANDS_S))):
                return now if young and not now.claims else lessons[at]
        found = self._first(lessons)
        if found is not None:
            self._since_s = t_s
            self._said[found.name] += 1
            self._spent.add(found.key)
        return found

    def _first(self, lessons: list[Lesson]) -> Lesson | None:
        return next((each for each in lessons if each.key not in self._spent and self._said[each.name] < MOST), None)

    def _remember(self, frame: Frame, assessment: Assessment | None) -> None:
        self._driven |= any(change.reason == "hand" for change in frame.changes[1:])
        bound = Bound.NONE if assessment is None else assessment.diagnosis.bound
        calm = assessment is None or not (assessment.overloaded or assessment.slo.ok is False)
        if bound is Bound.NONE and calm and frame.window.ttft.p50 is not None:
            self._calm_ms = frame.window.ttft.p50

    # -- what there is to say, the most wanted first ---------------------------------------------------------------

    def _lessons(self, frame: Frame, found: Assessment, condition: Condition) -> Iterator[Lesson]:
        key = self._key
        if frame.replay is not None:
            ids = ("app.freeze", "replay.back", "replay.forward", "replay.before", "replay.next")
            yield Lesson("replay", coach.replayed(*map(key, ids)))
            return
        trouble = self._trouble(frame, found, condition)
        if trouble is not None:
            yield trouble
            return
        if condition.note is not None and condition.pilot != "demo":
            yield self._steered(condition)
            return
        if condition.note is None:  # what a demo turns its captions tell
            yield from self._turned(found)
        bound = self._bound(frame, found, condition)
        if bound is not None:
            yield bound
        yield from self._judged(frame, found)
        if condition.note is None:
            yield from self._next_load(frame, found, bound is not None)

    def _trouble(self, frame: Frame, found: Assessment, condition: Condition) -> Lesson | None:
        """What stands before any opinion, as in the verdict."""
        key, status = self._key, frame.endpoint
        if status.awaited is not None:
            text = coach.away(key("app.leave"))
        elif status.state not in (EndpointState.UP, EndpointState.CONNECTING):
            text = coach.gone(key("load.stop"), key("app.leave"))
        elif frame.client is not None and frame.client.state == "red":
            text = coach.client(key("slider.half"))
        elif frame.braked is not None:
            text = coach.braked(key("panel.9"), key("slider.double"))
        elif condition.offer is not None:
            text = coach.offer(key("load.hold"), key("view.back"))
        elif found.diagnosis.bound in FAILING and frame.failures:
            text = coach.failing(key("panel.9"), key("slider.half"), key("load.stop"))
        else:
            return None
        return Lesson("trouble", text, of=text, lasts=True, urgent=True, claims=True)

    def _steered(self, condition: Condition) -> Lesson:
        key, by = self._key, condition.pilot
        if by == "hold":
            text = coach.held(key("app.edge"))
        else:
            stop = key("app.search") if by == "search" else f"{key('app.map')} {key('app.search')}"
            text = coach.steered(by, stop, key("slider.load"))
        return Lesson(f"steered by {by}", text, urgent=True, claims=True)

    def _turned(self, found: Assessment) -> Iterator[Lesson]:
        """What a knob gave; as long as that is open, a hand is to drive again."""
        compared = found.compared
        if compared is not None:
            open_ = compared.gain is Gain.OPEN
            text = coach.drive_again(compared.changed) if open_ else coach.turned(compared.text)
            yield Lesson("compared", text, of=(compared.changed, compared.gain), claims=True)

    def _bound(self, frame: Frame, found: Assessment, condition: Condition) -> Lesson | None:
        """What binds, as the verdict says it, and which key turns it."""
        diagnosis = found.diagnosis
        if (condition.late and diagnosis.bound not in TIMELESS) or not frame.target.value:
            return None
        ttft, calm = frame.window.ttft.p50, self._calm_ms
        name = f"bound {diagnosis.bound}"
        if self._now is None or self._now.name != name:
            running = None if frame.server is None else frame.server.running
            ratio = ttft / calm if ttft is not None and calm else None
            self._felt = ratio, running, bool(frame.window.preemptions_per_s)
        ratio, running, preempts = self._felt
        felt = coach.slower(ratio if ratio is not None and ratio >= BENT else None)
        match diagnosis.bound:
            case Bound.QUEUE:
                text = coach.slots(felt, running, self._turn(frame, diagnosis, "slots"))
            case Bound.KV:
                text = coach.kv(felt, preempts, self._turn(frame, diagnosis, "kv"))
            case Bound.TOKEN_BUDGET:
                text = coach.token_budget(felt, self._turn(frame, diagnosis, "token_budget"))
            case Bound.COMPUTE | Bound.MEMORY | Bound.NETWORK:
                text = coach.no_knob(diagnosis.bound, felt, self._key("slider.half"))
            case _:
                return None
        return Lesson(name, text, claims=True)

    def _turn(self, frame: Frame, diagnosis: Diagnosis, knob: str) -> str:
        """Which key, and which value where the walls are known; a cache is told in requests, its knob in tokens.

        Where the advice is to keep the knob, or another one, it is none of this one.
        """
        told, value = diagnosis.prediction, None
        if waits(diagnosis.advice):
            return coach.COMING
        if told is not None:
            turn = next((each for each in told.turns if each.knob == knob), None)
            if turn is None:
                return coach.other(self._key("view.knobs")) if told.turns else coach.halve(self._key("slider.half"))
            value = None if knob == "kv" else turn.then
        elif diagnosis.advice is not None and not diagnosis.advice.startswith(("raise", "set")):
            return coach.halve(self._key("slider.half"))
        lives = any(_turns(name, knob) for name in frame.endpoint.knobs)
        return (coach.press_and_give if lives else coach.asks)(self._key("view.knobs"), value)

    def _judged(self, frame: Frame, found: Assessment) -> Iterator[Lesson]:
        key, verdict = self._key, found.cliff
        if found.headline.startswith("SLO FAIL") and frame.target.value:  # not yet while that settles
            yield Lesson("missed", coach.missed(key("app.edge"), key("slider.half")), claims=True)
        if verdict.at is not None and verdict.kind in (Kind.CLIFF, Kind.GRADUAL) and not verdict.fails:
            yield Lesson("cliff", coach.cliff(key("app.why"), key("app.export"), key("app.profile")), claims=True)

    def _next_load(self, frame: Frame, found: Assessment, bound: bool) -> Iterator[Lesson]:
        key = self._key
        if frame.stage is not None:
            yield Lesson("plan", coach.planned(key("slider.load")), claims=True)
            return
        if not frame.target.value:
            if self._driven:
                yield Lesson("stopped", coach.stopped(key("slider.double")), claims=True)
            return
        if not self._driven:
            yield Lesson("begin", coach.begin(key("slider.double"), key("slider.up")), lasts=True, claims=True)
            return
        change = frame.changes[-1]
        if bound or found.slo.ok is False or found.overloaded:
            return
        before = frame.changes[-2].point.value if len(frame.changes) > 1 else 0.0
        if frame.t_s - change.t_s < SETTLED_S:
            if change.point.value > before:
                yield Lesson("raised", coach.raised(key("slider.double")), of=change.t_s)
        elif found.slo.ok:
            load = frame.target.value
            yield Lesson("well", coach.well(load, key("slider.double")), of=load, claims=True)


def _turns(name: str, knob: str) -> bool:
    """Whether a live knob is the one that is meant."""
    if knob == "slots":
        return is_slots(name)
    return is_kv(name) if knob == "kv" else name == "max_num_batched_tokens"
