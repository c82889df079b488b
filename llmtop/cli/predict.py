"""`llmtop predict PRESET`: the simulated engine in virtual time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from llmtop.analysis.predicted import MOST_USERS, assess_prediction, predict_edge
from llmtop.cli import cost
from llmtop.cli.numbers import numbers
from llmtop.cli.output import complain, print_json, say, verdicts_json
from llmtop.cli.recorded import driven_preset
from llmtop.cli.slo import slo_without_profile
from llmtop.cli.target import knobs_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.bounds import SENT_RATE, Quantity
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.errors import FileError, UsageError
from llmtop.inputs import path_of
from llmtop.simulator.engine import (
    EngineConfig,
    Lengths,
    PredictedPoint,
    Prediction,
    ReplayRequest,
    load_preset,
    predict,
)
from llmtop.traffic.read import read
from llmtop.wording.cost import as_block
from llmtop.wording.figures import TEXT

USERS = Quantity("users", 1, MOST_USERS, "users", whole=True)


def main(arguments: argparse.Namespace) -> int:
    if arguments.fit is not None:
        from llmtop.cli import foresee

        return foresee.main(arguments)
    if arguments.preset is None:
        raise UsageError("predict what? name a preset (`llmtop sim --list`), or a run to fit a twin to: --fit last")
    driven = driven_preset(arguments.preset)
    preset = load_preset(arguments.preset if driven is None else driven[0])
    knobs: dict[str, bool | int | float | str] = {**({} if driven is None else driven[1]), **knobs_of(arguments.set)}
    given = [name for name in ("concurrency", "rate", "requests") if getattr(arguments, name) is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]}: give one of them")
    slo = slo_without_profile(arguments)
    levels = tuple(map(int, numbers("--concurrency", arguments.concurrency, USERS)))
    rates = numbers("--rate", arguments.rate, SENT_RATE)
    asked = {"prompt_tokens": arguments.prompt_tokens, "output_tokens": arguments.output_tokens}
    asked |= {"shared_prefix": arguments.shared_prefix}
    lengths = Lengths(**{name: value for name, value in asked.items() if value is not None})

    requests = () if arguments.requests is None else _requests(path_of(arguments.requests))

    def run(users: Sequence[int]) -> Prediction:
        return predict(
            preset,
            concurrency=users,
            rate=rates,
            requests=requests,
            requests_per_level=arguments.per_level,
            seed=arguments.seed,
            stagger_s=arguments.stagger,
            knobs=knobs,
            lengths=lengths,
        )

    stated, deployment = cost.stated(arguments), preset.with_knobs(knobs)
    ladder = () if given else _ladder(deployment.config, lengths)
    prediction = run(levels) if given else predict_edge(run, ladder, slo)
    if stated != UNSTATED:
        stated = stated.over(Cost(gpus=deployment.engine.tensor_parallel))
    assessment = assess_prediction(prediction, slo, stated, deployment.step_model)
    if arguments.json:
        print_json(as_json(prediction, assessment, arguments.rows))
    else:
        say(as_text(prediction, assessment))
    return 0


def _ladder(config: EngineConfig, lengths: Lengths) -> tuple[int, ...]:
    """Levels from 1 to past the slots, or to past what fits the KV cache where that is less."""
    fits = config.capacity_tokens / (lengths.prompt_tokens + lengths.output_tokens / 2)
    wall = min(config.max_num_seqs, fits, MOST_USERS / 4)
    return tuple(sorted({max(1, round(wall * 2 ** (step / 2))) for step in range(-8, 4)} | {1}))


def as_json(prediction: Prediction, assessment: Assessment, rows: bool) -> dict[str, object]:
    """The prediction and its verdicts, for machines. Raw samples are left out, requests unless `rows`."""
    fields: dict[str, object] = msgspec.to_builtins(prediction)
    points: list[dict[str, object]] = msgspec.to_builtins(prediction.points)
    for point in points:
        del point["samples"]
    fields["points"] = points
    if not rows:
        del fields["requests"]
    return {**fields, **verdicts_json(assessment)}


HEADINGS = ("load", "tok/s", "req/s", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "running", "waiting", "KV")


def as_text(prediction: Prediction, assessment: Assessment) -> str:
    """A table of the levels, then the verdict."""
    config = prediction.config
    rows = [HEADINGS, *(_cells(point) for point in prediction.points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{prediction.preset}: {config.max_num_seqs} slots, {config.num_gpu_blocks} KV blocks", ""]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if prediction.makespan_s is not None:
        return "\n".join([*lines, "", f"makespan {TEXT.duration(prediction.makespan_s)}"])
    said = [assessment.headline, *filter(None, [assessment.capacity.sentence]), *as_block(assessment.costs)]
    return "\n".join([*lines, "", *said])


def _cells(point: PredictedPoint) -> tuple[str, ...]:
    load = point.rate_rps if point.concurrency is None else point.concurrency
    return (
        "replay" if load is None else TEXT.load(load, "rate" if point.concurrency is None else "concurrency"),
        TEXT.count(point.output_tokens_per_s),
        TEXT.count(point.requests_per_s),
        TEXT.latency(point.ttft_ms.p50),
        TEXT.latency(point.ttft_ms.p95),
        TEXT.latency(point.tpot_ms.p50),
        TEXT.latency(point.tpot_ms.p95),
        TEXT.count(point.running_mean),
        TEXT.count(point.waiting_mean),
        TEXT.percent(point.kv_usage_max),
    )


def _requests(path: Path) -> tuple[ReplayRequest, ...]:
    """The request list of a file, in order of arrival."""
    traffic = read(path)
    for note in traffic.says:
        complain(note)
    if not traffic.prompt.all() or not traffic.output.all():
        raise FileError(path, f"as {traffic.source} it does not tell the lengths of all requests")
    columns = (traffic.start_s, traffic.prompt, traffic.output)
    return tuple(map(ReplayRequest, *(column.tolist() for column in columns)))
