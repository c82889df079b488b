"""`llmtop [URL]`: the cockpit."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

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
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.errors import INTERRUPTED, LlmtopError, UsageError
from llmtop.host.link import SessionLink
from llmtop.load.files import within_open_files
from llmtop.meter.canaries import new_user
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
    # Before the screen takes the terminal: the session must not inherit it.
    link = SessionLink(replace(options, terminal=state_of(sys.stdin.fileno()), baselines=baselines.noted(earlier)))
    try:
        return drive(link, profile.slo, arguments, earlier)
    finally:
        link.close()


def _profile(arguments: argparse.Namespace, start: int) -> Profile:
    if arguments.profile is None:
        if arguments.peak is not None:
            raise UsageError("--peak is of a profile: name one with --profile")
        return by_hand(start)
    from llmtop.profiles import load_profile

    return load_profile(arguments.profile, peak=arguments.peak, most=arguments.max_concurrency)


def drive(link: SessionLink, slo: Slo, arguments: argparse.Namespace, earlier: Sequence[str] = ()) -> int:
    """Show the screen until the user leaves it, then say what was learned.

    Args:
        earlier: what to draw behind it, from `baselines.named`.
    """
    from llmtop.host.host import Host
    from llmtop.tui.app import LlmtopApp
    from llmtop.tui.watch import last_words, on_terminal

    with Host(link, slo, baselines=baselines.reader(earlier)) as host:
        asked = on_terminal(LlmtopApp(host, ascii=arguments.ascii or ascii_only(), fps=arguments.fps), host)
    if asked is not None:
        last_words()
    last = host.shown()
    ended = last.ended or Ended()
    with contextlib.suppress(OSError, LlmtopError):  # the terminal may be gone
        complain(ended.error)
        if last.meta is not None and last.frame is not None:
            for event in last.frame.events:
                if event.kind == "recording" and event.severity != "info":
                    complain(event.text)
            assessment = last.assessment or Assessment()
            say(summary.text(last.meta, last.frame, assessment, new_user(host.facts.canaries)))
            note_run(last.frame.run_file, assessment)
            complain(summary.last_word(last.frame, assessment))
        complain(None if host.unread is None else str(host.unread))
    if asked is not None:
        return INTERRUPTED
    states = {event.state for event in host.facts.events}
    checked = EndpointState.UP in states and not arguments.skip_checks
    code = cockpit_exit_code(ended, states, checked or (last.frame is not None and last.frame.totals.ok > 0))
    return code or (0 if host.unread is None else host.unread.exit_code)
