"""Exploring the map: three prompt lengths, each driven to where it meets the SLO, then one where that is least sure.

A pure state machine, as the capacity search is: `next(facts, now_s)` looks at what the load did and says which load it
wants next. What it knows is what is on the map (`mapper.Mapper`), so that levels of before are not measured again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.analysis.bracket import Bracket
from llmtop.analysis.mapper import Mapper
from llmtop.analysis.mapping import NARROW, Row, edge_of, is_proven, joined, met_at
from llmtop.analysis.serving import strain
from llmtop.analysis.tested import client_seconds
from llmtop.analysis.trial import WITH_QUEUE
from llmtop.analysis.window import Window
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.map import Map, MapEdge, half_band
from llmtop.domain.profile import Workload
from llmtop.domain.run import JudgedLevel, RunMeta
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.domain.steering import Phase, Step
from llmtop.meter.facts import Facts
from llmtop.wording import mapping as words
from llmtop.wording.sentences import search_void

MOST_LEVELS = 25
"""Loads that are held: about ten minutes of most servers."""
SURE = 0.10
"""Half of the contour's band, as a share, from which it is known well enough: what a map is read to."""
APART = 4
"""A length over the next shorter one: one length says little of another, and three span what a profile asks for."""
SHORTEST = 16
"""Tokens of a prompt: a shorter one is its template."""
LONGEST = 32768
"""Tokens of a prompt where the server does not tell its context length."""
MOST_ERRORS = 0.01
"""Share of the requests that may fail where the SLO does not say."""
FIRST_USERS = 4
"""What a server is asked first, of which nothing is known."""
DWELL_E2ES = 2.0
"""So long a load is held: tokens a second differ by 2.8 % from window to window then."""
FEW, ENOUGH = 24, 72
"""Requests of a level that is far from every limit, and of one that is near: fewer than 59 prove no p95."""
CLEAR = (0.6, 1.6)
"""Shares of a limit below and above which a few requests say on which side of it a level is."""
DWELL_S = 120.0
"""No load is held longer: where too little has ended by then, what there is must do."""
CAREFUL, CLOSE = 0.7, 0.95
"""Of the users that a length is expected to carry, how many are tried first: by one other length, and by two."""
BELOW, ABOVE = 0.95, 1.06
"""Around where the limit seems to be met, a level that is to hold, and one that is to fail."""
NEARLY = 1.4
"""A limit over what was measured below which the load is no longer doubled, but goes `PAST` times as far as a straight
line through the origin says."""
PAST = 1.5
FAULTY = 4
"""Where requests fail before any load has held, so many times fewer users are tried."""
CALM = 0.4
"""Share of the users at the SLO up to which a load is far from the edge."""
CLIENT_S = 20
"""Seconds of the client after which an exploration that is void for its sake ends."""


def lengths_of(base: LoadPoint, context: int | None) -> tuple[int, ...]:
    """Prompt lengths to explore: that of the load, and shorter and longer ones as far as the context has room."""
    own = base.prompt_tokens
    room = min(LONGEST, (context or LONGEST) - 2 * base.output_tokens)
    longer = min(APART * own, room)
    found = [own // APART**2, own // APART, own, *([longer] if longer >= 2 * own else [])]
    return tuple(length for length in found[-3:] if length >= SHORTEST or length == own)


def why_not(slo: Slo, base: LoadPoint, workload: Workload) -> str | None:
    """Why such requests cannot be explored; None: they can."""
    if workload.file is not None:
        return words.of_file_text(workload.file)
    if base.axis == "rate":
        return words.NOT_BY_RATE
    if base.think_time_s > 0:
        return words.NOT_WHO_THINK
    return None if any(target.metric in LATENCIES for target in slo.targets) else words.NO_LIMIT


class Explorer:
    """Explores until the contour's band is at most `SURE`, or `MOST_LEVELS` loads were held.

    Args:
        base: lengths of the load; its load is not used.
        meta: of the run.
    """

    def __init__(self, slo: Slo, base: LoadPoint, meta: RunMeta) -> None:
        self._mapper, self._meta, self._base = Mapper(slo, foresees=False), meta, base
        self._most = meta.profile.caps.max_concurrency
        info = meta.info
        self.lengths = lengths_of(base, None if info is None else info.max_model_len)
        self._wanted = sorted(self.lengths, key=lambda length: (length != base.prompt_tokens, length))
        """In the order in which they are driven: what was driven before comes first."""
        errors = slo.target("error_ratio") or SloTarget("error_ratio", MOST_ERRORS)
        self._guard = Slo((*(target for target in slo.targets if target is not errors), errors))
        self._window: Window | None = None
        self._need = 0
        self._levels = 0
        self._start_s: float | None = None
        self._chapters = 0
        self._broken: dict[int, list[JudgedLevel]] = {}
        """Levels of each length that the brake or failing requests have cut."""
        self._given_up: set[int] = set()
        self._again: set[tuple[int, int]] = set()
        """(prompt length, load) of levels that were held once more, so that enough requests prove what they say."""
        self._map: Map | None = None
        self._ended: str | None = None
        self._home = False
        self._begun = self._told = False
        """Whether the marks of its beginning and its end were told."""

    @property
    def levels(self) -> int:
        """Loads that were held."""
        return self._levels

    @property
    def map(self) -> Map | None:
        """What is known by now."""
        return self._map

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look at the facts so far and say which load is wanted now. To be asked every 100 ms to 1 s."""
        if self._ended is None:
            self._advance(facts, now_s)
        if self._leads_home():
            home = SetLoad(self._base.at("concurrency", 0), "map")
            return Step(want=home, phase="confirm", done_levels=self._levels, text=words.ENDING)
        if self._ended is not None or self._window is None:
            text = words.explored_text(self._map, self._levels, self._ended or "")
            marks = () if self._told else (f"map: {text}",)
            self._told = True
            return Step(want=None, phase="done", done_levels=self._levels, left_s=0.0, text=text, marks=marks)
        point = self._window.point
        told = "" if self._map is None else self._map.text
        text = words.exploring_text(point.value, point.prompt_tokens, self._levels + 1, MOST_LEVELS, told)
        phase: Phase = "confirm" if self._map is not None else "double"
        marks = () if self._begun else (words.begins_text(self.lengths),)
        self._begun = True
        return Step(want=SetLoad(point, "map"), phase=phase, done_levels=self._levels, text=text, marks=marks)

    def _leads_home(self) -> bool:
        """Whether the load is still to be given back with the prompts that it had, so that verdicts are about those."""
        if self._ended in (None, words.TAKEN, words.CHANGED) or self._window is None or self._home:
            return False
        self._home = True
        return self._window.point.prompt_tokens != self._base.prompt_tokens

    # ── One load ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, facts: Facts, now_s: float) -> None:
        if self._start_s is None:
            self._start_s, self._chapters = now_s, len(facts.chapters)
            self._go_on(facts, now_s)
            return
        self._ended = self._why_over(facts, now_s)
        window = self._window
        if self._ended is not None or window is None:
            return
        seen = window.look(facts, self._guard, now_s)
        late = now_s - window.start_s > DWELL_S
        if seen is None and not late:
            return
        if seen is not None and seen.broken:
            self._note_broken(window.point, seen.n)
        elif seen is not None and not late and self._wants_more(strain(seen, self._mapper.slo.felt)):
            window.lengthen(max(DWELL_E2ES, ENOUGH / window.load))
            self._need = ENOUGH
            return
        elif not self._is_on_the_map(window.point, facts):
            if not late:
                window.lengthen(seen.e2es + 1.0 if seen is not None else 1.0)
                return
            self._given_up.add(window.point.prompt_tokens)
        self._levels += 1
        self._go_on(facts, now_s)

    def _wants_more(self, share: float) -> bool:
        return self._need < ENOUGH and CLEAR[0] < share < CLEAR[1]

    def _is_on_the_map(self, point: LoadPoint, facts: Facts) -> bool:
        rows = self._mapper.look(facts, self._meta)
        row = next((row for row in rows if row.prompt_tokens == point.prompt_tokens), None)
        return row is not None and any(each.load == point.value for each in row.tested)

    def _note_broken(self, point: LoadPoint, n: int) -> None:
        told = JudgedLevel(t_s=0.0, load=int(point.value), slo="", failed=("error_ratio",), n=n)
        self._broken.setdefault(point.prompt_tokens, []).append(told)

    def _why_over(self, facts: Facts, now_s: float) -> str | None:
        """Why nothing more is to be explored, whatever is known; None: it goes on."""
        assert self._start_s is not None
        if any(change.reason in ("hand", "stop") and change.t_s > self._start_s for change in facts.changes):
            return words.TAKEN
        if len(facts.chapters) > self._chapters:
            return words.CHANGED
        client = client_seconds(facts, self._start_s, now_s)
        if client.void and client.all >= CLIENT_S:
            return search_void(client.red, client.all)
        return None

    # ── Which load is next ────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self, facts: Facts, now_s: float) -> None:
        rows = self._mapper.look(facts, self._meta)
        self._map = self._mapper.map(facts, self._meta)
        faulty = [length for length in self._broken if self._held(length, rows) is None]
        if faulty and self._load(faulty[0], rows) is None:
            self._ended = words.failing_text(faulty[0])
            return
        wanted = self._choose(rows)
        if wanted is None:
            self._ended = self._why_done(rows)
        elif self._levels >= MOST_LEVELS:
            self._ended = words.SPENT
        else:
            if any(each.load == wanted[1] for each in self._tested(wanted[0], rows)):
                self._again.add(wanted)
            self._hold(*wanted, now_s)

    def _choose(self, rows: Sequence[Row]) -> tuple[int, int] | None:
        """(prompt length, load) of the next level; None: all is known that can be."""
        for length in self._wanted:
            load = None if length in self._given_up else self._load(length, rows)
            if load is not None:
                return length, load
        unsure = self._unsure(rows)
        load = None if unsure is None or unsure in self._given_up else self._load(unsure, rows)
        if unsure is not None and load is not None:
            self._wanted.append(unsure)
            return unsure, load
        return next(((length, load) for length in self.lengths if (load := self._calm(length, rows))), None)

    def _calm(self, length: int, rows: Sequence[Row]) -> int | None:
        """A load far from the edge of a length at which nothing else was held: a twin needs it to foresee the rest."""
        edge = next((edge.users for edge in self._edges(rows) if edge.prompt_tokens == length), None)
        if edge is None or length in self._given_up or self._tested(length, rows)[0].load <= CALM * edge.value:
            return None
        return max(1, round(CALM / 2 * edge.value))

    def _hold(self, length: int, load: int, now_s: float) -> None:
        point = replace(self._base.at("concurrency", load), prompt_tokens=length)
        self._need = ENOUGH if (length, load) in self._again else FEW
        self._window = Window(point, now_s, max(DWELL_E2ES, self._need / load), self._need)

    def _why_done(self, rows: Sequence[Row]) -> str:
        if self._given_up:
            return words.slow_text(min(self._given_up))
        capped = [edge for edge in self._edges(rows) if edge.users is None and edge.held]
        return words.capped_text(self._most) if capped else ""

    def _tested(self, length: int, rows: Sequence[Row]) -> list[JudgedLevel]:
        row = next((row for row in rows if row.prompt_tokens == length), None)
        found = [*(() if row is None else row.tested), *self._broken.get(length, ())]
        return sorted(found, key=lambda each: each.load)

    def _held(self, length: int, rows: Sequence[Row]) -> JudgedLevel | None:
        return Bracket(self._tested(length, rows), self._mapper.slo).low

    def _edges(self, rows: Sequence[Row]) -> list[MapEdge]:
        return [edge_of(row, self._mapper.slo) for row in rows]

    def _load(self, length: int, rows: Sequence[Row]) -> int | None:
        """The load that says most of where a length meets the SLO; None: that is known, or cannot be."""
        tested = self._tested(length, rows)
        if not tested:
            return self._first(length, rows)
        bracket = Bracket(tested, self._mapper.slo)
        low, high = bracket.low, bracket.high
        if high is None:
            return None if low is None else self._above(low, bracket) or self._unproven(length, low, rows)
        if low is None and "error_ratio" in high.failed:
            return None if high.load <= FIRST_USERS else max(1, high.load // FAULTY)
        if low is None:
            lower = min(round(BELOW * met_at(None, high, self._mapper.slo)), high.load - 1)
            return max(1, lower) if high.load > 1 else None
        row = next((row for row in rows if row.prompt_tokens == length), None)
        edge = None if row is None else edge_of(row, self._mapper.slo)
        narrow = edge is not None and edge.users is not None and half_band(edge.users) <= SURE
        if narrow:
            return None
        guess = met_at(low, high, self._mapper.slo)
        near = low.load >= (2 * BELOW - 1) * guess
        closed = high.load - low.load <= 1
        unproven = self._unproven(length, low, rows) if near or closed else None
        if closed or unproven is not None:
            return unproven
        wanted = ABOVE * guess if near else BELOW * guess
        return max(low.load + 1, min(round(wanted), high.load - 1))

    def _unproven(self, length: int, low: JudgedLevel, rows: Sequence[Row]) -> int | None:
        """The load of a level that few requests say holds, to be held once more; None: it is proven, or was."""
        row = next((row for row in rows if row.prompt_tokens == length), None)
        if row is None or (length, low.load) in self._again or is_proven(row, low.load, self._mapper.slo):
            return None
        return low.load

    def _above(self, low: JudgedLevel, bracket: Bracket) -> int | None:
        """The next load where nothing failed yet: not far past what breaks a limit that is nearly met."""
        wanted = bracket.choose(self._most)[0]
        queued = low.in_service is not None and low.in_service < WITH_QUEUE * low.load
        targets = [each for each in self._mapper.slo.targets if not (queued and each.metric == "tpot")]
        limits = {target.name: target.limit for target in targets}  # of those who wait the steps are no longer
        room = min((limits[name] / figure for name, figure in low.worst if figure and name in limits), default=math.inf)
        if wanted is None or room > NEARLY:
            return wanted
        return min(wanted, max(low.load + 1, math.ceil(low.load * max(ABOVE, 1 + PAST * (room - 1)))))

    def _first(self, length: int, rows: Sequence[Row]) -> int:
        """What a length is tried with first: a little less than others say that it carries."""
        known = [(edge.prompt_tokens, edge.users) for edge in self._edges(rows) if edge.users is not None]
        if not known:
            return min(FIRST_USERS, self._most)
        if len(known) == 1:
            own, users = known[0]
            output = self._base.output_tokens
            expected = CAREFUL * users.value * (own + output) / (length + output)
        else:
            told = Map(contour=tuple(MapEdge(prompt_tokens=at, users=users) for at, users in known)).users_at(length)
            expected = CAREFUL * _beyond(length, [(at, users.value) for at, users in known])
            if told is not None:
                expected = CLOSE * told.value
        return max(1, min(round(expected), self._most))

    def _unsure(self, rows: Sequence[Row]) -> int | None:
        """A length between the two between which the contour is known least; None: it is known well enough."""
        edges = [edge for edge in joined(self._edges(rows)) if edge.users is not None]
        gaps = [
            (math.inf if below.after is None else below.after, below.prompt_tokens, above.prompt_tokens)
            for below, above in itertools.pairwise(edges)
            if above.prompt_tokens >= NARROW * below.prompt_tokens
        ]
        unsure, below, above = max(gaps, default=(0.0, 0, 0))
        return round(math.sqrt(below * above)) if unsure > SURE else None


def _beyond(length: int, known: Sequence[tuple[int, float]]) -> float:
    """Users at a length outside of those that are known, on the line of 1 / users through the two nearest."""
    (near, users), (far, others) = sorted(known, key=lambda each: abs(each[0] - length))[:2]
    slope = (1 / max(users, 1e-9) - 1 / max(others, 1e-9)) / (near - far)
    cost = 1 / max(users, 1e-9) + slope * (length - near)
    return min(4 * users, 1 / cost) if cost > 0 else 2 * users
