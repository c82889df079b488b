"""`llmtop run PROFILE [URL]`: a profile without a screen, for scripts and CI."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
from collections.abc import Sequence
from functools import partial
from typing import TextIO

import msgspec

from llmtop.analysis.percentiles import figures_of
from llmtop.cli import baselines, step_summary, summary
from llmtop.cli.effects import effects
from llmtop.cli.exits import CLIENT_BOUND, exit_code
from llmtop.cli.output import complain, named, print_json, say, verdicts_json
from llmtop.cli.recorded import note_run
from llmtop.cli.slo import own_slo
from llmtop.cli.target import asked_url, checked_sinks, session_options, with_arguments
from llmtop.cli.terminal import draws
from llmtop.domain.bounds import LASTING_S
from llmtop.domain.figures import RunFigures
from llmtop.domain.frame import Frame
from llmtop.domain.plain import plain
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ending, Event
from llmtop.domain.shown import Shown, SinkState
from llmtop.domain.slo import NOT_OF_EMBEDDINGS, slo_of, without_meaning
from llmtop.domain.thresholds import RunThreshold, parse_limits
from llmtop.errors import INTERRUPTED, LlmtopError, UsageError
from llmtop.exchange.junit import JUnitOutput, is_junit
from llmtop.files import check_target
from llmtop.host import beside
from llmtop.host.headless import RunResult, run_to_end
from llmtop.host.link import SessionLink
from llmtop.load.files import within_open_files
from llmtop.meter.canaries import new_user
from llmtop.profiles import load_profile, own_problem
from llmtop.report import ReportInput, report_input
from llmtop.report.step import broken_text, step_text
from llmtop.sinks import Flow, opened
from llmtop.wording import sentences, sinks
from llmtop.wording.answers import final_text, no_run
from llmtop.wording.between import AT_ONCE, BRIEFLY
from llmtop.wording.endings import MORE_EVENTS, ending_text, tells_end
from llmtop.wording.failures import failure
from llmtop.wording.figures import TEXT, clock

FAILURE_WIDTH = 80
"""Characters of the newest failure in each line of progress: a line of its own has told all of it."""
_WAITING = "waiting for the endpoint: what it is, and a first stream (a cold model loads first)"
MOST_FAILURES = 10
"""Kinds of failures that are narrated; a server that says something else each time would fill the screen."""
MOST_EVENTS = 60
"""Events that are narrated; the run file and the report have all."""


def main(arguments: argparse.Namespace) -> int:
    complain(own_problem())
    own = own_slo(arguments)
    profile = load_profile(arguments.profile, peak=arguments.peak, most=arguments.max_concurrency, slo=own)
    profile = within_open_files(with_arguments(profile, arguments), arguments.workers)
    thresholds = _thresholds(arguments.fail_on, profile)
    said = effects(profile, arguments)
    if arguments.duration is not None:
        profile = _stretched(profile, arguments.duration)
    search = profile.search
    endless = profile.workload.repeat and profile.workload.source != "trace"
    if not search and not profile.plan.stages and endless:
        raise UsageError(f"profile {profile.name} has no stages to play: drive it by hand with `llmtop --profile`")
    url = asked_url(arguments)
    if arguments.sim is None:
        url = url or profile.endpoint_url
    checked_sinks(arguments)
    outputs = _outputs(arguments)
    earlier = baselines.named(arguments.baseline)
    sides = beside.read(earlier, profile.slo)
    options = session_options(arguments, profile, url, patient=False)
    for line in said:
        complain(line)
    progress = _Progress(profile, search)
    try:
        link = SessionLink(msgspec.structs.replace(options, baselines=baselines.noted(earlier)))
        for output in outputs:
            if isinstance(output, JUnitOutput):
                output.run_file = partial(_run_file, link)
        result = run_to_end(
            link,
            profile.slo,
            progress.show,
            search=search,
            outputs=outputs,
            baselines=sides,
            thresholds=thresholds,
            door=True,
        )
    except LlmtopError as error:
        for output in outputs:
            with contextlib.suppress(LlmtopError):
                output.broke(profile.name, str(error))
        if arguments.json:
            print_json({"exit_code": error.exit_code, "profile": profile.name, "error": str(error)})
        broken = partial(broken_text, no_run(profile.name, error.exit_code), str(error))
        step_summary.add(broken)
        raise
    finally:
        progress.end()
    progress.tell(result.frame)
    return _told(result, profile, arguments)


def _told(result: RunResult, profile: Profile, arguments: argparse.Namespace) -> int:
    """Everything that is said at the end of a run; returns the exit code."""
    for line in sinks.lost(result.sinks):
        complain(line)
    complain(result.frame.recording_problem)
    judgement = result.assessment.judgement
    code = INTERRUPTED if result.interrupted else exit_code(judgement, unknown_ok=arguments.unknown_ok)
    end = result.end
    if arguments.json or end.ending is not Ending.HAND:
        complain(ending_text(end.ending, end.at_s, profile.plan.duration_s, end.why))
    if code == CLIENT_BOUND:
        complain(sentences.CLIENT_BOUND)
    failed, said_last = result.output_error, final_text(profile.name, code, judgement)
    try:
        if arguments.json:
            print_json({"exit_code": code, **as_json(result)})
        else:
            felt = new_user(result.facts.canaries)
            say(f"{summary.text(result.meta, result.frame, result.assessment, felt)}\n\n{said_last}")
    except LlmtopError as error:
        failed = failed or error
    complain(summary.last_word(result.frame, result.assessment))
    step_summary.add(lambda: step_text(_report(result, profile), said_last, result.frame.run_file))
    note_run(result.frame.run_file, result.assessment)
    if failed is not None:
        complain(str(failed))
        return code or failed.exit_code
    return code


def _report(result: RunResult, profile: Profile) -> ReportInput:
    """The run summed up, without its timeline."""
    timeline, length_s = result.frame.timeline, result.frame.t_s
    return report_input(
        result.meta, result.facts, result.assessment, timeline, slo=profile.slo, length_s=length_s, complete=True
    )


def _thresholds(text: str | None, profile: Profile) -> tuple[RunThreshold, ...]:
    """What the run may not come to. Raises UsageError."""
    thresholds = () if text is None else parse_limits(text)
    slo = slo_of(each.target for each in thresholds if each.target is not None)
    if (wrong := without_meaning(slo, profile.workload.api)) is not None:
        raise UsageError(f"--fail-on {wrong.name}: {NOT_OF_EMBEDDINGS}")
    return thresholds


def _outputs(arguments: argparse.Namespace) -> list[JUnitOutput | Flow]:
    """What is told of the run besides the recording. Raises UsageError, FileError: it could not be."""
    return [*opened(arguments.out), *_written(arguments)]


def _written(arguments: argparse.Namespace) -> list[JUnitOutput]:
    """What is written once the load is over. Raises UsageError, FileError: it could not be."""
    if arguments.junit is None:
        return []
    path = check_target(named("--junit", arguments.junit), is_junit)
    if arguments.record is not None and path.resolve() == named("--record", arguments.record).resolve():
        raise UsageError(f"--junit and --record name the same file, {plain(arguments.junit)}: give two")
    return [JUnitOutput(path, unknown_ok=arguments.unknown_ok)]


def _run_file(link: SessionLink) -> str | None:
    frame = link.frame()
    return None if frame is None else frame.run_file


def as_json(result: RunResult) -> dict[str, object]:
    """The result of a run, for machines; KEYS.md lists the keys."""
    meta, frame, assessment = result.meta, result.frame, result.assessment
    return {
        "llmtop_version": meta.llmtop_version,
        "profile": meta.profile.name,
        "label": meta.label,
        "endpoint": {
            "base_url": meta.endpoint.base_url,
            "dialect": meta.info.dialect if meta.info else None,
            "model": meta.info.model if meta.info else meta.endpoint.model,
            "server": meta.info.server if meta.info else None,
            "simulated": meta.endpoint.simulated,
            "preset": meta.preset,
            "settings": dict(meta.settings),
        },
        "duration_s": frame.t_s,
        "ending": result.end.ending,
        "interrupted": result.interrupted,
        "totals": frame.totals,
        "load_workers": result.facts.crew.whole(),
        "figures": _figures(result),
        "run_file": frame.run_file,
        "recording_problem": frame.recording_problem,
        **verdicts_json(assessment),
    }


def _figures(result: RunResult) -> RunFigures | None:
    """Of the whole run; None where memory keeps the end of it only and no file the rest."""
    return None if result.facts.dropped else figures_of(result.facts, result.meta)


def _stretched(profile: Profile, duration_s: float) -> Profile:
    plan = profile.plan
    if not plan.stages:
        raise UsageError(f"--duration: profile {profile.name} has no stages to stretch")
    factor = duration_s / plan.duration_s
    stages = tuple(msgspec.structs.replace(stage, duration_s=stage.duration_s * factor) for stage in plan.stages)
    if any(stage.duration_s < LASTING_S.least for stage in stages):
        raise UsageError(f"--duration {duration_s:g}: a stage of profile {profile.name} would be shorter than 1 ms")
    return msgspec.structs.replace(profile, plan=msgspec.structs.replace(plan, stages=stages))


class _Progress:
    """Narration on stderr: one line that is written over on a terminal, one line a second elsewhere."""

    def __init__(self, profile: Profile, search: bool) -> None:
        self._length_s = None if search else profile.plan.duration_s
        self._embeds = profile.workload.api == "embeddings"
        self._over = sys.stderr.isatty() and draws(os.environ.get("TERM", ""))
        self._told: set[str] = set()
        self._failures: set[tuple[str | None, int | None, str]] = set()
        self._noted: set[str] = set()
        self._sinks: tuple[SinkState, ...] = ()

    def tell(self, frame: Frame) -> None:
        """What happened, each text once: what went wrong, and what became of server, recording and the user's file."""
        for event in frame.events:
            if event.text in self._told or not _is_news(event):
                continue
            self._told.add(event.text)
            self._noted.update(sign for sign in AT_ONCE if sign in event.text)
            if len(self._told) <= MOST_EVENTS or event.kind == "recording":
                self._say(f"{clock(event.t_s)} {event.text}")
            elif len(self._told) == MOST_EVENTS + 1:
                self._say(f"{clock(event.t_s)} {MORE_EVENTS}")

    def _say(self, text: str) -> None:
        self.end()
        complain(text)

    def _tell_failures(self, frame: Frame) -> None:
        """Each kind of failure on a line of its own, as it is seen for the first time; a few of them."""
        for group in frame.failures:
            kind = (group.outcome, group.status, group.text)
            if kind not in self._failures and len(self._failures) < MOST_FAILURES:
                self._failures.add(kind)
                self._say(f"{clock(group.first_s)} {failure(group)}")

    def _tell_notes(self, notes: Sequence[str]) -> None:
        """What makes the figures others than were asked for, as soon as it is known."""
        for sign in AT_ONCE:
            note = next((text for text in notes if sign in text), None)
            if note is not None and sign not in self._noted:
                self._noted.add(sign)
                self._say(note)

    def _tell_sinks(self, now: tuple[SinkState, ...]) -> None:
        """That a sink is down, and that it is back."""
        before, self._sinks = self._sinks, now
        for text, _ in sinks.changes(before, now):
            self._say(text)

    def show(self, shown: Shown) -> None:
        self._tell_sinks(shown.sinks)
        frame = shown.frame
        if frame is None:
            return
        self.tell(frame)
        if shown.assessment is not None:
            self._tell_notes(shown.assessment.notes)
        if frame.t_s == 0.0:
            self._write(f"\r\x1b[K{_WAITING}" if self._over else f"{_WAITING}\n")
            return
        target = frame.target
        load = f"{target.concurrency} in flight" if target.concurrency is not None else f"{target.rate_rps:g} req/s"
        window = frame.window
        about = "≈" if frame.guesses_tokens else ""
        latencies = [
            f"TTFT p95 {TEXT.latency(window.ttft.p95)}",
            f"TPOT p95 {about}{TEXT.latency(window.tpot.p95)}",
        ]
        rate = f"{about}{TEXT.count(window.output_tokens_per_s)} tok/s"
        if self._embeds:
            latencies = [f"E2E p95 {TEXT.latency(window.e2e.p95)}"]
            rate = f"{TEXT.count(window.requests_per_s)} requests/s"
        if shown.assessment is not None and shown.assessment.path:
            latencies = [BRIEFLY[0]]
        parts = [
            clock(frame.t_s) + (f"/{clock(self._length_s)}" if self._length_s else ""),
            frame.stage or shown.steering.text,
            f"{load} ({frame.in_flight} live)",
            *latencies,
            rate,
            f"{frame.totals.ok} ok",
            f"{frame.totals.errors} errors" if frame.totals.errors else "",
            "" if self._over else plain(" ".join(map(failure, frame.failures[-1:])), FAILURE_WIDTH),
        ]
        self._tell_failures(frame)
        line = plain(" · ".join(part for part in parts if part))
        self._write(f"\r\x1b[K{line[:110]}" if self._over else f"{line}\n")

    def end(self) -> None:
        if self._over:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        # A run is no worse for want of somebody who reads along, and waits for no terminal that takes nothing.
        with contextlib.suppress(OSError):
            if _takes(sys.stderr):
                sys.stderr.write(text)
                sys.stderr.flush()


def _is_news(event: Event) -> bool:
    """Whether somebody who waits for the run wants to hear of it. How it ended is said when it has."""
    if event.kind == "load" and tells_end(event.text):
        return False
    told = event.severity != "info" or event.kind in ("recording", "server", "client")
    return told or event.text.startswith(sentences.WORKLOAD) or bool(sentences.holder_of(event.text))


def _takes(stream: TextIO) -> bool:
    """Whether it takes a line without waiting for whoever reads it."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return True  # no file of the system's
    return bool(select.select((), (descriptor,), (), 0)[1])
