"""The dashboard asks for nothing that the page has not, and its limits are the SLO's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sinks_fakes import toy

from llmtop.cli.main import main
from llmtop.domain.request import Outcome
from llmtop.domain.slo import Slo, parse_slo
from llmtop.sinks.dashboard import QUANTILES, SCHEMA, WIDE, dashboard, queries
from llmtop.sinks.page import page

BOARD = dashboard(Slo())
_WORDS = {"sum", "by", "rate", "histogram_quantile", "label_values", "run", "le", "outcome"}


def exposed() -> dict[str, set[str]]:
    """The labels of every sample on the page of a run."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page(toy())):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.mark.parametrize("query", queries(BOARD))
def test_every_query_names_metrics_and_labels_that_the_page_has(query: str) -> None:
    known = exposed()
    selectors = re.findall(r"(llmtop_\w+)(?:\{([^}]*)\})?", query)
    assert selectors
    for name, matchers in selectors:
        assert name in known
        for matcher in filter(None, matchers.split(",")):
            label, value = re.fullmatch(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', matcher).groups()  # type: ignore[union-attr]
            assert label in known[name], query
            assert value == "$run" or set(value.split("|")) <= set(Outcome), query
        if query.startswith("label_values"):
            continue
        assert 'run="$run"' in matchers, "of one run"
    for grouped in re.findall(r"by \((\w+)\)", query):
        assert all(grouped in known[name] for name, _ in selectors)
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|llmtop_\w+', "", query)
    assert set(re.findall(r"[a-z_]+", bare)) <= _WORDS, query
    assert query.count("(") == query.count(")")


def test_every_metric_is_looked_at() -> None:
    asked = " ".join(queries(BOARD))
    shown = {family.name for family in text_string_to_metric_families(page(toy()))}
    assert {name for name in shown if name not in asked} == {"llmtop_client_bound_requests"}


def panels(title: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in BOARD["panels"] if each["title"] == title)
    return found


def test_thresholds_are_the_limits_of_the_slo() -> None:
    for title, limit in (("TTFT", 2.0), ("TPOT", 0.05), ("Error ratio", 0.01), ("Server: KV cache", 0.8)):
        steps = panels(title)["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[-1] == {"color": "red", "value": limit}, title
        assert steps[0]["value"] is None
    assert len(panels("E2E latency")["fieldConfig"]["defaults"]["thresholds"]["steps"]) == 1, "it has no limit"
    other = dashboard(parse_slo("e2e_p95<7s"))
    assert '"value": 7.0' in json.dumps(other)
    for title in ("TTFT", "TPOT", "E2E latency"):
        assert [each["legendFormat"] for each in panels(title)["targets"]] == [f"p{q * 100:g}" for q in QUANTILES]


def test_nothing_has_a_fixed_uid_and_the_source_is_a_variable() -> None:
    assert (BOARD["uid"], BOARD["id"], BOARD["schemaVersion"]) == (None, None, SCHEMA)
    uids = set(re.findall(r'"uid": ("[^"]*"|null)', json.dumps(BOARD)))
    assert uids == {'"${datasource}"', "null"}
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "run"]
    for panel in BOARD["panels"]:
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    rows = {y for _, y in taken}
    assert len(taken) == WIDE * len(rows) == WIDE * (max(rows) + 1)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard"]) == 0
    assert json.loads(capsys.readouterr().out) == BOARD
    assert main(["dashboard", "--slo", "ttft_p95<1s"]) == 0
    assert json.loads(capsys.readouterr().out) == dashboard(parse_slo("ttft_p95<1s"))
    assert main(["dashboard", "--slo", "x"]) == 2
