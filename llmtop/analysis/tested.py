"""The capacity that a search has found: a pure function of the levels it tested, as the run file keeps them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmtop.analysis.bracket import highest_held, lowest_broken
from llmtop.analysis.capacity import recommended_and_soak
from llmtop.analysis.diagnosis import is_client_bound
from llmtop.analysis.readings import driven_lengths
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import JudgedLevel, SearchEnded
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity
from llmtop.meter.facts import Facts
from llmtop.wording import sentences
from llmtop.wording.names import target_name

MARGIN = 0.03
"""How far past the levels that held and failed the capacity may lie: a test of one level is wrong in 5 % of cases, and
near the limit, where a few percent of load move the share of slow requests less than the test can tell."""

PROVED = 56
"""Clean requests that pass Wald's test of a p95 limit: with fewer, a level held by a quick answer."""


class ClientSeconds(Struct, frozen=True):
    """Of the seconds of a search, those in which the client was the bottleneck."""

    red: int = 0
    all: int = 0

    @property
    def void(self) -> bool:
        """Whether they are so many that its levels are the client's."""
        return self.all > 0 and is_client_bound(self.red / self.all)


def client_seconds(facts: Facts, since_s: float, until_s: float) -> ClientSeconds:
    """What is known of the client between two times of the run."""
    t_s = facts.client.column("t_s")
    red = facts.client.column("red")[(t_s > since_s) & (t_s <= until_s)]
    return ClientSeconds(int(red.sum()), len(red))


def capacity_of_tested(
    tested: Sequence[JudgedLevel],
    ended: SearchEnded | None,
    slo: Slo,
    base: LoadPoint,
    client: ClientSeconds | None = None,
    statuses: Sequence[int] = (),
) -> Capacity:
    """The capacity by the levels of one search.

    `at_slo` and `fails_at` are levels as they were tested; `low` and `high` are where the capacity lies.

    Args:
        tested: one a load.
        ended: how the search ended; None: it goes on.
        base: lengths and think time of the load, for the sentence.
        client: how the client did meanwhile; its seconds are left out of the levels, or make all of them void.
        statuses: HTTP statuses of the errors, for the sentence.
    """
    client = client or ClientSeconds()
    if client.void or (ended is not None and ended.reason == "client"):
        return Capacity(sentence=sentences.search_void(client.red, client.all))
    held, broke = highest_held(tested), lowest_broken(tested)
    at_slo = None if held is None else float(held.load)
    failed = [] if broke is None else [target_name(name) for name in broke.failed]
    knee = next((each.in_service for each in tested if any("ttft" in name for name in each.failed)), None)
    recommended, soak = recommended_and_soak(at_slo, knee, "concurrency")
    capacity = Capacity(
        at_slo=at_slo,
        low=None if held is None else _low(held, tested),
        high=None if broke is None or held is None else float(math.ceil(broke.load * (1 + MARGIN))),
        fails_at=None if broke is None else float(broke.load),
        knee=knee,
        limited_by=f"{sentences.listed(failed)} SLO" if failed else None,
        recommended=recommended,
        soak=soak,
    )
    then = sentences.binds_then(failed, statuses)
    return replace(capacity, sentence=_sentence(capacity, then, ended, slo, base, client))


def found(facts: Facts, slo: Slo, embeds: bool = False) -> Capacity | None:
    """What the newest search of a run has found by this SLO for the lengths and the configuration that there are now.

    Of embeddings the prompt's length alone is told. None: none has tested a level by these limits and under these
    conditions, or was ended because of the client.
    """
    for tested, ended, since_s in _searches(facts, slo):
        until_s = facts.t_s if ended is None else ended.t_s
        client = client_seconds(facts, since_s, until_s)
        point = driven_lengths(_point_at(facts, until_s), embeds)
        return capacity_of_tested(tested, ended, slo, point, client, facts.failures.statuses)
    return None


def newest_of_each(tested: Sequence[JudgedLevel]) -> list[JudgedLevel]:
    """One test a load: the last one."""
    last = {each.load: each for each in tested}
    return [each for each in tested if last[each.load] is each]


def _searches(facts: Facts, slo: Slo) -> list[tuple[list[JudgedLevel], SearchEnded | None, float]]:
    """(levels that count, how it ended, when it began) of each search that has any; the newest first."""
    if not facts.changes:
        return []
    limits, now = str(slo), _conditions(facts, facts.t_s)
    counts = [each for each in facts.tested if each.slo == limits and _conditions(facts, each.t_s) == now]
    begun_s = [change.t_s for change in facts.changes if change.reason == "search"]
    searches = []
    before_s = -1.0
    for ended in (*facts.searches, None):
        until_s = facts.t_s if ended is None else ended.t_s
        own = newest_of_each([each for each in counts if before_s < each.t_s <= until_s])
        late = ended is not None and ended.reason == "client" and _conditions(facts, ended.t_s) == now
        if own or late:
            since_s = next((t_s for t_s in begun_s if t_s > before_s), own[0].t_s if own else before_s)
            searches.append((own, ended, since_s))
        before_s = until_s
    return searches[::-1]


def _conditions(facts: Facts, t_s: float) -> tuple[LoadPoint, str | None]:
    """What a level holds for beside its load: the requests, and the configuration of what is driven."""
    place = bisect_right([chapter.t_s for chapter in facts.chapters], t_s)
    return _point_at(facts, t_s), facts.chapters[place - 1].key if place else None


def _point_at(facts: Facts, t_s: float) -> LoadPoint:
    """What requests were commanded at a time, whatever their load."""
    place = bisect_right([change.t_s for change in facts.changes], t_s)
    return facts.changes[max(0, place - 1)].point.at("concurrency", 0)


def _low(held: JudgedLevel, tested: Sequence[JudgedLevel]) -> float:
    """Too few requests to prove a p95 are believed only where a lower level held as well."""
    sure = [each.load for each in tested if not each.failed and each.load <= held.load and each.n >= PROVED]
    return float(math.floor(max(sure, default=0) / (1 + MARGIN)))


def _sentence(
    found: Capacity, then: str, ended: SearchEnded | None, slo: Slo, base: LoadPoint, client: ClientSeconds
) -> str:
    axis: Axis = "concurrency"
    objective, how = sentences.felt(slo), sentences.driven(axis, base)
    if found.at_slo is not None:
        promise = sentences.supports(
            found.at_slo, found.fails_at, axis, objective=objective, how=how, low=found.low, high=found.high
        )
        parts = [f"{promise}{then}: {sentences.pass_and_fail(found.at_slo, found.fails_at, axis)}"]
    elif found.fails_at is not None:
        parts = [sentences.breaks(found.fails_at, axis, objective=objective, how=how)]
    else:
        parts = [sentences.NOTHING_TESTED]
    if found.recommended is not None and found.soak is not None:
        if found.knee is not None and found.knee < (found.at_slo or 0.0):
            parts.append(sentences.rest_waits(found.knee, axis))
        parts.append(sentences.advised(found.recommended, found.soak, axis))
    if ended is not None:
        parts.append(sentences.search_ended(ended))
    if client.red:
        parts.append(sentences.left_out(client.red, client.all))
    return "; ".join(filter(None, parts))
