"""The dialect tables: sound, read to the last field, and the only place that knows a server's flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import llmtop
from llmtop.dialects import (
    DIALECTS,
    Advice,
    Detection,
    DialectTable,
    Evidence,
    FlagSource,
    JsonFact,
    MetricKind,
    Quirks,
    RequestFields,
    Signal,
    Tokenizer,
)
from llmtop.dialects.listing import context_of, fact_at
from llmtop.domain.endpoint import Dialect
from llmtop.domain.samples import ServerSnapshot

PACKAGE = Path(llmtop.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "dialects"]
PROVENANCE = {"versions", "sources", "evidence", "errors"}
"""Where a table has its words from; the errors are examples that the endpoint's tests read."""
SWITCH = re.compile(r"(?<![\w-])--[a-z][\w-]+|\b(?:OLLAMA|VLLM|DYN|SGLANG)_\w+")


def own_options() -> set[str]:
    """What llmtop itself is called with."""
    source = "".join(path.read_text() for path in (PACKAGE / "cli").glob("*.py"))
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', source))


def flags() -> set[str]:
    """Every switch that the tables advise."""
    told = " ".join(
        str(getattr(table.advice, name)) for table in DIALECTS.values() for name in Advice.__struct_fields__
    )
    return set(SWITCH.findall(told)) - own_options()


TABLES = (Advice, Detection, DialectTable, FlagSource, JsonFact, Quirks, RequestFields, Signal, Tokenizer)


@cache
def unread() -> set[str]:
    """The fields of the tables that no module outside them asks for as an attribute."""
    left = {name for struct in TABLES for name in struct.__struct_fields__} - PROVENANCE
    for path in [*MODULES, PACKAGE / "dialects" / "recognition.py", PACKAGE / "dialects" / "naming.py"]:
        text = path.read_text()
        if any(f".{name}" in text for name in left):
            left -= {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    return left


def texts(source: str) -> Iterator[str]:
    """The strings of a module that are not docstrings."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


@pytest.mark.parametrize("dialect", Dialect)
def test_a_table_is_sound(dialect: Dialect) -> None:
    table = DIALECTS[dialect]
    assert table.dialect is dialect
    assert table.title
    assert table.versions
    assert table.sources
    known = set(ServerSnapshot.__struct_fields__)
    assert set(table.metrics) <= known
    assert set(table.json_facts) <= known
    for aliases in table.metrics.values():
        for signal in aliases:
            assert (signal.over is not None) or signal.kind is not MetricKind.RATIO
            assert (signal.label is not None) == (signal.kind is MetricKind.LABEL)
    if table.metrics:
        prefixes = (*table.detection.metric_prefixes, "process_", "llmtop_sim_")
        assert table.metrics_path
        assert all(signal.name.startswith(prefixes) for aliases in table.metrics.values() for signal in aliases)
    for source in table.flags:
        assert (source.path is None) != (source.metric is None)
    assert set(table.request.api) <= {"chat", "completions"}


SECRETS = re.compile("key|password|secret|auth|path|dir|host|command|token(?!s|_threshold)")


def test_no_table_asks_for_a_setting_that_may_hold_a_secret() -> None:
    names = {each for table in DIALECTS.values() for source in table.flags for each in source.keys}
    assert len(names) > 50
    assert not [name for name in names if SECRETS.search(name)]


def test_no_two_dialects_share_a_prefix_of_metrics() -> None:
    prefixes = [prefix for table in DIALECTS.values() for prefix in table.detection.metric_prefixes]
    assert not [(one, other) for one in prefixes for other in prefixes if one is not other and one.startswith(other)]


@pytest.mark.parametrize("dialect", [each for each in Dialect if each is not Dialect.OPENAI])
def test_a_server_that_is_known_has_a_switch_for_slots(dialect: Dialect) -> None:
    assert SWITCH.match(DIALECTS[dialect].advice.more_slots or "")


def test_what_refuses_requests_is_not_what_gives_slots() -> None:
    assert DIALECTS[Dialect.TGI].advice.more_slots == "--max-batch-size"


def test_ollama_is_turned_by_environment_variables_only() -> None:
    advice = DIALECTS[Dialect.OLLAMA].advice
    told = (advice.more_slots, advice.more_kv, advice.smaller_kv, advice.token_budget)
    assert [text for text in told if text is not None] == ["OLLAMA_NUM_PARALLEL", "OLLAMA_KV_CACHE_TYPE=q8_0"]


def test_nobody_else_knows_a_servers_flag() -> None:
    known = flags()
    assert {"--max-num-seqs", "--enable-metrics", "--parallel", "--max_batch_size", "OLLAMA_NUM_PARALLEL"} <= known
    for path in MODULES:
        source = path.read_text()
        joined = re.sub(r"""["']\s*[bfru]*["']""", "", source)  # a text may go on in a second literal
        written = texts(source) if any(flag in joined for flag in known) else ()
        found = {flag for text in written for flag in SWITCH.findall(text)} & known
        assert not found, f"{path.relative_to(PACKAGE)} writes {found}: flags belong into llmtop/dialects"


@pytest.mark.parametrize("struct", TABLES)
def test_every_field_of_the_tables_is_read(struct: type) -> None:
    assert not set(struct.__struct_fields__) & unread()


FIRST = {"id": "big", "max_model_len": 131072}
ENTRIES: list[dict[str, Any]] = [
    FIRST,
    {"id": "small", "root": "/models/small", "max_model_len": 4096},
    {"id": "dated", "canonical_slug": "dated-2026-01-01", "aliases": ["latest", 7], "context_length": 8192},
    {"id": "adapter", "parent": "small", "root": "/loras/a", "max_model_len": None},
    {"id": "round", "parent": "round"},
    {"id": "prov/*", "max_model_len": 512},
]


@pytest.mark.parametrize(
    ("model", "context"),
    [
        *(("big", 131072), ("small", 4096), ("/models/small", 4096), ("dated-2026-01-01", 8192), ("latest", 8192)),
        *(("adapter", 4096), ("/loras/a", 4096), ("round", None), ("prov/x", 512), ("other", None), ("*", None)),
    ],
)
def test_a_context_is_that_of_the_model_or_of_what_it_adapts(model: str, context: int | None) -> None:
    assert context_of(model, ENTRIES) == context
    fact = JsonFact(path="/v1/models", key="data.0.max_model_len", evidence=Evidence.SOURCE)
    if model != "dated-2026-01-01" and model != "latest":
        assert fact_at({"data": ENTRIES}, fact, model) == context


def test_the_only_entry_stands_for_no_other_model() -> None:
    assert context_of("other", [FIRST]) is None
