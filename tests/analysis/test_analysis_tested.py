"""What a search has found, by the facts that it noted: the same live, from a file and for another SLO not at all."""

from __future__ import annotations

import pytest
from capacities import noted_search
from facts_by_hand import facts_of
from msgspec.structs import replace
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess, found
from llmtop.analysis.tested import ClientSeconds, capacity_of_tested
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Chapter, FactBatch, LoadChange, SearchEnded
from llmtop.domain.run import JudgedLevel as Judged
from llmtop.domain.samples import ClientSample
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Capacity
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")
BASE = LoadPoint(concurrency=0)
DONE = SearchEnded(9.0, "done")


def level(load: int, *failed: str, t_s: float = 5.0, n: int = 60, slo: Slo = SLO) -> Judged:
    return Judged(t_s=t_s, load=load, slo=str(slo), failed=failed, n=n)


def told(*tested: Judged, ended: tuple[SearchEnded, ...] = (DONE,), **more: object) -> Facts:
    """Facts of a run that was searched from 1 s on."""
    facts = facts_of(changes=[(0.0, BASE)])
    searched = LoadChange(1.0, BASE.at("concurrency", 4), "search")
    facts.extend(FactBatch(t_s=20.0, tested=tested, searches=ended, changes=(searched,), **more))  # type: ignore[arg-type]
    return facts


def bracket(capacity: Capacity | None) -> tuple[float | None, float | None] | None:
    return None if capacity is None else (capacity.at_slo, capacity.fails_at)


# -- what it is -------------------------------------------------------------------------------------------------------


def test_pass_and_fail_are_as_tested_and_the_interval_reaches_three_percent_past_them() -> None:
    capacity = capacity_of_tested([level(64), level(100), level(105, "ttft_p95")], DONE, SLO, BASE)
    assert bracket(capacity) == (100, 105)
    assert (capacity.low, capacity.high) == (97, 109)
    assert "supports 100 (97 to 109) concurrent users" in capacity.sentence
    assert "then TTFT binds: pass 100, fail 105" in capacity.sentence
    assert capacity.limited_by == "TTFT p95 SLO"


@pytest.mark.parametrize(("n", "low"), [(56, 97), (55, 62)])
def test_too_few_requests_are_believed_only_as_far_as_a_lower_level_held(n: int, low: float) -> None:
    capacity = capacity_of_tested([level(64), level(100, n=n), level(105, "ttft_p95")], DONE, SLO, BASE)
    assert (capacity.at_slo, capacity.low) == (100, low)


def test_what_never_failed_has_no_upper_end() -> None:
    capacity = capacity_of_tested([level(64)], SearchEnded(9.0, "limit"), SLO, BASE)
    assert (capacity.at_slo, capacity.fails_at, capacity.low, capacity.high) == (64, None, 62, None)
    assert "supports at least 64 " in capacity.sentence
    assert capacity.sentence.endswith("the load ends there")


def test_less_than_what_holds_is_recommended_with_its_reason() -> None:
    queued = replace(level(52, "ttft_p95"), in_service=31.4)
    sentence = capacity_of_tested([level(50), queued], DONE, SLO, BASE).sentence
    assert "31 are served at once, the rest waits; run it at 31, soak it at 24" in sentence


@pytest.mark.parametrize(
    ("reason", "words"),
    [("done", "soak it at 6"), ("budget", "the time of the search was up"), ("hand", "ended before it knew")],
)
def test_a_sentence_ends_by_why_the_search_did(reason: str, words: str) -> None:
    ended = SearchEnded(9.0, reason)  # type: ignore[arg-type]
    assert capacity_of_tested([level(8), level(9, "ttft_p95")], ended, SLO, BASE).sentence.endswith(words)


def test_a_client_that_was_late_is_named_and_from_a_fifth_of_the_seconds_on_nothing_was_found() -> None:
    tested = [level(8), level(9, "ttft_p95")]
    late = capacity_of_tested(tested, DONE, SLO, BASE, ClientSeconds(19, 100))
    assert bracket(late) == (8, 9)
    assert late.sentence.endswith("the client was the bottleneck in 19 of 100 s, which are left out")
    void = capacity_of_tested(tested, DONE, SLO, BASE, ClientSeconds(20, 100))
    assert void == Capacity(sentence="the client was the bottleneck in 20 of 100 s: figures are void")


# -- what counts ------------------------------------------------------------------------------------------------------


def test_levels_count_only_under_the_slo_they_were_judged_by() -> None:
    facts = told(level(8), level(9, "ttft_p95"))
    assert bracket(found(facts, SLO)) == (8, 9)
    assert found(facts, parse_slo("ttft_p95<1s")) is None
    assert found(told(), SLO) is None
    assert found(Facts(), SLO) is None


def test_levels_count_only_while_the_requests_are_the_same() -> None:
    facts = told(level(8), level(9, "ttft_p95"))
    facts.extend(FactBatch(t_s=21.0, changes=(LoadChange(21.0, LoadPoint(concurrency=30)),)))
    assert bracket(found(facts, SLO)) == (8, 9), "another load"
    facts.extend(FactBatch(t_s=22.0, changes=(LoadChange(22.0, LoadPoint(concurrency=30, prompt_tokens=999)),)))
    assert found(facts, SLO) is None
    facts.extend(FactBatch(t_s=23.0, changes=(LoadChange(23.0, LoadPoint(concurrency=4)),)))
    assert bracket(found(facts, SLO)) == (8, 9)


def test_levels_count_only_while_what_is_driven_is_the_same() -> None:
    facts = told(level(8), level(9, "ttft_p95"), chapters=(Chapter(2.0, "max_num_seqs 32", "32"),))
    assert bracket(found(facts, SLO)) == (8, 9)
    facts.extend(FactBatch(t_s=21.0, chapters=(Chapter(21.0, "max_num_seqs 32 -> 48", "48"),)))
    assert found(facts, SLO) is None
    facts.extend(FactBatch(t_s=22.0, chapters=(Chapter(22.0, "max_num_seqs 48 -> 32", "32"),)))
    assert bracket(found(facts, SLO)) == (8, 9), "it was turned back"


def test_the_newest_search_counts_if_it_has_tested_anything() -> None:
    first = (level(8), level(9, "ttft_p95"))
    again = (level(6, t_s=12.0), level(7, "ttft_p95", t_s=13.0))
    ended = (DONE, SearchEnded(14.0, "done"))
    assert bracket(found(told(*first, *again, ended=ended), SLO)) == (6, 7)
    assert bracket(found(told(*first, *again), SLO)) == (6, 7), "it goes on"
    assert bracket(found(told(*first, ended=ended), SLO)) == (8, 9), "it was ended before it knew anything"
    tried_again = level(8, "ttft_p95", t_s=6.0)
    assert bracket(found(told(*first, tried_again), SLO)) == (None, 8), "the last test of a load counts"


def test_seconds_of_the_client_are_those_of_the_search() -> None:
    tested = (level(8), level(9, "ttft_p95"))
    late = [ClientSample(t_s=float(s), state="red" if s in (1, 4, 15) else "green") for s in range(1, 20)]
    sentence = found(told(*tested, client=tuple(late)), SLO)
    assert sentence is not None
    assert sentence.sentence.endswith("the client was the bottleneck in 1 of 8 s, which are left out"), "1 s to 9 s"


# -- one capacity -----------------------------------------------------------------------------------------------------


def test_live_and_assessed_a_search_says_the_same() -> None:
    """The headline, too, is that of the search, whatever the levels of its last seconds look like."""
    base = LoadPoint(concurrency=0)
    session = VirtualSession(load_preset("laptop"), base, seed=3)
    search = noted_search(session, SLO, base)
    session.command(base)
    meta = replace(meta_of(), ended_s=session.now_s)
    said = assess(session.facts, meta, SLO, now_s=session.now_s)
    assert said.capacity == search.capacity
    assert said.capacity.at_slo is not None
    assert f"{said.capacity.at_slo:.0f} users at the SLO" in said.headline
    assert assess(session.facts, meta, parse_slo("ttft_p95<300ms"), now_s=session.now_s).capacity != search.capacity
