"""From the text of a profile file to a Profile, or to a ProfileError that names the key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from llmtop.domain.bounds import RATE, SPREAD, TIME_S, TOKENS
from llmtop.domain.cost import Cost, currency_problem, traffic_problem
from llmtop.domain.endpoint import safe_url
from llmtop.domain.load import (
    Caps,
    Hold,
    LoadPlan,
    LoadPoint,
    Ramp,
    Replay,
    Shape,
    Sine,
    Spike,
    Stage,
    Start,
    Steps,
    Unit,
)
from llmtop.domain.plain import LONG, plain
from llmtop.domain.profile import (
    OF_ROWS,
    Fixed,
    LogNormal,
    Normal,
    Profile,
    Quantiles,
    Question,
    Workload,
    length_means,
    rows_problem,
    trace_problem,
)
from llmtop.domain.slo import (
    FIGURES,
    NOT_OF_EMBEDDINGS,
    Slo,
    SloTarget,
    parse_slo,
    parse_target,
    slo_of,
    usual_slo,
    without_meaning,
)
from llmtop.endpoint.urls import normalise_url
from llmtop.errors import FileError, ProfileError, UsageError
from llmtop.inputs import expanded, tables_of
from llmtop.profiles import schema
from llmtop.profiles.asking import unanswerable, without_time
from llmtop.profiles.carried import carried_of
from llmtop.profiles.faults import explain
from llmtop.profiles.quantity import Load, of_peak
from llmtop.workload.lengths import MOST_PAIRS

START = LoadPoint(concurrency=1)
"""What a profile without [load] starts from."""


"""Sources whose prompts are those of the user's file."""


def start_of(workload: Workload) -> LoadPoint:
    """What [load] builds on: lengths that are drawn from a sample have its means, until others are asked for."""
    if not workload.lengths:
        return START
    prompt_tokens, output_tokens = length_means(workload.lengths)
    return structs.replace(START, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def parse_profile(
    text: str, path: Path, *, peak: float | None = None, most: int | None = None, slo: Slo | None = None
) -> Profile:
    """Read a profile file.

    Args:
        path: names it in errors, gives the profile its name and anchors relative file names.
        peak: the expected peak, instead of the file's.
        most: requests in flight that are allowed, where that is more than the file says.
        slo: the user's default, where the file has none.
    """
    tables = tables_of(text, path, ProfileError)
    try:
        table = msgspec.convert(tables, schema.ProfileTable, dec_hook=_read_quantity)
    except msgspec.ValidationError as error:
        raise explain(path, error, tables) from None
    if peak is not None:
        if table.peak is None:
            raise ProfileError(path, f"has no expected peak that could be {peak:g}: no load is a share of one", "peak")
        table = structs.replace(table, peak=peak, peak_from_slots=False)
    if most is not None and most > table.limits.max_concurrency:
        table = structs.replace(table, limits=structs.replace(table.limits, max_concurrency=most))
    return _Reader(path, table, slo).profile()


def _read_quantity(kind: Any, value: object) -> object:
    return kind.read(value)


class _Reader:
    """Turns tables into the words of the domain, and checks what one key alone cannot tell."""

    def __init__(self, path: Path, table: schema.ProfileTable, own_slo: Slo | None) -> None:
        self.path = path
        self.own_slo = own_slo
        self.table = table
        self.uses_peak = False

    def profile(self) -> Profile:
        table = self.table
        workload = self.workload()
        base = self.point("load", table.load, start_of(workload))
        if not TIME_S.holds(sum(stage.duration for stage in table.stage)):
            raise self.fault("stage", f"the stages last longer than {TIME_S.most:,} s together")
        stages = tuple(self.stage(f"stage[{place}]", stage, base) for place, stage in enumerate(table.stage, 1))
        self.check_peak()
        self.check_url(table.endpoint.url)
        profile = Profile(
            name=plain(table.name if table.name is not None else self.path.stem),
            description=plain(table.description, LONG),
            endpoint_url=table.endpoint.url,
            model=table.endpoint.model,
            preset=None if table.simulated.preset is None else plain(table.simulated.preset),
            knobs=self.knobs(),
            workload=workload,
            plan=LoadPlan(stages=stages, base=base),
            question=self.question(),
            peak=table.peak,
            peak_from_slots=table.peak_from_slots,
            at_least=table.at_least,
            start=self.start(),
            canary=None if table.load.canary is None else float(table.load.canary),
            slo=self.meant(self.slo()),
            caps=self.caps(),
            cost=self.cost(),
        )
        if (refusal := unanswerable(profile)) is not None:
            key, problem = refusal
            raise self.fault("search" if key == "question" and table.search else key, problem)
        if table.recover_within is None:
            return profile
        profile = structs.replace(profile, recover_within_s=float(table.recover_within))
        if (unseen := without_time(profile)) is not None:
            raise self.fault("recover_within", unseen)
        return profile

    def start(self) -> Start:
        """How users begin: together only where loads are held, as each other load waits for those there to end."""
        table = self.table
        if table.load.start == "together":
            if table.load.rate_rps is not None:
                raise self.fault("load.start", "open loop: requests are sent at a rate, nobody begins together")
            for place, stage in enumerate(table.stage, 1):
                if not isinstance(stage, schema.HoldStage | schema.StepsStage | schema.SpikeStage):
                    shape = stage.__struct_config__.tag
                    problem = f"stage[{place}] is a {shape}: users begin together only in hold, steps and spike"
                    raise self.fault("load.start", problem)
        return table.load.start

    def knobs(self) -> tuple[tuple[str, float], ...]:
        """Which there are, and what they take, the engine says; numbers that are none are none of them."""
        for name, value in self.table.simulated.knobs.items():
            if not name.isidentifier() or not math.isfinite(value):
                raise self.fault(f"simulated.knobs.{plain(name)}", "must be the name of a knob and a number")
        return tuple(self.table.simulated.knobs.items())

    def question(self) -> Question | None:
        table = self.table
        if not table.search:
            return table.question
        if table.stage:
            raise self.fault("search", "the capacity search picks the loads; leave out search or every [[stage]]")
        if table.question not in (None, Question.CAPACITY):
            raise self.fault("search", f'asks for a capacity; leave it out, or question = "{table.question}"')
        return Question.CAPACITY

    def check_peak(self) -> None:
        table = self.table
        if table.peak is None:
            if table.peak_from_slots:
                raise self.fault("peak_from_slots", "needs a peak, too, for servers that do not tell their slots")
        elif not self.uses_peak and table.question is not Question.PEAK:
            raise self.fault("peak", 'nothing is written as a share of it; write a load as "80%", or leave out peak')
        if table.peak_from_slots and (table.load.concurrency is not None or table.load.rate_rps is not None):
            raise self.fault("peak_from_slots", "scales the stages; leave out the load in [load]")

    def check_url(self, url: str | None) -> None:
        if url is None:
            return
        if not url.startswith(("http://", "https://")):
            raise self.fault("endpoint.url", f"{safe_url(url)!r} must begin with http:// or https://")
        try:
            normalise_url(url)
        except UsageError as error:
            raise self.fault("endpoint.url", str(error)) from None

    def fault(self, key: str, problem: str) -> ProfileError:
        return ProfileError(self.path, problem, key)

    def workload(self) -> Workload:
        table = self.table.workload
        if table.source != "synthetic" and table.file is None:
            raise self.fault("workload.file", f"is missing; a {table.source} workload reads the user's own file")
        if table.source == "synthetic" and table.file is not None:
            raise self.fault("workload.file", "is not read by a synthetic workload; set source or leave out file")
        for side, lengths in (("prompt", table.prompt), ("output", table.output)):
            key = f"workload.{side}"
            if isinstance(lengths, Normal | LogNormal) and not SPREAD.holds(lengths.cv):
                raise self.fault(f"{key}.cv", f"must be {SPREAD.allowed}")
            if isinstance(lengths, Quantiles):
                self.check_quantiles(f"{key}.table", lengths.table)
            if table.lengths and lengths != Fixed():
                raise self.fault(key, "lengths has pairs of prompt and output: leave out one of the two")
        if len(table.lengths) > MOST_PAIRS:
            raise self.fault("workload.lengths", f"has {len(table.lengths):,} pairs; {MOST_PAIRS:,} are the most")
        if table.lengths and table.source in OF_ROWS:
            raise self.fault("workload.lengths", f"is not used: the rows of a {table.source} file have lengths")
        file = table.file
        if file is not None:
            try:
                file = str(self.path.absolute().parent / expanded(file))
            except FileError as error:
                raise self.fault("workload.file", f"{error.path!r} {error.problem}") from None
        workload = Workload(
            source=table.source,
            file=file,
            prompt=table.prompt,
            output=table.output,
            lengths=table.lengths,
            columns=tuple(table.columns.items()),
            repeat=table.repeat,
            speed=table.speed,
            window_s=None if table.window is None else (float(table.window[0]), float(table.window[1])),
            seed=table.seed,
            api=table.api,
            **carried_of(table, self.fault),
        )
        if (odd := rows_problem(workload) or trace_problem(workload, bool(self.table.stage))) is not None:
            raise self.fault(f"workload.{odd[0]}", odd[1])
        return workload

    def check_quantiles(self, key: str, rows: tuple[tuple[float, float], ...]) -> None:
        if len(rows) < 2:
            raise self.fault(key, "needs two or more [share, tokens]")
        shares, tokens = zip(*rows, strict=True)
        if not (shares[0] >= 0 and shares[-1] <= 1 and all(a < b for a, b in pairwise(shares))):
            raise self.fault(key, "shares must rise from 0 or more to 1 or less")
        if not all(map(TOKENS.holds, tokens)) or any(a > b for a, b in pairwise(tokens)):
            raise self.fault(key, f"tokens must be {TOKENS.allowed} and must not fall")

    def load(self, key: str, load: Load, unit: Unit) -> float:
        """The load as a number, per cent of the peak resolved."""
        if self.table.peak_from_slots and (unit == "rate_rps" or (load and not load.of_peak)):
            raise self.fault(key, 'must be users, as a share of the peak such as "80%": peak_from_slots scales it')
        if not load.of_peak:
            return float(load)
        if self.table.peak is None:
            raise self.fault(key, "is a share of the peak, but the file sets no peak; add e.g. peak = 32 at its top")
        self.uses_peak = True
        number = of_peak(float(load), self.table.peak)
        if not RATE.holds(number):
            raise self.fault(key, f"is a load of {number:g}, and must be {RATE.allowed}")
        return number

    def users(self, key: str, load: Load) -> int:
        """The load as a number of users: whole, and not above the limit."""
        number = self.load(key, load, "concurrency")
        if not load.of_peak and number != int(number):
            raise self.fault(key, "must be a whole number of users")
        self.check_limit(key, number)
        return round(number)

    def level(self, key: str, load: Load, unit: Unit) -> float:
        number = self.load(key, load, unit)
        if unit == "concurrency":
            self.check_limit(key, number)
        return number

    def check_limit(self, key: str, users: float) -> None:
        limit = self.table.limits.max_concurrency
        if users > limit:
            above = f"{users:g} users are above limits.max_concurrency = {limit}"
            raise self.fault(key, f"{above}; raise it, or give --max-concurrency")

    def point(self, key: str, table: schema.PointTable, base: LoadPoint) -> LoadPoint:
        if table.concurrency is not None and table.rate_rps is not None:
            raise self.fault(f"{key}.rate_rps", "give concurrency or rate_rps, one of the two")
        changes: dict[str, Any] = {
            name: value
            for name in ("prompt_tokens", "output_tokens", "gate")
            if (value := getattr(table, name)) is not None
        }
        if table.burstiness is not None:
            changes["burstiness"] = float(table.burstiness)
        if table.shared_prefix is not None:
            changes["shared_prefix"] = float(table.shared_prefix)
        if table.think_time is not None:
            changes["think_time_s"] = float(table.think_time)
        if table.concurrency is not None:
            changes |= {"concurrency": self.users(f"{key}.concurrency", table.concurrency), "rate_rps": None}
        if table.rate_rps is not None:
            changes |= {"concurrency": None, "rate_rps": self.load(f"{key}.rate_rps", table.rate_rps, "rate_rps")}
        return structs.replace(base, **changes)

    def stage(self, key: str, table: schema.AnyStage, base: LoadPoint) -> Stage:
        shape = self.shape(key, table, base)
        name = table.name if table.name is not None else str(table.__struct_config__.tag)
        return Stage(
            name=plain(name),
            duration_s=float(table.duration),
            shape=shape,
            prompt_tokens=table.prompt_tokens,
            output_tokens=table.output_tokens,
            gate=table.gate,
        )

    def shape(self, key: str, table: schema.AnyStage, base: LoadPoint) -> Shape:
        match table:
            case schema.HoldStage():
                return self.hold(key, table)
            case schema.RampStage(unit=unit):
                return Ramp(
                    self.level(f"{key}.start", table.start, unit), self.level(f"{key}.stop", table.stop, unit), unit
                )
            case schema.StepsStage(unit=unit):
                levels = enumerate(table.levels, 1)
                return Steps(tuple(self.level(f"{key}.levels[{i}]", load, unit) for i, load in levels), unit)
            case schema.SpikeStage(unit=unit):
                if not table.rise < table.fall:
                    raise self.fault(f"{key}.fall", "must be later than rise")
                low, high = self.level(f"{key}.base", table.base, unit), self.level(f"{key}.peak", table.peak, unit)
                return Spike(low, high, float(table.rise), float(table.fall), unit)
            case schema.SineStage(unit=unit):
                low, high = self.level(f"{key}.low", table.low, unit), self.level(f"{key}.high", table.high, unit)
                if low > high:
                    raise self.fault(f"{key}.high", "must not be below low")
                return Sine(low, high, float(table.period), unit)
            case schema.ReplayStage():
                if self.table.peak_from_slots:
                    raise self.fault(f"{key}.shape", "repeats loads as they are; leave out peak_from_slots")
                return self.replay(key, table, base)

    def hold(self, key: str, table: schema.HoldStage) -> Hold:
        if (table.concurrency is None) == (table.rate_rps is None):
            raise self.fault(f"{key}.concurrency", "a hold needs concurrency or rate_rps, one of the two")
        if table.concurrency is not None:
            return Hold(concurrency=self.users(f"{key}.concurrency", table.concurrency))
        assert table.rate_rps is not None
        return Hold(rate_rps=self.load(f"{key}.rate_rps", table.rate_rps, "rate_rps"))

    def replay(self, key: str, table: schema.ReplayStage, base: LoadPoint) -> Replay:
        points = []
        last = -1.0
        for place, row in enumerate(table.points, 1):
            if row.at < last:
                raise self.fault(f"{key}.points[{place}].at", "must not be earlier than the point before")
            last = float(row.at)
            points.append((last, self.point(f"{key}.points[{place}]", row, base)))
        return Replay(tuple(points))

    def slo(self) -> Slo:
        table = self.table.slo
        if isinstance(table, str):
            try:
                return parse_slo(table)
            except UsageError as error:
                raise self.fault("slo", str(error)) from None
        if not table:
            return usual_slo(self.table.workload.api, self.own_slo)
        targets: list[SloTarget] = []
        for name, value in _limits_in(table):
            key = f"slo.{plain(name)}"
            try:
                row = msgspec.convert(value, str | float | schema.SloLimit)
            except msgspec.ValidationError:
                raise self.fault(key, 'must be a limit such as "2s", or { limit = "1%", warn = "0.1%" }') from None
            warn = None
            if isinstance(row, schema.SloLimit):
                if row.warn is not None:
                    warn = self.target(f"{key}.warn", name, row.warn).limit
                row = row.limit
            target = self.target(key, name, row)
            if warn is not None and warn > target.limit:
                raise self.fault(f"{key}.warn", "must not be above the limit")
            if any(target.name == other.name for other in targets):
                raise self.fault(key, f"is a second limit on {target.name}: keep one")
            targets.append(structs.replace(target, warn=warn))
        return slo_of(targets)

    def meant(self, slo: Slo) -> Slo:
        """The SLO, if the workload's API has what it limits."""
        wrong = without_meaning(slo, self.table.workload.api)
        if wrong is not None:
            raise self.fault(f"slo.{wrong.name}", NOT_OF_EMBEDDINGS)
        return slo

    def target(self, key: str, name: str, limit: str | float) -> SloTarget:
        try:
            return parse_target(name, str(limit))
        except UsageError as error:
            raise self.fault(key, str(error)) from None

    def caps(self) -> Caps:
        table = self.table.limits
        timeouts = {
            f"{name}_timeout_s": float(getattr(table, f"{name}_timeout"))
            for name in ("connect", "first_token", "idle", "total")
        }
        ratio = None if math.isinf(table.stop_error_ratio) else float(table.stop_error_ratio)
        return Caps(max_concurrency=table.max_concurrency, stop_error_ratio=ratio, **timeouts)

    def cost(self) -> Cost:
        table = self.table.cost
        if table.currency is not None and (problem := currency_problem(table.currency)):
            raise self.fault("cost.currency", problem)
        traffic = tuple(map(float, table.traffic))
        if problem := traffic_problem(traffic):
            raise self.fault("cost.traffic", problem)
        return Cost(
            gpu_price_per_hour=table.gpu_price_per_hour,
            gpus=table.gpus,
            currency=plain(table.currency or ""),
            peak=table.peak,
            traffic=traffic,
            think_time_s=None if table.think_time is None else float(table.think_time),
        )


def _limits_in(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, what is written there) of each limit: `answer.ttft_p95` of a table `[slo.answer]`, or as it is."""
    for name, value in table.items():
        if isinstance(value, dict) and name not in FIGURES and not {"limit", "warn"} & set(value):
            yield from ((f"{name}.{inner}", limit) for inner, limit in _limits_in(value))
        else:
            yield name, value
