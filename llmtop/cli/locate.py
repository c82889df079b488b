"""`llmtop locate`: where files lie."""

from __future__ import annotations

import argparse

from llmtop.cli.output import print_json, say
from llmtop.host.log import log_path
from llmtop.profiles import own_folder
from llmtop.recording.writer import runs_directory


def main(arguments: argparse.Namespace) -> int:
    places = {
        "runs": str(runs_directory()),
        "profiles": str(own_folder()),
        "log": str(log_path()),
    }
    if arguments.json:
        print_json(places)
    else:
        for name, place in places.items():
            say(f"{name:<9} {place}")
    return 0
