"""The sentences and numbers of a report, the same in every format."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from llmtop.domain.load import Hold, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps
from llmtop.domain.profile import Fixed, LengthDistribution, LogNormal, Normal, Workload
from llmtop.domain.slo import LATENCIES, SloTarget
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Curve, Kind, SloVerdict
from llmtop.report.contents import ReportInput

NOT_KNOWN = "--"
_PINNED = {True: "pinned", False: "not pinned: the model may stop early"}

RED_SHARE = 0.2
"""From this share of red seconds on the run says nothing about the server."""

_BOUNDS = {
    Bound.QUEUE: "batch slots",
    Bound.KV: "KV cache memory",
    Bound.TOKEN_BUDGET: "the token budget of a step",
    Bound.COMPUTE: "compute",
    Bound.MEMORY: "memory bandwidth",
    Bound.CLIENT: "the client",
    Bound.NETWORK: "the network",
}

DEFINITIONS = (
    ("TTFT", "From the first byte written of a request to the first delta with content, reasoning or a tool call."),
    ("TPOT", "(last token − first token) / (output tokens − tokens of the first chunk): the pace of a stream."),
    ("E2E", "From the first byte written to the last token."),
    ("Output tokens/s", "Tokens that arrived in the interval / its length, streams that later failed included."),
    ("In flight", "Requests sent and not yet ended: what a server sees as concurrent users."),
    ("Errors", "Requests that ended in anything but a complete answer. What we cancelled ourselves is none."),
    ("In SLO", "Requests that ended well and inside every latency limit / all that ended; failures are misses."),
    ("Queue, KV", "The server's own gauges: requests waiting for a slot, and the share of KV cache blocks in use."),
    ("Cliff", "The load at which a further user costs latency for all: the bend of the curve, with its 95 % interval."),
    ("Client lag", "Time between the kernel's stamp of an arrival and our reading it: our own share of any delay."),
)


def verdict(report: ReportInput) -> str:
    """The first sentence of every report."""
    assessment = report.assessment
    capacity = assessment.capacity
    if report.client.red_share >= RED_SHARE:
        return "The client was the bottleneck: this run says nothing about the server."
    axis = assessment.cliff.axis
    unit = load_unit(current_curve(report))
    if capacity.at_slo is not None:
        bound = "" if capacity.fails_at is not None else "at least "
        return f"Supports {bound}{load_number(capacity.at_slo, axis)} {unit} at the SLO."
    if capacity.fails_at is not None:
        return f"Does not meet the SLO even at {load_number(capacity.fails_at, axis)} {unit}."
    if assessment.cliff.at is not None:
        return f"Latency bends at {load_number(assessment.cliff.at, axis)} {unit}; too few requests to judge the SLO."
    return "Not enough requests for a verdict."


def tested(capacity: Capacity, axis: str) -> str:
    """`pass 28, fail 36`; empty when no level was judged."""
    if capacity.at_slo is None and capacity.fails_at is None:
        return ""
    passed = "" if capacity.at_slo is None else f"pass {load_number(capacity.at_slo, axis)}"
    failed = "no failure yet" if capacity.fails_at is None else f"fail {load_number(capacity.fails_at, axis)}"
    return ", ".join(filter(None, (passed, failed)))


def details(report: ReportInput) -> list[str]:
    """What follows the verdict: what was tested, the wall, the cliff, what to do."""
    assessment, capacity = report.assessment, report.assessment.capacity
    sentences = []
    axis = assessment.cliff.axis
    client = report.client
    if client.red_share >= RED_SHARE:
        return [
            f"In {percent(client.red_share)} of its seconds llmtop could not keep up with what arrived "
            f"(receive lag p99 {milliseconds(client.lag_p99_ms)}). What is shown rests on the other seconds and proves "
            "nothing. Drive less, use more workers, or a machine that does nothing else."
        ]
    if levels := tested(capacity, axis):
        sentences.append(f"{sentence(levels)}, judged by {felt_text(report)}.")
    if capacity.limited_by:
        article = "the " if capacity.limited_by.startswith("cliff") else ""
        sentences.append(f"Limited by {article}{capacity.limited_by}.")
    sentences.append(cliff_text(assessment.cliff))
    if assessment.diagnosis.advice:
        sentences.append(f"{sentence(assessment.diagnosis.advice.rstrip('.'))}.")
    if capacity.recommended is not None and capacity.soak is not None:
        run, soak = load_number(capacity.recommended, axis), load_number(capacity.soak, axis)
        sentences.append(f"Run it at {run}, soak it at {soak}.")
    if not report.complete:
        sentences.append("The run was cut off; this is what was recorded until then.")
    return sentences


def cliff_text(cliff: CliffVerdict) -> str:
    """Where the cliff is, or why none is shown."""
    figure = f"{cliff.metric.upper()} {cliff.stat}"
    tries = f"; next, try {' and '.join(map(str, cliff.next_levels[:2]))}" if cliff.next_levels else ""
    if cliff.kind is Kind.INSUFFICIENT:
        return f"Too few requests or levels to look for a cliff{tries}."
    if cliff.kind is Kind.UNSTABLE:
        return f"The levels contradict each other, so no cliff is claimed: measure again{tries}."
    if cliff.kind is Kind.NONE or cliff.at is None:
        return f"No cliff in the range that was driven{tries}."
    place = f"{load_number(cliff.at, cliff.axis)}{interval_text(cliff)}"
    doubt = "" if cliff.confidence is Confidence.FIRM else f" (provisional{tries})"
    if cliff.kind is Kind.GRADUAL:
        return f"{figure} grows gradually from {place}{doubt}."
    return f"{figure} falls off a cliff at {place}{doubt}."


def interval_text(cliff: CliffVerdict) -> str:
    """`, between 31 and 34`; empty without an interval."""
    if cliff.low is None or cliff.high is None:
        return ""
    return f", between {load_number(cliff.low, cliff.axis)} and {load_number(cliff.high, cliff.axis)}"


def felt_text(report: ReportInput) -> str:
    """The limits that users feel, by which a level passes or fails: latencies and errors."""
    felt = [target_text(target) for target in report.slo.targets if target.metric in (*LATENCIES, "error_ratio")]
    return " and ".join(filter(None, (", ".join(felt[:-1]), felt[-1]))) if felt else "no latency limit"


def target_text(target: SloTarget) -> str:
    """`TTFT p95 < 2 s`"""
    return f"{target_name(target.metric, target.stat)} < {limit_text(target)}"


def target_name(metric: str, stat: str | None) -> str:
    if metric in LATENCIES:
        return f"{metric.upper()} {stat or 'p95'}"
    return {"error_ratio": "errors", "queue": "queue", "kv": "KV cache"}[metric]


def limit_text(target: SloTarget, value: float | None = None) -> str:
    """The limit, or another value of the same figure, with its unit."""
    shown = target.limit if value is None else value
    if target.metric in LATENCIES:
        return round_milliseconds(shown * 1e3) if value is None else milliseconds(shown * 1e3)
    if target.metric == "queue":
        return number(shown)
    return round_percent(shown) if value is None else percent(shown)


def attainment_text(slo: SloVerdict) -> str:
    """How many requests met every latency limit."""
    rate = f", {number(slo.goodput_rps)} good requests/s" if slo.goodput_rps is not None else ""
    return f"{percent(slo.attainment)} of the requests met every latency limit{rate}."


def ok_text(ok: bool | None) -> str:
    return {True: "met", False: "missed", None: "not judged"}[ok]


def bound_text(bound: Bound) -> str:
    """What runs out first, as a noun."""
    return _BOUNDS.get(bound, "nothing yet")


def current_curve(report: ReportInput) -> Curve:
    """The curve that was judged; an empty one where nothing was measured."""
    curves = [curve for curve in report.assessment.curves if not curve.ghost]
    return curves[-1] if curves else Curve(label="", axis=report.assessment.cliff.axis)


def load_unit(curve: Curve) -> str:
    return "requests/s" if curve.axis == "rate" else "concurrent users"


def axis_text(curve: Curve) -> str:
    return "requests/s" if curve.axis == "rate" else "requests in flight"


def number(value: float | None) -> str:
    """Three significant digits; whole numbers whole, thousands apart."""
    if value is None:
        return NOT_KNOWN
    if abs(value) >= 999.5 or value == int(value):
        return f"{round(value):,}".replace(",", "\u202f")
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 4)}f}"


def load_number(value: float | None, axis: str) -> str:
    """A load: users are whole from ten on, whatever an estimate between levels says, and below when they nearly are."""
    if value is not None and axis == "concurrency" and (value >= 10 or abs(value - round(value)) < 0.02):
        value = round(value)
    return number(value)


def milliseconds(value: float | None) -> str:
    """265 ms, 1.08 s, 0.420 ms."""
    if value is None:
        return NOT_KNOWN
    return f"{number(value)} ms" if value < 999.5 else f"{number(value / 1e3)} s"


def percent(value: float | None) -> str:
    """0 %, 0.06 %, 4.9 %, 100 %."""
    if value is None:
        return NOT_KNOWN
    hundredths = value * 100
    if hundredths in (0, 100):
        return f"{hundredths:.0f} %"
    return f"{hundredths:.2f} %" if hundredths < 1 else f"{hundredths:.1f} %"


def round_milliseconds(value: float) -> str:
    """A round figure, as on an axis or in a limit: 300 ms, 2 s."""
    return f"{value:g} ms" if value < 1000 else f"{value / 1e3:g} s"


def round_percent(value: float) -> str:
    return f"{value * 100:g} %"


def duration(seconds: float) -> str:
    """42 s, 6 min 12 s, 1 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """0:42, 6:12, 1:02:05."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def started_text(report: ReportInput) -> str:
    return datetime.fromtimestamp(report.meta.started_at, UTC).strftime("%-d %B %Y, %H:%M UTC")


def title(report: ReportInput) -> str:
    """What was driven: the label, or model and profile."""
    meta = report.meta
    model = meta.info.model if meta.info else meta.endpoint.model
    return meta.label or " · ".join(filter(None, (model, meta.profile.name)))


def load_text(point: LoadPoint) -> str:
    """`32 in flight, 192/64 tokens`"""
    load = f"{number(point.rate_rps)} requests/s" if point.rate_rps is not None else f"{point.concurrency} in flight"
    return f"{load}, {point.prompt_tokens}/{point.output_tokens} tokens"


def environment(report: ReportInput) -> list[tuple[str, str]]:
    """What one must know to repeat the run: (name, value), only what is known."""
    meta = report.meta
    endpoint, info, profile = meta.endpoint, meta.info, meta.profile
    base = profile.plan.base
    rows = [
        ("Endpoint", endpoint.base_url + (f" (simulated engine, preset {meta.preset})" if endpoint.simulated else "")),
        ("Server", (info.server if info else None) or (info.dialect if info else endpoint.dialect)),
        ("Model", info.model if info else endpoint.model),
        ("Longest context", f"{number(info.max_model_len)} tokens" if info and info.max_model_len else None),
        ("Batch slots", f"max_num_seqs {info.max_num_seqs}" if info and info.max_num_seqs else None),
        ("GPUs", ", ".join(report.gpus)),
        ("Profile", profile.name + (f": {profile.description}" if profile.description else "")),
        ("Stages", "; ".join(stage_text(stage) for stage in profile.plan.stages)),
        ("Workload", workload_text(profile.workload, base)),
        ("Output length", None if info is None else _PINNED[info.pins_output]),
        ("Output tokens", f"counted by {report.token_source}" if report.token_source else None),
        ("Client", client_text(report)),
        ("Stamps", meta.stamp_source),
        ("Host", meta.host),
        ("Seed", str(meta.seed)),
        ("llmtop", meta.llmtop_version),
    ]
    return [(name, value) for name, value in rows if value]


def client_text(report: ReportInput) -> str:
    client = report.client
    if not client.seconds:
        return ""
    parts = [
        f"receive lag p99 {milliseconds(client.lag_p99_ms)}, at worst {milliseconds(client.lag_worst_ms)}",
        f"CPU at most {percent(client.cpu_max)} of a core",
        f"{percent(client.red_share)} of its seconds client-limited",
    ]
    return "; ".join(part for part in parts if NOT_KNOWN not in part)


def workload_text(workload: Workload, base: LoadPoint) -> str:
    parts = [
        workload.source if workload.file is None else f"{workload.source} {workload.file}",
        f"prompts {lengths_text(workload.prompt, base.prompt_tokens)}",
        f"outputs {lengths_text(workload.output, base.output_tokens)}",
    ]
    if base.shared_prefix:
        parts.append(f"{percent(base.shared_prefix)} of each prompt shared")
    if base.think_time_s:
        parts.append(f"think time {base.think_time_s:g} s")
    return ", ".join(parts)


def lengths_text(lengths: LengthDistribution, mean: int) -> str:
    if isinstance(lengths, Fixed):
        return f"{mean} tokens"
    if isinstance(lengths, Normal | LogNormal):
        name = "normal" if isinstance(lengths, Normal) else "log-normal"
        return f"{name} around {mean} tokens (cv {lengths.cv:g})"
    return f"by quantile table, scaled to {mean} tokens" if lengths.scale else "by quantile table"


def stage_text(stage: Stage) -> str:
    return f"{stage.name} {duration(stage.duration_s)}: {shape_text(stage.shape)}"


def shape_text(shape: Shape) -> str:
    match shape:
        case Hold(concurrency=users, rate_rps=rate):
            return f"hold {number(rate)} requests/s" if users is None else f"hold {users}"
        case Ramp(start, stop):
            return f"ramp {number(start)} to {number(stop)}"
        case Steps(levels):
            return f"steps {', '.join(map(number, levels))}"
        case Spike(base, peak):
            return f"spike {number(base)} to {number(peak)} and back"
        case Sine(low, high, period_s):
            return f"sine {number(low)} to {number(high)} every {duration(period_s)}"
        case Replay(points):
            return f"replay of {len(points)} loads"


SLO_NOTE = "Every load that was driven counts here: a run that looks for the cliff misses its limits on purpose."
DISTRIBUTION_NOTE = (
    "Requests that ended well, all loads together: fit to compare equal runs, not to judge one load. "
    "A percentile is left out (--) below 11 requests for p50, 64 for p90, 130 for p95 and 662 for p99."
)


def figures(report: ReportInput) -> list[tuple[str, str, str]]:
    """The figures at the top: (name, value, note)."""
    assessment, totals = report.assessment, report.totals
    capacity, cliff, curve = assessment.capacity, assessment.cliff, current_curve(report)
    at_slo = load_number(capacity.at_slo, cliff.axis)
    if capacity.at_slo is not None and capacity.fails_at is None:
        at_slo = f"≥ {at_slo}"
    best = max(
        (point for point in curve.points if point.output_tokens_per_s is not None),
        key=lambda point: point.output_tokens_per_s or 0.0,
        default=None,
    )
    ended = totals.ok + totals.errors
    rows = [("At the SLO", at_slo, tested(capacity, cliff.axis) or "not judged")]
    if cliff.at is not None:
        word = "Cliff" if cliff.kind is Kind.CLIFF else "Bend"
        rows.append((word, load_number(cliff.at, cliff.axis), interval_text(cliff).removeprefix(", ") or "no interval"))
    else:
        rows.append(("Cliff", NOT_KNOWN, {Kind.NONE: "none in range"}.get(cliff.kind, "not found")))
    if best is not None:
        where = f"at {load_number(best.load, curve.axis)} {'req/s' if curve.axis == 'rate' else 'in flight'}"
        rows.append(("Most output", f"{number(best.output_tokens_per_s)} tok/s", where))
    failed = f"{percent(totals.errors / ended)} failed" if ended else "none ended"
    rows.append(("Requests", number(totals.sent), failed))
    if report.client.seconds:
        worst = f"p99; {percent(report.client.red_share)} of time limited"
        rows.append(("Client lag", milliseconds(report.client.lag_p99_ms), worst))
    return rows


def warnings(report: ReportInput) -> list[str]:
    """What makes the figures less than they seem."""
    texts = list(report.assessment.notes)
    client = report.client
    if 0 < client.red_share < RED_SHARE:
        texts.append(
            f"In {percent(client.red_share)} of the seconds the client was the bottleneck; "
            "these are kept out of the verdicts."
        )
    if report.token_source not in (None, "usage"):
        texts.append(f"The server does not report usage: output tokens are counted by {report.token_source} (≈).")
    return texts


def binding(report: ReportInput) -> str:
    """What the verdict names as the bottleneck."""
    diagnosis, cliff = report.assessment.diagnosis, report.assessment.cliff
    bound = diagnosis.bound if diagnosis.bound is not Bound.NONE else cliff.cause
    return bound_text(bound)


def reasons(report: ReportInput) -> list[str]:
    """Why one may believe the bottleneck and the cliff; each once."""
    assessment = report.assessment
    drifts = (drift.text for drift in assessment.drifts if drift.significant)
    listed = (*assessment.diagnosis.evidence, *assessment.cliff.evidence, *drifts)
    return list(dict.fromkeys(sentence(text) for text in listed if text))


def sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a flag or a figure."""
    first = text.partition(" ")[0]
    return text if "_" in first or not first.isalpha() else f"{text[0].upper()}{text[1:]}"


def totals_text(report: ReportInput) -> str:
    """Where every request went."""
    totals = report.totals
    parts = [f"{number(totals.sent)} sent", f"{number(totals.ok)} ended well", f"{number(totals.errors)} failed"]
    if totals.cancelled:
        parts.append(f"{number(totals.cancelled)} cancelled by us")
    if totals.in_flight:
        parts.append(f"{number(totals.in_flight)} still in flight at the end")
    tokens = f"{number(report.prompt_tokens)} prompt and {number(totals.output_tokens)} output tokens"
    return f"{', '.join(parts)}; {tokens}."
