"""Why the twin of a server has no number for what it is asked, and what would make it known."""

from __future__ import annotations

from llmtop.domain.load import Axis

SLOTS = "max_num_seqs"


def number_text(value: float) -> str:
    """Whole from 10 on, else with one digit: a load or a length that is to be set."""
    return f"{value:.0f}" if not abs(value) < 10 or value == round(value) else f"{value:.1f}"


def hold_text(load: float, axis: Axis, slots: float | None = None) -> str:
    """`hold 96 users for 10 s`; with `slots`, those have to be raised first."""
    hold = f"hold {number_text(load)} {'users' if axis == 'concurrency' else 'requests/s'} for 10 s"
    return hold if slots is None else f"set {SLOTS} to {number_text(slots)} and {hold}"


def drag_text(what: str, tokens: float) -> str:
    """`drag prompt to 2048 for 10 s`."""
    return f"drag {what} to {number_text(tokens)} for 10 s"


def few_loads_text(found: int, wanted: int, slots: float | None = None) -> tuple[str, str]:
    """Of too few loads that differ in how many requests ran at once.

    Args:
        slots: behind so many users waited; None: none did.
    """
    numbers = "one number of requests" if found == 1 else f"{found} numbers of requests"
    measured = f"{numbers} at once {'was' if found == 1 else 'were'} measured" if found else "no load was measured"
    more = f"hold {wanted - found} more load{'s' * (wanted - found > 1)}"
    each = "10 s" if wanted - found == 1 else "10 s each"
    if slots is None:
        unlike = f" that differ{'s' if wanted - found == 1 else ''} by a quarter" if found else ""
        return f"{measured}, a fit takes {wanted}", f"{more}{unlike}, below the cliff, for {each}"
    waiting = f"users who wait behind the slots or a gate of {number_text(slots)} add none"
    where = f"below {number_text(slots)} at once" if slots > wanted else "with more slots or a wider gate"
    return f"{measured}, a fit takes {wanted}: {waiting}", f"{more} {where}, unlike those that were held, for {each}"


SPECULATES = (
    "the server speculates: how long a token takes depends on how well a draft is guessed",
    "measure it without speculation",
)
UNEXPLAINED = "the levels contradict each other: {off:.0%} off the step time that fits them best"
UNFORETOLD = "the other levels foretell the busiest one {off:.0%} wrong"
NOT_FORETOLD = "no two others differ enough in what ran at once to foretell the busiest level"
AGAIN = "hold each longer, 20 s and more"
NO_KV = (
    "the size of the KV cache is not known",
    "let the server show it on /metrics, or raise the load until it is full",
)
NO_SLOTS = ("without slots nothing runs", "ask for 1 slot or more")
NO_WALL = "neither slots nor KV cache of the server are known"


def far_text(running: float, measured: float, reach: float) -> str:
    """`192 running is more than twice the 64 that were measured`."""
    times = "twice" if reach == 2.0 else f"{number_text(reach)} times"
    return f"{number_text(running)} running is more than {times} the {number_text(measured)} that were measured"


def length_text(what: str, asked: float, low: float, high: float) -> str:
    """`a prompt of 2048 tokens was not measured, only 512`."""
    seen = number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"
    return f"{what} of {number_text(asked)} tokens lies outside of what was measured ({seen})"


def one_load_text(what: str) -> str:
    """Of lengths that each were measured with one load, which tells nothing of another."""
    return f"no {what} length was measured with two loads"


def holds_text(edge: float, axis: Axis) -> str:
    """`the limits hold as far as is foreseen: at 128 users`."""
    unit = "users" if axis == "concurrency" else "requests/s"
    return f"the limits hold as far as is foreseen: at {number_text(edge)} {unit}"


def not_foreseen_text(metric: str, statistic: str) -> tuple[str, str]:
    """Of a limit on what no closed form gives."""
    return f"{statistic} of {metric} is not foreseen", "set limits on p50 or p95 of ttft or tpot"


def no_load_text(load: float) -> tuple[str, str]:
    """Of nothing, and of what is no number."""
    return f"{load} is no load", "ask for more than 0"


def assumed_text(*, slots: bool, kv: bool) -> str | None:
    """What must suffice for more to run than were seen, by what is known of the server."""
    if slots and kv:
        return None
    if slots:
        return "if the KV cache suffices, whose size is not known"
    if kv:
        return "if the slots suffice, of which the number is not known"
    return "if slots and KV cache suffice, which are not known"


def small_kv_text(tokens: float, request: float) -> tuple[str, str]:
    """Of a KV cache that no request fits into."""
    return (
        f"a KV cache of {number_text(tokens)} tokens holds no request of {number_text(request)}",
        f"ask for {number_text(request)} tokens or more",
    )
