"""What a demo and the coach say stands whole on a terminal of the usual size."""

from __future__ import annotations

import pytest

from llmtop.analysis.demo import ACTS, parts_of
from llmtop.domain.shown import Scene
from llmtop.domain.verdicts import Bound
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.lines import story
from llmtop.view.runs import Runs, cut_story
from llmtop.wording import coach, demo

SCENES = [
    Scene(number, len(ACTS), act.told.name, caption)
    for number, act in enumerate(ACTS, 1)
    for caption in (
        *(part.caption for part in parts_of(act) if part.told is None),
        *(demo.named(cause, act.told) for cause in act.causes),
        *(demo.RESTS, demo.IN_HAND, demo.STOPPED),
    )
]
FELT = coach.slower(2.0)
MANY = 1024.0
TURNS = (
    coach.press_and_give("k", MANY),
    coach.press_and_give("k", None),
    coach.asks("k", MANY),
    coach.halve("PgDn"),
    coach.other("k"),
)
COACHED = [
    coach.begin("PgUp", "→"),
    coach.raised("PgUp"),
    coach.well(MANY, "PgUp"),
    coach.stopped("PgUp"),
    *(coach.slots(FELT, MANY, turn) for turn in TURNS),
    *(coach.kv(FELT, preempts, turn) for preempts in (False, True) for turn in TURNS),
    *(coach.token_budget(FELT, turn) for turn in TURNS),
    *(coach.no_knob(bound, FELT, "PgDn") for bound in (Bound.COMPUTE, Bound.MEMORY, Bound.NETWORK)),
    coach.missed("h", "PgDn"),
    coach.cliff("w", "e", "f"),
    coach.client("PgDn"),
    coach.failing("9", "PgDn", "x"),
    coach.braked("9", "PgUp"),
    coach.gone("x", "q"),
    coach.away("q"),
    coach.offer("Enter", "Esc"),
    *(coach.steered(by, "s", "c") for by in ("search", "map")),
    coach.held("h"),
    coach.planned("c"),
    coach.replayed("space", "[", "]", "{", "}"),
    coach.off("?", "i"),
    coach.ON,
]


def text_of(runs: Runs) -> str:
    return "".join(text for text, _ in runs)


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_sentence_of_the_demo_and_of_the_coach_is_cut(width: int, glyphs: Glyphs) -> None:
    lines = [line for scene in SCENES for line in story(scene, "", glyphs)]
    lines += [line for coached in COACHED for line in story(None, coached, glyphs)]
    cut = [text_of(line) for line in lines if cut_story(line, width, glyphs.more) != line]
    assert not cut
