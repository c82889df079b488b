"""`predict`: what a deployment would show under a load, without the deployment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

from msgspec import Struct

from llmtop.errors import UsageError
from llmtop.meter.quantiles import quantile
from llmtop.simulator.engine.config import EngineConfig
from llmtop.simulator.engine.driver import Lengths, VirtualDriver, Visit, Work, closed_loop, open_loop
from llmtop.simulator.engine.engine import Engine
from llmtop.simulator.engine.preset import KnobValue, Preset, load_preset
from llmtop.simulator.engine.steptime import StepLoad


class Latency(Struct, frozen=True):
    """Milliseconds over the requests of a level; None: no request has the figure."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


class LevelSamples(Struct, frozen=True):
    """What the points are made of, one entry a request in order of sending, in seconds."""

    ttft_s: tuple[float, ...] = ()
    tpot_s: tuple[float, ...] = ()
    """Requests of a single token have none."""
    e2e_s: tuple[float, ...] = ()


class PredictedPoint(Struct, frozen=True, kw_only=True):
    """One load level, after its warm-up. Exactly one of `concurrency` and `rate_rps` is set; neither for a replay."""

    concurrency: int | None = None
    rate_rps: float | None = None
    n: int
    output_tokens_per_s: float
    requests_per_s: float
    """Output tokens/s over the mean output: a request half done at a border of the window counts half."""
    ttft_ms: Latency
    tpot_ms: Latency
    e2e_ms: Latency
    running_mean: float
    waiting_mean: float
    kv_usage_max: float
    """0 to 1."""
    preemptions: int
    rejections: int = 0
    prefix_hit_ratio: float | None = None
    samples: LevelSamples = LevelSamples()


class ReplayRequest(Struct, frozen=True):
    """One line of a request list."""

    arrival_s: float
    input_tokens: int
    output_tokens: int


class PredictedRequest(Struct, frozen=True):
    """One request of a replayed list. None: it was turned away, or never got there."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None


class Prediction(Struct, frozen=True, kw_only=True):
    """A predicted curve. `makespan_s` and `requests` belong to a replay."""

    preset: str
    knobs: dict[str, KnobValue]
    lengths: Lengths
    config: EngineConfig
    axis: Literal["concurrency", "rate", "replay"]
    """concurrency, rate or replay."""
    points: tuple[PredictedPoint, ...]
    makespan_s: float | None = None
    """From the first arrival to the last token."""
    requests: tuple[PredictedRequest, ...] = ()


def predict(
    preset: Preset | str,
    *,
    concurrency: Sequence[int] = (),
    rate: Sequence[float] = (),
    requests: Sequence[ReplayRequest] = (),
    lengths: Lengths | None = None,
    prompt_tokens: int = 192,
    output_tokens: int = 64,
    think_time_s: float = 0.0,
    stagger_s: float | None = 0.0,
    burstiness: float = 1.0,
    max_in_flight: int | None = None,
    requests_per_level: int | None = None,
    seed: int = 0,
    knobs: dict[str, KnobValue] | None = None,
) -> Prediction:
    """Run the simulated engine in virtual time, level by level, each on an engine of its own.

    Pure: the same arguments give the same prediction, and a level's figures do not depend on the other levels.

    Args:
        preset: a preset, or the name or path of one.
        concurrency: closed loop: requests in flight, one level each. Exactly one of this,
        rate: open loop: requests/s, one level each, and
        requests: a list to replay, in order of arrival, is given.
        lengths: of prompts and outputs; overrides `prompt_tokens` and `output_tokens`.
        think_time_s: closed loop: pause of a user between two requests.
        stagger_s: closed loop: time over which the users start; at once for 0, so that they stay a convoy; None: over
            about one request's time, as users who know nothing of each other.
        burstiness: open loop: 1 is Poisson, below 1 comes in bursts, `inf` is constant.
        max_in_flight: open loop: the client holds back what would be one more.
        requests_per_level: counted after the warm-up. Default: 4 per user and at least 200 in closed loop; those of
            30 s, at least 200 and at most 1500, in open loop.
        knobs: as `Preset.with_knobs` takes them.

    Raises:
        UsageError: a knob or a level that cannot be meant, requests that do not fit the deployment, or more to
            simulate than minutes allow.
        ProfileError: the preset cannot be read.
    """
    if sum(map(bool, (concurrency, rate, requests))) != 1:
        raise UsageError("predict: give exactly one of concurrency, rate and requests")
    if any(level < 1 for level in concurrency) or any(level <= 0.0 for level in rate):
        raise UsageError("predict: every level must be above zero")
    base = load_preset(preset) if isinstance(preset, str) else preset
    deployment = base.with_knobs(knobs or {})
    if lengths is None:
        lengths = Lengths(prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    if not requests:
        _check_fit(deployment, lengths)
    makespan_s = None
    rows: tuple[PredictedRequest, ...] = ()
    points: list[PredictedPoint] = []
    work = Work()
    if concurrency:
        counts = [requests_per_level or max(200, 4 * users) for users in concurrency]
        _check_work(work, sum(counts) * lengths.output_tokens)
        for users, count in zip(concurrency, counts, strict=True):
            over_s = _one_request_s(deployment, users, lengths) if stagger_s is None else stagger_s
            points.append(_closed_level(deployment, users, lengths, think_time_s, over_s, count, seed, work))
    elif rate:
        counts = [requests_per_level or min(max(200, round(30 * rps)), 1500) for rps in rate]
        _check_work(work, sum(counts) * lengths.output_tokens)
        for rps, count in zip(rate, counts, strict=True):
            points.append(_open_level(deployment, rps, lengths, burstiness, max_in_flight, count, seed, work))
    else:
        _check_work(work, sum(request.output_tokens for request in requests))
        point, rows, makespan_s = _replay(deployment, requests, seed, work)
        points.append(point)
    return Prediction(
        preset=base.name,
        knobs=knobs or {},
        lengths=lengths,
        config=deployment.config,
        axis="concurrency" if concurrency else "rate" if rate else "replay",
        points=tuple(points),
        makespan_s=makespan_s,
        requests=rows,
    )


def _check_work(work: Work, tokens: int) -> None:
    """Every output token is a sequence in a step: what is too much is refused at once."""
    Work(work.left).spend(tokens)


def _check_fit(preset: Preset, lengths: Lengths) -> None:
    """A request of these lengths must fit: the engine would turn it away, or cut its answer."""
    wanted, limit = lengths.prompt_tokens + lengths.output_tokens, preset.config.request_limit_tokens
    if wanted > limit:
        raise UsageError(
            f"{lengths.prompt_tokens} prompt and {lengths.output_tokens} output tokens do not fit {preset.name}: "
            f"a request may have {limit} (max_model_len {preset.config.max_model_len}, "
            f"KV cache {preset.config.capacity_tokens})"
        )


def _one_request_s(preset: Preset, users: int, lengths: Lengths) -> float:
    """About how long a request takes at this load, its wait included."""
    running = min(users, preset.config.max_num_seqs)
    prompt, output = lengths.prompt_tokens, lengths.output_tokens
    context = running * (prompt + output // 2)
    decode = StepLoad(tokens=running, sequences=running, decodes=running, decode_context=context)
    prefill = StepLoad(tokens=prompt, sequences=1, chunks=((0, prompt),))
    model = preset.step_model
    return users / running * (output * model.seconds(decode) + running * model.seconds(prefill))


def _driver(preset: Preset, seed: int, level: float, work: Work) -> VirtualDriver:
    """A fresh engine; its noise depends on the seed and the level only."""
    level_seed = seed * 1_000_003 + round(level * 1000)
    return VirtualDriver(Engine(preset.config, preset.step_model, level_seed), preset.overhead, level_seed, work)


def _closed_level(
    preset: Preset, users: int, lengths: Lengths, think_s: float, stagger_s: float, count: int, seed: int, work: Work
) -> PredictedPoint:
    """Warm up for 1.5 requests per user, then follow the next `count` that are sent until all have ended."""
    driver = _driver(preset, seed, users, work)
    visits = closed_loop(driver, users, lengths, think_s, stagger_s)
    for _visit in islice(visits, users + users // 2):
        pass
    ended, rates = _follow(driver, visits, range(driver.sent, driver.sent + count), open_loop=False)
    return _point(ended, rates, concurrency=users)


def _open_level(
    preset: Preset,
    rate_rps: float,
    lengths: Lengths,
    burstiness: float,
    max_in_flight: int | None,
    count: int,
    seed: int,
    work: Work,
) -> PredictedPoint:
    """Warm up for a tenth more requests, then follow `count`; rates are taken until the last of them is sent."""
    warm_up = count // 10
    driver = _driver(preset, seed, rate_rps, work)
    visits = open_loop(driver, rate_rps, warm_up + count, lengths, burstiness, max_in_flight, seed)
    early = list(islice(visits, warm_up))
    ended, rates = _follow(driver, visits, range(warm_up, warm_up + count), early=early, open_loop=True)
    return _point(ended, rates, rate_rps=rate_rps)


def _replay(
    preset: Preset, requests: Sequence[ReplayRequest], seed: int, work: Work
) -> tuple[PredictedPoint, tuple[PredictedRequest, ...], float]:
    driver = _driver(preset, seed, 0, work)
    start_s = min(request.arrival_s for request in requests)
    for request in requests:
        lengths = Lengths(prompt_tokens=request.input_tokens, output_tokens=request.output_tokens)
        driver.send(round((request.arrival_s - start_s) * 1e9), lengths)
    ended, rates = _follow(driver, driver.run(), range(len(requests)), open_loop=False)
    by_number = {visit.number: visit for visit in ended if not visit.rejected}
    rows = tuple(_row(request, by_number.get(number)) for number, request in enumerate(requests))
    return _point(ended, rates), rows, max((visit.end_ns for visit in ended), default=0) * 1e-9


def _row(request: ReplayRequest, visit: Visit | None) -> PredictedRequest:
    figures = (visit.ttft_s, visit.tpot_s, visit.e2e_s) if visit else (None, None, None)
    return PredictedRequest(request.arrival_s, request.input_tokens, request.output_tokens, *figures)


class _Rates(Struct, frozen=True):
    """What the engine did in a window of time."""

    output_tokens_per_s: float
    running_mean: float
    waiting_mean: float
    kv_usage_max: float
    preemptions: int
    prefix_hit_ratio: float | None


class _Measurement:
    """Opened when the warm-up is over."""

    def __init__(self, driver: VirtualDriver) -> None:
        driver.restart_gauges()
        self._driver = driver
        self._before = self._counts()

    def _counts(self) -> tuple[int, int, int]:
        statistics = self._driver.engine.statistics
        return statistics.preemptions, statistics.prefix_queries, statistics.prefix_hits

    def read(self) -> _Rates:
        """The figures up to now."""
        gauges = self._driver.gauges
        preemptions, queries, hits = (
            after - before for after, before in zip(self._counts(), self._before, strict=True)
        )
        span_ns = max(1, gauges.until_ns - gauges.since_ns)
        return _Rates(
            output_tokens_per_s=gauges.output_tokens / (span_ns * 1e-9),
            running_mean=gauges.running_ns / span_ns,
            waiting_mean=gauges.waiting_ns / span_ns,
            kv_usage_max=gauges.kv_usage_max,
            preemptions=preemptions,
            prefix_hit_ratio=hits / queries if queries else None,
        )


def _follow(
    driver: VirtualDriver, visits: Iterator[Visit], cohort: range, *, early: Iterable[Visit] = (), open_loop: bool
) -> tuple[list[Visit], _Rates]:
    """The requests numbered in `cohort`, each when it ended, and the rates under full load.

    Full load lasts until the last of them has ended; in open loop, until the last has been sent. `early` are visits of
    the warm-up, among which some of the cohort may be.
    """
    window = _Measurement(driver)
    rates: _Rates | None = None
    ended = [visit for visit in early if visit.number in cohort]
    for visit in visits:
        if visit.number in cohort:
            ended.append(visit)
        if open_loop and rates is None and not driver.arrivals_left and driver.sent == cohort.stop:
            rates = window.read()
        if len(ended) == len(cohort):
            break
    return ended, rates or window.read()


def _point(
    ended: list[Visit], rates: _Rates, *, concurrency: int | None = None, rate_rps: float | None = None
) -> PredictedPoint:
    good = sorted((visit for visit in ended if not visit.rejected), key=lambda visit: visit.number)
    samples = LevelSamples(
        ttft_s=tuple(visit.ttft_s for visit in good),
        tpot_s=tuple(tpot for visit in good if (tpot := visit.tpot_s) is not None),
        e2e_s=tuple(visit.e2e_s for visit in good),
    )
    mean_output_tokens = sum(visit.output_tokens for visit in good) / len(good) if good else 1.0
    return PredictedPoint(
        concurrency=concurrency,
        rate_rps=rate_rps,
        n=len(good),
        output_tokens_per_s=rates.output_tokens_per_s,
        requests_per_s=rates.output_tokens_per_s / mean_output_tokens,
        ttft_ms=_latency(samples.ttft_s),
        tpot_ms=_latency(samples.tpot_s),
        e2e_ms=_latency(samples.e2e_s),
        running_mean=rates.running_mean,
        waiting_mean=rates.waiting_mean,
        kv_usage_max=rates.kv_usage_max,
        preemptions=rates.preemptions,
        rejections=len(ended) - len(good),
        prefix_hit_ratio=rates.prefix_hit_ratio,
        samples=samples,
    )


def _latency(seconds: Sequence[float]) -> Latency:
    if not seconds:
        return Latency()
    ordered = sorted(seconds)
    mean = sum(ordered) / len(ordered)
    return Latency(1e3 * mean, *(1e3 * quantile(ordered, share) for share in (0.50, 0.90, 0.95, 0.99)))
