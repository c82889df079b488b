"""Laws of the answer card: it fits, what to turn is whole before all else, and it offers no load that nobody judged."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.foresight import Interval, WhatIf
from llmtop.domain.frame import Frame, ReplayPosition, Timeline, Totals
from llmtop.domain.gain import Comparison, Gain
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Kind
from llmtop.view.arrangement import LEAST_CARD, PANEL_ROWS, arrange
from llmtop.view.card import answer, binds, card, facts, holding, offered, rows_needed
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.rest import LULL_S, HeldCharts, at_rest
from llmtop.view.runs import Runs
from llmtop.view.why import why

ADVICE = (
    "raise --max-num-seqs to about 36: about 53 concurrent users at the SLO (~50 now), then TPOT binds; "
    "more loses users"
)
FRAME = Frame(
    seq=1,
    t_s=60.0,
    endpoint=EndpointStatus(state=EndpointState.UP),
    target=LoadPoint(concurrency=0),
    totals=Totals(sent=540),
)
FOUND = Assessment(
    cliff=CliffVerdict(kind=Kind.CLIFF, at=32.0, low=30.0, high=34.0),
    capacity=Capacity(
        at_slo=51,
        fails_at=53,
        low=49,
        high=55,
        recommended=31,
        soak=24,
        sentence="supports 51 concurrent users; 31 are served at once, the rest waits; run it at 31, soak it at 24",
    ),
    diagnosis=Diagnosis(bound=Bound.QUEUE, advice=ADVICE, evidence=("32 running while 19 wait", "more")),
    judgement=Judgement(question=Question.CLIFF, ok=True, sentence="Latency bends at 32 (30 to 34)"),
)
COMPARED = Comparison(
    changed="max_num_seqs 32 → 46",
    gain=Gain.FEWER,
    before=49,
    text="max_num_seqs 32 → 46: 49 → 36 concurrent users at the SLO, TPOT p95 binds now",
)
FEWER = WhatIf(
    slots=48,
    users=Interval(71.4, 66.2, 74.9),
    users_change=0.4,
    tokens_change=0.09,
    worth=True,
    text="with 48 slots: about 71 users at the SLO (66 to 74), +9 % tokens/s",
)
RUN_FILE = "~/.local/share/llmtop/runs/20261127-154609-laptop.llmtop"


def told(assessment: Assessment, glyphs: Glyphs, width: int, rows: int | None = None) -> list[str]:
    said = facts(FRAME, assessment, Condition(), glyphs, "Enter holds 31", RUN_FILE)
    return [text(row) for row in card(said, glyphs, width, rows_needed(said, width) if rows is None else rows)]


def text(runs: Runs) -> str:
    return "".join(part for part, _ in runs)


def test_the_five_facts_are_told_in_order() -> None:
    rows = told(FOUND, UNICODE, 200)
    assert [row.split()[0] for row in rows] == ["answer", "binds", "turn", "load", "record"]
    assert "Supports 51 (49 to 55) concurrent users at the SLO" in rows[0]
    assert "batch slots: 32 running while 19 wait" in rows[1]
    assert ADVICE in rows[2]
    assert "run it at 31, soak it at 24: Enter holds 31" in rows[3]
    assert f"llmtop replay {RUN_FILE} shows it again, e writes the report" in rows[4]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("width", [60, 80, 100, 120, 180])
@pytest.mark.parametrize("compared", [None, COMPARED])
def test_it_fits_and_what_is_cut_says_so(glyphs: Glyphs, width: int, compared: Comparison | None) -> None:
    assessment = replace(FOUND, compared=compared)
    whole = " ".join(" ".join(row[9:] for row in told(assessment, glyphs, width)).split())
    for rows in range(1, 12):
        shown = told(assessment, glyphs, width, rows)
        assert len(shown) <= rows
        assert all(len(row) <= width for row in shown)
        for row in shown:
            assert row[9:].removesuffix(glyphs.more).strip() in whole or row.endswith(glyphs.more)


def test_what_fewer_slots_carry_is_told_where_that_is_more_and_how_to_try_it_where_there_is_a_server() -> None:
    def said(frame: Frame = FRAME, late: bool = False, **change: object) -> str:
        found = replace(FOUND, what_if=(replace(FEWER, **change),))
        rows = facts(frame, found, Condition(late=late), UNICODE, "", None)
        return next((row.text for row in rows if row.name == "slots"), "")

    assert said() == f"{FEWER.text}; k tries it without a restart"
    assert said(replace(FRAME, replay=ReplayPosition(60.0, 1.0, True))) == FEWER.text
    assert not said(worth=False)
    assert not said(text="")
    assert not said(late=True), "this machine is late: nothing is known of the server"
    rows = told(replace(FOUND, what_if=(FEWER,)), UNICODE, 80, 7)
    assert [row.split()[0] for row in rows if row[1:9].strip()] == [
        "answer",
        "binds",
        "turn",
        "slots",
        "load",
        "record",
    ]
    assert ADVICE in " ".join(" ".join(row[9:] for row in rows).split())


@pytest.mark.parametrize("late", [False, True])
def test_the_facts_behind_the_verdict_tell_of_fewer_slots_that_carry_no_more_too(late: bool) -> None:
    none = replace(
        FEWER, worth=False, text="fewer slots carry no more: with 48 slots about 71 users at the SLO (66 to 74)"
    )
    behind = dict(why(replace(FOUND, what_if=(none,)), Condition(late=late)))
    assert behind.get("fewer slots") == (None if late else [none.text])


@pytest.mark.parametrize("compared", [None, COMPARED])
def test_at_80_columns_seven_rows_hold_all_that_is_to_be_done(compared: Comparison | None) -> None:
    rows = told(replace(FOUND, compared=compared), UNICODE, 80, 7)
    words = " ".join(" ".join(row[9:] for row in rows).split())
    assert ADVICE in words
    assert "Supports 51 (49 to 55) concurrent users at the SLO" in words
    assert f"llmtop replay {RUN_FILE}" in words
    assert compared is None or "max_num_seqs 32 → 46: 49 → 36 concurrent users at the SLO" in words


@pytest.mark.parametrize(
    ("assessment", "load"),
    [
        (None, None),
        (Assessment(), None),
        (FOUND, 31),
        (replace(FOUND, capacity=Capacity(), compared=COMPARED), 49),
        (replace(FOUND, judgement=replace(FOUND.judgement, void=True)), None),
        (replace(FOUND, judgement=replace(FOUND.judgement, ok=False)), None),
    ],
)
def test_enter_is_offered_the_recommended_load_or_the_one_to_compare_with(
    assessment: Assessment | None, load: float | None
) -> None:
    assert offered(assessment) == load


@pytest.mark.parametrize("judged", [{"void": True}, {"ok": False}, {"question": Question.SOAK}])
def test_the_answer_is_the_judgements_where_a_number_is_none(judged: dict[str, object]) -> None:
    judgement = replace(FOUND.judgement, sentence="What was found", **judged)
    assert answer(replace(FOUND, judgement=judgement)) == "What was found"


def test_what_binds_is_not_known_while_this_machine_is_late() -> None:
    assert binds(FOUND, late=True) == "not known: this machine is late"
    assert all(ADVICE not in fact.text for fact in facts(FRAME, FOUND, Condition(late=True), UNICODE, "", None))


def test_what_is_to_be_typed_names_the_slider_where_it_is_not_lit() -> None:
    assert (holding(31, True), holding(31, False), holding(None, True)) == ("Enter holds 31", "c Enter holds 31", "")
    assert holding(48, True, recommended=False) == "Enter goes back to 48"


def test_without_a_recording_it_says_so() -> None:
    assert facts(FRAME, FOUND, Condition(), UNICODE, "", None)[-1].text == "this run was not recorded"


# -- a run at rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "condition", "rests"),
    [
        ({}, Condition(), True),
        ({"target": LoadPoint(concurrency=4)}, Condition(), False),
        ({"target": LoadPoint(concurrency=4)}, Condition(lost="killed"), True),
        ({"totals": Totals()}, Condition(), False),
        ({}, Condition(note="testing 8 in flight"), False),
        ({"stage": "a pause in the plan"}, Condition(), False),
        ({"replay": ReplayPosition(300.0, 1.0, True)}, Condition(), False),
        ({"replay": ReplayPosition(300.0, 1.0, True), "finished": True}, Condition(), True),
    ],
)
def test_a_run_rests_when_it_was_driven_and_nothing_drives(
    fields: dict[str, object], condition: Condition, rests: bool
) -> None:
    assert at_rest(replace(FRAME, **fields), condition) is rests


def timeline(busy: int, idle: int) -> Timeline:
    return Timeline(end_s=0.5 * (busy + idle), step_s=0.5, in_flight=(4.0,) * busy + (0.0,) * idle)


def test_charts_hold_the_end_of_the_load_until_there_is_another() -> None:
    assert LULL_S == 5.0
    held, lull = HeldCharts(), int(LULL_S / 0.5)
    for idle in range(lull):
        frame = replace(FRAME, timeline=timeline(20, idle))
        assert held.see(frame, True) is frame, "the end of the load is still to be seen"
    kept = timeline(20, lull)
    for idle in (lull, 200, 1000):
        gone = replace(FRAME, timeline=timeline(0 if idle == 1000 else 20, idle))
        assert held.see(gone, True).timeline == kept
    again = replace(FRAME, timeline=timeline(30, 0))
    assert held.see(again, False) is again
    assert HeldCharts().see(replace(FRAME, timeline=timeline(0, 50)), True).timeline.end_s == 25.0


@pytest.mark.parametrize("size", [(60, 16), (80, 22), (80, 24), (100, 30), (120, 40), (180, 45), (250, 70)])
@pytest.mark.parametrize("knobs", [0, 3, 8])
def test_beside_the_card_panels_are_dropped_and_not_squeezed(size: tuple[int, int], knobs: int) -> None:
    for wanted in range(LEAST_CARD, 12):
        plan = arrange(*size, wanted, knobs)
        used = plan.verdict_rows + 5 + plan.output_slider + plan.settings + plan.card_rows + plan.lower_height
        bank = max(0, plan.bank_rows - 2 - plan.output_slider - plan.settings)
        assert used + PANEL_ROWS * plan.panel_rows + bank <= size[1]
        assert min(knobs, 3) <= plan.bank_rows <= knobs
        assert LEAST_CARD - 1 <= plan.card_rows <= wanted
        assert plan.panel_rows >= 1
    assert arrange(*size, 0) == arrange(*size)
    assert arrange(80, 24, 7).card_rows == 7
    assert arrange(80, 24, 7).panel_rows == 2
