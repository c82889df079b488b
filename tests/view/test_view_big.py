"""The big answer: every load has a form, the number says what it is, and a hidden address is nowhere."""

from __future__ import annotations

import pytest

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Kind
from llmtop.view.big import DIGIT_ROWS, big, digits, number
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE
from llmtop.view.why import why

VOID = Judgement(void=True)


@pytest.mark.parametrize(
    ("capacity", "judgement", "text"),
    [
        (Capacity(at_slo=51, fails_at=53), Judgement(), "51"),
        (Capacity(at_slo=51), Judgement(), "≥51"),
        (Capacity(fails_at=8), Judgement(), "<8"),
        (Capacity(), Judgement(), "--"),
        (Capacity(at_slo=51, fails_at=53), VOID, "--"),
    ],
)
def test_the_number_says_what_is_known(capacity: Capacity, judgement: Judgement, text: str) -> None:
    assert number(Assessment(capacity=capacity, judgement=judgement)) == text


def test_every_sign_of_a_number_has_a_form_of_its_own() -> None:
    shapes = {sign: digits(sign, "#") for sign in "0123456789.<≥-"}
    assert len({tuple(shape) for shape in shapes.values()}) == len(shapes)
    for sign, shape in shapes.items():
        assert len(shape) == DIGIT_ROWS
        assert len({len(row) for row in shape}) == 1, sign
        assert any("#" in row for row in shape)


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_it_fits_and_a_hidden_address_is_nowhere(glyphs, width) -> None:
    status = EndpointStatus(state=EndpointState.UP, label="10.0.0.7:8000", model="m")
    frame = Frame(seq=1, t_s=5.0, endpoint=status, target=LoadPoint(concurrency=4))
    found = Assessment(
        capacity=Capacity(at_slo=1024, fails_at=1100, low=1000, high=1100),
        diagnosis=Diagnosis(bound=Bound.NETWORK, evidence=("10.0.0.7:8000 is far away: 10.0.0.7 answers late",)),
        cliff=CliffVerdict(kind=Kind.NONE),
    )
    for hidden in (False, True):
        rows = [
            "".join(text for text, _ in row) for row in big(frame, found, Condition(), Slo(), glyphs, width, hidden)
        ]
        assert all(len(row) <= width for row in rows)
        assert any("10.0.0.7" in row for row in rows) is not hidden


def test_why_has_three_facts_whatever_is_known() -> None:
    for assessment in (None, Assessment(), Assessment(diagnosis=Diagnosis(bound=Bound.QUEUE, votes=(3, 8)))):
        told = why(assessment, Condition())
        assert len(told) == 3
        assert all(reasons and all(reasons) for _, reasons in told)
    assert why(Assessment(diagnosis=Diagnosis(bound=Bound.QUEUE)), Condition(late=True))[1][1] == [
        "not known: this machine is late"
    ]
