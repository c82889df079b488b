"""Where the command begins: before anything is imported that takes its time, so that Ctrl-C is heard from then on."""

import sys


def main() -> int:
    """As `llmtop.cli.main.main`."""
    try:
        from llmtop.cli.main import main as command

        return command()
    except KeyboardInterrupt:
        sys.stderr.write("llmtop: interrupted\n")
        return 130
