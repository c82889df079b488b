"""`llmtop tune URL --serve CMD --try NAME=V,V`: which settings of the server carry most users at the SLO."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from llmtop.analysis.steady import Steerer
from llmtop.analysis.tuning import Candidate, Tuning, candidates
from llmtop.cli import step_summary
from llmtop.cli.exits import ENDPOINT_LOST, NO, NOT_KNOWN, YES
from llmtop.cli.output import complain, named, print_json, say
from llmtop.cli.slo import asked_slo, own_slo
from llmtop.cli.target import affordable, by_hand, confirm, endpoint_of
from llmtop.cli.terminal import draws
from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Endpoint, safe_url
from llmtop.domain.load import LoadPlan
from llmtop.domain.plain import LONG, plain
from llmtop.domain.profile import Profile, Question
from llmtop.domain.server_command import Kind, ServerCommand
from llmtop.domain.settings import is_slots
from llmtop.domain.shown import Shown
from llmtop.domain.tuning import Values
from llmtop.errors import UsageError
from llmtop.host.headless import interruptions, run_to_end
from llmtop.host.link import SessionLink
from llmtop.host.resuming import Past
from llmtop.host.tuning import Driven, Tuned, Tuner, expected_s
from llmtop.load.files import within_open_files
from llmtop.profiles import load_profile
from llmtop.report.tuning import check_tune, tune_markdown, write_tune
from llmtop.session.options import SessionOptions
from llmtop.session.served import Limits, Served
from llmtop.wording import sentences
from llmtop.wording.figures import TEXT
from llmtop.wording.tuning import flag_line, last_words, plan_text, table_text


def main(arguments: argparse.Namespace) -> int:
    command = _command(arguments)
    tries = [_tried(text) for text in arguments.tries]
    all_ = candidates(tries)
    untried = [name for name in command.names if name not in dict(tries)]
    if untried:
        name = untried[0]
        raise UsageError(f"--{command.kind}: {{{name}}} has no value: give one or more with --try {name}=V,V")
    for each in all_:
        command.filled(dict(each.values))
    if arguments.output is not None:
        check_tune(named("--output", arguments.output))
    profile = _profile(arguments)
    endpoint = endpoint_of(arguments, arguments.url)
    affordable(arguments.workers, endpoint)
    tuning = Tuning(all_, users=arguments.users, live=command.kind == "apply")
    say_plan = plan_text(tuning.most_restarts, expected_s(tuning), len(all_))
    if arguments.dry_run:
        lines = [say_plan, *(command.filled(dict(each.values)) for each in all_)]
        say("\n".join(lines))
        return YES
    confirm(endpoint, arguments.yes)
    past = Past(_sameness(arguments, command, all_, profile, endpoint), fresh=arguments.fresh)
    steps = _Steps()
    steps.tell(say_plan)
    if past:
        count = "1 measurement of before counts" if len(past) == 1 else f"{len(past)} measurements of before count"
        steps.tell(f"{count}; --fresh measures all of it again")
    tuned = _tune(arguments, command, tuning, all_, profile, endpoint, past, steps)
    if not tuned.stopped:
        past.forget()
    return _told(arguments, command, tuned, steps)


# ── What is asked for ─────────────────────────────────────────────────────────────────────────────────────────────────


def _command(arguments: argparse.Namespace) -> ServerCommand:
    if (arguments.serve is None) == (arguments.apply is None):
        raise UsageError("tune needs the command that sets the server up: give one of --serve CMD and --apply CMD")
    kind: Kind = "apply" if arguments.serve is None else "serve"
    return ServerCommand(arguments.apply if arguments.serve is None else arguments.serve, kind)


def _tried(text: str) -> tuple[str, Sequence[str]]:
    name, equals, values = text.partition("=")
    listed = [value.strip() for value in values.split(",")]
    if not equals or not name.strip() or not all(listed):
        raise UsageError(f"--try {plain(text, 60)}: write it as NAME=VALUE,VALUE, e.g. max_num_seqs=32,64,128")
    return name.strip(), listed


def _profile(arguments: argparse.Namespace) -> Profile:
    own = own_slo(arguments)
    profile = by_hand(1, own) if arguments.profile is None else load_profile(arguments.profile, slo=own)
    if profile.workload.source == "trace":
        raise UsageError(f"profile {profile.name} replays arrivals; a tune drives users: name a profile with users")
    lengths = {"prompt_tokens": arguments.prompt_tokens, "output_tokens": arguments.output_tokens}
    base = replace(profile.plan.base, **{name: value for name, value in lengths.items() if value is not None})
    base = replace(base.at("concurrency", 1), gate=None, think_time_s=0.0)
    caps = profile.caps
    if arguments.max_concurrency is not None:
        caps = replace(caps, max_concurrency=arguments.max_concurrency)
    if arguments.users is not None and arguments.users > caps.max_concurrency:
        most = f"at most {caps.max_concurrency} may be in flight; raise it with --max-concurrency"
        raise UsageError(f"--users {arguments.users}: {most}")
    slo = asked_slo(arguments) or profile.slo
    plan = LoadPlan(stages=(), base=base)
    profile = replace(
        profile, name="tune", plan=plan, caps=caps, slo=slo, question=Question.CLIFF, peak=None, canary=None
    )
    return within_open_files(profile, arguments.workers)


def _sameness(
    arguments: argparse.Namespace,
    command: ServerCommand,
    all_: Sequence[Candidate],
    profile: Profile,
    endpoint: Endpoint,
) -> object:
    return {
        "url": safe_url(endpoint.base_url),
        "command": command,
        "values": [each.values for each in all_],
        "users": arguments.users,
        "profile": profile,
        "seed": arguments.seed,
        "model": arguments.model,
    }


# ── Doing it ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tune(
    arguments: argparse.Namespace,
    command: ServerCommand,
    tuning: Tuning,
    all_: Sequence[Candidate],
    profile: Profile,
    endpoint: Endpoint,
    past: Past,
    steps: _Steps,
) -> Tuned:
    def drive(label: str, settings: Values, steerer: Steerer) -> Driven:
        options = SessionOptions(
            endpoint=endpoint,
            profile=profile,
            label=label,
            workers=arguments.workers,
            seed=arguments.seed,
            settings=settings,
            patient=False,
        )
        result = run_to_end(SessionLink(options), profile.slo, steps.show, steerer=steerer, parting=parting)
        steps.dialect = result.meta.info.dialect if result.meta.info else steps.dialect
        return Driven(result.facts, result.end.ending, result.frame.run_file, result.end.why, result.meta.info)

    parting = "interrupted"
    if command.kind == "apply":
        parting += f"; THE SERVER MAY NOT HAVE ITS FIRST SETTINGS BACK: {_put_back_by(command, all_[0].values)}"
    with interruptions(parting) as came:
        limits = Limits() if arguments.ready_within is None else Limits(ready_s=arguments.ready_within)
        from llmtop.session.driving import wanted_of

        wanted = wanted_of(profile.workload)
        server = Served(command, endpoint, caps=profile.caps, wanted=wanted, limits=limits, tell=steps.over)
        return Tuner(
            tuning,
            server,
            drive,
            slo=profile.slo,
            base=profile.plan.base,
            original=all_[0],
            users=arguments.users,
            most=profile.caps.max_concurrency,
            live=command.kind == "apply",
            past=past,
            cancelled=lambda: bool(came),
            tell=steps.tell,
        ).run()


class _Steps:
    """Progress on stderr: a line a step, and on a terminal one below it that is written over."""

    def __init__(self) -> None:
        self._over = sys.stderr.isatty() and draws(os.environ.get("TERM", ""))
        self._begun_s = time.monotonic()
        self.dialect: str | None = None

    def tell(self, text: str) -> None:
        self._clear()
        for line in text.split("\n"):
            complain(f"{TEXT.duration(round(self.wall_s))}: {line}" if not line.startswith(" ") else line)

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._begun_s

    def over(self, text: str) -> None:
        if self._over:
            with contextlib.suppress(OSError, ValueError):
                print(f"\r\x1b[K{plain(text, LONG)[:110]}", end="", file=sys.stderr, flush=True)

    def show(self, shown: Shown) -> None:
        frame = shown.frame
        if frame is not None:
            window = frame.window
            parts = (
                shown.steering.text,
                f"TTFT p95 {TEXT.latency(window.ttft.p95)}",
                f"TPOT p95 {TEXT.latency(window.tpot.p95)}",
                f"{TEXT.count(window.output_tokens_per_s)} tok/s",
            )
            self.over(" · ".join(filter(None, parts)))

    def _clear(self) -> None:
        if self._over:
            self.over("")


# ── What is said of it ────────────────────────────────────────────────────────────────────────────────────────────────


def _told(arguments: argparse.Namespace, command: ServerCommand, tuned: Tuned, steps: _Steps) -> int:
    tune, code = tuned.tune, _code(tuned)
    if code == NOT_KNOWN and arguments.unknown_ok:
        code = YES
    flags = None if tune.winner is None or tune.void else _flags(tune.winner, command, steps.dialect)
    if arguments.json:
        fields = msgspec.to_builtins(tune)
        told = {"restored": tuned.restored, "problem": tuned.problem, "wall_s": steps.wall_s}
        print_json({"exit_code": code, "sentence": last_words(tune), "flags": flags, **fields, **told})
    else:
        end = [f"flags: {flags}"] if flags else []
        say("\n".join([*table_text(tune), "", *end, *last_words(tune).split("\n")]))
    step_summary.add(lambda: tune_markdown(tune, flags))
    if arguments.output is not None:
        write_tune(tune, flags, named("--output", arguments.output))
    if tuned.restored is False:
        why, *tail = tuned.problem.split("\n")
        complain(f"THE SERVER DOES NOT HAVE ITS FIRST SETTINGS BACK: {why}")
        for line in (*tail, _put_back_by(command, tune.original)):
            complain(line)
    elif tuned.restored:
        complain("the server has its first settings again")
    if code == ENDPOINT_LOST and tuned.restored is not False:
        complain("no configuration could be measured")
    elif tuned.stopped == 4:
        complain(sentences.CLIENT_BOUND)
    if tuned.stopped:
        why = "stopped" if tuned.stopped == 4 else "interrupted"
        complain(f"{why}; what is measured counts when the same command is given again")
    return code


def _put_back_by(command: ServerCommand, original: Values) -> str:
    return f"put them back by: {plain(command.filled(dict(original)), LONG)}"


def _flags(winner: Values, command: ServerCommand, dialect: str | None) -> str:
    table = next((DIALECTS[each] for each in DIALECTS if each == dialect), None)
    slots = next((name for name, _ in winner if is_slots(name)), None)
    return flag_line(winner, command.template, None if table is None else table.advice.more_slots, slots)


def _code(tuned: Tuned) -> int:
    tune = tuned.tune
    if tuned.stopped:
        return tuned.stopped
    if tuned.restored is False:
        return ENDPOINT_LOST
    if all(row.how in ("failed", "not applied", "not tried") for row in tune.rows):
        return ENDPOINT_LOST if any(row.how == "failed" for row in tune.rows) else NOT_KNOWN
    if tune.void or tune.winner is None:
        return NOT_KNOWN
    return NO if tune.holds is False else YES
