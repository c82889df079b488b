"""One sentence for each promise: clauses without a capital and a full stop, put together by a line, a page or a log."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmtop.domain.client import ClientCause, ClientReason
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.request import TURNED_AWAY
from llmtop.domain.run import SearchEnded
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.verdicts import CliffVerdict
from llmtop.wording.figures import TEXT, Figures
from llmtop.wording.names import load_unit, target_name

CLIENT_SLOW = "the client was the bottleneck"
CLIENT_BOUND = f"{CLIENT_SLOW}: this run says nothing about the server"
CLIENT_LATE = "not known: this machine is late"
VOID = "figures are void"
"""What follows while the client is the bottleneck."""
TRANSIENTS = "most requests saw the load move while others waited: stay longer at each load"
ERRORS = target_name("error_ratio")
SCATTERED = "requests failed below loads that held: a fault, not the load"
CONTRADICTION = "levels contradict each other: measure again"


def supports(
    at_slo: float,
    fails_at: float | None,
    axis: Axis,
    *,
    objective: str = "the SLO",
    how: str = "",
    low: float | None = None,
    high: float | None = None,
    figures: Figures = TEXT,
) -> str:
    """`supports 28 concurrent users at the SLO`; `at least` as long as no load has failed.

    Args:
        low, high: the interval, said where both are known: `supports 28 (26 to 31) concurrent users`.
        how: in what way the load was driven (`driven`).
    """
    least = "at least " if fails_at is None else ""
    span = "" if low is None or high is None else f" ({figures.load(low, axis)} to {figures.load(high, axis)})"
    users = f"{figures.load(at_slo, axis)}{span} {load_unit(axis, at_slo)}"
    return f"supports {least}{users}{_in_brackets(how)} at {objective}"


def breaks(fails_at: float, axis: Axis, *, objective: str = "the SLO", how: str = "", figures: Figures = TEXT) -> str:
    """`does not meet the SLO even at 4 concurrent users`: the lowest load that was driven failed."""
    load = f"{figures.load(fails_at, axis)} {load_unit(axis, fails_at)}"
    return f"does not meet {objective} even at {load}{_in_brackets(how)}"


def binds_then(failed: Sequence[str], statuses: Sequence[int] = ()) -> str:
    """`, then TPOT binds`, of the names of the limits that break next; empty: none is known.

    Args:
        statuses: HTTP statuses of the errors among them: `, then requests fail (HTTP 503)`.
    """
    metrics = list(dict.fromkeys(name.partition(" ")[0] for name in failed))
    felt = [name for name in metrics if name != ERRORS]
    parts = [f"{listed(felt)} bind{'s' if len(felt) == 1 else ''}"] if felt else []
    if ERRORS in metrics:
        parts.append(f"requests fail{_in_brackets(listed([f'HTTP {status}' for status in statuses]))}")
    return f", then {listed(parts)}" if parts else ""


def pass_and_fail(at_slo: float | None, fails_at: float | None, axis: Axis, figures: Figures = TEXT) -> str:
    """`pass 28, fail 36`; empty when no level was judged."""
    if at_slo is None and fails_at is None:
        return ""
    passed = [] if at_slo is None else [f"pass {figures.load(at_slo, axis)}"]
    return ", ".join([*passed, "no failure yet" if fails_at is None else f"fail {figures.load(fails_at, axis)}"])


def advised(
    recommended: float, soak: float, axis: Axis, figures: Figures = TEXT, *, why: str = "", share: float | None = None
) -> str:
    """`run it at 28 (the knee), soak it at 22 (80 % of that)`

    Args:
        why: why it is less than what is supported; empty: it is not.
        share: of the recommended load that the soak is.
    """
    run = f"run it at {figures.load(recommended, axis)}{_in_brackets(why)}"
    part = "" if share is None else f"{figures.round_percent(share)} of that"
    return f"{run}, soak it at {figures.load(soak, axis)}{_in_brackets(part)}"


def broken_there(load: float, axis: Axis, target: SloTarget, value: float, figures: Figures = TEXT) -> str:
    """`at 50 queue 18.2 > 10`: a limit that is no latency breaks at the load that is supported."""
    measured, limit = figures.measured(target.metric, value), figures.limit(target.metric, target.limit)
    return f"at {figures.load(load, axis)} {target_name(target.name)} {measured} > {limit}"


def configuration(
    server: str | None,
    slots: float | None,
    gpus: int | None,
    point: LoadPoint | None,
    figures: Figures = TEXT,
    gate: float | None = None,
) -> str:
    """What a capacity holds for: `vLLM 0.33, 36 slots, 1 GPU, 192/64 tokens`. What is not known is left out.

    Args:
        server: title and version.
        slots: requests in one batch.
        gpus: that serve.
        gate: what the client lets through at once; None: all.
    """
    parts = [server or ""]
    parts += [] if slots is None else [f"{figures.whole(slots)} slots" if slots != 1 else "1 slot"]
    parts += [] if gate is None else [gate_text(gate)]
    parts += [] if not gpus else [f"{gpus} GPU{'' if gpus == 1 else 's'}"]
    parts += [] if point is None else [lengths(point)]
    return ", ".join(filter(None, parts))


WORKLOAD = "workload: "
"""How every sentence on the user's own file begins: what was left out of it, what was guessed."""

_HELD = " held the loop for "


def held_loop(where: str, took_ms: float) -> str:
    """Users' own code, at `FILE:LINE in FUNCTION`, has computed or blocked."""
    cure = "use await asyncio.to_thread(...)"
    return f"{where}{_HELD}{took_ms:.0f} ms: nothing was sent or read meanwhile; {cure}"


def holder_of(text: str) -> str:
    """Where, without its folder, if a text is one of `held_loop`; else empty."""
    where, held, _ = text.partition(_HELD)
    return where.rpartition("/")[2] if held else ""


ROWS_AGAIN = f"{WORKLOAD}every row that was read was sent: from here on they come again, each with a new head"
ROWS_SENT = f"{WORKLOAD}every row was sent once: the load has ended"


def expected_peak(peak: float, own: float, slots: int | None, most: int) -> str:
    """`expected peak: 64, the server's slots`: where the peak of a plan comes from.

    Args:
        peak: the one that is used.
        own: the profile's.
        slots: the server's; None: it does not tell them.
        most: requests in flight that are allowed.
    """
    told = f"expected peak: {TEXT.load(peak, 'concurrency')}"
    if slots is None and peak == own:
        return f"{told}, the profile's: the server does not tell its slots (--peak sets another)"
    if peak == slots:
        return f"{told}, the server's slots"
    where = f"the profile's is {own:g}" if slots is None else f"the server has {slots} slots"
    return f"{told}: {where}, but no more than {most} in flight are allowed (--max-concurrency)"


def rest_waits(served: float, axis: Axis, figures: Figures = TEXT) -> str:
    """`31 are served at once, the rest waits`: why less is recommended than what holds the SLO."""
    load = figures.whole(served) if axis == "concurrency" else figures.load(served, axis)
    return f"{load} are served at once, the rest waits"


def searching(
    load: int, judged: int, held: int | None, broke: int | None, left_s: float, figures: Figures = TEXT
) -> str:
    """`testing 64 in flight: 23 requests judged · at most 45 s left · 32 held, 128 did not`

    Args:
        judged: requests that count so far; none do until the load is steady.
        left_s: what the search has promised to end within.
    """
    doing = f"{judged} request{'' if judged == 1 else 's'} judged" if judged else "waiting until it is steady"
    known = [] if held is None else [f"{held} held"]
    known += [] if broke is None else [f"{broke} did not"]
    parts = (
        f"testing {load} in flight: {doing}",
        f"at most {figures.duration(max(0, round(left_s)))} left",
        ", ".join(known),
    )
    return " · ".join(filter(None, parts))


NOTHING_TESTED = "nothing learned yet"
_ENDINGS = {
    "budget": "the time of the search was up",
    "limit": "the load ends there",
    "hand": "ended before it knew",
}


def search_ended(ended: SearchEnded) -> str:
    """Why a search ended before it knew; empty where it knows."""
    return _ENDINGS.get(ended.reason, "")


def left_out(red_s: int, all_s: int) -> str:
    """Some seconds of a search are the client's, not the server's."""
    return f"{CLIENT_SLOW} in {red_s} of {all_s} s, which are left out"


def requests_left_out(count: int, whose: str) -> str:
    """`1 204 requests left out: the client was the bottleneck, load worker 3 (h2:4711) alone`."""
    text = f"{TEXT.whole(count)} request{'' if count == 1 else 's'} left out: {CLIENT_SLOW}"
    return f"{text}, {whose} alone" if whose else text


def requests_lost(count: int, whose: str) -> str:
    """`5 requests left out: lost with load worker 3 (h2:4711)`."""
    with_whom = whose or "load workers that died"
    return f"{TEXT.whole(count)} request{'' if count == 1 else 's'} left out: lost with {with_whom}"


def search_void(red_s: int, all_s: int) -> str:
    """So many seconds of a search are the client's that it has found nothing."""
    return f"{CLIENT_SLOW} in {red_s} of {all_s} s: {VOID}"


def tries(levels: Sequence[int]) -> str:
    """`try 27, then 37`: which loads would say more."""
    return "try " + ", then ".join(map(str, levels[:2]))


def without_tries(clause: str) -> str:
    """`not enough data` of `not enough data: try 4, then 8`."""
    return re.split(r"[:,] try \d", clause, maxsplit=1)[0]


CUT = 0.9
"""Prompts that are shorter than this share of what was asked for were cut: their own length is told."""


def lengths(point: LoadPoint, prompt_tokens: float | None = None, unit: str = "tokens") -> str:
    """`512/128 tokens`; `1792/128 tokens (8192 asked)` where the prompts came out shorter than they were asked for."""
    asked = point.prompt_tokens
    output = f"/{point.output_tokens}" if point.output_tokens else ""  # embeddings have none
    if prompt_tokens is None or prompt_tokens >= CUT * asked:
        return f"{asked}{output} {unit}"
    return f"{prompt_tokens:.0f}{output} {unit} ({asked} asked)"


def setting_changed(name: str, old: float, new: float) -> str:
    """`KV cache tokens 768 -> 1536: a replica was added`: no server that runs gets another cache.

    Of another setting: that it was changed.
    """
    pool = {"kv_capacity_tokens": "KV cache tokens"}.get(name)
    text = f"{pool or name} {old:g} -> {new:g}"
    if pool is None:
        return f"{text}: the server was changed"
    return f"{text}: a replica was {'added' if new > old else 'removed'}"


def driven(axis: Axis, point: LoadPoint | None, prompt_tokens: float | None = None) -> str:
    """`512/128 tokens`, `open loop, 512/128 tokens`; users who think between requests are told with how long."""
    words = ["open loop"] if axis == "rate" else []
    if point is not None:
        if axis == "concurrency" and point.think_time_s:
            words = ["closed loop", f"think time {point.think_time_s:g} s"]
        words.append(lengths(point, prompt_tokens))
        if point.gate is not None:
            words.append(gate_text(point.gate))
    return ", ".join(words)


def gate_text(gate: float | None) -> str:
    """`gate 16`: so many requests at most are let through to the server."""
    return "no gate" if gate is None else f"gate {gate:g}"


def felt(slo: Slo, figures: Figures = TEXT) -> str:
    """The limits that users feel, by which a level passes or fails: `TTFT p95 < 2 s and errors < 1 %`."""
    texts = [figures.target(target) for target in slo.felt]
    return listed(texts) or "no latency limit"


def starving(times: float) -> str:
    """What a TTFT p99 so many times p50 means where lengths are mixed, and what helps."""
    return (
        f"TTFT p99 is x{times:.0f} of p50: short requests starve behind long ones; "
        "schedule by priority, or give long prompts servers of their own"
    )


def client_reason(reason: ClientReason, figures: Figures = TEXT) -> str:
    """`load worker 1 (h2:4711): receive lag 9.00 ms, over half of TPOT (10.0 ms)`"""
    value, of = reason.value, reason.of
    match reason.cause:
        case ClientCause.LAG:
            over = "" if of is None else f", over half of TPOT ({figures.latency(of)})"
            text = f"receive lag {figures.latency(value)}{over}"
        case ClientCause.COALESCED:
            reads = f"{figures.whole(value)} of {figures.whole(of)} reads"
            text = f"{reads} held several tokens: the client reads too late"
        case ClientCause.CPU:
            text = f"load process at {figures.percent(value)} of its core; more workers would help"
        case ClientCause.LOOP:
            text = f"event loop {figures.latency(value)} late"
        case ClientCause.TOLD:
            text = reason.text
    return text if reason.worker is None else f"{worker_called(reason.worker, reason.name)}: {text}"


def worker_called(number: int, name: str) -> str:
    """`load worker 1 (h2:4711)`"""
    return f"load worker {number} ({name})" if name else f"load worker {number}"


def client_sign(reason: ClientReason, figures: Figures = TEXT) -> str:
    """The same in a word: `9.00 ms`, `cpu 92 %`, `loop 30.0 ms`, `reads late`."""
    match reason.cause:
        case ClientCause.LAG:
            return figures.latency(reason.value)
        case ClientCause.CPU:
            return f"cpu {figures.round_percent(round(reason.value, 2))}"
        case ClientCause.LOOP:
            return f"loop {figures.latency(reason.value)}"
        case ClientCause.COALESCED | ClientCause.TOLD:
            return "reads late"


def agreed(votes: int, windows: int) -> str:
    """`7 of 8 windows say so`: how sure it is what binds now; empty where nobody was asked."""
    return f"{votes} of {windows} windows say so" if votes else ""


def failures(share: float, status: int | None, where: str = "", figures: Figures = TEXT) -> str:
    """`12.0 % of requests were refused at 24: HTTP 503`; of a status that refuses nobody, or none, they `failed`."""
    how = "were refused" if status in TURNED_AWAY else "failed"
    who = "" if status is None or status < 400 else f": HTTP {status}"
    return f"{figures.percent(share)} of requests {how}{where}{who}"


def fails_from(cliff: CliffVerdict, figures: Figures = TEXT) -> str:
    """`HTTP 503 from 24 on`; without a status `requests fail from 24 on`. Of a verdict that `fails`."""
    what = "requests fail" if cliff.status is None else f"HTTP {cliff.status}"
    return f"{what} from {figures.load(cliff.high, cliff.axis)} on"


def shared_from(users: float, figures: Figures = TEXT) -> str:
    """`half of the possible tokens/s is reached at 48: beyond, users share`"""
    return f"half of the possible tokens/s is reached at {figures.whole(users)}: beyond, users share"


def listed(texts: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


SHARED_CONNECTIONS = "users share connections through stock httpx: affinity is that of cookies and headers alone"
WAITS_FOR_EITHER = "prompts wait: for slots or for the tokens of a step, which is not told"
"""Of embeddings, whose whole work is one step."""


def hung_up_text(count: int, figures: Figures) -> str:
    """How many requests the client ended because the workload says so."""
    return f"{figures.whole(count)} hung up on purpose"


def sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a flag or a figure."""
    first = text.partition(" ")[0]
    return text if "_" in first or not first.isalpha() else f"{text[0].upper()}{text[1:]}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def clock_jumped(jumps: int, jumped_s: float) -> str:
    """`The wall clock was set back by 50 ms: no latency is touched by that, ...`."""
    times = "" if jumps == 1 else f" in {jumps} jumps"
    how = "went ahead" if jumped_s >= 0 else "was set back"
    return (
        f"The wall clock {how} by {TEXT.duration(abs(jumped_s))}{times}: latencies are not touched by that, "
        "the times of day in this run are"
    )
