"""Opinions over a predicted curve: the same verdicts as over a measured one."""

from __future__ import annotations

import numpy as np

from llmtop.analysis.assess import assess_levels
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.simulator.engine import PredictedPoint, Prediction


def assess_prediction(prediction: Prediction, slo: Slo) -> Assessment:
    """All verdicts over a predicted curve; a replay of a request list has one point and so no cliff."""
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
    return assess_levels(
        [_level(point) for point in prediction.points],
        slo=slo,
        axis=axis,
        limits=limits,
        point=asked.at(axis, 0),
        dialect=Dialect.VLLM,
    )


def _level(point: PredictedPoint) -> Level:
    return Level(
        load=float(point.concurrency or point.rate_rps or 1),
        ttft_s=np.array(point.samples.ttft_s),
        tpot_s=np.array(point.samples.tpot_s),
        e2e_s=np.array(point.samples.e2e_s),
        requests_per_s=point.requests_per_s,
        output_tokens_per_s=point.output_tokens_per_s,
        running=point.running_mean,
        waiting=point.waiting_mean,
        kv_usage=point.kv_usage_max,
        preemptions=point.preemptions,
    )
