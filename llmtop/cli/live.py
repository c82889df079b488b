"""`llmtop [URL]`: the cockpit."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmtop.cli import summary
from llmtop.cli.target import ask_for_local_server, asked_url, by_hand, session_options, with_arguments
from llmtop.domain.profile import Profile
from llmtop.errors import UsageError
from llmtop.session.link import SessionLink

START_SIMULATED = 4
"""In flight at the start; a real endpoint starts at 1 and rises by the user's hand."""


def main(arguments: argparse.Namespace) -> int:
    if not sys.stdout.isatty():
        raise UsageError("the cockpit needs a terminal; without one use `llmtop run PROFILE [URL]`")
    url = asked_url(arguments)
    if url is None and arguments.sim is None:
        url = ask_for_local_server()
    profile = with_arguments(_profile(arguments, START_SIMULATED if url is None else 1), arguments)
    if arguments.sim is None:
        url = url or profile.endpoint_url
    options = session_options(arguments, profile, url, patient=True)
    # Before the screen takes the terminal: the session must not inherit it.
    link = SessionLink(options)
    try:
        return drive(link, profile, arguments)
    finally:
        link.close()


def _profile(arguments: argparse.Namespace, start: int) -> Profile:
    if arguments.profile is None:
        return by_hand(start)
    from llmtop.profiles import load_profile

    return load_profile(arguments.profile)


def drive(link: SessionLink, profile: Profile, arguments: argparse.Namespace) -> int:
    """Show the screen until the user leaves it, then say what was learned."""
    from llmtop.cli.report import write_reports
    from llmtop.session.assessor import Assessor
    from llmtop.tui.app import LlmtopApp

    assessor = Assessor(lambda: link.meta, profile.slo, link.send)

    def export() -> str:
        frame = link.frame()
        if frame is None or frame.run_file is None:
            raise UsageError("nothing is recorded yet")
        return ", ".join(str(path) for path in write_reports(Path(frame.run_file), profile.slo))

    app = LlmtopApp(
        link, assessor, slo=profile.slo, ascii=arguments.ascii, fps=arguments.fps, search=assessor, export=export
    )
    app.run()
    link.close()
    if link.error is not None:
        print(f"llmtop: {link.error}", file=sys.stderr)
    meta, frame = link.meta, link.frame()
    if meta is not None and frame is not None:
        print(summary.text(meta, frame, assessor(link.facts, full=True)))
    return link.exit_code
