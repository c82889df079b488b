"""Opinions over a predicted curve: the same verdicts as over a measured one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from llmtop.analysis.capacity import judge_level
from llmtop.analysis.cost import split_by_steps
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.tabled import assess_levels
from llmtop.domain.assessment import Assessment
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import Slo
from llmtop.simulator.engine import Lengths, PredictedPoint, Prediction, StepLoad, StepModel

EDGE = 0.02
"""How closely the last level that keeps the SLO is told: seeds differ by as much."""
MOST_USERS = 4096
"""Beyond so many users a level takes minutes."""


def assess_prediction(
    prediction: Prediction, slo: Slo, cost: Cost = UNSTATED, model: StepModel | None = None
) -> Assessment:
    """All verdicts over a predicted curve; a replay of a request list has one point and so no cliff.

    Args:
        model: of the engine's steps, by which the cost of input and output is told apart; None: by TTFT.
    """
    config, lengths = prediction.config, prediction.lengths
    axis: Axis = "rate" if prediction.axis == "rate" else "concurrency"
    asked = LoadPoint(concurrency=0, prompt_tokens=lengths.prompt_tokens, output_tokens=lengths.output_tokens)
    limits = Limits(
        max_num_seqs=config.max_num_seqs,
        kv_capacity_tokens=config.capacity_tokens,
        max_num_batched_tokens=config.max_num_batched_tokens,
        prompt_tokens=lengths.prompt_tokens,
        output_tokens=lengths.output_tokens,
        prompt_cv=lengths.prompt_cv,
        output_cv=lengths.output_cv,
        block_tokens=config.block_size,
    )
    told = assess_levels(
        [_level(point, lengths.prompt_tokens) for point in prediction.points],
        slo=slo,
        axis=axis,
        limits=limits,
        point=asked.at(axis, 0),
        dialect=Dialect.VLLM,
        cost=cost,
    )
    costs = told.costs
    if costs is None or costs.at is None or model is None:
        return told
    there = min(prediction.points, key=lambda point: abs(_load(point) - (costs.at or 0.0)))
    return msgspec.structs.replace(told, costs=split_by_steps(costs, _prompt_share(model, there, lengths)))


def _prompt_share(model: StepModel, point: PredictedPoint, lengths: Lengths) -> float:
    """Of the engine's time at a load, what steps take longer for the prompts in them, each in a step of its own."""
    prompt = round(lengths.prompt_tokens * (1 - (point.prefix_hit_ratio or 0.0)))
    decodes = round(point.running_mean)
    context = round(decodes * (lengths.prompt_tokens + lengths.output_tokens / 2))
    plain = StepLoad(tokens=decodes, sequences=decodes, decodes=decodes, decode_context=context)
    full = msgspec.structs.replace(plain, tokens=decodes + prompt, sequences=decodes + 1, chunks=((0, prompt),))
    return min(1.0, point.requests_per_s * (model.seconds(full) - model.seconds(plain)))


def _load(point: PredictedPoint) -> float:
    return float(point.concurrency or point.rate_rps or 1)


def predict_edge(run: Callable[[Sequence[int]], Prediction], levels: Sequence[int], slo: Slo) -> Prediction:
    """A curve in closed loop over `levels`, and over those that close in on the last one that keeps the SLO.

    Virtual time is free: instead of a rung of a ladder the edge is told to `EDGE` of itself.

    Args:
        run: predicts some levels.
    """
    prediction = run(levels)
    points = {point.concurrency or 0: point for point in prediction.points}
    while (between := _next_level(points, slo)) is not None:
        points[between] = run([between]).points[0]
    return msgspec.structs.replace(prediction, points=tuple(points[load] for load in sorted(points)))


def _next_level(points: Mapping[int, PredictedPoint], slo: Slo) -> int | None:
    """Half-way between the highest level that holds below the first that fails and that one; twice the last if none."""
    answers = {load: judge_level(_level(point), slo).ok for load, point in sorted(points.items())}
    fails = next((load for load, ok in answers.items() if ok is False), None)
    holds = max((load for load, ok in answers.items() if ok and (fails is None or load < fails)), default=0)
    if fails is None:
        doubled = 2 * max(points)
        return doubled if holds and doubled <= MOST_USERS else None
    between = (holds + fails) // 2
    close = fails - holds <= max(1, EDGE * holds)
    return None if close or between in points else between  # too few requests there say neither, and always will


def _level(point: PredictedPoint, prompt_tokens: float | None = None) -> Level:
    return Level(
        load=_load(point),
        ttft_s=np.array(point.samples.ttft_s),
        tpot_s=np.array(point.samples.tpot_s),
        e2e_s=np.array(point.samples.e2e_s),
        requests_per_s=point.requests_per_s,
        output_tokens_per_s=point.output_tokens_per_s,
        prompt_tokens=prompt_tokens,
        running=point.running_mean,
        waiting=point.waiting_mean,
        kv_usage=point.kv_usage_max,
        preemptions=point.preemptions,
    )
