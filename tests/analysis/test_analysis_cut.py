"""Prompts that a server cuts to its context: one length counted, however much is sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis.assess import assess
from llmtop.analysis.cut import Cut, cut_of
from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Chapter, Ending
from llmtop.domain.slo import parse_slo


def prompt(sent_s: float, asked: float, counted: float, outcome: Outcome = Outcome.OK) -> RequestRecord:
    return replace(record(sent_s, outcome=outcome), asked_prompt_tokens=round(asked), prompt_tokens=round(counted))


def cut(lengths: Sequence[tuple[float, float]], **more: Outcome) -> Cut | None:
    return cut_of(facts_of(requests=[prompt(2.0 * i, *each, **more) for i, each in enumerate(lengths)]))


ASKED = np.linspace(500, 8000, 40)


@pytest.mark.parametrize(
    ("what", "lengths", "expected"),
    [
        ("one length, cut", [(4096, 2048)] * 8, Cut(2048, 4096)),
        ("too few to say", [(4096, 2048)] * 7, None),
        ("many lengths, the longer ones cut", [(n, min(n, 2048)) for n in ASKED], Cut(2048, 5211)),
        ("cut between blocks", [(n, min(n, 2048 - n % 40)) for n in ASKED], Cut(2024, 5211)),
        ("two in a hundred apart", [(4096, 2000)] * 17 + [(4096, 2040)] * 3, Cut(2000, 4096)),
        ("further apart", [(4096, 2000)] * 17 + [(4096, 2041)] * 3, None),
        ("another tokenizer", [(n, 0.7 * n) for n in ASKED], None),
        ("another tokenizer, learnt after the first answers", [(900, 700)] * 8 + [(900, 900)] * 8, None),
        ("counted without what the cache held", [(4096, 2048 - 40 * i) for i in range(20)], None),
        ("one number for every prompt", [(n, 255) for n in ASKED], None),
        ("the shortest context there is", [(n, min(n, 256)) for n in ASKED], Cut(256, 4250)),
        ("as sent", [(n, n) for n in ASKED], None),
        ("a tenth short", [(1000, 900)] * 20, None),
        ("more than a tenth", [(1000, 899)] * 20, Cut(899, 1000)),
        ("one in ten is counted whole", [(4096, 2048)] * 18 + [(4096, 4096)] * 2, Cut(2048, 4096)),
        ("more of them are", [(4096, 2048)] * 18 + [(4096, 4096)] * 3, None),
    ],
)
def test_a_length_that_stays_however_much_is_sent_is_a_cut(
    what: str, lengths: Sequence[tuple[float, float]], expected: Cut | None
) -> None:
    found = cut(lengths)
    assert (found is None) == (expected is None), what
    if found is not None and expected is not None:
        assert found.used == pytest.approx(expected.used, rel=0.01)
        assert found.sent == pytest.approx(expected.sent, rel=0.01)


def test_what_a_cache_held_and_the_count_leaves_out_was_not_cut() -> None:
    records = [replace(prompt(2.0 * i, 4096, 2048), cached_tokens=2048) for i in range(20)]
    assert cut_of(facts_of(requests=records)) is None
    records = [replace(each, cached_tokens=1024) for each in records]
    assert cut_of(facts_of(requests=records)) == Cut(2048, 4096)


def test_failures_and_what_was_before_the_last_chapter_say_nothing() -> None:
    assert cut([(4096, 2048)] * 20, outcome=Outcome.TRUNCATED) is None
    facts = facts_of(requests=[prompt(2.0 * i, 4096, 2048) for i in range(20)])
    facts.chapters = [Chapter(30.0, "the context is longer", "k")]
    assert cut_of(facts) is None


def test_a_cut_is_said_in_the_answer_the_second_line_and_the_notes_with_what_to_turn() -> None:
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=100.0, shape=Hold(concurrency=8)),))
    slo = parse_slo("ttft_p95<2s,error_ratio<1%")
    meta = replace(
        meta_of(),
        profile=Profile(name="p", plan=plan, slo=slo),
        info=EndpointInfo(dialect=Dialect.OLLAMA, model="m"),
        ended_s=100.0,
        ending=Ending.PLAN,
    )
    requests = [prompt(float(t), 4096, 2048) for t in np.linspace(0.0, 96.0, 400)]
    changes = [(0.0, LoadPoint(concurrency=8, prompt_tokens=4096))]
    found = assess(facts_of(requests=requests, bins=bins_of(100.0, 8), changes=changes), meta, slo, now_s=100.0)
    told = "prompts are cut to 2 048 of 4 096 tokens"
    assert told in found.judgement.sentence
    assert "2048/64 tokens" in found.judgement.sentence
    assert found.headline.startswith(("SLO OK · " + told, told))
    (note,) = (note for note in found.notes if told in note)
    assert "raise OLLAMA_CONTEXT_LENGTH" in note
