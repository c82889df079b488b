"""What only a report says, the same in every format."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from llmtop.analysis.stats import FEWEST
from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.load import Hold, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps
from llmtop.domain.profile import OF_CAPACITY, Fixed, LengthDistribution, LogNormal, Normal, Profile
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Curve, Kind, SloVerdict
from llmtop.report.contents import ReportInput
from llmtop.wording.advice import round_change
from llmtop.wording.canary import felt_text
from llmtop.wording.compared import replayed
from llmtop.wording.failures import failure
from llmtop.wording.figures import PAGE, UNKNOWN, clock
from llmtop.wording.names import bound_name, place_name, short_axis
from llmtop.wording.sentences import (
    CLIENT_SLOW,
    CONTRADICTION,
    CUT,
    advised,
    fails_from,
    gate_text,
    hung_up_text,
    pass_and_fail,
    sentence,
    tries,
)

_PINNED = {True: "pinned", False: "not pinned: the model may stop early"}

DEFINITIONS = (
    ("TTFT", "From the first byte written of a request to the first delta with content, reasoning or a tool call."),
    ("TPOT", "(last token − first token) / (tokens streamed after the first chunk): the pace of a stream."),
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
    """The first sentence of every report: the answer to the run's question."""
    return f"{report.assessment.judgement.sentence or 'Not enough requests for a verdict'}."


def answer_and_grounds(report: ReportInput) -> tuple[str, str]:
    """The verdict as a heading of bearable length, and the rest of it: what it rests on, or nothing."""
    whole = verdict(report)
    named, colon, answer = whole.partition(": ")
    if not colon:
        return whole, ""
    first = min((at for mark in (": ", "; ") if (at := answer.find(mark)) >= 0), default=None)
    if first is None:
        return whole, ""
    return f"{named}: {answer[:first]}.", sentence(answer[first + 2 :])


def details(report: ReportInput) -> list[str]:
    """What follows the verdict: what was tested, the wall, the cliff, what to do."""
    assessment, capacity = report.assessment, report.assessment.capacity
    sentences = []
    axis = assessment.cliff.axis
    client = report.client
    if assessment.judgement.void:
        return [
            f"In {PAGE.percent(client.red_share)} of its seconds llmtop could not keep up with what arrived "
            f"(receive lag p99 {PAGE.latency(client.lag_p99_ms)}). What is shown rests on the other seconds and proves "
            "nothing. Drive less, use more workers, or a machine that does nothing else."
        ]
    if capacity.sentence and assessment.judgement.question not in OF_CAPACITY:
        sentences.append(f"{sentence(capacity.sentence)}.")
    sentences.append(cliff_text(assessment.cliff))
    sentences += [f"{sentence(each.text)}." for each in assessment.comparisons]
    if assessment.diagnosis.advice:
        sentences.append(f"{sentence(assessment.diagnosis.advice.rstrip('.'))}.")
    if assessment.fewer_slots is not None:
        sentences.append(f"{sentence(assessment.fewer_slots.text)}.")
    if capacity.recommended is not None and capacity.soak is not None:
        sentences.append(f"{sentence(advised(capacity.recommended, capacity.soak, axis, PAGE))}.")
    if not report.complete:
        sentences.append("The run was cut off; this is what was recorded until then.")
    return sentences


def cliff_text(cliff: CliffVerdict) -> str:
    """Where the cliff is, or why none is shown."""
    figure = f"{cliff.metric.upper()} {cliff.stat}"
    more = f"; {tries(cliff.next_levels)}" if cliff.next_levels else ""
    if cliff.kind is Kind.INSUFFICIENT:
        return f"Too few requests or levels to look for a cliff{more}."
    if cliff.kind is Kind.UNSTABLE:
        return f"{sentence(CONTRADICTION)}{more}."
    if cliff.kind is Kind.NONE or cliff.at is None:
        return f"No cliff in the range that was driven{more}."
    place = f"{PAGE.load(cliff.at, cliff.axis)}{interval_text(cliff)}"
    doubt = "" if cliff.confidence is Confidence.FIRM else f" (provisional{more})"
    if cliff.fails:
        begins = f"beginning between {PAGE.load(cliff.low, cliff.axis)} and {PAGE.load(cliff.high, cliff.axis)}"
        return f"{sentence(fails_from(cliff, PAGE))}, {begins}{doubt}."
    if cliff.kind is Kind.GRADUAL:
        return f"{figure} grows gradually from {place}{doubt}."
    return f"{figure} falls off a cliff at {place}{doubt}."


def interval_text(cliff: CliffVerdict) -> str:
    """`, between 31 and 34`; empty without an interval."""
    if cliff.low is None or cliff.high is None:
        return ""
    return f", between {PAGE.load(cliff.low, cliff.axis)} and {PAGE.load(cliff.high, cliff.axis)}"


def attainment_text(slo: SloVerdict) -> str:
    """How many requests met every latency limit."""
    rate = f", {PAGE.count(slo.goodput_rps)} good requests/s" if slo.goodput_rps is not None else ""
    return f"{PAGE.percent(slo.attainment)} of the requests met every latency limit{rate}."


def ok_text(ok: bool | None) -> str:
    return {True: "met", False: "missed", None: "not judged"}[ok]


def current_curve(report: ReportInput) -> Curve:
    """The curve that was judged; an empty one where nothing was measured."""
    curves = [curve for curve in report.assessment.curves if not curve.ghost]
    return curves[-1] if curves else Curve(label="", axis=report.assessment.cliff.axis)


def drawn(report: ReportInput) -> list[Curve]:
    """The curves on the axes of the one that was judged, which is the last: those of before lie under it."""
    axis = current_curve(report).axis
    earlier = (each.curve for each in report.assessment.baselines if not each.curve.apart)
    return [curve for curve in (*earlier, *report.assessment.curves) if curve.axis == axis]


def grey(report: ReportInput) -> str:
    """Which curves are drawn in grey; empty: none is."""
    earlier = [each.curve for each in report.assessment.baselines if not each.curve.apart]
    before = [f"{each.label} ({each.what})" if each.what else each.label for each in earlier]
    own = [curve.label for curve in drawn(report) if curve.ghost and curve not in earlier]
    told = [f"{', '.join(before)}, measured before"] if before else []
    told += [f"{', '.join(own)}, measured earlier in the run"] if own else []
    return f"Grey: {'; '.join(told)}." if told else ""


def curves(report: ReportInput) -> list[Curve]:
    """All curves that have levels: the one that was judged first, then those of before, the newest first."""
    return [curve for curve in reversed(report.assessment.curves) if curve.points]


def curve_name(curve: Curve) -> str:
    """`192/64 tok`; of a ghost `192/64 tok · start 1, measured earlier in the run and judged no more`."""
    return f"{curve.label}, measured earlier in the run and judged no more" if curve.ghost else curve.label


def started_text(report: ReportInput) -> str:
    return moment_text(report.meta.started_at)


def moment_text(at_s: float) -> str:
    """Seconds since 1970 as `27 November 2026, 18:05 UTC`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%-d %B %Y, %H:%M UTC")


def title(report: ReportInput) -> str:
    """What was driven: the label, model, profile, and what was set."""
    meta = report.meta
    model = meta.info.model if meta.info else meta.endpoint.model
    settings = ", ".join(f"{name} {value}" for name, value in meta.settings)
    return " · ".join(filter(None, (meta.label, model, meta.profile.name, settings)))


def load_text(point: LoadPoint) -> str:
    """`32 in flight, 192/64 tokens`"""
    load = PAGE.load(point.value, point.axis)
    gate = "" if point.gate is None else f", {gate_text(point.gate)}"
    return f"{load} {short_axis(point.axis)}, {point.prompt_tokens}/{point.output_tokens} tokens{gate}"


def environment(report: ReportInput) -> list[tuple[str, str]]:
    """What one must know to repeat the run: (name, value), only what is known."""
    meta = report.meta
    endpoint, info, profile = meta.endpoint, meta.info, meta.profile
    base = profile.plan.base
    rows = [
        ("Endpoint", endpoint.base_url + (f" (simulated engine, preset {meta.preset})" if endpoint.simulated else "")),
        ("Server", (info.server if info else None) or (info.dialect if info else endpoint.dialect)),
        ("Model", info.model if info else endpoint.model),
        ("Longest context", f"{PAGE.whole(info.max_model_len)} tokens" if info and info.max_model_len else None),
        ("Batch slots", f"max_num_seqs {info.max_num_seqs}" if info and info.max_num_seqs else None),
        ("Settings", _settings(info)),
        ("Settings at the start", _settings(meta.began)),
        ("GPUs", ", ".join(report.gpus)),
        ("Profile", profile.name + (f": {profile.description}" if profile.description else "")),
        ("Stages", "; ".join(stage_text(stage) for stage in profile.plan.stages)),
        ("Workload", workload_text(profile, _cut_to(report, base))),
        ("Output length", None if info is None else _PINNED[info.pins_output]),
        ("Output tokens", f"counted by {report.token_source}" if report.token_source else None),
        ("Client", client_text(report)),
        ("Stamps", meta.stamp_source),
        ("Host", meta.host),
        ("Seed", str(meta.seed)),
        ("llmtop", meta.llmtop_version),
    ]
    return [(name, value) for name, value in rows if value]


def _settings(info: EndpointInfo | None) -> str:
    """`max_num_seqs 64, kv_cache_dtype auto`"""
    return "" if info is None else ", ".join(f"{name} {value}" for name, value in info.flags)


def client_text(report: ReportInput) -> str:
    client = report.client
    if not client.seconds:
        return ""
    parts = [
        f"receive lag p99 {PAGE.latency(client.lag_p99_ms)}, at worst {PAGE.latency(client.lag_worst_ms)}",
        f"CPU at most {PAGE.percent(client.cpu_max)} of a core",
        f"{PAGE.percent(client.red_share)} of its seconds client-limited",
    ]
    return "; ".join(part for part in parts if UNKNOWN not in part)


def _cut_to(report: ReportInput, base: LoadPoint) -> float | None:
    """Mean length of the prompts where all were asked for in one length and came out much shorter."""
    asked = {base.prompt_tokens, *(change.point.prompt_tokens for change in report.changes)}
    if len(asked) > 1 or not report.totals.ok or not report.prompt_tokens:
        return None
    mean = report.prompt_tokens / report.totals.ok
    return mean if mean < CUT * base.prompt_tokens else None


def workload_text(profile: Profile, cut_to: float | None = None) -> str:
    """How requests were made up; `cut_to` is the mean length of prompts that came out shorter than they were asked."""
    workload, base = profile.workload, profile.plan.base
    if workload.source == "trace":
        parts = [" ".join(filter(None, (workload.source, workload.file, replayed(workload))))]
        return ", ".join([*parts, "each request as long as it was recorded"])
    if workload.lengths:
        prompts = f"prompts of {base.prompt_tokens} tokens on average"
        outputs = f"outputs of {base.output_tokens}, drawn together from {PAGE.whole(len(workload.lengths))} pairs"
    else:
        prompts = f"prompts {lengths_text(workload.prompt, base.prompt_tokens)}"
        outputs = f"outputs {lengths_text(workload.output, base.output_tokens)}"
    parts = [
        workload.source if workload.file is None else f"{workload.source} {workload.file}",
        prompts if cut_to is None else f"{prompts}, cut to {PAGE.whole(cut_to)}",
        outputs,
    ]
    if base.shared_prefix:
        parts.append(f"{PAGE.round_percent(base.shared_prefix)} of each prompt shared")
    if profile.start == "together":
        parts.append("users start together")
    if base.think_time_s:
        parts.append(f"think time {PAGE.duration(base.think_time_s)}")
    return ", ".join(parts)


def lengths_text(lengths: LengthDistribution, mean: int) -> str:
    if isinstance(lengths, Fixed):
        return f"{mean} tokens"
    if isinstance(lengths, Normal | LogNormal):
        name = "normal" if isinstance(lengths, Normal) else "log-normal"
        return f"{name} around {mean} tokens (cv {lengths.cv:g})"
    return f"by quantile table, scaled to {mean} tokens" if lengths.scale else "by quantile table"


def stage_text(stage: Stage) -> str:
    return f"{stage.name} {PAGE.duration(stage.duration_s)}: {shape_text(stage.shape)}"


def shape_text(shape: Shape) -> str:
    match shape:
        case Hold(concurrency=users, rate_rps=rate):
            return f"hold {PAGE.exact(rate)} requests/s" if users is None else f"hold {users}"
        case Ramp(start, stop):
            return f"ramp {PAGE.exact(start)} to {PAGE.exact(stop)}"
        case Steps(levels):
            return f"steps {', '.join(map(PAGE.exact, levels))}"
        case Spike(base, peak):
            return f"spike {PAGE.exact(base)} to {PAGE.exact(peak)} and back"
        case Sine(low, high, period_s):
            return f"sine {PAGE.exact(low)} to {PAGE.exact(high)} every {PAGE.duration(period_s)}"
        case Replay(points):
            return f"replay of {len(points)} loads"


SLO_NOTE = "What the question of the run is about counts here; errors count wherever they came."
KINDS = "By kind of request"
KINDS_NOTE = (
    "Each by itself, over the whole run. Calls are users' requests that were none to the model, and in no other figure."
)
DISTRIBUTION_NOTE = (
    "Requests that ended well, all loads together: fit to compare equal runs, not to judge one load. "
    f"A figure is left out ({UNKNOWN}) below {FEWEST['p50']} requests for mean and p50, {FEWEST['p90']} for p90, "
    f"{FEWEST['p95']} for p95 and {FEWEST['p99']} for p99, from where on the SLO takes it at its word."
)


def figures(report: ReportInput) -> list[tuple[str, str, str]]:
    """The figures at the top: (name, value, note)."""
    assessment, totals = report.assessment, report.totals
    capacity, cliff, curve = assessment.capacity, assessment.cliff, current_curve(report)
    at_slo = PAGE.load(capacity.at_slo, cliff.axis)
    if capacity.at_slo is not None and capacity.fails_at is None:
        at_slo = f"≥ {at_slo}"
    best = max(
        (point for point in curve.points if point.output_tokens_per_s is not None),
        key=lambda point: point.output_tokens_per_s or 0.0,
        default=None,
    )
    ended = totals.ok + totals.errors
    rows = [("At the SLO", at_slo, pass_and_fail(capacity.at_slo, capacity.fails_at, cliff.axis, PAGE) or "not judged")]
    if cliff.at is not None:
        word = sentence(place_name(cliff))
        note = interval_text(cliff).removeprefix(", ") or "no interval"
        if cliff.fails:
            note = f"{fails_from(cliff, PAGE)}, {note}"
        rows.append((word, PAGE.load(cliff.high if cliff.fails else cliff.at, cliff.axis), note))
    else:
        rows.append(("Cliff", UNKNOWN, {Kind.NONE: "none in range"}.get(cliff.kind, "not found")))
    if best is not None:
        where = f"at {PAGE.load(best.load, curve.axis)} {short_axis(curve.axis)}"
        if best.output_tokens_per_s:
            rows.append(("Most output", f"{PAGE.count(best.output_tokens_per_s)} tok/s", where))
    failed = f"{PAGE.percent(totals.errors / ended)} failed" if ended else "none ended"
    rows.append(("Requests", PAGE.whole(totals.sent), failed))
    if report.client.seconds:
        worst = f"p99; {PAGE.percent(report.client.red_share)} of time limited"
        rows.append(("Client lag", PAGE.latency(report.client.lag_p99_ms), worst))
    return rows


def warnings(report: ReportInput) -> list[str]:
    """What makes the figures less than they seem."""
    assessment = report.assessment
    texts = [*assessment.notes, *(recovery.text for recovery in assessment.recoveries), *assessment.scaled_besides]
    client = report.client
    if client.red_share > 0 and not report.assessment.judgement.void:
        texts.append(
            f"In {PAGE.percent(client.red_share)} of the seconds {CLIENT_SLOW}; these are kept out of the verdicts."
        )
    if report.token_source not in (None, "usage"):
        why = "Usage was not told, or cannot be true of what was streamed"
        texts.append(f"{why}: output tokens are counted by {report.token_source} (≈), and so is TPOT.")
    return texts


def binding(report: ReportInput) -> str:
    """What the verdict names as the bottleneck."""
    diagnosis, cliff = report.assessment.diagnosis, report.assessment.cliff
    bound = diagnosis.bound if diagnosis.bound is not Bound.NONE else cliff.cause
    return bound_name(bound) or "nothing yet"


def reasons(report: ReportInput) -> list[str]:
    """Why one may believe the bottleneck and the cliff; each once."""
    assessment = report.assessment
    drifts = (drift.text for drift in assessment.drifts if drift.significant)
    listed = (*assessment.diagnosis.evidence, *assessment.cliff.evidence, *drifts)
    return list(dict.fromkeys(sentence(text) for text in listed if text))


FEWER_HEADS = ("slots", "users at the SLO", "at least", "at most", "TPOT p95", "tok/s", "users", "tok/s")
FEWER_NOTE = (
    "By what was measured with so many requests in flight: a server with N slots is this one with N of them, while all "
    "others wait. Figures are those at the SLO, changes against now. A run with --gate N tries it without a restart."
)


def fewer_rows(report: ReportInput) -> list[tuple[str, ...]]:
    """What each smaller number of slots gives, the most slots first."""
    return [
        (
            PAGE.whole(each.slots),
            *(PAGE.whole(math.floor(value)) for value in (each.users.value, each.users.low, each.users.high)),
            PAGE.latency(each.tpot_p95_ms),
            PAGE.count(each.output_tokens_per_s),
            round_change(each.users_change, PAGE),
            round_change(each.tokens_change, PAGE),
        )
        for each in reversed(report.assessment.what_if)
    ]


def totals_text(report: ReportInput) -> str:
    """Where every request went."""
    totals = report.totals
    parts = [
        f"{PAGE.whole(totals.sent)} sent",
        f"{PAGE.whole(totals.ok)} ended well",
        f"{PAGE.whole(totals.errors)} failed",
    ]
    if totals.cancelled:
        of_these = f" ({hung_up_text(totals.hung_up, PAGE)})" if totals.hung_up else ""
        parts.append(f"{PAGE.whole(totals.cancelled)} cancelled by us{of_these}")
    if totals.in_flight:
        parts.append(f"{PAGE.whole(totals.in_flight)} still in flight at the end")
    tokens = f"{PAGE.whole(report.prompt_tokens)} prompt and {PAGE.whole(totals.output_tokens)} output tokens"
    felt = report.figures.new_user
    beside = "" if felt is None else f" Beside them, outside of all figures, {felt_text(felt, PAGE)}."
    return f"{', '.join(parts)}; {tokens}.{beside}"


FAILURE_HEADS = ("n", "first", "last")


def failure_rows(report: ReportInput) -> list[tuple[str, str, str, str]]:
    """What happened, how often, and when first and last; the most frequent first."""
    groups = report.assessment.failures
    return [(failure(each, PAGE), PAGE.whole(each.count), clock(each.first_s), clock(each.last_s)) for each in groups]
