"""`llmtop demo`: the simulated engine shows five limits, one after the other, until somebody takes the wheel."""

from __future__ import annotations

import argparse
import os
import sys

from llmtop.cli.output import named
from llmtop.cli.screen import drive
from llmtop.cli.terminal import check_terminal
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.shown import Shown
from llmtop.domain.slo import parse_slo
from llmtop.errors import UsageError
from llmtop.files import check_new, temporary_folder
from llmtop.host.attached import Attached
from llmtop.host.options import DETACHED_FOR_S, Demonstration, HostOptions
from llmtop.recording.runfile import SUFFIX
from llmtop.session.options import SessionOptions
from llmtop.session.terminal import state_of

PRESET = "demo"
"""Of the simulated engine."""
SLO = "ttft_p95<1s,tpot_p95<100ms,error_ratio<1%"
"""What users feel, and nothing else: a scene is to be seen in latency."""
BASE = LoadPoint(concurrency=3, prompt_tokens=64, output_tokens=32)
"""As the first scene begins (`analysis.demo`, which takes numpy in: the first picture does not wait for it)."""


def main(arguments: argparse.Namespace) -> int:
    if arguments.words:
        raise UsageError(
            "a demo drives the simulated engine and nothing else: it takes no URL; `llmtop URL` drives an endpoint"
        )
    record = None if arguments.record is None else str(check_new(named("--record", arguments.record)))
    check_terminal("`llmtop run smoke --sim`")
    profile = Profile(
        name="demo",
        plan=LoadPlan(stages=(), base=BASE),
        slo=parse_slo(SLO),
        preset=PRESET,
    )
    session = SessionOptions(
        profile=profile,
        preset=PRESET,
        run_file=record or _passing(),
        kept=record is not None,
        label="demo",
    )
    alone_s = arguments.detached_for or DETACHED_FOR_S
    demo: Demonstration = "once" if arguments.once else "loop"
    options = HostOptions(
        session=session, slo=profile.slo, terminal=state_of(sys.stdin.fileno()), demo=demo, detached_for_s=alone_s
    )
    attached = Attached.begin(options)  # before the screen takes the terminal: no other process must inherit it
    try:
        return drive(attached, arguments, alone_s, _is_shown if arguments.once else None)
    finally:
        attached.close()


def _passing() -> str | None:
    """Where a run is written that nobody wants to keep; None: where all others are."""
    try:
        return str(temporary_folder() / f"demo-{os.getpid()}{SUFFIX}")
    except OSError:
        return None


def _is_shown(shown: Shown) -> bool:
    """Whether a demo has ended with its last scene: one that waits for the wheel still has a scene."""
    return shown.scene is None and shown.steering.by == "demo" and not shown.steering.running
