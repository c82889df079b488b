"""The screen of a run, and what is said when it is left: of a run that has ended, or of one that goes on."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

from llmtop.cli import summary
from llmtop.cli.exits import cockpit_exit_code
from llmtop.cli.output import complain, say
from llmtop.cli.recorded import note_run
from llmtop.cli.wanted import app_over
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.run import Ended
from llmtop.domain.shown import Shown
from llmtop.errors import INTERRUPTED, LlmtopError
from llmtop.host.attached import Attached
from llmtop.host.messages import Parting
from llmtop.wording.running import detached_text, left_text
from llmtop.wording.sinks import lost


def drive(
    attached: Attached, arguments: argparse.Namespace, alone_s: float, until: Callable[[Shown], bool] | None = None
) -> int:
    """Show the run until somebody leaves it, then say what was learned, or how to come back; returns the exit code.

    Args:
        alone_s: how long the run may be left alone once it is detached.
        until: the screen leaves by itself once this is true of what it shows.
    """
    from llmtop.tui.watch import last_words, on_terminal

    with app_over(attached, arguments, detached_for=arguments.detached_for, until=until) as app:
        asked = on_terminal(app, attached)
    attached.close()
    if asked is not None:
        last_words()
    last = attached.shown()
    goes_on = attached.left or (last.ended is None and not attached.holds)
    with contextlib.suppress(OSError, LlmtopError):  # the terminal may be gone
        if goes_on:
            say(detached_text(attached.name, alone_s) if last.wheel.mine else left_text(attached.name))
        else:
            _say_end(attached)
    if asked is not None:
        return INTERRUPTED
    return 0 if goes_on else _exit_code(attached, arguments.skip_checks)


def _say_end(attached: Attached) -> None:
    last, parting = attached.shown(), attached.parting or Parting()
    complain(None if last.ended is None else last.ended.error)
    if last.meta is not None and last.frame is not None:
        for event in last.frame.events:
            if event.kind == "recording" and event.severity != "info":
                complain(event.text)
        assessment = last.assessment or Assessment()
        say(summary.text(last.meta, last.frame, assessment, parting.felt))
        note_run(last.frame.run_file, assessment)
        complain(summary.last_word(last.frame, assessment))
    for line in lost(last.sinks):
        complain(line)
    complain(parting.unread)
    complain(parting.failed)


def _exit_code(attached: Attached, unchecked: bool) -> int:
    """Of a run that has ended.

    Args:
        unchecked: nothing was asked of the endpoint before the load.
    """
    last, parting = attached.shown(), attached.parting or Parting()
    checked = EndpointState.UP in parting.states and not unchecked
    answered = checked or (last.frame is not None and last.frame.totals.ok > 0)
    return cockpit_exit_code(last.ended or Ended(), parting.states, answered) or parting.exit_code
