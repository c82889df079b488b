"""The process of a run's host: `python -m llmtop.host.process`, options and commands on stdin, what is shown on stdout.

It is started by the screen that begins the run, and starts the session. What attends to the run is imported after that:
the session takes its time to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmtop import channel
from llmtop.domain.run import Ended
from llmtop.errors import LlmtopError
from llmtop.host import messages
from llmtop.host.link import SessionLink
from llmtop.host.options import HostOptions

if TYPE_CHECKING:
    from llmtop.host.outputs import Output


def main() -> int:
    told = channel.claim_stdout()
    body = channel.read(sys.stdin.buffer)
    if body is None:
        return 2
    options = messages.decode_options(body)
    try:
        outputs = _sinks(options)
    except LlmtopError as error:
        _say(told, messages.Part(ended=Ended(str(error), error.exit_code)))
        return error.exit_code
    link = SessionLink(options.session)
    from llmtop.host.tending import Tending

    asyncio.run(Tending(options, link, outputs).attend(told))
    return 0


def _sinks(options: HostOptions) -> Sequence[Output]:
    """Raises LlmtopError: there is no such sink, or it cannot be opened."""
    if not options.sinks:
        return ()
    from llmtop.sinks import opened

    return opened(options.sinks)


def _say(descriptor: int, part: messages.Part) -> None:
    with contextlib.suppress(OSError), os.fdopen(descriptor, "wb") as stream:
        stream.write(messages.packed(part))


if __name__ == "__main__":
    # Not sys.exit: the thread of the first screen sits in a read that nothing ends.
    os._exit(channel.ends_in_words(main))
