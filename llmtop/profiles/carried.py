"""What requests carry, as a profile file and the command line write it: checked, and as a workload holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from llmtop.domain.plain import plain
from llmtop.domain.profile import HangUp, Workload
from llmtop.endpoint.caller import header_fault
from llmtop.errors import FileError, UsageError
from llmtop.inputs import expanded, text_of
from llmtop.profiles import schema
from llmtop.profiles.quantity import Seconds, Share
from llmtop.workload.carrying import MOST_BODY, body_fault, body_text, models_fault, read_models, stop_fault

Fault = Callable[[str, str], Exception]
SHOWN = 60
"""Letters of a field's name in an error."""


def carried_of(table: schema.WorkloadTable, fault: Fault) -> dict[str, Any]:
    """The fields of a `Workload` that say what requests carry.

    Args:
        fault: makes the error of a key and what is wrong with it.
    """
    if (found := body_fault(table.body)) is not None:
        name, what = found
        raise fault(f"workload.body.{plain(name, SHOWN)}" if name else "workload.body", what)
    if (problem := stop_fault(table.stop, table.body)) is not None:
        raise fault("workload.stop", problem)
    if (wrong := models_fault(table.models)) is not None:
        raise fault(f"workload.models[{wrong[0]}]", plain(wrong[1]))
    if table.user_header is not None and (problem := header_fault(table.user_header)) is not None:
        raise fault("workload.user_header", plain(problem))
    cancel = table.cancel
    if cancel is not None and not isinstance(cancel, schema.CancelTable):
        try:
            cancel = schema.CancelTable(share=Share.read(cancel))
        except ValueError as error:
            raise fault("workload.cancel", str(error)) from None
    return {
        "body": body_text(table.body),
        "stop": table.stop,
        "models": table.models,
        "affinity": table.affinity,
        "user_header": table.user_header,
        "cancel": None if cancel is None else HangUp(share=float(cancel.share), after_s=float(cancel.after)),
    }


def carried_with(workload: Workload, options: dict[str, Any]) -> Workload:
    """The workload with what the command line says on top.

    Args:
        options: body, stop, models, affinity, user_header and cancel as they were typed; None: not given.

    Raises UsageError, and FileError for a file of fields that cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "body" in given:
        given["body"] = _read_body(given["body"])
    if "models" in given:
        try:
            given["models"] = read_models(given["models"])
        except ValueError as error:
            raise UsageError(f"--models: {plain(str(error))}; write it like base:3,lora-a:1") from None
    if "cancel" in given:
        given["cancel"] = _read_cancel(given["cancel"])
    if "user_header" in given and (problem := header_fault(given["user_header"])) is not None:
        raise UsageError(f"--user-header {plain(given['user_header'], SHOWN)!r}: {plain(problem)}")
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    changed = replace(workload, **given)
    if (problem := stop_fault(changed.stop, json.loads(changed.body or "{}"))) is not None:
        raise UsageError(f"--stop: {problem}")
    return changed


def _read_body(given: str) -> str:
    """The fields of `--body`: JSON, or @ and the name of a file of it."""
    if given.startswith("@"):
        path = expanded(given[1:])

        def fault(problem: str) -> Exception:
            return FileError(path, problem)

        text = text_of(path, 4 * MOST_BODY)
    else:
        text = given

        def fault(problem: str) -> Exception:
            return UsageError(f"--body: {problem}")

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        where = at or ("too deep" if isinstance(error, RecursionError) else "a number with too many digits")
        raise fault(f'is no JSON ({where}); write it like {{"temperature": 0}}') from None
    if (found := body_fault(fields)) is not None:
        name, problem = found
        raise fault(f"{plain(name, SHOWN)} {problem}" if name else problem)
    return body_text(fields)


def _read_cancel(given: str) -> HangUp:
    """`1%` or `1%@2s`: which share, and how long after it was sent."""
    share, at, after = given.partition("@")
    try:
        return HangUp(share=float(Share.read(_typed(share))), after_s=float(Seconds.read(_typed(after)) if at else 1.0))
    except ValueError as error:
        raise UsageError(f"--cancel {plain(given, SHOWN)!r}: {error}; write it like 1% or 1%@2s") from None


def _typed(text: str) -> float | str:
    """A number, or the text with its unit."""
    try:
        return float(text)
    except ValueError:
        return text
