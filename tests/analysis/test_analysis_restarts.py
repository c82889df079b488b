"""A server that is started anew under a run: its epochs are kept apart, and what broke meanwhile is no answer of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from facts_by_hand import bins_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.analysis.compared import comparison_of
from llmtop.analysis.falls import FALL_S, falls_of, of_this_start, open_fall
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.sides import sides_of
from llmtop.domain.endpoint import Dialect, EndpointInfo, EndpointState
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Chapter, Event, FactBatch, LoadChange, RunMeta
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.wording.restarts import RESTARTED

FIRST = EndpointInfo(dialect=Dialect.VLLM, model="m", server="vLLM 0.31", flags=(("max_num_seqs", "8"),))
NEXT = replace(FIRST, server="vLLM 0.32", flags=(("max_num_seqs", "64"),))
META = replace(meta_of(), info=NEXT, began=FIRST)
DOWN_S, BACK_S, END_S = 60.0, 100.0, 160.0
FOUR = LoadPoint(concurrency=4)


def story(
    *, sign: str = "outage", text: str = RESTARTED, broken_s: Iterable[float] = (58.0, 58.5, 59.9)
) -> list[FactBatch]:
    """Four users for a minute, a server that goes away and comes back, and four users again."""
    requests = [record(t / 4, e2e_s=1.0) for t in range(240) if t / 4 < 57]
    requests += [record(t / 4, e2e_s=0.7, ttft_s=0.05) for t in range(401, 620)]
    requests += [record(40.0, outcome=Outcome.TIMEOUT, e2e_s=0.1)]
    requests += [record(t_s - 0.5, outcome=Outcome.TRUNCATED, e2e_s=0.5) for t_s in broken_s]
    bins = bins_of(DOWN_S, 4) + [
        replace(each, t_s=each.t_s + DOWN_S, **({"in_flight": 0, "target": 0.0} if each.t_s <= 40.0 else {}))
        for each in bins_of(END_S - DOWN_S, 4)
    ]
    events = [Event(0.0, "endpoint", "endpoint up", state=EndpointState.UP)]
    if sign == "outage":
        events.append(Event(DOWN_S, "endpoint", "endpoint down", "warning", EndpointState.DOWN))
        events.append(Event(BACK_S, "endpoint", "endpoint up", state=EndpointState.UP))
    back_s = BACK_S if sign == "outage" else DOWN_S
    chapters = [Chapter(back_s, text, "start=2", NEXT.traits)] if text else []
    changes = [LoadChange(0.0, FOUR), LoadChange(DOWN_S, FOUR.at("concurrency", 0)), LoadChange(BACK_S, FOUR)]
    return [
        FactBatch(
            t_s=t,
            requests=tuple(each for each in by_end(requests) if t - 1 < each.end_ns / 1e9 <= t),
            bins=tuple(each for each in bins if t - 1 < each.t_s <= t),
            events=tuple(each for each in events if t - 1 < each.t_s <= t),
            chapters=tuple(each for each in chapters if t - 1 < each.t_s <= t),
            changes=tuple(each for each in changes if t - 1 < each.t_s <= t),
        )
        for t in range(int(END_S) + 1)
    ]


def by_end(requests: list[RequestRecord]) -> list[RequestRecord]:
    return sorted(requests, key=lambda each: each.end_ns)


def curves(batches: list[FactBatch], meta: RunMeta = META) -> tuple[MeasuredCurve, ...]:
    facts = Facts.of(batches)
    return every(facts, meta)


def every(facts: Facts, meta: RunMeta = META) -> tuple[MeasuredCurve, ...]:
    return Ledger().curves(facts, meta, finished_requests(facts), END_S, every=True)


def errors(curve: MeasuredCurve) -> int:
    return sum(level.errors for level in curve.levels)


@pytest.mark.parametrize("sign", ["outage", "metrics"])
def test_what_broke_as_the_server_went_away_is_in_neither_epoch(sign: str) -> None:
    facts = Facts.of(story(sign=sign))
    (span,) = falls_of(facts, over=False)
    assert span == (58.0, BACK_S if sign == "outage" else DOWN_S)
    first, second = every(facts)
    assert (errors(first), first.left_out["restart"]) == (1, 3), "the one that failed under load is the server's"
    assert (errors(second), second.left_out.get("restart", 0)) == (0, 0)


def test_an_outage_that_was_no_restart_keeps_its_errors_and_its_curve() -> None:
    (only,) = curves(story(text=""))
    assert errors(only) + only.left_out.get("faults", 0) == 4
    assert "restart" not in only.left_out


def test_what_broke_long_before_is_the_servers_own() -> None:
    early = DOWN_S - FALL_S
    facts = Facts.of(story(broken_s=(early - 0.5, early + 0.5)))
    assert falls_of(facts, over=False) == [(early + 0.5, BACK_S)]
    assert Facts.of(story(broken_s=())).chapters
    assert falls_of(Facts.of(story(broken_s=())), over=False) == [(DOWN_S, BACK_S)], "nothing broke"


def test_each_epoch_has_the_flags_that_the_server_told_then() -> None:
    first, second = curves(story())
    assert first.parts["max_num_seqs"] == "max_num_seqs 8"
    assert second.parts["max_num_seqs"] == "max_num_seqs 64"
    assert second.parts["server"] == "server vLLM 0.32"
    facts = Facts.of(story())
    sides = sides_of("mine", facts, META, Slo(), assess(facts, META, Slo(), now_s=END_S))
    told = [(side.traits["max_num_seqs"], side.traits["server"], side.traits["model"]) for side in sides]
    assert told == [("8", "vLLM 0.31", "m"), ("64", "vLLM 0.32", "m")]


def test_the_last_start_is_told_beside_the_verdict() -> None:
    facts = Facts.of(story(text=f"{RESTARTED}: max_num_seqs 8 → 64"))
    told = "the server has restarted: max_num_seqs 8 → 64, at 01:40; the verdict is of what came since"
    assert told in assess(facts, META, Slo(), now_s=END_S).notes


def test_a_start_with_the_same_settings_is_an_epoch_of_its_own_and_nothing_to_compare() -> None:
    batches = [
        replace(each, chapters=tuple(replace(c, traits=FIRST.traits) for c in each.chapters)) for each in story()
    ]
    meta = replace(META, info=FIRST, began=None)
    first, second = curves(batches, meta)
    assert "max_num_seqs" not in first.parts | second.parts
    capacity = assess(Facts.of(batches), meta, Slo(), now_s=END_S).capacity
    assert comparison_of((first, second), capacity, Slo()) is None
    compared = comparison_of(curves(story()), capacity, Slo())
    assert compared is not None
    assert compared.changed == "max_num_seqs 8 → 64, server vLLM 0.31 → 0.32 and the server has restarted"


def test_a_live_run_and_its_file_agree_on_what_a_restart_left_out() -> None:
    """A block is kept open while it is not known whether what failed was a restart."""
    facts, ledger, live = Facts(), Ledger(), None
    for batch in story():
        facts.extend(batch)
        live = ledger.curves(facts, META, finished_requests(facts), facts.t_s, every=True)
    assert live is not None
    whole = curves(story())
    assert [each.left_out for each in live] == [each.left_out for each in whole]
    assert [[(level.load, level.n, level.errors) for level in each.levels] for each in live] == [
        [(level.load, level.n, level.errors) for level in each.levels] for each in whole
    ]


def test_while_nobody_knows_what_became_of_it_nothing_is_held_against_it() -> None:
    batches = [batch for batch in story() if batch.t_s < BACK_S - 10]
    (only,) = curves(batches)
    assert (errors(only), only.left_out["restart"]) == (1, 3)
    facts = Facts.of(batches)
    assert int(of_this_start(facts, finished_requests(facts), over=False).error.sum()) == 1
    assert int(of_this_start(facts, finished_requests(facts), over=True).error.sum()) == 4, "nobody saw it come back"
    (ended,) = curves(batches, replace(META, ended_s=90.0))
    assert "restart" not in ended.left_out


def test_the_verdict_of_now_rests_on_no_request_of_an_earlier_start() -> None:
    facts = Facts.of(story())
    own = of_this_start(facts, finished_requests(facts), over=True)
    assert (own.sent_s.min() >= BACK_S, int(own.error.sum()), len(own.sent_s)) == (True, 0, 219)
    never = Facts.of(story(text=""))
    assert int(of_this_start(never, finished_requests(never), over=True).error.sum()) == 4


def test_only_a_server_that_was_there_can_go_away() -> None:
    facts = Facts()
    facts.extend(FactBatch(t_s=1.0, events=(Event(1.0, "endpoint", "x", state=EndpointState.DOWN),)))
    assert open_fall(facts) == float("inf")
    facts.extend(FactBatch(t_s=2.0, events=(Event(2.0, "endpoint", "x", state=EndpointState.UP),)))
    facts.extend(FactBatch(t_s=40.0, events=(Event(40.0, "endpoint", "x", state=EndpointState.CONNECTING),)))
    assert open_fall(facts) == 40.0 - FALL_S
