"""`llmtop [URL]`: the cockpit."""

from __future__ import annotations

import argparse
import sys

from msgspec.structs import replace

from llmtop.cli import baselines
from llmtop.cli.effects import effects
from llmtop.cli.output import complain
from llmtop.cli.screen import drive
from llmtop.cli.slo import own_slo
from llmtop.cli.target import (
    ask_for_local_server,
    asked_url,
    by_hand,
    checked_sinks,
    session_options,
    with_arguments,
)
from llmtop.cli.terminal import check_terminal
from llmtop.domain.profile import Profile
from llmtop.errors import UsageError
from llmtop.host.attached import Attached
from llmtop.host.options import DETACHED_FOR_S, HostOptions
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
    alone_s = arguments.detached_for or DETACHED_FOR_S
    # Before the screen takes the terminal: no other process must inherit it.
    attached = Attached.begin(
        HostOptions(
            session=replace(options, baselines=baselines.noted(earlier)),
            slo=profile.slo,
            terminal=state_of(sys.stdin.fileno()),
            baselines=earlier,
            sinks=checked_sinks(arguments),
            keep_on_hangup=arguments.keep_on_hangup,
            detached_for_s=alone_s,
        )
    )
    try:
        return drive(attached, arguments, alone_s)
    finally:
        attached.close()


def _profile(arguments: argparse.Namespace, start: int) -> Profile:
    if arguments.profile is None:
        if arguments.peak is not None:
            raise UsageError("--peak is of a profile: name one with --profile")
        return by_hand(start, own_slo(arguments))
    from llmtop.profiles import load_profile

    own = own_slo(arguments)
    return load_profile(arguments.profile, peak=arguments.peak, most=arguments.max_concurrency, slo=own)
