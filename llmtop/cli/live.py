"""`llmtop [URL]`: the cockpit."""

from __future__ import annotations

import argparse
import contextlib
import sys

from msgspec.structs import replace

from llmtop.cli import baselines, summary
from llmtop.cli.effects import effects
from llmtop.cli.exits import cockpit_exit_code
from llmtop.cli.output import complain, say
from llmtop.cli.recorded import note_run
from llmtop.cli.target import ask_for_local_server, asked_url, by_hand, session_options, with_arguments
from llmtop.cli.terminal import ascii_only, check_terminal
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended
from llmtop.domain.verdicts import Assessment
from llmtop.errors import INTERRUPTED, LlmtopError, UsageError
from llmtop.host.attached import Attached
from llmtop.host.messages import Parting
from llmtop.host.options import HostOptions
from llmtop.load.files import within_open_files
from llmtop.session.terminal import state_of

START_SIMULATED = 4
"""In flight at the start; a real endpoint starts at 1 and rises by the user's hand."""


def main(arguments: argparse.Namespace) -> int:
    check_terminal("`llmtop run PROFILE [URL]`")
    url = asked_url(arguments)
    if url is None and arguments.sim is None and arguments.serve is None and arguments.apply is None:
        url = ask_for_local_server()
    profile = with_arguments(_profile(arguments, START_SIMULATED if url is None else 1), arguments)
    profile = within_open_files(profile, arguments.workers)
    for line in effects(profile, arguments):
        complain(line)
    if arguments.sim is None:
        url = url or profile.endpoint_url
    earlier = baselines.named(arguments.baseline)
    options = session_options(arguments, profile, url, patient=True)
    session = replace(options, terminal=state_of(sys.stdin.fileno()), baselines=baselines.noted(earlier))
    # Before the screen takes the terminal: no other process must inherit it.
    attached = Attached.begin(HostOptions(session=session, slo=profile.slo, baselines=earlier))
    try:
        return drive(attached, arguments)
    finally:
        attached.close()


def _profile(arguments: argparse.Namespace, start: int) -> Profile:
    if arguments.profile is None:
        if arguments.peak is not None:
            raise UsageError("--peak is of a profile: name one with --profile")
        return by_hand(start)
    from llmtop.profiles import load_profile

    return load_profile(arguments.profile, peak=arguments.peak, most=arguments.max_concurrency)


def drive(attached: Attached, arguments: argparse.Namespace) -> int:
    """Show the screen until the user leaves it, then say what was learned."""
    from llmtop.tui.app import LlmtopApp
    from llmtop.tui.watch import last_words, on_terminal

    asked = on_terminal(LlmtopApp(attached, ascii=arguments.ascii or ascii_only(), fps=arguments.fps), attached)
    attached.close()
    if asked is not None:
        last_words()
    last, parting = attached.shown(), attached.parting or Parting()
    ended = last.ended or Ended()
    with contextlib.suppress(OSError, LlmtopError):  # the terminal may be gone
        complain(ended.error)
        if last.meta is not None and last.frame is not None:
            for event in last.frame.events:
                if event.kind == "recording" and event.severity != "info":
                    complain(event.text)
            assessment = last.assessment or Assessment()
            say(summary.text(last.meta, last.frame, assessment, parting.felt))
            note_run(last.frame.run_file, assessment)
            complain(summary.last_word(last.frame, assessment))
        complain(parting.unread)
        complain(parting.failed)
    if asked is not None:
        return INTERRUPTED
    checked = EndpointState.UP in parting.states and not arguments.skip_checks
    code = cockpit_exit_code(ended, parting.states, checked or (last.frame is not None and last.frame.totals.ok > 0))
    return code or parting.exit_code
