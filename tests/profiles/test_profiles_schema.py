"""The schema for editors: it has every key and a word on it, and takes what the reader takes."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmtop.errors import ProfileError
from llmtop.profiles import schema, shipped_folder
from llmtop.profiles.jsonschema import MEANINGS, profile_schema, schema_text
from llmtop.profiles.reading import parse_profile

SCHEMA = profile_schema()
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def holds(value: Any, told: dict[str, Any]) -> bool:
    """Whether a value is as a schema says, of those keywords that ours has."""
    known = {"$schema", "title", "description", "definitions", "$ref", "anyOf", "allOf", "enum", "const", "type"}
    known |= {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern"}
    known |= {"items", "minItems", "maxItems", "properties", "patternProperties", "required", "additionalProperties"}
    assert set(told) <= known
    if "$ref" in told:
        return holds(value, SCHEMA["definitions"][told["$ref"].removeprefix("#/definitions/")])
    checks = [any(holds(value, each) for each in told["anyOf"])] if "anyOf" in told else []
    checks += [holds(value, each) for each in told.get("allOf", ())]
    checks += [value in told["enum"]] if "enum" in told else []
    checks += [value == told["const"]] if "const" in told else []
    if "type" in told:
        if not isinstance(value, TYPES[told["type"]]) or (isinstance(value, bool) and told["type"] != "boolean"):
            return False
        checks.append({dict: _table, list: _list, str: _text}.get(type(value), _number)(value, told))
    return all(checks)


def _table(value: dict[str, Any], told: dict[str, Any]) -> bool:
    properties, rest = told.get("properties", {}), told.get("additionalProperties", {})
    if not set(told.get("required", ())) <= set(value):
        return False
    alike = [*((re.escape(key) + "$", each) for key, each in properties.items())]
    alike += told.get("patternProperties", {}).items()
    for key, each in value.items():
        of_key = [one for pattern, one in alike if re.match(pattern, key)]
        if not (all(holds(each, one) for one in of_key) if of_key else rest is not False and holds(each, rest)):
            return False
    return True


def _list(value: list[Any], told: dict[str, Any]) -> bool:
    items = told["items"]
    fits = told.get("minItems", 0) <= len(value) <= told.get("maxItems", math.inf)
    each = items if isinstance(items, list) else [items] * len(value)
    return fits and all(map(holds, value, each))


def _text(value: str, told: dict[str, Any]) -> bool:
    return "pattern" not in told or re.search(told["pattern"], value) is not None


def _number(value: float, told: dict[str, Any]) -> bool:
    return (
        told.get("minimum", -math.inf) <= value <= told.get("maximum", math.inf)
        and told.get("exclusiveMinimum", -math.inf) < value < told.get("exclusiveMaximum", math.inf)
    ) or (math.isinf(value) and "maximum" not in told)


PARTS = sorted(path for path in shipped_folder().glob("*.toml"))


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_every_shipped_profile_is_as_the_schema_says(path: Path) -> None:
    assert holds(tomllib.loads(path.read_text()), SCHEMA)


RICH = """
peak = 40
[workload]
source = "jsonl"
file = "x.jsonl"
columns = { prompt = "q" }
repeat = false
body = { temperature = 0 }
stop = ["END"]
models = [{ name = "a", weight = 2 }]
cancel = { share = "1%", after = "500ms" }
output = { kind = "quantiles", table = [[0.0, 5], [1.0, 50]] }
[load]
concurrency = "50%"
burstiness = inf
think_time = "2s"
[[stage]]
shape = "replay"
duration = "1min"
points = [{ at = 0, concurrency = 3 }, { at = "10s", rate_rps = 2.5 }]
[slo]
ttft_p95 = { limit = "2s", warn = "1s" }
error_ratio = 0.01
"answer.ttft_p95" = "500ms"
plan.tpot_p50 = "40ms"
[limits]
stop_error_ratio = "never"
"""


def test_a_profile_of_all_kinds_of_values_is_as_the_schema_says() -> None:
    parse_profile(RICH, Path("x.toml"))
    assert holds(tomllib.loads(RICH), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "peek = 4",
        "peak = -1",
        "question = 'why'",
        "[load]\nthink_time = 'soon'",
        "[load]\nshared_prefix = 2",
        "[load]\nconcurrency = true",
        "[workload]\nprompt = { cv = 1.0 }",
        "[workload]\nmodels = [{ weight = 1.0 }]",
        "[slo]\nlatency = '2s'",
        "[slo]\n'answer.latency' = '2s'",
        "[slo.answer]\nlatency = '2s'",
        "[[stage]]\nshape = 'hold'",
        "[[stage]]\nduration = '1s'\nconcurrency = 3",
        "[[stage]]\nshape = 'ramp'\nduration = '1s'\nstart = 1\nstop = 2\nlevels = [3]",
        "[[stage]]\nshape = 'steps'\nduration = '1s'\nlevels = []",
        "[limits]\nidle_timeout = 0",
    ],
)
def test_what_the_reader_refuses_for_its_form_the_schema_refuses_too(text: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile(text, Path("x.toml"))
    assert not holds(tomllib.loads(text), SCHEMA)


def test_every_key_of_the_structs_is_in_the_schema_with_a_word_on_it() -> None:
    tables = {"ProfileTable": SCHEMA, **SCHEMA["definitions"]}
    structs = [each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    read = {each for each in structs if each.__name__ not in ("Struct", "PointTable", "StageTable")}
    assert {each.__name__ for each in read} <= set(tables)
    for each in read:
        assert set(each.__struct_encode_fields__) <= set(tables[each.__name__]["properties"])
    keys = {key for table in tables.values() for key in table["properties"]}
    assert keys == set(MEANINGS)
    assert all(value["description"] for table in tables.values() for value in table["properties"].values())


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(schema_text()) == SCHEMA
