"""Sums, sentences, numbers and axes of a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.cli.assess import as_text
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Endpoint, safe_endpoint
from llmtop.domain.foresight import Interval, WhatIf
from llmtop.domain.gain import Baseline, Comparison, Gain
from llmtop.domain.judgement import Judgement
from llmtop.domain.over_time import Recovery
from llmtop.domain.profile import Profile, Workload
from llmtop.domain.run import FactBatch
from llmtop.domain.verdicts import CliffVerdict, Confidence, Curve, Kind
from llmtop.report import ClientSummary, ReportInput, prose
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.scales import Scale, latency_scale, load_scale, load_ticks
from llmtop.wording.compared import spreads_text
from llmtop.wording.figures import nice_above

CLIFF = CliffVerdict(kind=Kind.CLIFF, at=32.4, low=31.2, high=34.1, confidence=Confidence.FIRM)


def judged(report: ReportInput, **fields: object) -> ReportInput:
    return structs.replace(report, assessment=Assessment(**fields))  # type: ignore[arg-type]


def test_totals_are_the_sums_of_the_run(report: ReportInput, batches: tuple[FactBatch, ...]) -> None:
    totals = report.totals
    assert totals.sent == totals.ok + totals.errors + totals.cancelled + totals.in_flight
    assert totals.ok == sum(closed.ok for batch in batches for closed in batch.bins)
    run = report.figures.run
    assert totals.ok == run.ttft_ms.n + (run.unjudged or 0)
    assert sum(count for _, count in report.failures) == totals.errors > 0
    assert report.failures[0][0] == 'HTTP 503 "<b>queue</b> full"'
    assert report.token_source == "usage"


def test_endpoints_lose_what_lets_one_in() -> None:
    endpoint = Endpoint(
        base_url="https://me:secret@host:8000/base?key=secret#x",
        headers=(("Authorization", "Bearer secret"),),
        metrics_urls=("http://u:secret@m/metrics",),
    )
    safe = safe_endpoint(endpoint)
    assert "secret" not in repr(safe)
    assert safe.base_url == "https://host:8000/base"


def test_the_answer_to_the_question_comes_first(report: ReportInput) -> None:
    answered = judged(report, judgement=Judgement(ok=True, sentence="28 concurrent users keep the SLO"))
    assert prose.verdict(answered) == "28 concurrent users keep the SLO."
    assert prose.verdict(judged(report)) == "Not enough requests for a verdict."


@pytest.mark.parametrize(
    ("said", "heading", "grounds"),
    [
        (
            "vLLM, 1/2 tokens: it holds up to 32; it breaks at 51: at 41 so",
            "vLLM, 1/2 tokens: it holds up to 32.",
            "It",
        ),
        ("vLLM, 1/2 tokens: this load keeps the SLO: TTFT 1 s", "vLLM, 1/2 tokens: this load keeps the SLO.", "TTFT"),
        ("vLLM, 1/2 tokens: it holds", "vLLM, 1/2 tokens: it holds.", ""),
        ("It holds; all of it", "It holds; all of it.", ""),
    ],
)
def test_the_heading_is_the_answer_and_what_it_rests_on_follows(
    report: ReportInput, said: str, heading: str, grounds: str
) -> None:
    found = prose.answer_and_grounds(judged(report, judgement=Judgement(sentence=said)))
    assert found[0] == heading
    assert found[1].startswith(grounds)
    words = " ".join(found).lower().replace(".", "").replace(";", "").replace(":", "").split()
    assert words == said.lower().replace(";", "").replace(":", "").split(), "nothing is lost"


def test_the_title_names_the_label_and_what_was_set(report: ReportInput) -> None:
    meta = structs.replace(report.meta, label="before", settings=(("max_num_seqs", "46"), ("block_size", "32")))
    told = prose.title(structs.replace(report, meta=meta))
    assert told.startswith("before · ")
    assert told.endswith(f" · {meta.profile.name} · max_num_seqs 46, block_size 32")


@pytest.mark.parametrize("void", [False, True])
def test_of_void_figures_a_report_promises_nothing(report: ReportInput, void: bool) -> None:
    client = ClientSummary(seconds=100, red_share=0.3)
    limited = structs.replace(judged(report, judgement=Judgement(void=void)), client=client)
    assert ("proves nothing" in " ".join(prose.details(limited))) is void
    assert any("kept out of the verdicts" in text for text in prose.warnings(limited)) is not void


def test_what_the_cliff_is_called() -> None:
    firm = prose.cliff_text
    assert firm(CLIFF) == "TTFT p50 falls off a cliff at 32, between 31 and 34."
    assert "grows gradually from 32" in firm(structs.replace(CLIFF, kind=Kind.GRADUAL))
    doubtful = structs.replace(CLIFF, confidence=Confidence.PROVISIONAL, next_levels=(36, 30))
    assert "provisional; try 36, then 30" in firm(doubtful)
    assert "No cliff in the range" in firm(CliffVerdict(kind=Kind.NONE))
    assert "contradict each other" in firm(CliffVerdict(kind=Kind.UNSTABLE))
    assert "; try 8." in firm(CliffVerdict(kind=Kind.INSUFFICIENT, next_levels=(8,)))


def test_a_run_that_was_cut_off_says_so(empty_report: ReportInput) -> None:
    assert "cut off" in " ".join(prose.details(empty_report))


def test_doubts_are_said(report: ReportInput) -> None:
    assert prose.warnings(report) == []
    doubtful = structs.replace(report, client=ClientSummary(seconds=100, red_share=0.05), token_source="chunks")
    limited, counted = prose.warnings(doubtful)
    assert limited.startswith("In 5.00 % of the seconds the client was the bottleneck")
    assert "counted by chunks (≈)" in counted


def test_what_a_spike_left_behind_is_said(report: ReportInput) -> None:
    spike = Recovery(up_s=60.0, down_s=119.0, base=16.0, peak=96.0, text="spike 16 to 96: recovered 12 s after it")
    assert prose.warnings(judged(report, recoveries=(spike,))) == [spike.text]
    assert spike.text in as_text(Assessment(recoveries=(spike,)), CLIFF)


positive = st.floats(1e-3, 1e6)


@given(st.lists(positive, min_size=1, max_size=20), positive, positive)
def test_scales_keep_order_and_stay_inside(values: list[float], one: float, two: float) -> None:
    for scale in (latency_scale(values), load_scale(values)):
        low, high = sorted((one, two))
        assert 0 <= scale.place(low) <= scale.place(high) <= 1
        assert all(0 < scale.place(value) < 1 for value in values) or len(set(values)) == 1 or not scale.log
        ticks = scale.ticks(6)
        assert ticks == sorted(ticks)
        assert len(ticks) <= 12
        assert load_ticks(scale) == sorted(load_ticks(scale))


def test_ticks_are_round() -> None:
    assert Scale(0, 47).ticks(5) == [0, 10, 20, 30, 40]
    assert Scale(200, 11_000, log=True).ticks(6) == [200, 500, 1000, 2000, 5000, 10_000]
    assert load_ticks(load_scale([1, 64])) == [1, 2, 4, 8, 16, 32, 64]
    assert Scale(1.5, 9, log=True).ticks(2) == [2, 5]
    assert [nice_above(step) for step in (0.3, 1, 1.1, 6)] == [0.5, 1, 2, 10]


@pytest.mark.parametrize(("mean", "told"), [(150, "prompts 192 tokens, cut to 150"), (180, "prompts 192 tokens")])
def test_prompts_that_came_out_shorter_than_asked_are_told_by_their_own_length(
    report: ReportInput, mean: int, told: str
) -> None:
    short = structs.replace(report, prompt_tokens=mean * report.totals.ok)
    assert dict(prose.environment(short))["Workload"].split(", outputs")[0].endswith(told)
    changed = structs.replace(report.changes[0], point=structs.replace(report.changes[0].point, prompt_tokens=9))
    mixed = structs.replace(short, changes=(*report.changes, changed))
    assert dict(prose.environment(mixed))["Workload"].split(", outputs")[0].endswith("192 tokens"), "of several"


def test_lengths_that_are_drawn_together_are_told_by_their_means() -> None:
    profile = Profile(name="p", workload=Workload(lengths=((100, 10), (300, 30))))
    told = prose.workload_text(profile)
    assert told == "synthetic, prompts of 192 tokens on average, outputs of 64, drawn together from 2 pairs"
    assert spreads_text(profile.workload) == "2 pairs"
    assert spreads_text(Workload()) == "fixed/fixed"


def test_earlier_measurements_are_said_on_top_and_drawn_where_they_are_on_the_same_axes(report: ReportInput) -> None:
    text = "+18 % users at the SLO against `b`: 49 → 58"
    compared = Comparison(changed="", gain=Gain.MORE, against="b", text=text)
    curves = (
        Curve(label="b", ghost=True, what="max_num_seqs 16"),
        Curve(label="long", ghost=True, apart="other lengths (512/64)"),
    )
    told = structs.replace(
        report.assessment,
        baselines=(Baseline(curve=curves[0], compared=compared), Baseline(curve=curves[1])),
        curves=(Curve(label="by rate", axis="rate", ghost=True), *report.assessment.curves),
    )
    beside = structs.replace(report, assessment=told)
    assert f"{text}." in prose.details(beside)
    assert [curve.label for curve in prose.drawn(beside)] == ["b", "before the restart", "192/64 tokens"]
    grey = "Grey: b (max_num_seqs 16), measured before; before the restart, measured earlier in the run."
    assert prose.grey(beside) == grey
    assert grey in html_text(beside)


def test_what_fewer_slots_carry_is_a_sentence_and_a_table_in_every_format(report: ReportInput) -> None:
    few = WhatIf(slots=16, users=Interval(28.9, 24.2, 31.9), tpot_p95_ms=27.1, output_tokens_per_s=534.0)
    best = WhatIf(
        slots=24,
        users=Interval(41.0, 38.0, 43.0),
        tpot_p95_ms=32.3,
        output_tokens_per_s=640.0,
        users_change=0.139,
        tokens_change=-0.05,
        worth=True,
        text="with 24 slots: about 41 users at the SLO (38 to 43), -5 % tokens/s",
    )
    told = structs.replace(report, assessment=structs.replace(report.assessment, what_if=(few, best)))
    assert prose.fewer_rows(told) == [
        ("24", "41", "38", "43", "32.3 ms", "640", "+14 %", "-5 %"),
        ("16", "28", "24", "31", "27.1 ms", "534", "--", "--"),
    ]
    for page in (html_text(told), markdown_text(told)):
        assert "With 24 slots: about 41 users at the SLO (38 to 43), -5" in page.replace("&nbsp;", " ")
        assert "Fewer slots" in page
    assert "Fewer slots" not in html_text(report) + markdown_text(report)
