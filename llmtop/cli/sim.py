"""`llmtop sim [PRESET]`: only the simulated server."""

from __future__ import annotations

import argparse

from llmtop.cli.output import say
from llmtop.domain.plain import plain
from llmtop.errors import UsageError
from llmtop.simulator.engine import load_preset, preset_names
from llmtop.simulator.server import serving


def main(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name in preset_names():
            say(f"{name:<26} {load_preset(name).description}")
        return 0
    if not _is_host(arguments.host):
        raise UsageError(f"--host {plain(arguments.host, 60)!r}: is no name or address of this machine")
    words = ["--preset", arguments.preset, "--host", arguments.host, "--port", str(arguments.port)]
    words += ["--seed", str(arguments.seed)]
    for option, values in (
        ("--set", arguments.set),
        ("--fault", arguments.fault),
        ("--served-model-name", arguments.served_model_name),
    ):
        for value in values:
            words.append(f"{option}={value}")
    return serving.main(words)


def _is_host(text: str) -> bool:
    """Whether it has the form of a host's name; an empty one would be every address of this machine."""
    try:
        return 0 < len(text.encode("idna")) <= 253
    except UnicodeError:
        return False
