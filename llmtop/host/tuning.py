"""A tune from its first start to its last: a server that is restarted, runs without a screen on it, and a way back.

Whatever ends it, the load is gone, no server of ours is left, and one that was there before has its settings back; or
it is said that it has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Protocol

from msgspec import Struct

from llmtop.analysis.race import Race
from llmtop.analysis.search import CapacitySearch
from llmtop.analysis.steady import AGAIN_E2ES, Hold, InTurn, Overload, Steerer, Warm, shows_slots
from llmtop.analysis.tuning import Candidate, Outcome, Task, Tuning
from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LOST, Ending
from llmtop.domain.settings import is_slots
from llmtop.domain.slo import Slo
from llmtop.domain.tuning import DRIFT, Carried, Tune, Values, named
from llmtop.errors import (
    INTERRUPTED,
    EndpointError,
    LlmtopError,
    MachineShort,
    PortTaken,
    ServeError,
    SessionLost,
    UsageError,
)
from llmtop.meter.facts import Facts
from llmtop.session.proof import proof_of
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.tuning import first_text, lasting, not_shown, step_text

SEARCH_FROM = 0.95
"""Share of what a race has found at which the search of the winner begins: it holds, most likely."""
CONTRADICTS = 0.9
"""A search whose upper bound lies below this share of what was found by gate is made once more."""
SEARCH_LEAST_S = 60.0
"""The search knows where to look, and so needs less than one that knows nothing."""
WARM_USERS = 8
"""Short requests for a start where no setting that is tried says how many run at once."""
_USUAL_S = {"first": 20.0, "race": 90.0, "search": 75.0, "again": 30.0}
"""What the tasks take on a server whose requests last 2 s."""


def expected_s(tuning: Tuning) -> float:
    """How long it measures, beside the starts, where nothing fails."""
    return sum(_USUAL_S[kind] for kind in tuning.kinds)


class Proven(Protocol):
    """What is known of a server after it was started or changed; `session.proof.Proof`."""

    @property
    def ok(self) -> bool | None: ...
    @property
    def text(self) -> str: ...


class Server(Protocol):
    """What puts settings on a server; `session.served.Served`."""

    def put(self, values: Mapping[str, str], cancelled: Callable[[], bool]) -> Proven: ...
    def close(self) -> None: ...


class Driven(Struct, frozen=True):
    """One run, after its end."""

    facts: Facts
    ending: Ending
    run_file: str | None = None
    why: str | None = None
    info: EndpointInfo | None = None
    """What the server told of itself."""


Drive = Callable[[str, Values, Steerer], Driven]
"""(label, settings, steerer) to a run; raises LlmtopError."""


class Tuned(Struct, frozen=True, kw_only=True):
    """A tune after its end."""

    tune: Tune
    stopped: int = 0
    """The exit code of what ended it early: a signal, or the client; 0: nothing did."""
    restored: bool | None = None
    """Whether what was there before is there again; None: nothing was, or it was never changed."""
    problem: str = ""
    """Why it is not."""


class _Stop(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class Tuner:
    """Carries out a plan.

    Args:
        live: a server runs already with the first configuration, and gets it back.
        original: the first configuration.
        past: outcomes of the same tune by the key of their task, from before it was interrupted; new ones are added.
        cancelled: whether somebody wants the end.
        tell: hears a line for each step.
    """

    def __init__(
        self,
        tuning: Tuning,
        server: Server,
        drive: Drive,
        *,
        slo: Slo,
        base: LoadPoint,
        original: Candidate,
        users: int | None = None,
        most: int = 1024,
        live: bool = False,
        past: MutableMapping[str, Outcome] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tuning, self._server, self._drive = tuning, server, drive
        self._slo, self._base, self._users, self._most = slo, base, users, most
        self._original, self._live = original, live
        self._past = {} if past is None else past
        self._cancelled, self._tell = cancelled, tell
        resumed = live and bool(self._past)
        self._running: Values | None = original.values if live and not resumed else None
        """None also after an interruption, that may have left the server with any of the settings."""
        self._changed = resumed
        self._told_by_server = True
        """Whether the server itself says that it has the settings."""
        self._fresh = False
        self._puts = 0
        self._done = 0

    def run(self) -> Tuned:
        """Everything, in order. Raises what only a bug or a full disk raises; the server is put back before."""
        stopped = 0
        try:
            self._all_tasks()
        except _Stop as stop:
            stopped = stop.code
        except BaseException:
            self._put_back()
            raise
        restored, problem = self._put_back()
        return Tuned(tune=self._tuning.result, stopped=stopped, restored=restored, problem=problem)

    def _all_tasks(self) -> None:
        while (task := self._tuning.next()) is not None:
            outcome = self._past.get(task.key)
            if outcome is None:
                outcome = self._do(task)
                self._past[task.key] = outcome
            else:
                self._tell(f"{_step(task)}: as it was measured before")
            if outcome.problem:
                self._tell(f"{named(task.values)}: {outcome.problem}")
            self._tuning.told(task, outcome)
            self._done += not outcome.problem

    def _put_back(self) -> tuple[bool | None, str]:
        """End the server of ours, or put the original configuration back on that of others."""
        try:
            if not self._live:
                return None, ""
            if not self._changed or self._running == self._original.values:
                return (True if self._changed else None), ""
            self._tell(f"putting back {self._original.name}")
            proof = self._server.put(dict(self._original.values), lambda: False)
            return proof.ok is not False, "" if proof.ok is not False else proof.text
        except LlmtopError as error:
            return False, _with_tail(error)
        finally:
            self._server.close()

    # ── One task ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _do(self, task: Task) -> Outcome:
        before = self._puts
        problem = self._put(task)
        restarts = self._puts - before
        if problem is not None:
            return Outcome(problem=problem[0], applied=problem[1], restarts=restarts)
        left_s = max(_USUAL_S[task.kind], sum(_USUAL_S[kind] for kind in self._tuning.kinds[self._done :]))
        self._tell(f"{_step(task)} ({lasting(_USUAL_S[task.kind], left_s)})")
        work = _WORK[task.kind](self, task)
        steerer = InTurn([*self._warm_up(task), *work.makes])
        try:
            driven = self._drive(f"tune {named(task.values)}", task.values, steerer)
        except KeyboardInterrupt:
            raise _Stop(INTERRUPTED) from None
        except (EndpointError, SessionLost) as error:
            if task.kind == "first":
                raise  # nothing was changed yet, and nothing runs that could be
            self._running = None
            return Outcome(problem=str(error), restarts=restarts)
        self._fresh = False
        if task.kind == "first" and driven.info is not None:
            told = proof_of(dict(task.values), driven.info, None).contradicted
            if told:
                raise UsageError(first_text(told))
        if driven.ending in (Ending.HAND, Ending.UNSEEN) or self._cancelled():
            if (known := work.known(restarts)) is not None:
                self._tuning.told(task, known)
            raise _Stop(INTERRUPTED)
        if driven.ending in LOST:
            self._running = None
            return Outcome(problem=ENDED_BY[driven.ending], restarts=restarts, run_file=driven.run_file)
        if not self._told_by_server and (unproven := self._unproven(task, driven.facts)):
            return Outcome(problem=unproven, applied=False, restarts=restarts, run_file=driven.run_file)
        return work.outcome(driven, restarts)

    def _put(self, task: Task) -> tuple[str, bool] | None:
        """Have the server run with the task's values. Returns (why it does not, whether they were applied)."""
        if self._running == task.values:
            return None
        if self._cancelled():
            raise _Stop(INTERRUPTED)
        self._tell(f"starting {named(task.values)}" if not self._live else f"applying {named(task.values)}")
        self._running, self._changed = None, True
        self._puts += 1
        try:
            proof = self._server.put(dict(task.values), self._cancelled)
        except ServeError as error:
            if isinstance(error, PortTaken) and self._puts == 1:
                raise  # it is no server of ours, and stands in the way of every configuration
            if error.exit_code == INTERRUPTED or self._cancelled():
                raise _Stop(INTERRUPTED) from None
            return _with_tail(error), True
        if proof.ok is False:
            return proof.text, False
        self._running, self._fresh, self._told_by_server = task.values, True, proof.ok is True
        return None

    def _warm_up(self, task: Task) -> list[Callable[[], Steerer | None]]:
        """After a start: a short request a slot, or as many users as show the slots of a server that tells nothing."""
        slots = max(task.slots) if task.slots else _slots_of(task.values)
        if not self._fresh and self._told_by_server:
            return []
        if self._told_by_server or slots is None or task.kind == "again":
            return [lambda: Warm(self._base, min(slots or WARM_USERS, self._most))]
        return [lambda: Warm(self._base, min(slots, self._most)), lambda: Overload(self._base, slots, self._most)]

    def _unproven(self, task: Task, facts: Facts) -> str:
        """Why nothing says that the server has the slots it was to have; empty: what it runs says so."""
        slots = _slots_of(task.values)
        if slots is None:
            return not_shown(task.values, None)
        if task.kind in ("first", "again"):
            return ""
        shown = shows_slots(facts, slots, at_least=task.kind == "race")
        return "" if shown else not_shown(task.values, shown)

    # ── What each kind drives, and what it comes to ───────────────────────────────────────────────────────────────

    @property
    def slo(self) -> Slo:
        return self._slo

    def race(self, task: Task) -> Race:
        return Race(self._slo, self._base, task.slots, users=self._users, beat=task.beat, most=self._most)

    def search(self, task: Task) -> CapacitySearch:
        first = 4 if task.expects is None else max(1, round(SEARCH_FROM * task.expects))
        return CapacitySearch(self._slo, self._base, first=first, max_concurrency=self._most, least_s=SEARCH_LEAST_S)

    def held_at(self, found: float | None) -> LoadPoint | None:
        """Where the winner's figures are measured: with the users that were asked for, or that it carries."""
        users = self._users or (int(found) if found else None)
        return None if users is None else self._base.at("concurrency", min(users, self._most))

    def first_point(self, task: Task) -> LoadPoint:
        slots = _slots_of(task.values)
        return self._base.at("concurrency", min(self._most, self._users or (WARM_USERS if slots is None else slots)))


class _Work(Protocol):
    makes: list[Callable[[], Steerer | None]]

    def known(self, restarts: int) -> Outcome | None:
        """What an interruption leaves to be shown; None: nothing."""
        ...

    def outcome(self, driven: Driven, restarts: int) -> Outcome: ...


class _Racing:
    def __init__(self, tuner: Tuner, task: Task) -> None:
        self._race = tuner.race(task)
        self.makes: list[Callable[[], Steerer | None]] = [lambda: self._race]

    def known(self, restarts: int) -> Outcome | None:
        raced = self._race.raced
        return Outcome(raced=raced, restarts=restarts) if raced.carried else None

    def outcome(self, driven: Driven, restarts: int) -> Outcome:
        raced = self._race.raced
        if raced.void:
            raise _Stop(MachineShort.exit_code if raced.void == "client" else INTERRUPTED)
        anchor = self._race.anchor
        if not raced.carried or anchor is None:
            problem = driven.why or "nothing could be measured"
            return Outcome(problem=problem, restarts=restarts, run_file=driven.run_file)
        return Outcome(
            raced=raced,
            point=anchor[0],
            tokens_per_s=anchor[1],
            run_file=driven.run_file,
            restarts=restarts,
        )


class _Searching:
    def __init__(self, tuner: Tuner, task: Task) -> None:
        self._tuner, self._task = tuner, task
        self._search = tuner.search(task)
        self._hold: Hold | None = None
        self.makes: list[Callable[[], Steerer | None]] = [lambda: self._search, self._once_more, self._then]

    def known(self, restarts: int) -> Outcome | None:
        del restarts
        return None

    def _once_more(self) -> Steerer | None:
        """Another search where the first contradicts what was found by gate: a test of one load errs once in twenty."""
        expects, high = self._task.expects, self._search.capacity.high
        if expects is None or high is None or high >= CONTRADICTS * expects:
            return None
        self._search = self._tuner.search(self._task)
        return self._search

    def _then(self) -> Steerer | None:
        point = self._tuner.held_at(self._search.capacity.at_slo)
        self._hold = None if point is None else Hold(self._tuner.slo, point, settle=1.0)
        return self._hold

    def outcome(self, driven: Driven, restarts: int) -> Outcome:
        capacity = self._search.capacity
        if self._search.void:
            raise _Stop(MachineShort.exit_code)
        if capacity.at_slo is None and capacity.fails_at is None:
            problem = capacity.sentence or driven.why or "no load could be judged"
            return Outcome(problem=problem, restarts=restarts, run_file=driven.run_file)
        found = capacity.at_slo or 0.0
        seen = None if self._hold is None else self._hold.seen
        return Outcome(
            users=Carried(found, capacity.low or found, capacity.high or found),
            tokens_per_s=None if seen is None else seen.tokens_per_s,
            figures=() if seen is None else seen.figures,
            point=None if seen is None else self._tuner.held_at(capacity.at_slo),
            run_file=driven.run_file,
            restarts=restarts,
        )


class _Holding:
    """One load, first or again."""

    def __init__(self, tuner: Tuner, task: Task) -> None:
        self._point = task.point or tuner.first_point(task)
        rungs = AGAIN_E2ES if task.was is not None else AGAIN_E2ES[:1]
        self._hold = Hold(tuner.slo, self._point, e2es=rungs, was=task.was, drift=DRIFT)
        self.makes: list[Callable[[], Steerer | None]] = [lambda: self._hold]

    def known(self, restarts: int) -> Outcome | None:
        del restarts
        return None

    def outcome(self, driven: Driven, restarts: int) -> Outcome:
        seen = self._hold.seen
        if seen is None or seen.broken:
            problem = driven.why or "the load could not be held"
            return Outcome(problem=problem, restarts=restarts, run_file=driven.run_file)
        return Outcome(
            point=self._point,
            tokens_per_s=seen.tokens_per_s,
            figures=seen.figures,
            run_file=driven.run_file,
            restarts=restarts,
        )


_WORK: dict[str, Callable[[Tuner, Task], _Work]] = {
    "race": _Racing,
    "search": _Searching,
    "first": _Holding,
    "again": _Holding,
}


def _step(task: Task) -> str:
    return step_text(task.kind, task.values, len(task.slots))


def _slots_of(values: Values) -> int | None:
    return next((int(value) for name, value in values if is_slots(name)), None)


def _with_tail(error: LlmtopError) -> str:
    """What went wrong, and under it what the server wrote last."""
    tail = error.tail if isinstance(error, ServeError) else ()
    return "\n".join((str(error), *(f"    {line}" for line in tail)))
