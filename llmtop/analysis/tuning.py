"""The plan of a tune: which configuration to put on the server next, what to measure there, and what it comes to.

A pure state machine over trials: `next()` says what is to be done, `told()` takes what came of it. Restarts are what a
tune pays with. All numbers of slots are tried on the server that has the most of them (`analysis.race`), so that one
start does for all values of that setting; every value of any other setting needs a start of its own. The winner is put
on the server as it is and verified by a capacity search. At the end stands the first configuration again: where it no
longer gives what it gave, the server or its machine has changed meanwhile, and nothing that was measured compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from llmtop.analysis.race import Raced
from llmtop.domain.load import LoadPoint
from llmtop.domain.settings import is_slots
from llmtop.domain.tuning import Carried, Kind, Tried, Tune, Values, named
from llmtop.errors import UsageError

GATE = 0.06
"""Share by which what a gate says differs from what as many slots carry: its own round trip leaves a slot empty for a
moment (30.4 of 32 ran), and runs of one server differ by as much."""
MOST_CANDIDATES = 64


class Candidate(Struct, frozen=True):
    """One configuration."""

    values: Values
    slots: int | None
    """How many requests it runs at once; None: no setting that is tried says so."""

    @property
    def group(self) -> Values:
        """Its settings without the slots: those of one group are tried on one server."""
        return tuple(pair for pair in self.values if self.slots is None or not is_slots(pair[0]))

    @property
    def name(self) -> str:
        return named(self.values)


class Task(Struct, frozen=True):
    """What is to be done next. The host puts `values` on the server first, where they are not there already."""

    kind: Kind
    """`first` and `again`: one load, held against each other; `race`: all `slots` on this server; `search`."""
    values: Values
    slots: tuple[int, ...] = ()
    """Of a race, smallest first."""
    point: LoadPoint | None = None
    """Of `again`: the load; None in `first`, which picks it."""
    was: float | None = None
    """Of `again`: output tokens a second there, the first time."""
    beat: Carried | None = None
    expects: float | None = None
    """Of a search: users at the SLO, by what is known."""

    @property
    def key(self) -> str:
        """The same for the same work, whenever it is planned."""
        return f"{self.kind} {named(self.values)} {','.join(map(str, self.slots))}".strip()


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a task."""

    problem: str = ""
    """Why there is nothing; empty: there is."""
    applied: bool = True
    """False: what runs is not the configuration that was asked for, or nobody can tell."""
    raced: Raced | None = None
    users: Carried | None = None
    """Of a search."""
    tokens_per_s: float | None = None
    point: LoadPoint | None = None
    """The load at which `tokens_per_s` was measured."""
    figures: tuple[tuple[str, float], ...] = ()
    """(name of the limit, seconds) at that load."""
    run_file: str | None = None
    restarts: int = 0


def candidates(tries: Sequence[tuple[str, Sequence[str]]]) -> tuple[Candidate, ...]:
    """Every combination, the original first. Raises UsageError: too many, one twice, or slots that are no number."""
    names = [name for name, _ in tries]
    if len(set(names)) < len(names):
        raise UsageError("--try: a setting is named twice; put all of its values into one list")
    slots = [name for name in names if is_slots(name)]
    if len(slots) > 1:
        raise UsageError(f"--try: {' and '.join(slots)} are the same setting; keep one")
    for name, values in tries:
        if not values or len(set(values)) < len(values):
            raise UsageError(f"--try {name}: name each value once, e.g. {name}=32,64")
        if is_slots(name) and not all(value.isdecimal() and int(value) > 0 for value in values):
            raise UsageError(f"--try {name}={','.join(values)}: must be whole numbers from 1 on")
    found = []
    for each in product(*(values for _, values in tries)):
        pairs: Values = tuple(zip(names, each, strict=True))
        own = next((int(value) for name, value in pairs if is_slots(name)), None)
        found.append(Candidate(pairs, own))
    if len(found) > MOST_CANDIDATES:
        raise UsageError(f"--try: {len(found)} configurations; {MOST_CANDIDATES} are the most")
    return tuple(found)


def both(searched: Carried, by_gate: Carried) -> Carried:
    """What a search and a gate say of the same, by how much each knows; the bounds are the search's.

    A search that ran out of time leaves a wide bracket, in which the gate knows better where. Where they contradict
    each other the search is right: it drove the configuration itself.
    """
    if by_gate.value * (1 - GATE) > searched.high or by_gate.value * (1 + GATE) < searched.low:
        return searched
    halves = [(searched.high - searched.low) / 2, max(GATE, (by_gate.high - by_gate.low) / 2 / by_gate.value)]
    own, other = (1 / max(half, 1e-6) ** 2 for half in (halves[0], halves[1] * by_gate.value))
    value = (own * searched.value + other * by_gate.value) / (own + other)
    value = min(max(value, searched.low), searched.high)
    return Carried(value, searched.low, searched.high)


class Tuning:
    """Args:
    all_: the candidates, the original first.
    users: how many the SLO must hold for; None: as many as it can.
    live: the original runs already, and is put back at the end.
    """

    def __init__(self, all_: Sequence[Candidate], *, users: int | None = None, live: bool = False) -> None:
        self._all, self._users, self._live = tuple(all_), users, live
        self._original = all_[0]
        self._groups = self._grouped()
        self._bad: dict[Values, tuple[str, bool]] = {}
        """(why, whether it was applied) of each candidate of which nothing can be known."""
        self._raced: dict[Values, Raced] = {}
        """By group."""
        self._searched: dict[Values, Outcome] = {}
        self._restarts: dict[Values, int] = {}
        self._looked = False
        """`first` is done."""
        self._runs: list[tuple[str, str]] = []
        self._first: Outcome | None = None
        self._base: Values | None = None
        """What `first` is about."""
        self._again: Outcome | None = None
        self._done_again = False

    def _grouped(self) -> list[list[Candidate]]:
        """Candidates of one server each, most slots first; the original's group first."""
        groups: dict[Values, list[Candidate]] = {}
        for each in self._all:
            groups.setdefault(each.group, []).append(each)
        return [sorted(group, key=lambda each: -(each.slots or 0)) for group in groups.values()]

    @property
    def most_restarts(self) -> int:
        """How many it takes, if everything starts: one a group, the winner, and the first configuration again."""
        single = len(self._all) == 1
        return len(self._groups) + (0 if single else 2)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The tasks that it takes, if everything starts."""
        races: list[Kind] = ["search" if group[0].slots is None else "race" for group in self._groups]
        ends: list[Kind] = ["again"] if len(self._all) > 1 else []
        search: list[Kind] = ["search"] if "race" in races else []
        first: list[Kind] = ["first"] if self._live else []
        return (*first, *races, *search, *ends)

    # ── What is next ──────────────────────────────────────────────────────────────────────────────────────────────

    def next(self) -> Task | None:
        """None: all is known that will be."""
        if self._live and not self._looked:
            return Task("first", self._original.values)
        return self._next_race() or self._next_search() or self._next_again()

    def _next_race(self) -> Task | None:
        for group in self._groups:
            left = [each for each in group if each.values not in self._bad]
            if not left or left[0].group in self._raced:
                continue
            if left[0].slots is None:
                if left[0].values not in self._searched:
                    return Task("search", left[0].values)
                continue
            slots = tuple(sorted(each.slots for each in left if each.slots is not None))
            return Task("race", left[0].values, slots, beat=self._bar())
        return None

    def _next_search(self) -> Task | None:
        """The best that is not searched yet, unless one that is leads."""
        ranked = self._ranked()
        if not ranked or not self._raced:
            return None
        best = ranked[0]
        if best.values in self._searched:
            return None
        found = self._users_of(best)
        return Task("search", best.values, expects=None if found is None else found.value)

    def _next_again(self) -> Task | None:
        if self._done_again or self._first is None or self._base is None or self._first.point is None:
            return None
        if len(self._all) == 1 and not self._live:
            return None
        return Task("again", self._base, point=self._first.point, was=self._first.tokens_per_s)

    def told(self, task: Task, outcome: Outcome) -> None:
        """What came of the task that was wanted last."""
        self._restarts[task.values] = self._restarts.get(task.values, 0) + outcome.restarts
        if outcome.run_file is not None:
            self._runs.append((task.key, outcome.run_file))
        if task.kind == "again":
            self._done_again, self._again = True, None if outcome.problem else outcome
            return
        if task.kind == "first":
            self._looked = True
            if not outcome.problem:
                self._base, self._first = task.values, outcome
            return
        if outcome.problem:
            self._bad[task.values] = (outcome.problem, outcome.applied)
            return
        if task.kind == "race" and outcome.raced is not None:
            own = next(each for each in self._all if each.values == task.values)
            self._raced[own.group] = outcome.raced
        else:
            self._searched[task.values] = outcome
        if self._base is None and outcome.point is not None:
            self._base, self._first = task.values, outcome

    # ── What it comes to ──────────────────────────────────────────────────────────────────────────────────────────

    def _users_of(self, each: Candidate) -> Carried | None:
        searched = self._searched.get(each.values)
        raced = self._raced.get(each.group)
        by_gate = None if raced is None or each.slots is None else dict(raced.carried).get(each.slots)
        if searched is None or searched.users is None:
            return by_gate
        return searched.users if by_gate is None else both(searched.users, by_gate)

    def _tokens_of(self, each: Candidate) -> Carried | None:
        searched = self._searched.get(each.values)
        raced = self._raced.get(each.group)
        if raced is not None and each.slots is not None:
            return dict(raced.tokens).get(each.slots)
        if searched is None or searched.tokens_per_s is None:
            return None
        return Carried(searched.tokens_per_s, searched.tokens_per_s, searched.tokens_per_s)

    def _worth(self, each: Candidate) -> tuple[float, float]:
        """To be compared: users, or with `users` first whether they are carried and then tokens."""
        users, tokens = self._users_of(each), self._tokens_of(each)
        own = 0.0 if users is None else users.value
        if self._users is None:
            return own, 0.0
        return (1.0, tokens.value if tokens else 0.0) if own >= self._users else (own / self._users - 1, 0.0)

    def _ranked(self) -> list[Candidate]:
        """Those of which something is known, the best first; of equals the original, then the one with fewer slots."""
        known = [each for each in self._all if each.values not in self._bad and self._users_of(each) is not None]
        return sorted(
            known, key=lambda each: (*(-part for part in self._worth(each)), each != self._original, each.slots or 0)
        )

    def _bar(self) -> Carried | None:
        """What the best so far surely is, for those of other servers."""
        ranked = self._ranked()
        if not ranked:
            return None
        return self._users_of(ranked[0]) if self._users is None else self._tokens_of(ranked[0])

    @property
    def result(self) -> Tune:
        """What is known by now."""
        ranked = [each for each in self._ranked() if each.values in self._searched]
        winner = ranked[0] if ranked else None
        gain = None if winner is None else self._gain(winner)
        holds = None
        if winner is not None and self._users is not None and (found := self._users_of(winner)) is not None:
            holds = found.value >= self._users
        return Tune(
            rows=tuple(self._row(each) for each in self._all),
            original=self._original.values,
            winner=None if winner is None else winner.values,
            users=self._users,
            gain=gain,
            drift=self._drift(),
            edge=None if winner is None else self._edge(winner),
            holds=holds,
            restarts=sum(self._restarts.values()),
            runs=tuple(self._runs),
        )

    def _gain(self, winner: Candidate) -> float | None:
        if winner == self._original:
            return None
        of = self._users_of if self._users is None else self._tokens_of
        new, old = of(winner), of(self._original)
        return None if new is None or old is None or old.value <= 0 else new.value / old.value - 1

    def _drift(self) -> float | None:
        first, again = (each and each.tokens_per_s for each in (self._first, self._again))
        return again / first - 1 if first and again else None

    def _edge(self, winner: Candidate) -> Literal["largest", "smallest"] | None:
        slots = sorted({each.slots for each in self._all if each.slots is not None})
        if winner.slots is None or len(slots) < 2:
            return None
        return "largest" if winner.slots == slots[-1] else "smallest" if winner.slots == slots[0] else None

    def _row(self, each: Candidate) -> Tried:
        restarts = self._restarts.get(each.values, 0)
        row = Tried(values=each.values, how="not tried", restarts=restarts)
        if each.values in self._bad:
            why, applied = self._bad[each.values]
            return replace(row, how="failed" if applied else "not applied", note=why)
        row = replace(row, users=self._users_of(each), tokens_per_s=self._tokens_of(each))
        if (searched := self._searched.get(each.values)) is not None:
            return replace(row, how="searched", figures=searched.figures)
        raced = self._raced.get(each.group)
        if raced is None or each.slots is None or row.users is None:
            return row
        own = [seen for seen in raced.levels if seen.running == each.slots]
        newest = next((seen for seen in reversed(own) if seen.gate is not None), own[-1] if own else None)
        figures = () if newest is None else newest.figures
        if newest is not None and newest.gate is not None:
            return replace(row, how="by gate", figures=figures)
        figures = tuple(each for each in figures if each[0].startswith("tpot"))  # in the ramp nobody waits for a slot
        note = "" if own else "fewer slots are enough: these are not all used within the limits"
        return replace(row, how="dropped" if each.slots in raced.dropped else "by the ramp", figures=figures, note=note)
