"""From a Profile to the text of a profile file; `parse_profile` gives the same Profile back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from llmtop.domain.cost import Cost
from llmtop.domain.load import Caps, Hold, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps
from llmtop.domain.profile import Fixed, LengthDistribution, LogNormal, Normal, Profile, Workload
from llmtop.domain.slo import LATENCIES, Slo, SloTarget, usual_slo
from llmtop.errors import ProfileError
from llmtop.profiles.quantity import load_text, number_text, seconds_text
from llmtop.profiles.reading import START, start_of

WIDTH = 120
"""Characters of a line."""
Value = bool | int | float | str | list["Value"] | dict[str, "Value"]
Table = dict[str, Value]


def profile_text(profile: Profile, path: Path) -> str:
    """The TOML of a profile that is to lie at `path`. Loads of a profile with a peak are written as shares of it.

    Raises ProfileError for an SLO with two limits on one figure.
    """
    top: Table = {}
    if profile.name != path.stem:
        top["name"] = profile.name
    if profile.description:
        top["description"] = profile.description
    top |= _asked(profile)
    endpoint: Table = {}
    if profile.endpoint_url is not None:
        endpoint["url"] = profile.endpoint_url
    if profile.model is not None:
        endpoint["model"] = profile.model
    simulated: Table = {} if profile.preset is None else {"preset": profile.preset}
    if profile.knobs:
        simulated["knobs"] = dict(profile.knobs)
    workload = _section("[workload]", _workload(profile.workload))
    last = bool(profile.workload.lengths)  # they are long, and what the load is like stands before them
    parts = [
        *_lines(top),
        *_section("[endpoint]", endpoint),
        *_section("[simulated]", simulated),
        *([] if last else workload),
        *_section("[load]", _base(profile)),
    ]
    for stage in profile.plan.stages:
        parts += _section("[[stage]]", _stage(stage, profile.plan.base, profile.peak))
    parts += _section("[slo]", _slo(profile.slo, profile.workload.api, path))
    parts += _section("[limits]", _caps(profile.caps))
    parts += _section("[cost]", _cost(profile.cost))
    parts += workload if last else []
    return "\n".join(parts).lstrip("\n") + "\n"


def _asked(profile: Profile) -> Table:
    table: Table = {}
    if profile.question is not None:
        table["question"] = profile.question
    if profile.peak is not None:
        table["peak"] = profile.peak
    if profile.peak_from_slots:
        table["peak_from_slots"] = True
    if profile.at_least is not None:
        table["at_least"] = profile.at_least
    if profile.recover_within_s != Profile(name="").recover_within_s:
        table["recover_within"] = seconds_text(profile.recover_within_s)
    return table


def _base(profile: Profile) -> Table:
    base = profile.plan.base
    table = _point(base, start_of(profile.workload), profile.peak)
    if profile.workload.lengths:
        table |= {"prompt_tokens": base.prompt_tokens, "output_tokens": base.output_tokens}
    if base.concurrency == START.concurrency:
        del table["concurrency"]
    if profile.start != Profile(name="").start:
        table["start"] = profile.start
    if profile.canary is not None:
        table["canary"] = profile.canary
    return table


def _workload(workload: Workload) -> Table:
    table: Table = {}
    default = Workload()
    for name in ("source", "file", "seed", "api", "repeat", "speed", "affinity", "user_header"):
        value = getattr(workload, name)
        if value != getattr(default, name):
            table[name] = value
    if workload.columns:
        table["columns"] = dict(workload.columns)
    if workload.window_s is not None:
        table["window"] = [seconds_text(at_s) for at_s in workload.window_s]
    if workload.body:
        table["body"] = json.loads(workload.body)
    if workload.stop:
        table["stop"] = list(workload.stop)
    if workload.models:
        table["models"] = [{"name": model.name, "weight": model.weight} for model in workload.models]
    if workload.cancel is not None:
        table["cancel"] = {"share": workload.cancel.share, "after": seconds_text(workload.cancel.after_s)}
    if workload.lengths:
        table["lengths"] = [list(pair) for pair in workload.lengths]
    for name, lengths in (("prompt", workload.prompt), ("output", workload.output)):
        if lengths != Fixed():
            table[name] = _lengths(lengths)
    return table


def _lengths(lengths: LengthDistribution) -> Table:
    if isinstance(lengths, Fixed):
        return {"kind": "fixed"}
    if isinstance(lengths, Normal | LogNormal):
        return {"kind": "normal" if isinstance(lengths, Normal) else "lognormal", "cv": lengths.cv}
    return {"kind": "quantiles", "table": [list(row) for row in lengths.table], "scale": lengths.scale}


def _point(point: LoadPoint, base: LoadPoint, peak: float | None) -> Table:
    """What `point` has that `base` has not; its load always."""
    table: Table = {}
    if point.rate_rps is not None:
        table["rate_rps"] = load_text(point.rate_rps, peak)
    elif point.concurrency is not None:
        table["concurrency"] = load_text(point.concurrency, peak)
    for name in ("prompt_tokens", "output_tokens", "shared_prefix", "burstiness", "gate"):
        value = getattr(point, name)
        if value != getattr(base, name) and value is not None:
            table[name] = value
    if point.think_time_s != base.think_time_s:
        table["think_time"] = seconds_text(point.think_time_s)
    return table


def _stage(stage: Stage, base: LoadPoint, peak: float | None) -> Table:
    table: Table = {"name": stage.name, "duration": seconds_text(stage.duration_s), **_shape(stage.shape, base, peak)}
    for name in ("prompt_tokens", "output_tokens", "gate"):
        value = getattr(stage, name)
        if value is not None:
            table[name] = value
    return table


def _shape(shape: Shape, base: LoadPoint, peak: float | None) -> Table:
    def load(value: float) -> int | float | str:
        return load_text(value, peak)

    match shape:
        case Hold(concurrency=users, rate_rps=rate):
            held = ("concurrency", users) if users is not None else ("rate_rps", rate or 0.0)
            return {"shape": "hold", held[0]: load(held[1])}
        case Ramp(start, stop, unit):
            table: Table = {"shape": "ramp", "start": load(start), "stop": load(stop)}
        case Steps(levels, unit):
            table = {"shape": "steps", "levels": [load(level) for level in levels]}
        case Spike(low, high, rise, fall, unit):
            table = {"shape": "spike", "base": load(low), "peak": load(high), "rise": rise, "fall": fall}
        case Sine(low, high, period_s, unit):
            table = {"shape": "sine", "low": load(low), "high": load(high), "period": seconds_text(period_s)}
        case Replay(points):
            rows: list[Value] = [{"at": seconds_text(at_s), **_point(point, base, peak)} for at_s, point in points]
            return {"shape": "replay", "points": rows}
    return table if unit == "concurrency" else {**table, "unit": unit}


def _slo(slo: Slo, api: str, path: Path) -> Table:
    if slo == usual_slo(api):
        return {}
    table: Table = {}
    told: set[str] = set()
    for target in slo.limits:
        if target.name in told:
            raise ProfileError(path, "has two limits; a profile keeps one for each figure", f"slo.{target.name}")
        told.add(target.name)
        limit = _limit(target, target.limit)
        key = _value(target.name) if target.kind else target.name
        table[key] = limit if target.warn is None else {"limit": limit, "warn": _limit(target, target.warn)}
    return table


def _limit(target: SloTarget, limit: float) -> Value:
    """As `parse_slo` reads it: latencies with a unit, the rest as the number that it is."""
    if target.metric not in LATENCIES:
        return limit
    milliseconds = number_text(limit * 1e3)
    if limit < 1 and float(milliseconds) * 1e-3 == limit:
        return f"{milliseconds}ms"
    return f"{number_text(limit)}s"


def _caps(caps: Caps) -> Table:
    table: Table = {}
    default = Caps()
    if caps.max_concurrency != default.max_concurrency:
        table["max_concurrency"] = caps.max_concurrency
    if caps.stop_error_ratio != default.stop_error_ratio:
        table["stop_error_ratio"] = "never" if caps.stop_error_ratio is None else caps.stop_error_ratio
    for name in ("connect", "first_token", "idle", "total"):
        seconds = getattr(caps, f"{name}_timeout_s")
        if seconds != getattr(default, f"{name}_timeout_s"):
            table[f"{name}_timeout"] = seconds_text(seconds)
    return table


def _cost(cost: Cost) -> Table:
    names = ("gpu_price_per_hour", "gpus", "currency", "peak")
    table: Table = {name: value for name in names if (value := getattr(cost, name)) not in (None, "")}
    if cost.traffic:
        table["traffic"] = list(cost.traffic)
    if cost.think_time_s is not None:
        table["think_time"] = seconds_text(cost.think_time_s)
    return table


def _filled(values: list[Value]) -> str:
    """As many of a long list on a line as have room."""
    lines = [""]
    for text in map(_value, values):
        if len(lines[-1]) + len(text) + 2 > WIDTH and lines[-1]:
            lines.append("")
        lines[-1] += f" {text}," if lines[-1] else f"    {text},"
    return "\n".join(lines)


def _section(header: str, table: Table) -> list[str]:
    return ["", header, *_lines(table)] if table else []


def _lines(table: Table) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value, wide=True)}"


def _value(value: Value, *, wide: bool = False) -> str:
    """A TOML value. `wide` spreads a list of tables over lines; TOML wants an inline table itself on one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        if wide and value and isinstance(value[0], dict):
            return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
        line = "[" + ", ".join(_value(item) for item in value) + "]"
        return line if not wide or len(line) <= WIDTH else "[\n" + _filled(value) + "\n]"
    return "inf" if math.isinf(value) else number_text(value)
