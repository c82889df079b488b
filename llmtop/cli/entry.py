"""Where the command begins: before anything is imported that takes its time, so that Ctrl-C is heard from then on."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """As `llmtop.cli.main.main`; a signal before the command has begun ends it at once.

    An exception out of a signal would not do: libraries that are interrupted while they are loaded crash at the exit.
    """
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}

    def begun() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    from llmtop.cli.main import main as command

    code = command(begun=begun)
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the interpreter, which knows of the interrupt too, would end itself by the signal instead
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"llmtop: interrupted\n")
    os._exit(INTERRUPTED)
