"""From msgspec's complaint about a profile to a message that names the file, the key and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import EnumType
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import fields

from llmtop.domain.alike import meant
from llmtop.domain.profile import Fixed, LogNormal, ModelShare, Normal, Quantiles
from llmtop.errors import ProfileError
from llmtop.profiles import schema
from llmtop.wording.complaints import complaint_text

_Tables = dict[str, type[msgspec.Struct]]
_SHAPES: _Tables = {str(kind.__struct_config__.tag): kind for kind in get_args(schema.AnyStage)}
_LENGTHS: _Tables = {str(kind.__struct_config__.tag): kind for kind in (Fixed, Normal, LogNormal, Quantiles)}

_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*?)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (contains unknown|missing required) field `([^`]+)`")


def explain(path: object, error: msgspec.ValidationError, tables: dict[str, Any]) -> ProfileError:
    """The ProfileError for `error`, which `msgspec.convert` raised on `tables`, read from the file `path`."""
    complaint = _COMPLAINT.fullmatch(str(error))
    what, place = (complaint["what"], complaint["path"] or "") if complaint else (str(error), "")
    parts = [int(index) if index else name for name, index in re.findall(r"\.?([^.\[\]]+)|\[(\d+)\]", place)]
    if field := _FIELD.fullmatch(what):
        kind = _kind_at(parts, tables)
        key = key_text([*parts, field[2]])
        if field[1].startswith("missing"):
            return ProfileError(path, f"is missing{_needs(kind, parts, field[2])}", key)
        return ProfileError(path, unknown(field[2], _keys(kind)), key)
    key = key_text(parts)
    if what.startswith("Invalid"):
        got = what.split("'")[1] if "'" in what else what
        return ProfileError(path, f"{got!r} is not known; {_one_of(_choices(parts, tables), got)}", key)
    return ProfileError(path, complaint_text(what) or what, key)


def key_text(parts: Iterable[str | int]) -> str:
    """A place in the file as a user counts: stage[2].shape is the shape of the second [[stage]]."""
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def unknown(name: str, allowed: Iterable[str]) -> str:
    """What to say of a key that is not known."""
    return f"is not known; {_one_of(allowed, name)}"


def _one_of(allowed: Iterable[str], name: str) -> str:
    names = list(allowed)
    near, listed = meant(name[:100], names), f"allowed: {', '.join(names)}"
    return f"{near}({listed})" if near else listed


def _keys(kind: type[msgspec.Struct]) -> list[str]:
    tag = kind.__struct_config__.tag_field
    return [*([tag] if tag else []), *(field.encode_name for field in fields(kind))]


def _needs(kind: type[msgspec.Struct], parts: list[str | int], name: str) -> str:
    if name == "shape":
        return f"; {_one_of(map(str, _SHAPES), '')}"
    if name == "kind":
        return f"; {_one_of(map(str, _LENGTHS), '')}"
    wanted = [field.encode_name for field in fields(kind) if field.required]
    of = f"a {kind.__struct_config__.tag}" if kind.__struct_config__.tag else key_text(parts)
    return f"; {of} needs {' and '.join(wanted)}"


def _kind_at(parts: list[str | int], tables: dict[str, Any]) -> type[msgspec.Struct]:
    """The struct that describes the table at `parts`."""
    match parts:
        case ["endpoint", *_]:
            return schema.EndpointTable
        case ["simulated", *_]:
            return schema.SimulatedTable
        case ["workload", ("prompt" | "output") as side, *_]:
            return _LENGTHS.get(str(tables["workload"][side].get("kind")), Fixed)
        case ["workload", "models", int(), *_]:
            return ModelShare
        case ["workload", "cancel", *_]:
            return schema.CancelTable
        case ["workload", *_]:
            return schema.WorkloadTable
        case ["load", *_]:
            return schema.LoadTable
        case ["stage", int(), "points", int(), *_]:
            return schema.ReplayPoint
        case ["stage", int(place), *_]:
            return _SHAPES.get(str(tables["stage"][place].get("shape")), schema.StageTable)
        case ["cost", *_]:
            return schema.CostTable
        case ["limits", *_]:
            return schema.LimitsTable
    return schema.ProfileTable


def _choices(parts: list[str | int], tables: dict[str, Any]) -> list[str]:
    if parts[-1:] == ["shape"]:
        return [str(tag) for tag in _SHAPES]
    if parts[-1:] == ["kind"]:
        return [str(tag) for tag in _LENGTHS]
    for field in fields(_kind_at(parts[:-1], tables)):
        if field.encode_name == parts[-1]:
            kinds = [field.type, *get_args(field.type)]
            return [str(choice) for kind in kinds for choice in _values(kind)]
    return []


def _values(kind: Any) -> Iterable[Any]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return kind if isinstance(kind, EnumType) else ()
