"""Explorations of simulated servers in virtual time, and the true contour of each by prediction."""

from __future__ import annotations

from msgspec.structs import replace
from virtual import VirtualSession

from llmtop.analysis.explore import Explorer
from llmtop.analysis.predicted import assess_prediction, predict_edge
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.steering import Step
from llmtop.simulator.engine import Lengths, load_preset, predict

SERVERS: dict[str, tuple[str, dict[str, int], str, int, int]] = {
    "laptop": ("laptop", {}, "ttft_p95<2s,tpot_p95<50ms", 192, 64),
    "h100 8b, 64 slots": ("h100-llama-3.1-8b", {"max_num_seqs": 64}, "ttft_p95<2s,tpot_p95<50ms", 512, 128),
    "l4 8b, kv": ("l4-llama-3.1-8b", {}, "ttft_p95<5s,tpot_p95<200ms", 512, 128),
    "a100 phi, 96 slots": ("a100-phi-4-mini", {"max_num_seqs": 96}, "ttft_p95<2s,tpot_p95<50ms", 512, 128),
}
"""Preset, knobs, SLO, prompt and output tokens."""
CV = 0.3
"""Of the answers; prompts are as long as they are asked for."""


def session_of(name: str, seed: int) -> tuple[VirtualSession, LoadPoint, Slo]:
    preset, knobs, limits, prompt_tokens, output_tokens = SERVERS[name]
    base = LoadPoint(concurrency=0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    server = load_preset(preset).with_knobs(knobs)
    session = VirtualSession(server, base, seed=seed, prompt_cv=0.0, output_cv=CV)
    profile = replace(session.meta.profile, caps=Caps(max_concurrency=1024), slo=parse_slo(limits))
    info = replace(session.meta.info, max_model_len=server.config.max_model_len)
    session.meta = replace(session.meta, profile=profile, info=info)
    return session, base, parse_slo(limits)


def explored(session: VirtualSession, base: LoadPoint, slo: Slo) -> tuple[Explorer, Step]:
    """An exploration to its end, asked once a second as a host does."""
    explorer = Explorer(slo, base, session.meta)
    while (step := explorer.next(session.facts, session.now_s)).want is not None:
        assert isinstance(step.want, SetLoad)
        session.command(step.want.point, "map")
        session.run_until(session.now_s + 1.0)
    session.command(base.at("concurrency", 0), "stop")
    return explorer, step


def truth(name: str, prompt_tokens: int, start: int) -> float:
    """Users at the SLO of one prompt length, as `llmtop predict` tells them."""
    preset, knobs, limits, _, output_tokens = SERVERS[name]
    lengths = Lengths(prompt_tokens=prompt_tokens, output_tokens=output_tokens, prompt_cv=0.0, output_cv=CV)
    server = load_preset(preset).with_knobs(knobs)

    def run(users: list[int]):  # type: ignore[no-untyped-def]
        return predict(
            server, concurrency=users, lengths=lengths, stagger_s=None, requests_per_level=max(400, 8 * max(users))
        )

    slo = parse_slo(limits)
    return assess_prediction(predict_edge(run, [max(1, start // 2), start], slo), slo).capacity.at_slo or 0.0
