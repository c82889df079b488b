"""Simulated servers, a ramp by hand on each, the advice that it leads to, and by brute force what there was to gain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.analysis.predicted import assess_prediction
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Forecast
from llmtop.simulator.engine import Lengths, PredictedPoint, Preset, load_preset, predict

Knobs = dict[str, float]
TOP = 1500
"""Users beyond which a ramp and a brute force give up."""


@dataclass(frozen=True)
class Server:
    name: str
    preset: str
    prompt: int
    output: int
    slo: str = "ttft_p95<2s,tpot_p95<50ms"
    knobs: Knobs = field(default_factory=dict)
    prompt_cv: float = 0.3
    output_cv: float = 0.3
    shared: float = 0.0
    rate: bool = False

    @property
    def limits(self) -> Slo:
        return parse_slo(self.slo)

    def deployed(self, knobs: Knobs) -> Preset:
        return load_preset(self.preset).with_knobs({**self.knobs, **knobs})

    @property
    def lengths(self) -> Lengths:
        return Lengths(
            prompt_tokens=self.prompt,
            output_tokens=self.output,
            prompt_cv=self.prompt_cv,
            output_cv=self.output_cv,
            shared_prefix=self.shared,
        )


def keeps(point: PredictedPoint, slo: Slo) -> bool:
    for target in slo.targets:
        values = getattr(point.samples, f"{target.metric}_s")
        if len(values) and np.quantile(values, 0.95) > target.limit:
            return False
    return True


def predicted(server: Server, knobs: Knobs, load: float) -> PredictedPoint:
    preset, lengths = server.deployed(knobs), server.lengths
    if server.rate:
        return predict(preset, rate=[load], lengths=lengths, requests_per_level=1200).points[0]
    count = max(240, 4 * round(load))
    return predict(preset, concurrency=[round(load)], lengths=lengths, stagger_s=None, requests_per_level=count).points[
        0
    ]


def true_capacity(server: Server, knobs: Knobs, guess: float) -> float:
    """The largest load that keeps the SLO, within 2 %; 0 if none does."""
    step = 0.05 if server.rate else 1.0
    held, failed, load = 0.0, 0.0, max(step, guess)
    while not failed and load <= TOP:
        load = load if server.rate else round(load)
        if keeps(predicted(server, knobs, load), server.limits):
            held, load = load, max(load + step, 1.4 * load)
        else:
            failed = load
    while not held and failed > step:
        load = max(step, failed / 1.4)
        load = load if server.rate else int(load)
        if keeps(predicted(server, knobs, load), server.limits):
            held = load
        else:
            failed = load
    while failed - held > max(step, 0.02 * held):
        middle = (held + failed) / 2 if server.rate else (held + failed) // 2
        if keeps(predicted(server, knobs, middle), server.limits):
            held = middle
        else:
            failed = middle
    return held


def ramp(server: Server, knobs: Knobs, seed: int = 1) -> Assessment:
    """Levels half as high again each, held for three requests a user, until two have broken the SLO."""
    if server.rate:
        return _ramp_of_rates(server, knobs)
    slo, load, past = server.limits, 2, 0

    def point(users: int) -> LoadPoint:
        return LoadPoint(
            concurrency=users, prompt_tokens=server.prompt, output_tokens=server.output, shared_prefix=server.shared
        )

    session = VirtualSession(
        server.deployed(knobs), point(load), seed=seed, prompt_cv=server.prompt_cv, output_cv=server.output_cv
    )
    while past < 2 and load <= TOP:
        session.command(point(load))
        start_s, goal = session.now_s, session.finished + load + max(60, 3 * load)
        while session.finished < goal:
            session.run_until(session.now_s + 1.0)
        table = session.facts.requests
        new = table.column("sent_s") > start_s + 0.3 * (session.now_s - start_s)
        latencies = ((target, table.column(f"{target.metric}_s")[new]) for target in slo.targets)
        past += any(np.nanquantile(values, 0.95) > target.limit for target, values in latencies)
        load = max(load + 1, round(1.5 * load))
    return assess(session.facts, session.meta, slo, now_s=session.now_s)


def _ramp_of_rates(server: Server, knobs: Knobs) -> Assessment:
    rates, past, rate = [], 0, 1.0
    while past < 2:
        rates.append(round(rate, 2))
        past += not keeps(predicted(server, knobs, rates[-1]), server.limits)
        rate *= 1.35
    told = predict(server.deployed(knobs), rate=rates, lengths=server.lengths, requests_per_level=1200)
    return assess_prediction(told, server.limits)


def turned(server: Server, knobs: Knobs, forecast: Forecast) -> Knobs:
    """The knobs as the advice wants them; half as many bytes of KV cache a token are twice the blocks."""
    config = server.deployed(knobs).config
    then = dict(knobs)
    for turn in forecast.turns:
        if turn.knob == "slots":
            then["max_num_seqs"] = int(turn.then)
        elif turn.knob == "token_budget":
            then["max_num_batched_tokens"] = int(turn.then)
        else:
            then |= {"num_gpu_blocks": 2 * config.num_gpu_blocks, "kv_bytes": 1.0}
    return then


def moves(server: Server, load: float) -> tuple[dict[Bound, float], dict[Bound, float]]:
    """Gain in requests/s, and in running requests, at a load past the wall by doubling each knob: what really binds."""
    config = server.deployed({}).config
    base = predicted(server, {}, load)
    doubled: dict[Bound, Knobs] = {
        Bound.QUEUE: {"max_num_seqs": 2 * config.max_num_seqs},
        Bound.KV: {"num_gpu_blocks": 2 * config.num_gpu_blocks},
        Bound.TOKEN_BUDGET: {"max_num_batched_tokens": 2 * config.max_num_batched_tokens},
    }
    points = {bound: predicted(server, knobs, load) for bound, knobs in doubled.items()}
    return (
        {bound: point.requests_per_s / base.requests_per_s - 1 for bound, point in points.items()},
        {bound: point.running_mean / base.running_mean - 1 for bound, point in points.items()},
    )


def right_cause(bound: Bound, gains: dict[Bound, float]) -> bool:
    """The knob named moves most, or nearly so; or none moves much, and the steps themselves bind, or nothing."""
    most = max(gains.values())
    if bound in gains:
        return gains[bound] >= 0.02 and gains[bound] >= 0.5 * most
    return bound in (Bound.COMPUTE, Bound.MEMORY, Bound.NONE) and most < 0.1


_L, _A, _H, _R = "laptop", "a100-phi-4-mini", "h100-llama-3.1-8b", "rtx4090-llama-3.1-8b"
_Q, _S = "l4-qwen2.5-0.5b", "4xh100-llama-3.1-70b"


def _slots(preset: str, prompt: int, output: int, slo: str, *slots: int, **more: float) -> list[Server]:
    """The same load on servers of several numbers of slots; `more` are knobs, or fields of the load."""
    fields = {name: more.pop(name) for name in ("prompt_cv", "output_cv", "shared", "rate") if name in more}
    spread = fields.get("prompt_cv", 0.3)
    kind = "open" if "rate" in fields else "warm" if "shared" in fields else "mixed" if spread > 0.5 else "slots"
    name = f"{kind}{'' if spread else ' fixed'} {preset} {prompt}/{output}"
    return [
        Server(f"{name} M{each}", preset, prompt, output, slo, {**more, "max_num_seqs": each}, **fields)  # type: ignore[arg-type]
        for each in slots
    ]


_DEMO, _FAST = "ttft_p95<2s,tpot_p95<50ms", "ttft_p95<1s,tpot_p95<20ms"
SERVERS: tuple[Server, ...] = (
    *_slots(_L, 192, 64, _DEMO, 8, 16, 24, 32, 40, 46, num_gpu_blocks=768),
    *_slots(_L, 192, 64, _DEMO, 64, num_gpu_blocks=2000),
    *_slots(_L, 192, 64, _DEMO, 32, 40, prompt_cv=0.0, output_cv=0.0),
    *_slots(_L, 64, 32, _DEMO, 12),
    *_slots(_A, 512, 128, _DEMO, 32, 64, 96),
    *_slots(_A, 512, 128, "ttft_p95<2s,tpot_p95<25ms", 128, 256),
    *_slots(_H, 512, 128, _FAST, 16, 48, 128, 256),
    *_slots(_R, 256, 128, _DEMO, 16, 40),
    *_slots(_R, 256, 128, "ttft_p95<2s,tpot_p95<30ms", 96),
    *_slots(_Q, 256, 128, _FAST, 32, 64, 128),
    *_slots(_S, 512, 128, _DEMO, 16, 128),
    *_slots(_S, 1024, 128, _DEMO, 24),
    *_slots("rtx4090-qwen2.5-7b", 256, 256, "ttft_p95<3s,tpot_p95<30ms", 24, 64),
    *_slots("rtxpro6000-llama-3.1-8b", 512, 128, "ttft_p95<2s,tpot_p95<30ms", 32, 128),
    *_slots("2xh100-llama-3.3-70b-fp8", 512, 128, "ttft_p95<2s,tpot_p95<40ms", 128),
    *_slots("a100-llama-3.1-8b", 512, 128, "ttft_p95<2s,tpot_p95<30ms", 256),
    Server("kv laptop 300", _L, 192, 64, knobs={"max_num_seqs": 64, "num_gpu_blocks": 300}),
    Server("kv laptop 200", _L, 192, 64, knobs={"num_gpu_blocks": 200}),
    Server("kv laptop 23 %", _L, 1536, 64, "ttft_p95<10s,tpot_p95<100ms", {"num_gpu_blocks": 430}, 0.0, 0.0),
    Server("kv laptop 20 %", _L, 1400, 128, "ttft_p95<10s,tpot_p95<100ms", {"num_gpu_blocks": 480}, 0.1, 0.2),
    Server("kv laptop 700", _L, 700, 64, "ttft_p95<5s,tpot_p95<80ms", {"max_num_seqs": 64}),
    Server("kv L4", "l4-llama-3.1-8b", 512, 128, "ttft_p95<5s,tpot_p95<250ms"),
    Server("kv 4090", _R, 1024, 256, "ttft_p95<5s,tpot_p95<60ms"),
    Server("kv 4090 long", _R, 4096, 256, "ttft_p95<10s,tpot_p95<80ms", {"max_model_len": 32768}),
    Server("kv A100", _A, 1024, 256, "ttft_p95<5s,tpot_p95<60ms", {"num_gpu_blocks": 2000}),
    Server("kv H100", _H, 2048, 256, "ttft_p95<5s,tpot_p95<60ms", {"num_gpu_blocks": 6000}),
    Server("kv 70B", _S, 2048, 256, "ttft_p95<5s,tpot_p95<60ms", {"num_gpu_blocks": 4000}),
    *(
        Server(f"budget {preset} {tokens}", preset, prompt, 32, slo, {"max_num_batched_tokens": tokens, **more})
        for preset, tokens, prompt, slo, more in (
            (_L, 64, 700, "ttft_p95<3s,tpot_p95<80ms", {"max_num_seqs": 256, "num_gpu_blocks": 6000}),
            (_L, 96, 500, "ttft_p95<3s,tpot_p95<80ms", {"max_num_seqs": 256, "num_gpu_blocks": 6000}),
            (_A, 128, 1024, _DEMO, {"max_num_seqs": 512}),
            (_H, 256, 2048, _DEMO, {"max_num_seqs": 512}),
            (_R, 128, 1024, "ttft_p95<3s,tpot_p95<60ms", {}),
        )
    ),
    Server("compute A100", "a100-llama-3.1-8b", 4000, 64, "ttft_p95<3s,tpot_p95<100ms", {"max_model_len": 16384}),
    Server("compute phi", _A, 3000, 32, "ttft_p95<2s,tpot_p95<80ms"),
    Server("compute L4", _Q, 1500, 32, "ttft_p95<1s,tpot_p95<40ms"),
    Server("compute laptop", _L, 900, 16, "ttft_p95<3s,tpot_p95<200ms", {"max_num_seqs": 64, "num_gpu_blocks": 6000}),
    *_slots(_L, 512, 64, _DEMO, 16, 64, shared=0.75, num_gpu_blocks=3000),
    *_slots(_A, 1024, 128, _DEMO, 48, shared=0.5),
    *_slots(_H, 2048, 128, "ttft_p95<1s,tpot_p95<25ms", 32, shared=0.8),
    *_slots(_L, 192, 64, _DEMO, 16, 64, prompt_cv=1.0, output_cv=1.0, num_gpu_blocks=3000),
    *_slots(_A, 512, 128, _DEMO, 48, prompt_cv=1.0, output_cv=1.0),
    *_slots(_H, 512, 128, _FAST, 32, prompt_cv=1.2, output_cv=1.0),
    Server("long H100", _H, 6000, 256, "ttft_p95<5s,tpot_p95<40ms", {"max_model_len": 32768}),
    Server("long H100 M8", _H, 6000, 256, "ttft_p95<5s,tpot_p95<40ms", {"max_model_len": 32768, "max_num_seqs": 8}),
    Server("long 70B M8", _S, 6000, 256, "ttft_p95<8s,tpot_p95<60ms", {"max_model_len": 32768, "max_num_seqs": 8}),
    *_slots(_L, 192, 64, _DEMO, 16, 64, rate=True, num_gpu_blocks=2000),
    *_slots(_A, 512, 128, _DEMO, 48, rate=True),
    *_slots(_H, 512, 128, _FAST, 32, rate=True),
)
