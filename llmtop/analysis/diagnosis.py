"""What binds now: gates over the last seconds of gauges, counters and requests, each with evidence and advice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from llmtop.analysis.advice import slots_flag
from llmtop.analysis.fits import Array
from llmtop.analysis.judge import SPENT, TAKEN, Limits, is_held, is_pinned, kv_full
from llmtop.analysis.levels import ERROR_WALL, Level, bound_of
from llmtop.analysis.sessions import Requests
from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.endpoint import Dialect
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Diagnosis
from llmtop.wording.figures import TEXT
from llmtop.wording.gate import gate_binds
from llmtop.wording.sentences import CLIENT_LATE, CLIENT_SLOW, VOID, WAITS_FOR_EITHER, failures, starving

WINDOW_S = 15.0
_PINNED = 0.93
"""Running over its highest value of the last seconds from which it stands on a plateau."""
_MIN_POLLS = 3
CLIENT_BOUND_SHARE = 0.2
"""From this share of seconds in which the client was the bottleneck, figures are void: of a run and of now alike."""
LATE_SHARE = 0.2
"""From this share of late seconds, time that the server does not tell of may be the client's."""
CALM_SHARE = 0.2
"""Share of the polls with requests waiting up to which slow steps are not a queue's doing."""
USERS_SHARE = 0.65
"""Share of a step that grows with the load from which FLOPs bind and not bandwidth: reading the weights costs the same
at any load. Right for 51 of 61 simulated loads, by which of the two shortens TPOT more."""
GROWTH = 4.0
"""Highest load over the lowest from which the shape of TPOT tells anything: closer ones are within noise of both."""
STARVED = 10.0
"""p99 over p50 of TTFT from which short requests starve behind long ones."""
MIXED = 1.5
"""p95 over p50 of the prompt's tokens from which lengths are mixed: of equal ones none is kept up by a longer one."""
CROWD = 4.0
"""Requests in flight from which some can starve behind others."""


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """The last seconds: means of gauges, growth of counters, and the requests that ended. None: not known."""

    polls: int = 0
    in_flight: float | None = None
    running: float | None = None
    running_max: float | None = None
    waiting: float | None = None
    waiting_share: float = 0.0
    """Share of the polls with at least one request waiting."""
    gate: int | None = None
    """What the client's own gate lets through at once; None: it stands open."""
    at_gate: float = 0.0
    """Of those waiting: not let through yet."""
    kv_usage: float | None = None
    preemptions: float | None = None
    requests: float | None = None
    """Requests that the server finished meanwhile."""
    iteration_tokens: float | None = None
    ttft_here_s: float | None = None
    """Mean TTFT of the first tokens of the last seconds as measured here, and the server's of the same first tokens."""
    ttft_server_s: float | None = None
    held: float = 0.0
    """Requests in flight here and not on the server, the fewest of several scrapes in a row."""
    flops: float | None = None
    memory_bytes: float | None = None
    prefix_hit_ratio: float | None = None
    shared_prefix: float = 0.0
    goes_on: bool = False
    """Requests go on from earlier ones, whose prompts they begin with: how many hits that gives was not asked for."""
    in_visits: bool = False
    """Requests are of visits or sessions: how much their prompts begin alike is theirs, nobody asked for it."""
    red_share: float = 0.0
    holder: str = ""
    """`FILE:LINE in FUNCTION` of users' own code that held the client's loop; empty: none was seen to."""
    late_share: float = 0.0
    """Share of the seconds in which the client was amber or red."""
    ended: Requests | None = None
    foreign: float | None = None
    """Requests on the server that are not ours; None: all are, or it cannot be said."""
    changed_s: float = -math.inf
    """When the load last changed: requests sent before have seen another load as well."""

    @property
    def all_fail(self) -> bool:
        """Whether requests have ended and none well."""
        return self.ended is not None and bool(self.ended.error.any()) and not self.ended.ok.any()

    def ttft_s(self) -> Array:
        return _known(self.ended.ttft_s) if self.ended is not None else np.empty(0)


def is_client_bound(red_share: float) -> bool:
    """Whether the client's own limit is the rule and its figures say nothing about the server."""
    return red_share >= CLIENT_BOUND_SHARE


def diagnose(
    recent: Recent, limits: Limits, levels: tuple[Level, ...], dialect: Dialect | None, pressed: bool = True
) -> Diagnosis:
    """The first gate that opens, the surest first: the client itself, memory, token budget, slots, network, compute.

    Args:
        levels: of the current curve, the lowest first.
        dialect: whose flags are named; None: not known.
        pressed: a limit that slow steps break is missed; slow steps that bother nobody are not diagnosed.
    """
    table = _table(dialect)
    gates = (
        _client(recent),
        _refused(recent),
        _kv(recent, limits),
        _token_budget(recent, limits),
        _slots(recent, limits, table),
        _network(recent),
        _compute(recent, limits, levels) if pressed else None,
    )
    found = next((found for found in gates if found is not None), Diagnosis(bound=Bound.NONE))
    if found.bound in _BY_TIME and recent.late_share >= LATE_SHARE:
        return Diagnosis(bound=Bound.NONE, evidence=(CLIENT_LATE,))
    return found


def on_this_machine(found: Diagnosis) -> Diagnosis:
    """What is left of a finding about what lies between client and server where both are on one machine.

    Time that is lost there is this machine's own; why requests are held or cut off is not known.
    """
    if found.bound is not Bound.NETWORK:
        return found
    why = (CLIENT_LATE,) if found.advice == _LOOK_BETWEEN else ()
    return Diagnosis(bound=Bound.NONE, evidence=(*why, *found.evidence))


_LOOK_BETWEEN = "look at the network, the proxy and the server's front end"


_BY_TIME = (Bound.NETWORK, Bound.MEMORY, Bound.COMPUTE)
"""What is told from times that a late client lengthens."""


def _table(dialect: Dialect | None) -> DialectTable:
    return DIALECTS[dialect or Dialect.OPENAI]


def _client(recent: Recent) -> Diagnosis | None:
    if not is_client_bound(recent.red_share):
        return None
    first = f"mend what holds the loop ({recent.holder}), " if recent.holder else ""
    return Diagnosis(
        bound=Bound.CLIENT,
        evidence=(f"{CLIENT_SLOW} in {TEXT.percent(recent.red_share)} of the last seconds",),
        advice=f"{first}lower the load or run more load workers (--workers): these {VOID}",
        confidence=Confidence.FIRM,
    )


def _refused(recent: Recent) -> Diagnosis | None:
    """Somebody answers with an HTTP error: latencies of what is left say nothing about the server's limits."""
    ended = recent.ended
    if ended is None or (status := ended.refusal) is None:
        return None
    refused = int((ended.status[ended.error] == status).sum())
    share = refused / len(ended.error)
    if refused < 2 or share <= ERROR_WALL:
        return None
    return Diagnosis(bound=bound_of(status), evidence=(failures(share, status),), confidence=Confidence.FIRM)


def _queues(recent: Recent) -> bool:
    return recent.polls >= _MIN_POLLS and recent.waiting is not None and recent.waiting_share >= 0.6


def _slots_free(recent: Recent, limits: Limits) -> bool:
    """Whether the server tells of more slots than are taken."""
    slots, running = limits.max_num_seqs, recent.running
    return slots is not None and running is not None and running < TAKEN * slots and not is_pinned(running, slots)


def _gauges(recent: Recent) -> str:
    parts = []
    if recent.running is not None:
        parts.append(f"running {TEXT.whole(recent.running)}")
    if recent.waiting is not None:
        parts.append(f"waiting {TEXT.whole(recent.waiting)}")
    if recent.at_gate >= 1:
        parts.append(f"{TEXT.whole(recent.at_gate)} of them at the gate of {recent.gate}")
    if recent.kv_usage is not None:
        parts.append(f"KV {TEXT.percent(recent.kv_usage)}")
    return ", ".join(parts)


def _kv(recent: Recent, limits: Limits) -> Diagnosis | None:
    """Memory binds when requests are evicted, or wait while the cache is full and slots are free."""
    evicted = recent.preemptions or 0.0
    full = recent.kv_usage is not None and recent.kv_usage >= kv_full(limits)
    thrash = evicted >= 1 and (not recent.requests or evicted >= 0.01 * recent.requests)
    if not thrash and not (_queues(recent) and full and not is_pinned(recent.running, limits.max_num_seqs)):
        return None
    evidence = [_gauges(recent)]
    if evicted:
        per = f", {TEXT.whole(1000 * evicted / recent.requests)} per 1 000 requests" if recent.requests else ""
        evidence.append(f"{TEXT.whole(evicted)} preemptions in {TEXT.duration(WINDOW_S)}{per}: work is thrown away")
    if limits.kv_requests is not None:
        evidence.append(f"the cache holds about {TEXT.whole(limits.kv_requests)} requests of this length")
    return Diagnosis(
        bound=Bound.KV,
        evidence=tuple(evidence),
        confidence=Confidence.FIRM if full or evicted >= 10 else Confidence.PROVISIONAL,
    )


def _token_budget(recent: Recent, limits: Limits) -> Diagnosis | None:
    budget = limits.max_num_batched_tokens
    if (
        not _queues(recent)
        or budget is None
        or recent.iteration_tokens is None
        or is_pinned(recent.running, limits.max_num_seqs)
    ):
        return None
    if recent.iteration_tokens < SPENT * budget:
        return None
    return Diagnosis(
        bound=Bound.TOKEN_BUDGET,
        evidence=(
            _gauges(recent),
            f"{TEXT.whole(recent.iteration_tokens)} of {TEXT.whole(budget)} tokens a step are used",
        ),
        confidence=Confidence.FIRM,
    )


def _slots(recent: Recent, limits: Limits, table: DialectTable) -> Diagnosis | None:
    if not _queues(recent) or recent.running is None or recent.waiting is None:
        return None
    known = is_pinned(recent.running, limits.max_num_seqs)
    flat = recent.running_max is not None and recent.running >= _PINNED * recent.running_max
    if _slots_free(recent, limits) or not (known or flat):
        return None
    told = limits.max_num_seqs is not None
    cap = limits.max_num_seqs if limits.max_num_seqs is not None else recent.running_max or recent.running
    stuck = f"running stuck at {TEXT.whole(cap)}, waiting {TEXT.whole(recent.waiting)}"
    if limits.gate is not None:
        stuck = gate_binds(limits.gate, recent.running, recent.at_gate)
    memory = "" if recent.kv_usage is None else f", KV {TEXT.percent(recent.kv_usage)}"
    return Diagnosis(
        bound=Bound.QUEUE,
        evidence=(
            stuck + memory,
            *(() if told else (f"{slots_flag(table)} is not shown: inferred from the plateau",)),
        ),
        confidence=Confidence.FIRM if known else Confidence.PROVISIONAL,
    )


def _network(recent: Recent) -> Diagnosis | None:
    """Time or requests that the server knows nothing of lie between it and the client."""
    own, told = recent.ttft_here_s, recent.ttft_server_s
    if own is not None and told is not None and own - told > max(0.05, 0.3 * own):
        here, there = TEXT.latency(own * 1e3), TEXT.latency(told * 1e3)
        return Diagnosis(
            bound=Bound.NETWORK,
            evidence=(f"TTFT {here} here, {there} at the server",),
            advice=_LOOK_BETWEEN,
            confidence=Confidence.PROVISIONAL,
        )
    through = (recent.in_flight or 0.0) - recent.at_gate
    if recent.in_flight is not None and is_held(recent.held, through):
        inside = (recent.running or 0.0) + (recent.waiting or 0.0) - recent.at_gate
        return Diagnosis(
            bound=Bound.NETWORK,
            evidence=(f"{TEXT.whole(through)} in flight here, {TEXT.whole(inside)} on the server",),
            advice="raise the connection limit of the gateway or proxy that holds requests back",
            confidence=Confidence.PROVISIONAL,
        )
    return _cut_at_one_time(recent)


def _cut_at_one_time(recent: Recent) -> Diagnosis | None:
    """Failures that all come at the same age past 10 s are a proxy's timeout, not the server's trouble."""
    if recent.ended is None:
        return None
    failed = recent.ended.error
    ages = _known((recent.ended.end_s - recent.ended.sent_s)[failed])
    if len(ages) < 3 or np.median(ages) < 10 or np.ptp(ages) > 0.1 * np.median(ages):
        return None
    age = TEXT.duration(round(float(np.median(ages))))
    return Diagnosis(
        bound=Bound.NETWORK,
        evidence=(f"{len(ages)} requests failed at {age} each",),
        advice=f"raise the timeout of {age} on the way to the server",
        confidence=Confidence.PROVISIONAL,
    )


def _compute(recent: Recent, limits: Limits, levels: tuple[Level, ...]) -> Diagnosis | None:
    """Tokens come slower than at low load with nothing waiting: the steps themselves take longer."""
    if recent.ended is None or not levels or (recent.waiting_share > CALM_SHARE and not _slots_free(recent, limits)):
        return None
    now, first = _known(recent.ended.tpot_s[recent.ended.sent_s >= recent.changed_s]), levels[0].samples("tpot")
    if len(now) < 10 or len(first) < 4:
        return None
    ratio = float(np.median(now) / np.median(first))
    if ratio < 1.5:
        return None
    tpot, calm = TEXT.latency(float(np.median(now)) * 1e3), TEXT.load(levels[0].in_flight, "concurrency")
    slower = f"TPOT {tpot}, x{ratio:.1f} of that at {calm} in flight"
    bound, why = _roofline(recent)
    if bound is None:
        share = _users_share(recent, levels, ratio)
        if share is None:
            return None
        bound = Bound.COMPUTE if share >= USERS_SHARE else Bound.MEMORY
        why = "by the shape of TPOT over load"
    return Diagnosis(bound=bound, evidence=(slower, why), confidence=Confidence.PROVISIONAL)


def _users_share(recent: Recent, levels: tuple[Level, ...], ratio: float) -> float | None:
    """Share of a step that grows with the load, TPOT = a + b N: of the highest level, or of now where that is higher.

    `ratio` is TPOT now over that of the lowest level. 1.0 where slower steps are not a matter of the load; None where
    the loads lie too close to tell.
    """
    growth = recent.in_flight / levels[0].in_flight if recent.in_flight else math.inf
    top = levels[-1].samples("tpot")
    if levels[-1].in_flight / levels[0].in_flight > growth and len(top) >= 4:
        growth = levels[-1].in_flight / levels[0].in_flight
        ratio = float(np.median(top) / np.median(levels[0].samples("tpot")))
    if growth <= 1:
        return 1.0
    if growth < GROWTH:
        return None
    return (ratio - 1) / ratio / (1 - 1 / growth)


_RIDGE = 200.0
"""FLOPs a byte where today's accelerators turn from bandwidth to compute (A100 153, H100 295, L4 400, MI300X 247)."""


def _roofline(recent: Recent) -> tuple[Bound | None, str]:
    """By the server's own FLOP and byte counters, where they exist and advance."""
    if not recent.flops or not recent.memory_bytes:
        return None, ""
    intensity = recent.flops / recent.memory_bytes
    bound = Bound.COMPUTE if intensity >= _RIDGE else Bound.MEMORY
    return bound, f"{TEXT.whole(intensity)} FLOPs a byte by the server's counters"


def by_cliff(cliff: CliffVerdict) -> Diagnosis:
    """What a curve says by itself, when there are no gauges of now: a finished run, or a table."""
    return Diagnosis(bound=cliff.cause, evidence=cliff.evidence, confidence=cliff.confidence)


def of_embeddings(found: Diagnosis, limits: Limits) -> Diagnosis:
    """The same of embeddings, whose whole work is one step: no flag is known to help, and prompts that wait do so for
    slots only where those are known and taken."""
    if found.bound is Bound.QUEUE and limits.max_num_seqs is None:
        found = msgspec.structs.replace(found, bound=Bound.NONE, evidence=(WAITS_FOR_EITHER,))
    return msgspec.structs.replace(found, advice=None, prediction=None)


def trust_notes(recent: Recent) -> tuple[str, ...]:
    """What a reader must know before believing the figures."""
    notes = []
    if recent.foreign is not None:
        notes.append(f"foreign traffic: about {TEXT.whole(recent.foreign)} requests on the server are not ours")
    hits = None if recent.goes_on else recent.prefix_hit_ratio
    if hits is not None and hits > recent.shared_prefix + 0.15:
        asked = f"flatters TTFT: {TEXT.percent(hits)} hits where {TEXT.round_percent(recent.shared_prefix)} was asked"
        alike = f"had {TEXT.percent(hits)} of the prompt tokens: visits begin their prompts alike"
        notes.append(f"prefix cache {alike if recent.in_visits else asked}")
    return (*notes, *_starved(recent))


def _starved(recent: Recent) -> tuple[str, ...]:
    """A few requests wait far longer than most, where prompts differ in length and enough requests share the server."""
    ttft_s = recent.ttft_s()
    if recent.ended is None or len(ttft_s) < 100 or (recent.in_flight or 0.0) < CROWD:
        return ()
    prompts = _known(recent.ended.prompt_tokens[recent.ended.ok])
    if len(prompts) < 2 or np.quantile(prompts, 0.95) < MIXED * np.median(prompts):
        return ()
    p50, p99 = np.quantile(ttft_s, (0.5, 0.99))
    if p99 < STARVED * p50:
        return ()
    return (starving(float(p99 / p50)),)


def _known(values: Array) -> Array:
    return values[np.isfinite(values)]
