"""A search beside a client that is late now and then: those seconds are left out, or so many that nothing was found."""

from __future__ import annotations

import random

import pytest
from capacities import noted_search
from facts_by_hand import facts_of, record
from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.analysis import CapacitySearch, found
from llmtop.analysis.trial import Trial, servers_own
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.domain.slo import parse_slo
from llmtop.simulator.engine import load_preset

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")
IDLE = LoadPoint(concurrency=0)
TRUTH = 51
LATE_S = 3.0
"""How much later than it came a late client says that a first token came."""
BUSY, IDLING = 0.99, 0.2
"""Of a core."""


class LateSession(VirtualSession):
    """Its client is late in a share of the seconds: what it says of them is wrong.

    Args:
        noticed: whether its samples tell.
    """

    def __init__(self, share: float, seed: int, noticed: bool = True) -> None:
        super().__init__(load_preset("laptop"), IDLE, seed=seed, prompt_cv=0.0)
        chance = random.Random(seed)
        self._late = [chance.random() < share for _ in range(4000)]
        self._noticed = noticed
        self._sampled_s = 0
        honest = self.facts.extend

        def extend(batch: FactBatch) -> None:
            bins = tuple(self._seen_bin(each) for each in batch.bins)
            requests = tuple(self._seen_request(each) for each in batch.requests)
            honest(replace(batch, bins=bins, requests=requests, client=self._samples(batch.t_s)))

        self.facts.extend = extend  # type: ignore[method-assign]

    def _is_late(self, t_s: float) -> bool:
        return self._late[int(t_s)]

    def _seen_bin(self, bin_: LoadBin) -> LoadBin:
        if not self._is_late(bin_.t_s - bin_.span_s / 2):
            return bin_
        return replace(
            bin_, output_tokens=0, prefilling=bin_.in_flight, oldest_prefill_s=(bin_.oldest_prefill_s or 0.0) + LATE_S
        )

    def _seen_request(self, request: RequestRecord) -> RequestRecord:
        assert request.first_token_ns is not None
        if not self._is_late(request.first_token_ns / 1e9):
            return request
        return replace(request, sent_ns=request.sent_ns - round(LATE_S * 1e9))

    def _samples(self, t_s: float) -> tuple[ClientSample, ...]:
        due = range(self._sampled_s + 1, int(t_s) + 1)
        self._sampled_s = max(self._sampled_s, int(t_s))
        late = [self._noticed and self._is_late(second - 0.5) for second in due]
        return tuple(ClientSample(t_s=float(s), cpu=BUSY if red else IDLING) for s, red in zip(due, late, strict=True))


def searched(session: LateSession) -> CapacitySearch:
    return noted_search(session, SLO, IDLE)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_tenth_of_late_seconds_changes_nothing_but_the_last_words(seed: int) -> None:
    session = LateSession(0.1, seed)
    capacity = searched(session).capacity
    assert capacity.at_slo == pytest.approx(TRUTH, rel=0.1)
    assert capacity.low is not None
    assert capacity.low <= TRUTH
    assert capacity.high is None or capacity.high >= TRUTH
    assert "the client was the bottleneck in " in capacity.sentence
    assert capacity.sentence.endswith(" s, which are left out")


def test_the_same_seconds_unnoticed_would_have_cost_the_capacity() -> None:
    capacity = searched(LateSession(0.1, 3, noticed=False)).capacity
    assert (capacity.at_slo or 0.0) < 0.5 * TRUTH


def test_a_client_that_is_mostly_late_ends_the_search_and_nothing_was_found() -> None:
    session = LateSession(0.4, 1)
    search = searched(session)
    assert 30.0 <= session.now_s < 33.0, "a late start is no reason to give up"
    assert [ended.reason for ended in session.facts.searches] == ["client"]
    assert search.capacity.at_slo is None
    assert search.capacity.sentence.endswith("figures are void")
    known = found(session.facts, SLO)
    assert known is not None
    assert known.at_slo is None
    assert known.sentence.endswith("figures are void")


# -- one level --------------------------------------------------------------------------------------------------------


def samples(*red: bool) -> list[ClientSample]:
    return [ClientSample(t_s=i + 1.0, cpu=BUSY if late else IDLING) for i, late in enumerate(red)]


def test_a_bin_is_the_servers_own_if_all_of_it_lies_in_seconds_judged_fine() -> None:
    bins = [LoadBin(t_s=t_s, span_s=0.5, target=1, in_flight=1) for t_s in (0.5, 1.0, 1.25, 2.0, 2.25, 3.0, 3.25, 3.5)]
    facts = facts_of(bins=bins, client=samples(False, True, False))
    assert servers_own(facts, 0).tolist() == [True, True, False, False, False, True, False, False]
    assert servers_own(facts, 5).tolist() == [False] * 5 + [True, False, False]
    assert servers_own(facts_of(bins=bins), 2).tolist() == [False] * 2 + [True] * 6, "nothing is known of the client"


def watched(red: tuple[bool, ...], late: dict[str, float]) -> Trial:
    """A level of eight users over five seconds, of which one looks as `late` says."""
    calm = {"in_flight": 8, "prefilling": 1, "oldest_prefill_s": 0.5, "sent": 4, "output_tokens": 40}
    rows = [{**calm, **(late if second == 3 else {})} for second in range(5)]
    bins = [LoadBin(t_s=s + 1.0, span_s=1.0, target=8.0, **row) for s, row in enumerate(rows)]  # type: ignore[arg-type]
    trial = Trial(load=8, before=4, start_s=0.0)
    ended = [record(t, e2e_s=0.5, tokens=10) for t in (0.1, 0.2)]
    trial.watch(facts_of(bins=bins, client=samples(*red), requests=ended), parse_slo("ttft_p95<5s"), 5.0)
    return trial


def test_rates_and_first_tokens_of_a_late_second_are_left_out() -> None:
    stalled = {"prefilling": 8, "oldest_prefill_s": 3.0, "output_tokens": 0, "sent": 0}
    fine = (False,) * 5
    late = watched((False, False, False, True, False), stalled)
    assert (late.requests_per_s, late.in_service) == (4.0, 7.0)
    assert late.ttft_s.max() == pytest.approx(0.5 + 1 / 8)
    told = watched(fine, stalled)
    assert told.requests_per_s is not None
    assert told.requests_per_s < 4.0
    assert told.ttft_s.max() > 1.0


def test_a_queue_that_a_late_client_sees_does_not_stand() -> None:
    queue = {"prefilling": 8, "oldest_prefill_s": 30.0}
    bins = [LoadBin(t_s=s + 1.0, span_s=1.0, target=8.0, in_flight=8, sent=1, **queue) for s in range(9)]  # type: ignore[arg-type]
    for red, stands in (((False,) * 9, True), ((False,) + (True,) * 8, False)):
        trial = Trial(load=8, before=4, start_s=0.0)
        trial.watch(facts_of(bins=bins, client=samples(*red)), SLO, 9.0)
        assert trial.standing is stands
