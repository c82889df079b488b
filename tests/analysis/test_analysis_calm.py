"""Words stay calm: bounds by votes of windows, times of the same first tokens, and a line that waits for decisions."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import VirtualSession, meta_of
from wandering import wander

from llmtop.analysis import Limits
from llmtop.analysis.assess import _settles
from llmtop.analysis.display import HOLD, steady
from llmtop.analysis.headline import SETTLING
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.recent import GAP_S, PROOF_S, recent_of
from llmtop.analysis.votes import AGREE, NOTHING, RELEASE, SETTLED_S, STEP_S, ballots, elected
from llmtop.domain.assessment import Assessment
from llmtop.domain.foresight import Interval, WhatIf
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Chapter
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Forecast, Kind, SloVerdict
from llmtop.host import judging
from llmtop.host.judging import RELIEF_S, WORDS_S, Judge
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

QUEUE = Diagnosis(bound=Bound.QUEUE, advice="raise --max-num-seqs to about 40")
KV = Diagnosis(bound=Bound.KV, advice="more memory")
CLIENT = Diagnosis(bound=Bound.CLIENT)
EIGHT = LoadPoint(concurrency=8)


# ── Votes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bound_is_shown_when_three_windows_in_a_row_agree() -> None:
    assert AGREE == 3
    assert elected(NOTHING, [QUEUE] * 3, NOTHING) is QUEUE
    assert elected(NOTHING, [QUEUE] * 2, NOTHING) == NOTHING
    assert elected(NOTHING, [QUEUE, QUEUE, KV], NOTHING) == NOTHING
    assert elected(KV, [QUEUE, QUEUE, NOTHING], NOTHING) is KV
    assert elected(KV, [QUEUE] * 3, NOTHING) is QUEUE


def test_a_shown_bound_stays_until_eight_windows_lack_it() -> None:
    assert RELEASE == 8
    assert elected(QUEUE, [NOTHING] * 7, NOTHING) is QUEUE
    assert elected(QUEUE, [NOTHING] * 8, NOTHING).bound is Bound.NONE
    assert elected(QUEUE, [NOTHING] * 7 + [QUEUE], NOTHING) is QUEUE


def test_where_windows_see_no_wall_the_curve_tells_it() -> None:
    assert elected(NOTHING, [NOTHING] * 8, KV) is KV
    assert elected(NOTHING, [], KV) is KV
    assert elected(QUEUE, [NOTHING] * 8, KV) is KV
    assert elected(QUEUE, [NOTHING] * 7, KV) is QUEUE
    assert elected(NOTHING, [QUEUE] * 3, KV) is QUEUE, "what is seen now comes first"


def test_the_client_is_named_at_once_and_taken_back_at_once() -> None:
    assert elected(QUEUE, [CLIENT, QUEUE, QUEUE], NOTHING) is CLIENT
    assert elected(CLIENT, [NOTHING, CLIENT, CLIENT], NOTHING) == NOTHING


def test_what_was_not_known_for_the_clients_sake_is_told() -> None:
    late = Diagnosis(bound=Bound.NONE, evidence=("late",))
    assert elected(NOTHING, [late] * 3, NOTHING) is late


def test_the_advice_of_a_bound_stays_while_its_figures_hardly_move() -> None:
    gives, other = (Forecast(capacity_now=30.0, capacity_then=then) for then in (50.0, 54.0))
    shown = replace(QUEUE, prediction=gives)
    moved = Diagnosis(bound=Bound.QUEUE, evidence=("now",), advice="raise --max-num-seqs to about 44", prediction=other)
    found = elected(shown, [moved] * 3, NOTHING)
    assert (found.advice, found.evidence) == (QUEUE.advice, ("now",))
    assert found.prediction == gives, "what is told beside an advice is told of the same one"
    assert elected(shown, [replace(moved, advice=QUEUE.advice)] * 3, NOTHING).prediction == other


def test_a_sentence_stands_while_its_figures_are_within_a_fifth() -> None:
    assert HOLD == 0.2
    assert steady("about 50", "about 60") == "about 50"
    assert steady("about 50", "about 61") == "about 61"
    assert steady("about 50", "near 50") == "near 50"
    assert steady("1.5 of 10", "1.5 of 13") == "1.5 of 13"


def queueing(*, changed_s: float = 0.0, until_s: float = 40.0) -> Facts:
    polls = [
        ServerSnapshot(t_s=float(t), running=4.0, waiting=4.0, max_num_seqs=4.0) for t in range(1, round(until_s) + 1)
    ]
    return facts_of(server=polls, bins=bins_of(until_s, 8), changes=[(0.0, EIGHT), (changed_s, EIGHT)])


def votes(facts: Facts, now_s: float = 40.0) -> list[Diagnosis]:
    requests = finished_requests(facts)
    return ballots(facts, requests, EIGHT, Limits(max_num_seqs=4), (), None, True, now_s)


def test_windows_go_back_to_the_last_chapter_and_no_further() -> None:
    facts = queueing()
    assert [vote.bound for vote in votes(facts)] == [Bound.QUEUE] * RELEASE
    facts.chapters.append(Chapter(40.0 - 2.5 * STEP_S, "a knob was turned", "2"))
    assert len(votes(facts)) == 3


def test_a_window_right_after_a_step_tells_gauges_but_not_that_nothing_binds() -> None:
    assert [vote.bound for vote in votes(queueing(changed_s=39.0))] == [Bound.QUEUE] * RELEASE
    calm = facts_of(
        server=[ServerSnapshot(t_s=float(t), running=4.0, waiting=0.0) for t in range(1, 41)],
        bins=bins_of(40, 4),
        changes=[(0.0, EIGHT), (40.0 - SETTLED_S + 0.1, EIGHT)],
    )
    settled = [40.0 - i * STEP_S for i in range(RELEASE) if 40.0 - i * STEP_S <= 40.0 - SETTLED_S + 0.1]
    assert len(votes(calm)) == len(settled)


# ── Times of the same first tokens ────────────────────────────────────────────────────────────────────────────────


def seen(
    *,
    here_s: float,
    server_s: list[float | None],
    changed_s: float = 0.0,
    per_s: int = 4,
    until_s: float = 36.0,
) -> tuple[float, ...]:
    """(here, server) of 40 s in which every scrape tells the next of `server_s`, the last one for ever."""
    told = server_s + server_s[-1:] * 40
    facts = facts_of(
        requests=[record(i / per_s, ttft_s=here_s, e2e_s=here_s + 0.2) for i in range(36 * per_s)],
        server=[ServerSnapshot(t_s=float(t + 1), running=4.0, ttft_mean_s=told[t]) for t in range(40)],
        bins=bins_of(40, 4),
        changes=[(0.0, EIGHT), (changed_s, EIGHT)],
    )
    found = recent_of(facts, finished_requests(facts), EIGHT, until_s)
    return tuple(np.nan if each is None else each for each in (found.ttft_here_s, found.ttft_server_s))


def test_the_two_ttfts_are_those_of_the_same_first_tokens() -> None:
    assert seen(here_s=0.5, server_s=[0.1]) == pytest.approx((0.5, 0.1))
    assert seen(here_s=0.5, server_s=[9.0] * 20 + [0.1]) == pytest.approx((0.5, 0.1)), "before the window"
    assert np.isnan(seen(here_s=0.5, server_s=[None])).all()
    assert np.isnan(seen(here_s=0.5, server_s=[0.1], per_s=1, until_s=35.5)).all(), "nine of them"


def test_a_first_token_at_a_scrape_may_be_told_by_the_next() -> None:
    """Scrapes tell 0.1 s and 0.5 s in turn: each first token has a slow one beside it."""
    assert seen(here_s=0.5, server_s=[0.1, 0.5] * 20)[1] == pytest.approx(0.5)


def test_ten_seconds_of_one_load_are_compared() -> None:
    assert not np.isnan(seen(here_s=0.5, server_s=[0.1], changed_s=36.0 - GAP_S)).any()
    assert np.isnan(seen(here_s=0.5, server_s=[0.1], changed_s=36.1 - GAP_S)).all()


@pytest.mark.parametrize(("missing", "held"), [({}, 40.0), ({33}, 0.0), ({20}, 40.0)])
def test_requests_held_on_the_way_are_missing_at_every_scrape(missing: set[int], held: float) -> None:
    polls = [ServerSnapshot(t_s=float(t), running=100.0 if t in missing else 60.0) for t in range(1, 41)]
    facts = facts_of(server=polls, bins=bins_of(40, 100), changes=[(0.0, EIGHT)])
    assert recent_of(facts, finished_requests(facts), EIGHT, 40.0).held == held


@pytest.mark.parametrize(
    ("ok", "since_s", "settles"),
    [
        (False, 0.1, True),
        (False, SETTLED_S - 0.1, True),
        (False, SETTLED_S, False),
        (None, SETTLED_S, True),
        (None, PROOF_S - 0.1, True),
        (None, PROOF_S, False),
        (True, 0.1, False),
    ],
)
def test_after_a_move_a_load_settles_before_it_fails_or_is_not_known(
    ok: bool | None, since_s: float, settles: bool
) -> None:
    facts = facts_of(changes=[(0.0, EIGHT), (30.0, LoadPoint(concurrency=64))])
    assert _settles(facts, SloVerdict(ok=ok), LoadPoint(concurrency=64), 30.0 + since_s) is settles
    assert not _settles(facts, SloVerdict(ok=ok), LoadPoint(concurrency=0), 30.0 + since_s), "without load nothing does"


def test_a_move_is_told_as_one_and_what_binds_with_how_many_windows_say_so() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=4))
    judge, states = Judge(parse_slo("ttft_p95<2s")), []
    for second in range(1, 50):
        session.run_until(float(second))
        if second == 15:
            session.command(LoadPoint(concurrency=96))
        said = judge(session.facts, session.meta)
        states.append(said.headline.partition(" · ")[0])
    assert states[15 : 15 + int(SETTLED_S) - 1] == [SETTLING] * (int(SETTLED_S) - 1)
    assert states[-1] == "SLO FAIL TTFT p95>2s"
    assert "SLO --" not in states[10:]
    assert said.diagnosis.bound is Bound.QUEUE
    assert said.diagnosis.votes == (8, 8)


# ── The line of words ─────────────────────────────────────────────────────────────────────────────────────────────


def line(t_s: float, text: str, **more: object) -> Assessment:
    fields = {"cliff": CliffVerdict(kind=Kind.CLIFF, at=16.0), **more}
    return Assessment(t_s=t_s, headline=text, slo=SloVerdict(), capacity=Capacity(), **fields)  # type: ignore[arg-type]


def shown(monkeypatch: pytest.MonkeyPatch, *said: Assessment) -> list[str]:
    """What the judge shows where `assess` says so at their times."""
    left = iter(said)
    monkeypatch.setattr(judging, "assess", lambda *_, **__: next(left))
    judge, lines = Judge(meta_of().profile.slo), []
    for each in said:
        facts = Facts()
        facts.t_s = each.t_s
        lines.append(judge(facts, meta_of()).headline)
    return lines


def test_figures_wait_and_decisions_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = line(1.0, "SLO OK · 30 at SLO"), "SLO OK · 31 at SLO"
    waits = shown(monkeypatch, first, line(2.0, other), line(0.9 + WORDS_S, other), line(1.1 + WORDS_S, other))
    assert waits == [first.headline] * 3 + [other]
    back = shown(monkeypatch, first, line(2.0, other), line(9.0, first.headline), line(2.0 + WORDS_S, other))
    assert back == [first.headline] * 4, "not for long enough in a row"
    at_once = shown(monkeypatch, first, line(2.0, other, diagnosis=QUEUE))
    assert at_once[1] == other
    found = shown(monkeypatch, line(1.0, "SLO OK", cliff=CliffVerdict(kind=Kind.NONE)), line(2.0, other))
    assert found[1] == other


def test_a_broken_limit_is_told_at_once_and_a_mended_one_when_it_has_held(monkeypatch: pytest.MonkeyPatch) -> None:
    fine, broken, unknown = "SLO OK · x", "SLO FAIL TTFT p95>2s · x", "SLO -- · x"
    assert shown(monkeypatch, line(1.0, fine), line(2.0, broken))[1] == broken
    mended = shown(monkeypatch, line(1.0, broken), line(0.9 + RELIEF_S, fine), line(1.1 + RELIEF_S, fine))
    assert mended == [broken, broken, fine]
    lost = shown(monkeypatch, line(1.0, fine), line(0.9 + WORDS_S, unknown), line(1.1 + WORDS_S, unknown))
    assert lost == [fine, fine, unknown]


def test_words_stay_calm_while_a_hand_wanders() -> None:
    """A minute and a half of it; tests/bench/bench_wander.py has four servers, six seeds and 240 s."""
    found = wander("slots", 0, 90.0)
    assert found.bound_changes <= 1
    assert found.headline_changes <= 8
    assert not found.foreign_bounds
    assert found.is_right(found.said[-1])
    assert found.said[-1].diagnosis.bound is Bound.QUEUE


def test_what_fewer_slots_give_stays_with_the_words_that_are_shown() -> None:
    rows = tuple(
        WhatIf(slots=slots, users=Interval(50.0, 45.0, 55.0), text=f"with {slots} slots") for slots in (32, 33)
    )
    said, fresh = (replace(line(1.0, text), what_if=(row,)) for text, row in zip(("a", "b"), rows, strict=True))
    assert judging._with_words_of(said, fresh).what_if == said.what_if
