"""Makes the frames that the snapshot tests of the cockpit draw, and feeds its benchmark.

    python tests/tui/data/make_frames.py

A small closed-loop model of a server with 64 slots stands in for a session: below 64 in flight TPOT grows a little with
the batch, above it requests queue and TTFT grows by one service time per 64 of them. The constants are of the order of
the simulated engine's `laptop` preset. Seeded: the same script writes the same bytes.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from llmtop.domain.assessment import Assessment  # noqa: E402
from llmtop.domain.client import ClientCause, ClientHealth, ClientReason  # noqa: E402
from llmtop.domain.endpoint import Dialect, EndpointState, EndpointStatus  # noqa: E402
from llmtop.domain.frame import Distribution, Frame, ReplayPosition, Timeline, Totals, Window  # noqa: E402
from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.run import Event, LoadChange, Mark  # noqa: E402
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot  # noqa: E402
from llmtop.domain.verdicts import (  # noqa: E402
    Bound,
    Capacity,
    CliffVerdict,
    Confidence,
    Curve,
    Diagnosis,
    Kind,
    LevelPoint,
    SloVerdict,
)

SLOTS = 64
PROMPT, OUTPUT = 512, 128
COLUMNS = 120


class Moment(msgspec.Struct):
    """What the model says about one second."""

    target: int
    in_flight: float
    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float
    running: float
    waiting: float
    kv: float
    tokens_per_s: float
    errors: float
    lag: float


def steady(n: float) -> tuple[float, float, float]:
    """TTFT p50 in ms, TPOT p50 in ms and waiting requests at `n` in flight."""
    running = min(n, SLOTS)
    tpot = 17.0 + 0.32 * running
    service_ms = OUTPUT * tpot
    waiting = max(0.0, n - SLOTS)
    return 55.0 + 0.9 * running + waiting / SLOTS * service_ms, tpot, waiting


def run(targets: Callable[[int], int], seconds: int, seed: int = 7) -> list[Moment]:
    """One Moment a second of a run whose commanded concurrency at second t is `targets(t)`."""
    chance = random.Random(seed)
    in_flight = 0.0
    moments = []
    for t in range(seconds):
        target = targets(t)
        in_flight += (target - in_flight) * 0.6
        ttft, tpot, waiting = steady(in_flight)
        wobble = math.exp(chance.gauss(0, 0.05))
        running = min(in_flight, SLOTS)
        moments.append(
            Moment(
                target=target,
                in_flight=in_flight,
                ttft_p50=ttft * wobble,
                ttft_p95=ttft * wobble * (1.25 + abs(chance.gauss(0, 0.1))),
                tpot_p50=tpot * math.exp(chance.gauss(0, 0.01)),
                tpot_p95=tpot * (1.1 + abs(chance.gauss(0, 0.03))),
                running=running,
                waiting=max(0.0, waiting + chance.gauss(0, 1.0) if waiting > 1 else 0.0),
                kv=min(1.0, running * (PROMPT + OUTPUT) / 52000 + 0.01 + abs(chance.gauss(0, 0.006))),
                tokens_per_s=running / tpot * 1000 * math.exp(chance.gauss(0, 0.03)),
                errors=0.0,
                lag=0.4 + abs(chance.gauss(0, 0.05)),
            )
        )
    return moments


def figures(p50: float | None, p95: float | None, n: int) -> Distribution:
    if p50 is None or p95 is None or n == 0:
        return Distribution()
    return Distribution(
        n=n, mean=p50 * 1.04, p50=p50, p90=p50 + (p95 - p50) * 0.8, p95=p95, p99=p95 * 1.12, max=p95 * 1.3
    )


def frame_at(moments: list[Moment], t: int, seq: int = 1, **changes: object) -> Frame:
    """The frame at second `t` (there must be a Moment for it)."""
    seen = moments[max(0, t + 1 - COLUMNS) : t + 1]
    now = moments[t]

    def column(name: str) -> tuple[float | None, ...]:
        values = [round(float(getattr(m, name)), 4) if m.in_flight > 0.5 else None for m in seen]
        return (None,) * (COLUMNS - len(values)) + tuple(values)

    def level(name: str) -> tuple[float | None, ...]:
        values = [round(float(getattr(m, name)), 4) for m in seen]
        return (None,) * (COLUMNS - len(values)) + tuple(values)

    loads = [
        LoadChange(float(s), LoadPoint(concurrency=moments[s].target, prompt_tokens=PROMPT, output_tokens=OUTPUT))
        for s in range(t + 1)
        if s == 0 or moments[s].target != moments[s - 1].target
    ]
    busy = now.in_flight > 0.5
    per_s = now.tokens_per_s / OUTPUT if busy else 0.0
    n = round(per_s * 10)
    done = round(sum(m.tokens_per_s for m in moments[: t + 1]) / OUTPUT)
    values: dict[str, object] = {
        "seq": seq,
        "t_s": float(t),
        "endpoint": EndpointStatus(
            state=EndpointState.UP,
            label="127.0.0.1:41733",
            dialect=Dialect.VLLM,
            model="laptop",
            simulated=True,
            preset="laptop",
            knobs={"max_num_seqs": 64.0, "num_gpu_blocks": 3250.0, "max_num_batched_tokens": 2048.0},
            stamp_source="protocol",
        ),
        "target": LoadPoint(concurrency=now.target, prompt_tokens=PROMPT, output_tokens=OUTPUT),
        "max_concurrency": 256,
        "in_flight": round(now.in_flight),
        "totals": Totals(
            sent=done + round(now.in_flight), ok=done, in_flight=round(now.in_flight), output_tokens=done * OUTPUT
        ),
        "window": Window(
            ttft=figures(now.ttft_p50, now.ttft_p95, n) if busy else Distribution(),
            tpot=figures(now.tpot_p50, now.tpot_p95, n) if busy else Distribution(),
            e2e=figures(now.ttft_p50 + OUTPUT * now.tpot_p50, now.ttft_p95 + OUTPUT * now.tpot_p95, n)
            if busy
            else Distribution(),
            gap_p50_ms=now.tpot_p50 if busy else None,
            gap_p99_ms=now.tpot_p95 * 1.6 if busy else None,
            gap_max_ms=now.tpot_p95 * 2.4 if busy else None,
            output_tokens_per_s=now.tokens_per_s if busy else 0.0,
            requests_per_s=per_s,
            error_ratio=now.errors if busy else None,
            preemptions_per_s=0.0,
        ),
        "timeline": Timeline(
            end_s=float(t),
            step_s=1.0,
            target=level("target"),
            in_flight=level("in_flight"),
            ttft_p50_ms=column("ttft_p50"),
            ttft_p95_ms=column("ttft_p95"),
            tpot_p50_ms=column("tpot_p50"),
            tpot_p95_ms=column("tpot_p95"),
            waiting=level("waiting"),
            running=level("running"),
            kv_usage=level("kv"),
            output_tokens_per_s=level("tokens_per_s"),
            error_ratio=column("errors"),
            client_lag_ms=level("lag"),
        ),
        "server": ServerSnapshot(
            t_s=float(t),
            running=round(now.running),
            waiting=round(now.waiting),
            kv_usage=now.kv,
            preemptions_total=0,
            prefix_hit_ratio=0.02,
            max_num_seqs=64,
            max_model_len=8192,
        ),
        "client": ClientHealth(t_s=float(t), lag_p99_ms=now.lag, loop_lag_ms=0.8, send_slip_p99_ms=0.9, cpu=0.18),
        "changes": tuple(loads[-12:]),
        "run_file": "/home/me/runs/2026-11-03-laptop.llmtop",
        "recording": True,
        "token_source": "usage",
    }
    return Frame(**{**values, **changes})  # type: ignore[arg-type]


def levels(upto: int) -> tuple[LevelPoint, ...]:
    points = []
    for load in (1, 2, 4, 8, 16, 24, 32, 48, 64, 72, 80, 96, 128):
        if load > upto:
            break
        ttft, tpot, waiting = steady(load)
        points.append(
            LevelPoint(
                load=load,
                n=60 + load,
                ttft_p50_ms=ttft,
                ttft_p95_ms=ttft * 1.35,
                tpot_p50_ms=tpot,
                tpot_p95_ms=tpot * 1.12,
                e2e_p50_ms=ttft + OUTPUT * tpot,
                output_tokens_per_s=min(load, SLOTS) / tpot * 1000,
                waiting=waiting,
            )
        )
    return tuple(points)


def calm(upto: int) -> Assessment:
    return Assessment(
        headline="SLO OK · ≥32 users at the SLO (TTFT p95<2s TPOT p95<50ms) · no cliff up to 32, try 48",
        slo=SloVerdict(ok=True),
        cliff=CliffVerdict(kind=Kind.NONE, next_levels=(48, 64, 96)),
        curves=(Curve(label="512/128", points=levels(upto)),),
    )


def broken() -> Assessment:
    ghost = Curve(
        label="256/128",
        ghost=True,
        points=tuple(
            LevelPoint(
                load=p.load, n=p.n, ttft_p50_ms=(p.ttft_p50_ms or 0) * 0.7, ttft_p95_ms=(p.ttft_p95_ms or 0) * 0.7
            )
            for p in levels(96)
        ),
    )
    return Assessment(
        headline="SLO FAIL TTFT p95>2s · queue-bound: raise --max-num-seqs to about 96 · "
        "66 users at the SLO (TTFT p95<2s TPOT p95<50ms) · cliff 66 (61 to 71)",
        slo=SloVerdict(ok=False),
        cliff=CliffVerdict(
            kind=Kind.CLIFF, at=66, low=61, high=71, cause=Bound.QUEUE, confidence=Confidence.FIRM,
            evidence=("64 running while 32 wait",),
        ),
        diagnosis=Diagnosis(bound=Bound.QUEUE, advice="raise --max-num-seqs"),
        capacity=Capacity(at_slo=66, knee=66, recommended=66, soak=53),
        curves=(ghost, Curve(label="512/128", points=levels(128))),
        overloaded=True,
    )  # fmt: skip


class Scene(msgspec.Struct):
    """A frame and the opinion about it."""

    frame: Frame
    assessment: Assessment | None = None


def _climb(t: int) -> int:
    return (1, 4, 16, 32)[min(t // 25, 3)]


def _past(t: int) -> int:
    return (8, 16, 32, 48, 64, 96)[min(t // 22, 5)]


def scenes() -> dict[str, Scene]:
    from msgspec.structs import replace

    idle = frame_at(run(lambda t: 0, 12), 11, recording=True)
    loaded_run = run(_climb, 130)
    loaded = frame_at(loaded_run, 118, marks=(Mark(100.0, "32 users"),))
    past_run = run(_past, 150)
    past = frame_at(
        past_run,
        146,
        marks=(Mark(88.0, "64"),),
        events=(
            Event(122.0, "server", "KV cache past 70 %"),
            Event(131.0, "server", "32 requests wait: all 64 slots are taken", "warning"),
        ),
        gpus=(
            GpuSnapshot(
                t_s=146, index=0, name="A10", memory_used_bytes=21.4 * 2**30, memory_total_bytes=24 * 2**30,
                power_w=143, temperature_c=64,
            ),
        ),
    )  # fmt: skip
    real = EndpointStatus(
        state=EndpointState.UP,
        label="10.0.0.7:8000",
        dialect=Dialect.VLLM,
        model="meta-llama/Llama-3.1-8B-Instruct",
        server="vLLM 0.11.2",
        stamp_source="kernel",
    )
    live = replace(loaded, endpoint=real, profile="chat", foreign=3.0)
    down = replace(
        real, state=EndpointState.DOWN, since_s=112.0, last_error="connection refused by 10.0.0.7:8000", retry_in_s=3.0
    )
    return {
        "idle": Scene(idle),
        "loaded": Scene(loaded, calm(32)),
        "past": Scene(past, broken()),
        "live": Scene(live, calm(32)),
        "stale": Scene(replace(live, endpoint=replace(real, state=EndpointState.STALE, since_s=111.0)), calm(32)),
        "down": Scene(replace(live, endpoint=down, in_flight=0), calm(32)),
        "auth": Scene(
            replace(
                idle,
                endpoint=replace(
                    real, state=EndpointState.AUTH_FAILED, last_error="10.0.0.7:8000 answers 401 Unauthorized"
                ),
                server=None,
            )
        ),
        "no-metrics": Scene(
            replace(
                live,
                endpoint=replace(
                    real,
                    dialect=Dialect.LLAMACPP,
                    model="Qwen2.5-0.5B-Instruct-Q4_K_M.gguf",
                    metrics="start the server with --metrics; it answers 501 to /metrics now",
                ),
                server=None,
                timeline=replace(live.timeline, waiting=(), running=(), kv_usage=()),
            ),
            calm(32),
        ),
        "replay": Scene(
            replace(past, replay=ReplayPosition(length_s=300.0, speed=2.0, playing=True), recording=False), broken()
        ),
        "rate": Scene(
            replace(live, target=LoadPoint(rate_rps=12.5, prompt_tokens=512, output_tokens=128)), calm(32)
        ),
        "braked": Scene(
            replace(
                past,
                braked="7.2 % of the last 200 requests failed (limit 1 %): down to 1 in flight",
                window=replace(past.window, error_ratio=0.072),
                totals=replace(past.totals, errors=41),
                timeline=replace(
                    past.timeline,
                    error_ratio=(*past.timeline.error_ratio[:110], *(0.07,) * 10),
                ),
            ),
            broken(),
        ),
        "client-bound": Scene(
            replace(
                past,
                client=replace(
                    past.client,
                    state="red",
                    reason=ClientReason(cause=ClientCause.LAG, value=38.0, of=36.8),
                    lag_p99_ms=38.0,
                ),
            ),
            broken(),
        ),
    }  # fmt: skip


def main() -> None:
    here = Path(__file__).parent
    for name, scene in scenes().items():
        (here / f"{name}.msgpack").write_bytes(msgspec.msgpack.encode(scene))


if __name__ == "__main__":
    main()
