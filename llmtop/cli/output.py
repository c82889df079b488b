"""JSON as every command prints it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from llmtop.cli.letters import escaped, has_utf8
from llmtop.domain.assessment import Assessment
from llmtop.domain.plain import LONG, plain, plain_json
from llmtop.errors import LlmtopError, UsageError
from llmtop.inputs import expanded
from llmtop.wording.keys import FORMAT


def named(option: str, text: str) -> Path:
    """The path that an option names, `~` resolved. Raises UsageError: it names none; FileError: no file can be so."""
    if not text:
        raise UsageError(f"{option} names no file")
    return expanded(text)


def say(text: str) -> None:
    """Lines on stdout, all of them; a word from outside that is not fit to be shown stops here at the latest.

    Raises LlmtopError: stdout does not take them; BrokenPipeError: its reader has left.
    """
    _print("\n".join(plain(line, LONG) for line in text.split("\n")))


def complain(text: str | None) -> None:
    """One line on stderr, if that takes any; none for no text."""
    if text:
        with contextlib.suppress(OSError, ValueError):
            print(f"llmtop: {plain(text, LONG)}", file=sys.stderr, flush=True)


def print_json(fields: Mapping[str, object] | msgspec.Struct) -> None:
    """One object that begins with its `format`. Two spaces of indentation; keys in the order that they are given in."""
    told = fields if isinstance(fields, Mapping) else {name: getattr(fields, name) for name in fields.__struct_fields__}
    text = plain_json(msgspec.json.format(msgspec.json.encode({"format": FORMAT, **told}), indent=2).decode())
    _print(text if has_utf8(sys.stdout.encoding or "utf-8") else escaped(text))


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LlmtopError(f"stdout cannot be written: {error.strerror}") from None


def hand_out(content: bytes) -> None:
    """What a program reads, on stdout as it is. Raises as `say`."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LlmtopError(f"stdout cannot be written: {error.strerror}") from None


def verdicts_json(assessment: Assessment) -> dict[str, object]:
    """An assessment as fields of a larger answer."""
    return {name: getattr(assessment, name) for name in assessment.__struct_fields__ if name != "t_s"}
