"""Costs in reports: every format has the figures of the one verdict, and none where nothing was stated."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from llmtop.domain.cost import Amount, CostRow, Costs
from llmtop.report import ReportInput
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import json_text
from llmtop.wording.cost import NO_TRAFFIC, TITLE, amount_text, as_block, lines
from llmtop.wording.figures import PAGE, TEXT

COSTS = Costs(
    price_per_hour=2.49,
    currency="<u id=a>",
    gpus=2,
    at=28.0,
    users=28.0,
    output_tokens_per_s=721.0,
    input_share=0.2,
    output_share=0.8,
    split="ttft",
    cached=0.41,
    rows=(
        CostRow(
            use="slo",
            per_million_output=Amount(1.918, 1.802, 2.041),
            input_part=Amount(0.1234, 0.1201, 0.1345),
            output_part=Amount(1.534, 1.441, 1.633),
            per_user_month=Amount(129.8, 121.0, 138.0),
            per_month=Amount(3635.0, 3635.0, 3635.0),
        ),
        CostRow(use="third", per_million_output=Amount(6.393, 6.0, 6.8), per_month=Amount(3635.0, 3635.0, 3635.0)),
    ),
    peak=120.0,
    gpus_at_peak=Amount(14, 12, 14),
    joules_per_output_token=Amount(0.862, 0.81, 0.91),
    power_w=621.0,
    gpus_read=2,
    gpus_seen=2,
    missing=(NO_TRAFFIC,),
)


def flat(text: str) -> str:
    """With blanks of one kind."""
    return " ".join(text.replace("&nbsp;", " ").split())


def with_costs(report: ReportInput, costs: Costs | None) -> ReportInput:
    return replace(report, assessment=replace(report.assessment, costs=costs))


def test_every_format_has_the_figures_of_the_verdict(report: ReportInput) -> None:
    priced = with_costs(report, COSTS)
    markdown, page = flat(markdown_text(priced)), flat(html_text(priced))
    told = json.loads(json_text(priced))["assessment"]["costs"]
    figures = [amount for row in told["rows"] for amount in row.values() if isinstance(amount, dict)]
    figures.append(told["joules_per_output_token"])
    assert len(figures) == 8
    for amount in figures:
        for value in (amount["value"], amount["low"], amount["high"]):
            assert flat(PAGE.digits(value)) in markdown
            assert flat(PAGE.digits(value)) in page
    for text in (markdown, page):
        assert "14 GPUs (12 to 14) for a peak of 120 users" in text
        assert "split by TTFT at the lowest load times requests/s, an estimate" in text
        assert "41.0" in text
        assert "<u id=a>" not in text, "a currency is no tag"


def test_a_run_without_costs_has_no_such_section(report: ReportInput, empty_report: ReportInput) -> None:
    for each in (report, empty_report, with_costs(report, None)):
        assert f"## {TITLE}" not in markdown_text(each)
        assert f"<h2>{TITLE}</h2>" not in html_text(each)


def test_costs_of_nothing_are_a_reason_without_a_table(report: ReportInput) -> None:
    void = with_costs(report, Costs(void="the client was the bottleneck", price_per_hour=2.0))
    section = markdown_text(void).partition(f"## {TITLE}")[2].partition("\n## ")[0]
    assert section.strip() == "- Not told: the client was the bottleneck"
    assert "Not told: the client was the bottleneck" in html_text(void)


def test_on_a_terminal_the_name_stands_once() -> None:
    block = as_block(replace(COSTS, currency="EUR"))
    assert block[0] == (
        "Cost: 1.92 EUR (1.80 to 2.04) per 1M output tokens at 28 users on 2 GPUs at 2.49 EUR an hour each; "
        "6.39 EUR (6.00 to 6.80) at 30 % use"
    )
    assert block[1] == "      130 EUR (121 to 138) per user and month"
    assert block[3] == "      14 GPUs (12 to 14) for a peak of 120 users, with 20 % headroom and a spare endpoint"
    assert block[4] == "      0.862 J (0.810 to 0.910) per output token: 621 W of the 2 GPUs that are read"
    assert block[5].strip() == NO_TRAFFIC
    assert as_block(None) == lines(None) == []


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        (None, "--"),
        (Amount(0.42, 0.39, 0.45), "0.420 EUR (0.390 to 0.450)"),
        (Amount(0.42, None, 0.45), "at most 0.420 EUR"),
        (Amount(2920.0, 2920.0, 2920.0), "2 920 EUR"),
    ],
)
def test_an_amount_says_between_what_it_lies(amount: Amount | None, says: str) -> None:
    assert amount_text(amount, "EUR", TEXT) == says
