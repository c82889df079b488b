"""JSON as every command prints it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from llmtop.domain.verdicts import Assessment
from llmtop.wording.keys import FORMAT


def print_json(fields: Mapping[str, object] | msgspec.Struct) -> None:
    """One object that begins with its `format`. Two spaces of indentation; keys in the order that they are given in."""
    told = fields if isinstance(fields, Mapping) else {name: getattr(fields, name) for name in fields.__struct_fields__}
    print(msgspec.json.format(msgspec.json.encode({"format": FORMAT, **told}), indent=2).decode())


def verdicts_json(assessment: Assessment) -> dict[str, object]:
    """An assessment as fields of a larger answer."""
    return {name: getattr(assessment, name) for name in assessment.__struct_fields__ if name != "t_s"}
