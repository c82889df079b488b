"""`llmtop profiles`: shipped and own profiles."""

from __future__ import annotations

import argparse

from llmtop.cli.output import print_json
from llmtop.profiles import list_profiles


def main(arguments: argparse.Namespace) -> int:
    entries = list_profiles()
    if arguments.json:
        print_json(entries)
        return 0
    for entry in entries:
        minutes, seconds = divmod(round(entry.duration_s), 60)
        length = f"{minutes}:{seconds:02d}" if entry.duration_s else "by hand" if entry.problem is None else ""
        whose = "" if entry.shipped else f"  {entry.path}"
        print(f"{entry.name:<14} {length:>8}  {entry.problem or entry.description}{whose}")
    return 0
