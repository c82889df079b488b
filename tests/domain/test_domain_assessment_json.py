"""What `--json` tells of a run is one `Assessment`: its names and their order are a promise to whoever reads it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from llmtop.domain.assessment import Assessment

PINNED = Path(__file__).parent / "data" / "assessment.json"


def rich(kind: inspect.Type, number: Iterator[int]) -> Any:
    """A value of a type in which everything is told, each number another one."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{each.name: rich(each.type, number) for each in fields})
        case inspect.VarTupleType(item_type=item):
            return (rich(item, number), rich(item, number))
        case inspect.TupleType(item_types=items):
            return tuple(rich(item, number) for item in items)
        case inspect.UnionType(types=types):
            return rich(next(each for each in types if not isinstance(each, inspect.NoneType)), number)
        case inspect.EnumType(cls=enum) if issubclass(enum, Enum):
            return list(enum)[next(number) % len(enum)]
        case inspect.LiteralType(values=values):
            return values[next(number) % len(values)]
        case inspect.BoolType():
            return next(number) % 2 == 0
        case inspect.IntType():
            return next(number)
        case inspect.FloatType():
            return next(number) + 0.5
        case inspect.StrType():
            return f"text {next(number)}"
    raise AssertionError(f"no value is known for {kind}")


def told() -> Assessment:
    assessment = rich(inspect.type_info(Assessment), itertools.count())
    assert isinstance(assessment, Assessment)
    return assessment


def test_the_json_of_an_assessment_in_which_everything_is_told_is_what_it_was() -> None:
    encoded = msgspec.json.format(msgspec.json.encode(told()), indent=1)
    assert encoded.decode() + "\n" == PINNED.read_text()


def test_what_is_read_back_is_what_was_written() -> None:
    assert msgspec.json.decode(msgspec.json.encode(told()), type=Assessment) == told()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told()), type=Assessment) == told()
