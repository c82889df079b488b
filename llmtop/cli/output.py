"""JSON as every command prints it."""

from __future__ import annotations

import msgspec

from llmtop.domain.verdicts import Assessment


def print_json(value: object) -> None:
    """Two spaces of indentation; keys in the order in which the types name them."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def verdicts_json(assessment: Assessment) -> dict[str, object]:
    """An assessment as fields of a larger answer."""
    return {name: getattr(assessment, name) for name in assessment.__struct_fields__ if name != "t_s"}
