"""`llmtop predict --fit RUN`: what the twin of a measured server foresees, as it stands or with other settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmtop.analysis.cost import costs_foreseen, split_by_steps
from llmtop.analysis.foreseen import Seer, Wish, unable_to_turn
from llmtop.analysis.grounds import Grounds
from llmtop.cli import cost
from llmtop.cli.numbers import numbers
from llmtop.cli.output import print_json, say
from llmtop.cli.slo import asked_slo, slo_without_profile
from llmtop.cli.target import knobs_of
from llmtop.domain.bounds import GATE, MOST_USERS, SENT_RATE, Quantity
from llmtop.domain.foresight import ForeseenPoint, Foresight, Interval
from llmtop.domain.plain import plain
from llmtop.domain.settings import is_slots
from llmtop.errors import FileError, UsageError
from llmtop.host.beside import grounds_at
from llmtop.recording.shelf import LAST
from llmtop.wording.cost import as_block
from llmtop.wording.figures import TEXT, UNKNOWN
from llmtop.wording.foresight import band_text, gap_text, measured_text, wall_text

SLOTS = Quantity("slots", GATE.least, GATE.most, "slots", whole=True)
KV = Quantity("KV cache", 1, 10**12, "blocks or tokens")
_NOT_WITH_FIT = {"requests": None, "shared_prefix": None, "stagger": None, "per_level": None, "seed": 0, "rows": False}
"""Options of the simulated engine, which a twin is not, and what they are where they are not given."""


def main(arguments: argparse.Namespace) -> int:
    if arguments.preset is not None:
        raise UsageError(
            f"--fit and {plain(arguments.preset, 60)}: a twin is of a run, not of a preset; give one of them"
        )
    other = next((name for name, left in _NOT_WITH_FIT.items() if getattr(arguments, name) != left), None)
    if other is not None:
        raise UsageError(f"--{other.replace('_', '-')} is for the simulated engine; a twin (--fit) has none")
    settings = _settings(arguments.set)
    lengths = arguments.prompt_tokens, arguments.output_tokens
    grounds, own, path = grounds_at(arguments.fit, arguments.axis, *lengths)
    slo = slo_without_profile(arguments) if own is None else asked_slo(arguments) or own
    unable = unable_to_turn(settings, grounds)
    if unable:
        raise UsageError(f"--set: {unable}")
    wish = Wish(settings=settings, prompt_tokens=lengths[0], output_tokens=lengths[1], loads=_loads(arguments, grounds))
    seer = Seer()
    told = seer.ask(grounds, wish, slo)
    if told.off is None:
        raise FileError(path, told.text)
    costs = costs_foreseen(told, cost.stated(arguments).over(grounds.cost), grounds.gpus)
    if costs is not None and costs.at is not None:
        costs = split_by_steps(costs, seer.prompt_share(grounds, wish, costs.at))
    if arguments.json:
        fields = {name: getattr(told, name) for name in told.__struct_fields__}
        print_json({"run": str(path), "slo": str(slo), **fields, "costs": costs})
    else:
        name = path.stem if arguments.fit == LAST else Path(arguments.fit).stem
        say("\n".join([as_text(name, grounds, told), *as_block(costs)]))
    return 0


def _settings(given: list[str]) -> tuple[tuple[str, float], ...]:
    """Settings with their values. Raises UsageError: no number, or two for one thing."""
    settings: dict[str, float] = {}
    seen: dict[bool, str] = {}
    for name, text in knobs_of(given).items():
        slots = is_slots(name)
        try:
            settings[name] = (SLOTS if slots else KV).read(str(text))
        except ValueError as error:
            if unable := unable_to_turn(((name, 0.0),), Grounds(block_tokens=1)):
                raise UsageError(f"--set {plain(name, 40)}: {unable}") from None
            raise UsageError(f"--set {plain(name, 40)}={plain(str(text), 40)}: {error}") from None
        if slots in seen:
            raise UsageError(f"--set: {plain(seen[slots], 40)} and {plain(name, 40)} are one setting; give it once")
        seen[slots] = name
    return tuple(settings.items())


def _loads(arguments: argparse.Namespace, grounds: Grounds) -> tuple[float, ...]:
    """Those that were asked for, on the axis of what was measured."""
    axis = grounds.known.axis
    wanted, other = ("concurrency", "rate") if axis == "concurrency" else ("rate", "concurrency")
    if getattr(arguments, other) is not None:
        raise UsageError(f"--{other}: the run was driven by {axis}, and so is its twin; use --{wanted}")
    quantity = SENT_RATE if axis == "rate" else MOST_USERS
    return tuple(map(float, numbers(f"--{wanted}", getattr(arguments, wanted), quantity)))


HEADINGS = ("load", "tok/s", "req/s", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "running", "waiting", "KV")


def as_text(name: str, grounds: Grounds, told: Foresight) -> str:
    """A table of what is foreseen, what lies outside of it, then what it comes to."""
    points = {point.load: _cells(point, told) for point in told.points}
    gaps = {gap.load: (TEXT.load(gap.load, told.axis), *[UNKNOWN] * (len(HEADINGS) - 1)) for gap in told.gaps}
    rows = [HEADINGS, *(cells for _, cells in sorted({**points, **gaps}.items()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [f"{name}: {measured_text(grounds.known.slots, told)}", *filter(None, [told.label]), ""]
    lines += [*table, ""] if len(rows) > 1 else []
    lines += [gap_text(gap.load, told.axis, gap.reason, gap.missing) for gap in told.gaps]
    lines.append(told.text)
    if told.users is not None and told.wall is not None:
        lines.append(wall_text(told.wall, told.axis))
    return "\n".join(lines)


def _cells(point: ForeseenPoint, told: Foresight) -> tuple[str, ...]:
    return (
        TEXT.load(point.load, told.axis),
        band_text(point.output_tokens_per_s, TEXT.count),
        TEXT.count(point.requests_per_s.value),
        _latency(point.ttft_p50_ms),
        UNKNOWN if point.ttft_p95_ms is None else band_text(point.ttft_p95_ms, TEXT.latency),
        _latency(point.tpot_p50_ms),
        band_text(point.tpot_p95_ms, TEXT.latency),
        TEXT.count(point.running),
        TEXT.count(point.waiting),
        TEXT.percent(point.kv_usage),
    )


def _latency(interval: Interval | None) -> str:
    return TEXT.latency(None if interval is None else interval.value)
