"""A short ramp by hand into a queue, judged as it runs and when it has ended."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from facts_by_hand import bins_of, facts_of, record
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, Confidence, Kind
from llmtop.meter.facts import Facts


@cache
def ramp(ttft_s: float = 1.0, last: int | None = 16) -> Facts:
    """Half a minute each of 4, 8 and 16 in flight; the last wait `ttft_s` for their first token. Then maybe a stop."""
    requests = [record(i / 4) for i in range(116)]
    requests += [record(30 + i / 8) for i in range(232)]
    requests += [record(60 + i / 8, ttft_s=ttft_s, e2e_s=2.0) for i in range(224)]
    facts = facts_of(
        requests=requests,
        bins=bins_of(90, 4, ok=1, output_tokens=10),
        changes=[(30.0 * i, LoadPoint(concurrency=n)) for i, n in enumerate((4, 8, 16))],
    )
    t_s = facts.bins.column("t_s")
    for name in ("in_flight", "target"):
        facts.bins.column(name)[t_s > 30] = 8
        facts.bins.column(name)[t_s > 60] = 16
    facts.bins.column("ok")[t_s > 30] = 2
    if last != 16:
        facts.changes.append(msgspec.structs.replace(facts.changes[-1], t_s=89.9, point=LoadPoint(concurrency=last)))
    return facts


AFTER = ("90.0 % of the added time comes before the first token: queue or KV (no server gauges)",)


def told(facts: Facts, *, ended: bool = False, **more: object) -> Assessment:
    meta = msgspec.structs.replace(meta_of(), ended_s=90.0 if ended else None)
    return assess(facts, meta, parse_slo("ttft_p95<2s"), now_s=90.0, **more)  # type: ignore[arg-type]


def test_a_ramp_into_a_queue_ends_at_a_provisional_cliff() -> None:
    """0.9 of 2 s are waited at 16, where 8.8 are in service; E2E grew by a second."""
    found = told(ramp())
    assert [point.load for point in found.curves[-1].points] == [4.0, 8.0, 16.0]
    assert (found.cliff.kind, found.cliff.confidence) == (Kind.CLIFF, Confidence.PROVISIONAL)
    assert found.cliff.at == pytest.approx(16 * (1 - 0.9 / 2))
    assert found.cliff.cause is Bound.QUEUE
    assert found.capacity.knee == found.cliff.at
    assert found.headline.startswith("SLO OK · queue-bound: raise --max-num-seqs · ≥16 users at the SLO (")
    assert " · cliff 8 to 16, try " in found.headline


def test_a_run_that_is_over_is_diagnosed_by_its_curve_and_a_live_one_too_where_windows_see_nothing() -> None:
    live = told(ramp()).diagnosis
    assert (live.bound, live.evidence[:1]) == (Bound.QUEUE, AFTER), "no gauge shows a queue, the curve does"
    ended = told(ramp(), ended=True).diagnosis
    assert (ended.bound, ended.evidence[:1]) == (Bound.QUEUE, AFTER)
    assert told(ramp(last=0)).diagnosis.bound is Bound.QUEUE, "the load was stopped"
    assert told(ramp(last=16), ended=True, full=False).diagnosis.bound is Bound.QUEUE
    assert told(ramp(ttft_s=0.1), ended=True).diagnosis.bound is Bound.NONE, "a curve without a cliff names no cause"


def test_the_overload_of_now_is_told_against_the_lowest_level_and_the_answer_before() -> None:
    """First tokens of 0.1 s at 4: past 0.24 s of 2 are a queue, and 0.13 s is where it is over."""
    before = told(ramp())
    assert before.overloaded
    assert told(ramp(ttft_s=0.12), previous=before).overloaded is False
    assert told(ramp(ttft_s=0.14), previous=before).overloaded is True
    assert told(ramp(ttft_s=0.14)).overloaded is False


def test_a_settled_verdict_waits_for_a_second_computation_to_agree() -> None:
    """The shown verdict is kept while the last computation did not say the same as this one."""
    now = told(ramp())
    other = msgspec.structs.replace(now.cliff, kind=Kind.NONE, at=None, low=None, high=None)
    shown = msgspec.structs.replace(now, cliff=other, judged_requests=0)
    once = msgspec.structs.replace(shown, cliffs=(other, *now.cliffs[1:]))
    assert told(ramp(), previous=once).cliff == other
    assert told(ramp(), previous=shown).cliff.kind is Kind.CLIFF, "the last one said so too"
    unknown = msgspec.structs.replace(once, cliff=msgspec.structs.replace(other, kind=Kind.INSUFFICIENT))
    assert told(ramp(), previous=unknown).cliff.kind is Kind.CLIFF
    bare = msgspec.structs.replace(shown, cliffs=())
    assert told(ramp(), previous=bare).cliff == now.cliff


def test_what_the_slo_of_a_run_is_held_against_is_all_of_it() -> None:
    held = msgspec.structs.replace(meta_of().profile, question=Question.HOLD)
    meta = msgspec.structs.replace(meta_of(), ended_s=90.0, profile=held)
    driven = ramp()
    driven.changes = [msgspec.structs.replace(change, reason="stage") for change in driven.changes]
    (whole,) = assess(driven, meta, parse_slo("ttft_p95<2s"), now_s=90.0).slo.targets
    assert whole.n == 116 + 232 + 224
    (live,) = told(ramp()).slo.targets
    assert live.n == 216, "sent at the load that is driven now, a second after it came"


def test_advice_names_the_flags_of_the_server_that_was_found_or_else_of_the_one_that_was_told() -> None:
    assert str(told(ramp(), ended=True).diagnosis.advice).startswith("raise --max-num-seqs (how far is not known")
    meta = msgspec.structs.replace(meta_of(), ended_s=90.0, info=None)
    for dialect, flag in ((Dialect.SGLANG, "--max-running-requests"), (None, "the server's limit")):
        asked = msgspec.structs.replace(meta.endpoint, dialect=dialect)
        unknown = msgspec.structs.replace(meta, endpoint=asked)
        found = assess(ramp(), unknown, parse_slo("ttft_p95<2s"), now_s=90.0)
        assert str(found.diagnosis.advice).startswith(f"raise {flag}")
