"""When the twin of a server is asked: while somebody imagines a setting, and at the end; never for nothing."""

from __future__ import annotations

import pytest
from host_fakes import FakeLink
from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.analysis import foreseen
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Imagine
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch, LoadChange, RunMeta, Told
from llmtop.domain.slo import Slo
from llmtop.host.host import JUDGE_S, Host
from llmtop.host.judging import FULL_EVERY_S, Judge
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset
from llmtop.simulator.engine.twin import fit

SETTINGS = (("max_num_seqs", 16.0),)


@pytest.fixture(scope="module")
def session() -> VirtualSession:
    """2, 4 and 8 users, and 8 of them still there."""
    driven = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=2))
    for users in (2, 4, 8):
        driven.command(LoadPoint(concurrency=users))
        driven.run_until(driven.now_s + 9)
    return driven


def told_until(session: VirtualSession, t_s: float) -> Facts:
    return Facts.of(batch for batch in session.batches if batch.t_s <= t_s)


def without(opinion: Assessment) -> Assessment:
    return replace(opinion, foreseen=None)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many levels each fit was made of."""
    made: list[int] = []

    def counted(levels, known):  # type: ignore[no-untyped-def]
        made.append(len(levels))
        return fit(levels, known)

    monkeypatch.setattr(foreseen, "fit", counted)
    return made


def test_a_run_that_is_driven_says_nothing_of_its_twin_until_a_setting_is_imagined(session: VirtualSession) -> None:
    judge = Judge(Slo())
    plain = judge(session.facts, session.meta)
    assert plain.foreseen is None
    judge.imagined = SETTINGS
    asked = judge.imagine(session.facts, session.meta)
    assert asked is not None
    assert asked.foreseen is not None
    assert (asked.foreseen.settings, asked.foreseen.label) == (SETTINGS, "max_num_seqs 16")
    assert without(asked) == plain, "what is imagined changes no other opinion"
    judge.imagined = ()
    assert judge.imagine(session.facts, session.meta) == plain


def test_at_its_end_it_tells_of_the_server_as_it_stands(session: VirtualSession) -> None:
    over = Judge(Slo())(session.facts, session.end(), full=True)
    assert over.foreseen is not None
    assert over.foreseen.text.startswith("as it stands: ")
    assert over.foreseen.levels == 3
    rests = Judge(Slo(), foresees=False)(session.facts, session.end(), full=True)
    assert rests == replace(without(over), map=None), "one that does not foresee says all the same else"


def test_at_rest_it_tells_of_the_server_as_it_stands(session: VirtualSession) -> None:
    facts = told_until(session, session.now_s)
    facts.extend(FactBatch(t_s=session.now_s, changes=(LoadChange(session.now_s, LoadPoint(concurrency=0), "stop"),)))
    told = Judge(Slo())(facts, session.meta).foreseen
    assert told is not None
    assert (told.settings, told.levels) == ((), 3)


def test_it_is_fitted_again_only_with_a_full_opinion_and_where_levels_changed(
    session: VirtualSession, fits: list[int]
) -> None:
    judge, facts = Judge(Slo()), Facts()
    judge.imagined = SETTINGS
    opinions = 0
    for batch in session.batches:
        facts.extend(batch)
        if batch.t_s >= 18 + opinions:
            opinions += 1
            judge(facts, session.meta)
    assert opinions > FULL_EVERY_S
    assert 1 <= len(fits) <= opinions / FULL_EVERY_S + 1
    slots = len(fits)
    for at in range(8, 40):
        judge.imagined = (("max_num_seqs", float(at)),)
        judge.imagine(facts, session.meta)
    assert len(fits) == slots, "a slider that moves asks, and fits nothing"


def test_the_same_run_foresees_the_same_whoever_looks_and_when_it_is_read_back(session: VirtualSession) -> None:
    once, again = (Judge(Slo())(Facts.of(session.batches), session.end(), full=True) for _ in range(2))
    live = Judge(Slo())
    for t_s in range(5, int(session.now_s), 5):
        live(told_until(session, t_s), session.meta)
    assert once == again == live(Facts.of(session.batches), session.end(), full=True)


def test_before_three_loads_it_says_what_is_missing_and_only_to_who_asks(session: VirtualSession) -> None:
    facts = told_until(session, 9.0)
    assert Judge(Slo())(facts, ended(session.meta, facts), full=True).foreseen is None
    judge = Judge(Slo())
    judge.imagined = SETTINGS
    told = judge(facts, session.meta).foreseen
    assert told is not None
    assert told.text.startswith("no twin: one number of requests at once was measured")
    assert told.missing.startswith("hold 2 more loads")


def ended(meta: RunMeta, facts: Facts) -> RunMeta:
    return replace(meta, ended_s=facts.t_s)


def test_a_host_answers_who_imagines_between_two_opinions_and_forgets_it_at_the_end(session: VirtualSession) -> None:
    now = [0.0]
    link = FakeLink(session.meta)
    link.told.append(Told(batches=tuple(session.batches)))
    host = Host(link, Slo(), clock=lambda: now[0])
    host.step()
    now[0] += JUDGE_S
    host.step()
    opinion = host.shown().assessment
    assert opinion is not None
    assert opinion.foreseen is None
    host.send(Imagine(SETTINGS))
    now[0] += JUDGE_S / 4
    host.step()
    told = host.shown().assessment
    assert told is not None
    assert told.foreseen is not None
    assert told.foreseen.settings == SETTINGS
    assert link.asked == [], "nobody else is asked"
    host.close()
    final = host.shown().assessment
    assert final is not None
    assert final.foreseen is not None
    assert final.foreseen.settings == ()
