"""What a profile file may hold as a JSON schema, for editors: generated from the structs that read it."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec
from msgspec import inspect

from llmtop.domain.bounds import BURSTINESS, CANARY, LASTING_S, RATE, TIME_S
from llmtop.domain.slo import FIGURES
from llmtop.profiles import quantity, schema

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest that the usual plugins for TOML read."""
_NUMBER = r"[0-9]{1,40}(\.[0-9]{0,40})?([eE][-+]?[0-9]{1,4})?"
_DURATION = rf"^\s*{_NUMBER}\s*(ms|s|min|m|h)\s*$"
_SHARE = rf"^\s*{_NUMBER}\s*%\s*$"


def _either(text: Schema, **number: float) -> Schema:
    return {"anyOf": [{"type": "number", **number}, {"type": "string", **text}]}


_QUANTITIES: dict[type, Schema] = {
    quantity.Seconds: _either({"pattern": _DURATION}, minimum=0, maximum=TIME_S.most),
    quantity.Lasting: _either({"pattern": _DURATION}, exclusiveMinimum=0, maximum=LASTING_S.most),
    quantity.Share: _either({"pattern": _SHARE}, minimum=0, maximum=1),
    quantity.ErrorRatio: _either({"pattern": f"{_SHARE}|^never$"}, minimum=0, maximum=1),
    quantity.Load: _either({"pattern": _SHARE}, minimum=0, maximum=RATE.most),
    quantity.Burstiness: {"type": "number", "minimum": BURSTINESS.least},
    quantity.CanaryRate: {"type": "number", "minimum": CANARY.least, "maximum": CANARY.most},
}
_LIMIT: Schema = {"anyOf": [{"type": "number"}, {"type": "string"}, {"$ref": "#/definitions/SloLimit"}]}
_OF_A_NAME = rf"^.+\.({'|'.join(sorted(FIGURES))})$"
"""A limit of one name alone: answer.ttft_p95."""
_OF_ONE: Schema = {
    "type": "object",
    "properties": dict.fromkeys(sorted(FIGURES), _LIMIT),
    "additionalProperties": False,
}
"""The same as a table: [slo.answer]."""
_OTHERWISE: dict[str, Schema] = {
    "ProfileTable.slo": {
        "anyOf": [
            {"type": "string"},
            {**_OF_ONE, "patternProperties": {_OF_A_NAME: _LIMIT}, "additionalProperties": _OF_ONE},
        ]
    },
}
"""Keys whose values are looked at after the structs have read the file."""

MEANINGS = {
    "name": "What it is called (default: the file's name); of a model: as the endpoint has it; of a limit: its figure.",
    "description": "What it is for, in one line.",
    "question": "What a run is to find out; without it what the plan asks.",
    "peak": "The expected peak: loads in per cent are shares of it. Of a spike: its height. Of costs: what is to be "
    "carried.",
    "peak_from_slots": "The expected peak is the server's slots, where it tells them.",
    "at_least": 'Of question = "capacity": so many are wanted.',
    "recover_within": 'Of question = "spike": so soon after its end.',
    "search": 'true: question = "capacity" without a [[stage]].',
    "endpoint": "What is driven, where the command names nothing.",
    "url": "Of the endpoint, e.g. http://127.0.0.1:8000.",
    "model": "To ask for; without it the first that the endpoint lists.",
    "simulated": "The simulated engine, where that is driven.",
    "preset": "Its name or TOML file.",
    "knobs": "Settings of it, e.g. max_num_seqs = 64.",
    "workload": "What users send.",
    "source": "synthetic: words of the lengths given; sharegpt, jsonl: prompts of a file; trace: recorded arrivals; "
    "python: users are a file of Python.",
    "file": "Of the source; beside the profile unless it is an absolute path.",
    "prompt": "How prompt lengths spread about those of the load point.",
    "output": "How answer lengths spread about those of the load point.",
    "kind": "Of the distribution.",
    "cv": "Standard deviation over mean.",
    "table": "[share, tokens] pairs, both rising.",
    "scale": "Whether the load point's length is the mean of the table; else the table is taken as it is.",
    "seed": "Of prompts and arrivals.",
    "api": "What is asked of the endpoint.",
    "lengths": "[prompt, output] tokens of requests, drawn together.",
    "columns": "Which field of a file is the prompt, messages, answer or output_tokens.",
    "repeat": "false: each row of the file is sent once, and then the load ends.",
    "speed": "A trace goes so many times as fast as it was recorded.",
    "window": "Only what of a trace lies between these times of it.",
    "body": "Further fields of every request.",
    "stop": "Stop words. Of a ramp: the load at its end.",
    "models": "Several models or adapters, each with its weight.",
    "weight": "So many shares of all requests.",
    "affinity": "session: a user keeps a connection of its own.",
    "user_header": "A header that has the number of its user in each request.",
    "cancel": "A share of the requests that the client hangs up.",
    "share": "Of the requests.",
    "after": "So long after they were sent.",
    "load": "The load by hand, and what all stages build on.",
    "concurrency": "Users, each with one request in flight.",
    "rate_rps": "Requests sent per second, whatever the answers do.",
    "prompt_tokens": "Length of a prompt.",
    "output_tokens": "Length of an answer.",
    "shared_prefix": "Share of a prompt that is common to all.",
    "think_time": "Pause of a user between two requests; of costs: of a real one.",
    "burstiness": "Shape of the gaps between arrivals: 1 is Poisson, smaller is burstier, inf is constant.",
    "gate": "So many requests are let through at once.",
    "start": "staggered or together: how users begin. Of a ramp: the load at its beginning.",
    "canary": "Lone small requests a second beside the load.",
    "stage": "The plan, stage after stage.",
    "shape": "How the load of a stage moves.",
    "duration": "How long the stage lasts.",
    "levels": "Loads, each held equally long.",
    "unit": "Of the loads of this stage.",
    "base": "The load before and after the spike.",
    "rise": "Where in the stage the spike begins.",
    "fall": "Where in the stage it ends.",
    "low": "The least load of the swing.",
    "high": "Its most.",
    "period": "From one low to the next.",
    "points": "Loads and when each begins.",
    "at": "When, from the stage's beginning.",
    "slo": "What is promised: limits by name, or one text of all.",
    "limit": 'Such as "2s" or 0.01.',
    "warn": "A value from which it is close.",
    "cost": "What GPUs cost: it is told what tokens cost then.",
    "gpu_price_per_hour": "Of one GPU, in the currency.",
    "gpus": "That the endpoint runs on; without it as many as its server tells, else one.",
    "currency": "Of the price, e.g. EUR.",
    "traffic": "Shares of the peak over equal spans of a day, e.g. one an hour.",
    "limits": "Where the load ends by itself.",
    "max_concurrency": "Never more requests in flight.",
    "stop_error_ratio": 'The brake: failed requests of the last ones; "never" turns it off.',
    "connect_timeout": "Until a connection stands.",
    "first_token_timeout": "From the sending to the first token.",
    "idle_timeout": "Between two tokens.",
    "total_timeout": "Of a whole request.",
}
"""Of every key, whichever table it stands in."""


def profile_schema() -> Schema:
    """The schema of a profile file."""
    made: dict[str, Schema] = {}
    _of(inspect.type_info(schema.ProfileTable), made)
    _of(inspect.type_info(schema.SloLimit), made)
    for table in made.values():
        for key, value in table["properties"].items():
            value.setdefault("description", MEANINGS[key])
    top = made.pop("ProfileTable")
    return {"$schema": DIALECT, "title": "llmtop profile", **top, "definitions": made}


def schema_text() -> str:
    """`profile_schema` as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(profile_schema()), indent=2).decode()


def _of(kind: inspect.Type, made: dict[str, Schema]) -> Schema:
    """The schema of a type; tables that it needs are put into `made` and referred to."""
    match kind:
        case inspect.Metadata():
            return _of(kind.type, made)
        case inspect.StructType():
            return _table(kind, made)
        case inspect.UnionType():
            return {"anyOf": [_of(each, made) for each in kind.types if not isinstance(each, inspect.NoneType)]}
        case inspect.CustomType():
            return dict(_QUANTITIES[kind.cls])
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.EnumType():
            return {"enum": [each.value for each in kind.cls if isinstance(each, Enum)]}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType() | inspect.FloatType():
            return _number(kind)
        case inspect.StrType():
            return {"type": "string"}
        case inspect.VarTupleType():
            least = {} if kind.min_length is None else {"minItems": kind.min_length}
            return {"type": "array", "items": _of(kind.item_type, made), **least}
        case inspect.TupleType():
            count = len(kind.item_types)
            items = [_of(each, made) for each in kind.item_types]
            return {"type": "array", "items": items, "minItems": count, "maxItems": count}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _of(kind.value_type, made)}
        case inspect.AnyType():
            return {}
    raise TypeError(f"{kind} has no schema")


def _number(kind: inspect.IntType | inspect.FloatType) -> Schema:
    bounds = {"minimum": kind.ge, "maximum": kind.le, "exclusiveMinimum": kind.gt, "exclusiveMaximum": kind.lt}
    told = {name: value for name, value in bounds.items() if value is not None}
    return {"type": "integer" if isinstance(kind, inspect.IntType) else "number", **told}


def _table(kind: inspect.StructType, made: dict[str, Schema]) -> Schema:
    name = kind.cls.__name__
    reference = {"$ref": f"#/definitions/{name}"}
    if name in made:
        return reference
    properties: dict[str, Schema] = {}
    made[name] = {"type": "object", "properties": properties, "additionalProperties": False}
    if kind.tag_field is not None:
        properties[kind.tag_field] = {"const": kind.tag}
    for field in kind.fields:
        told = _OTHERWISE.get(f"{name}.{field.encode_name}")
        properties[field.encode_name] = {**(told or _alone(_of(field.type, made)))}
    needed = [field.encode_name for field in kind.fields if field.required]
    if kind.tag_field is not None:
        needed.append(kind.tag_field)
    if needed:
        made[name]["required"] = needed
    return reference


def _alone(told: Schema) -> Schema:
    """Without a choice of one; what is beside a reference is ignored by draft 7, so that a reference stands in one."""
    if len(told.get("anyOf", ())) == 1:
        told = told["anyOf"][0]
    return {"allOf": [told]} if "$ref" in told else told
