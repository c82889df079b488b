"""`llmtop traffic SOURCE`: what the requests of a log, a trace or a Prometheus are like, and a profile of them."""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from llmtop.cli.output import complain, named, print_json, say
from llmtop.domain.load import Hold
from llmtop.domain.plain import plain
from llmtop.domain.traffic import TrafficFigures
from llmtop.errors import FileError, UsageError
from llmtop.files import SQLITE, check_target, write_whole
from llmtop.inputs import parts_of, path_of
from llmtop.wording import traffic as words
from llmtop.wording.figures import TEXT

DAYS = 7.0
"""Of a Prometheus: a week has its quiet days and its busy ones, and most keep two."""
SUFFIX = ".toml"
SHOWN = 60
"""Characters of the source's name."""
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]{1,253}:[0-9]{1,5}")
Pairs = tuple[tuple[int, int], ...]


def main(arguments: argparse.Namespace) -> int:
    target = None if arguments.output is None else _target(named("-o", arguments.output), force=arguments.force)
    figures, pairs = (_of_server if is_url(arguments.source) else _of_file)(arguments)
    figures = replace(figures, says=(*figures.says, *words.unknowns(figures)))
    if target is not None:
        _write(figures, pairs, target, _shown(arguments.source), force=arguments.force)
    if arguments.json:
        fields = {name: getattr(figures, name) for name in figures.__struct_fields__}
        print_json({**fields, "profile": None if target is None else str(target)})
        return 0
    begun, clock = clock_of(figures.began_at)
    test = words.test_text(None if target is None else shlex.quote(str(target)))
    say("\n".join(words.page(figures, _shown(arguments.source), begun, clock, test)))
    return 0


def is_url(source: str) -> bool:
    """Whether a Prometheus is meant: by its URL, or as host:port."""
    host_and_port = _HOST_AND_PORT.fullmatch(source) is not None and not Path(source).exists()
    return source.startswith(("http://", "https://")) or host_and_port


def _shown(source: str) -> str:
    from llmtop.domain.endpoint import safe_url

    return plain(safe_url(source) if is_url(source) else Path(source).name, SHOWN)


def _of_file(arguments: argparse.Namespace) -> tuple[TrafficFigures, Pairs]:
    """Raises FileError, UsageError."""
    for option, value in (("--days", arguments.days), ("--model", arguments.model)):
        if value is not None:
            raise UsageError(f"{option} is of a Prometheus, by its URL: a file is read as a whole")
    from llmtop.traffic.figures import characterise
    from llmtop.traffic.read import read
    from llmtop.traffic.sample import thinned

    if (run := _recording(arguments.source)) is None:
        traffic = read(arguments.source, source=arguments.format, unit=arguments.unit)
    else:
        from llmtop.recording.traffic import traffic_of_run

        for option, value in (("--format", arguments.format), ("--unit", arguments.unit)):
            if value is not None:
                raise UsageError(f"{option} is of a log: {run.name} is a recording, which says what it has")
        traffic = traffic_of_run(run)
    return characterise(traffic), thinned(traffic)


def _recording(source: str) -> Path | None:
    """The run file that is meant: by its content, or by its name among the user's runs; None: it is none."""
    path = path_of(source)
    if path.is_file():
        return path if next(parts_of(path, sys.maxsize), b"").startswith(SQLITE) else None
    if path.exists() or path.suffix or path.name != source:
        return None
    from llmtop.recording.shelf import run_path

    return run_path(source)


def _of_server(arguments: argparse.Namespace) -> tuple[TrafficFigures, Pairs]:
    """Raises EndpointError, UsageError."""
    for option, value in (("--format", arguments.format), ("--unit", arguments.unit)):
        if value is not None:
            raise UsageError(f"{option} is of a file: a Prometheus says what it has")
    from llmtop.cli.target import endpoint_of
    from llmtop.telemetry.prometheus import figures_of

    days = DAYS if arguments.days is None else arguments.days
    endpoint = endpoint_of(arguments, arguments.source)
    complain(f"asking {_shown(arguments.source)} about {words.span_text(days * 86_400)}")
    return asyncio.run(figures_of(endpoint, days, time.time())), ()


def clock_of(began_at: float | None) -> tuple[str | None, Callable[[float], str]]:
    """(when the first request came, how a moment after it is written): by the clock in UTC, where there is one."""
    if began_at is not None:
        try:
            begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began_at))
        except (OverflowError, ValueError, OSError):
            began_at = None
    if began_at is None:
        return None, lambda seconds: f"{TEXT.duration(seconds)} in"
    return begun, lambda seconds: time.strftime("%d %b %H:%M", time.gmtime(began_at + seconds))


# ── The profile ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _target(path: Path, *, force: bool) -> Path:
    """The path, where a profile can be written. Raises FileError."""
    if path.suffix.lower() != SUFFIX:
        raise FileError(path, f"a profile's name ends in {SUFFIX}")
    if path.is_file() and not force:
        raise FileError(path, "exists already: give another name, or --force")
    return check_target(path, lambda content: not content, force=force)


def _write(figures: TrafficFigures, pairs: Pairs, path: Path, source: str, *, force: bool) -> None:
    """Raises FileError: there are no lengths or rates for a profile, or the file cannot be written."""
    from llmtop.analysis.stats import FEWEST
    from llmtop.profiles.from_traffic import profile_from_traffic
    from llmtop.profiles.reading import parse_profile
    from llmtop.profiles.writing import profile_text

    profile = profile_from_traffic(figures, path.stem, pairs, source=source)
    text = profile_text(profile, path)
    parse_profile(text, path)
    write_whole(path, text.encode(), lambda content: not content, force=force)
    complain(f"{path}: written")
    plan = profile.plan
    held = [(stage.shape.rate_rps or 0.0) * stage.duration_s for stage in plan.stages if isinstance(stage.shape, Hold)]
    fewest, name = min(zip(held, (stage.name for stage in plan.stages), strict=True))
    needed = FEWEST["p95"]
    if fewest < needed:
        complain(words.few_text(name, fewest, plan.duration_s * needed / max(fewest, 1e-3)))
