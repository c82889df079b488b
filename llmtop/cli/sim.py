"""`llmtop sim [PRESET]`: only the simulated server."""

from __future__ import annotations

import argparse

from llmtop.cli.output import say
from llmtop.simulator.engine import load_preset, preset_names
from llmtop.simulator.server import serving


def main(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name in preset_names():
            say(f"{name:<26} {load_preset(name).description}")
        return 0
    words = ["--preset", arguments.preset, "--host", arguments.host, "--port", str(arguments.port)]
    words += ["--seed", str(arguments.seed)]
    for option, values in (("--set", arguments.set), ("--fault", arguments.fault)):
        for value in values:
            words += [option, value]
    return serving.main(words)
