"""What a demo says to its audience: one sentence for each part of a scene, without any figure that is not measured.

Each fits a row of 80 cells, behind the number and the name of its scene.
"""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.verdicts import Bound
from llmtop.wording.names import bound_adjective


class Told(Struct, frozen=True):
    """Of one scene, in the order in which it is said."""

    name: str
    """The limit that is pushed."""
    rises: str
    breaks: str
    named: str
    """Once the verdict says so: what follows its own word."""
    cured: str


SLOTS = Told(
    name="slots",
    rises="Users come: each is served at once, and the first token is quick.",
    breaks="More users than slots: the rest queues, and only TTFT grows.",
    named="max_num_seqs is too low for these users.",
    cured="More slots, the same users: the queue drains, TTFT comes back.",
)
KV = Told(
    name="KV cache",
    rises="Longer answers: each token under way takes room in the cache.",
    breaks="Cache full, slots free: requests are thrown out, computed again.",
    named="more slots would not help, more memory does.",
    cured="A larger cache, the same users: preemptions end, TTFT recovers.",
)
TOKEN_BUDGET = Told(
    name="token budget",
    rises="Long prompts are read in steps of so many tokens, no more.",
    breaks="Prompts wait for room in a step: TTFT grows, TPOT hardly.",
    named="max_num_batched_tokens is too low here.",
    cured="More tokens a step: TTFT falls, and TPOT pays a little.",
)
COMPUTE = Told(
    name="compute",
    rises="Slots, cache and budget are wide open: nothing has to wait.",
    breaks="A step computes for all: with each user tokens come slower.",
    named="no queue, no full cache; steps take longer.",
    cured="Fewer users: TPOT comes back; more of them need another engine.",
)
SICK = Told(
    name="a sick server",
    rises="A healthy server, at a load that it carries with ease.",
    breaks="Requests fail at any load; the brake is there to cut it.",
    named="no latency means anything now.",
    cured="The server is well, its users come back: errors end.",
)
RESTS = "A moment of rest; then the next limit."
IN_HAND = "Yours: PgUp adds users, k turns knobs; a or idling goes on."
STOPPED = "The load is stopped, and stays at 0: a goes on."
NOT_HERE = "this is no demo: `llmtop demo` begins one"
ENDED = "the demo has shown its last scene"
TAKEN_MARK = "demo: the wheel is in a hand"


def named(bound: Bound, told: Told) -> str:
    """`Queue-bound: max_num_seqs is too low for these users.`"""
    word = bound_adjective(bound)
    return f"{word[:1].upper()}{word[1:]}: {told.named}"


def begins(number: int, of: int, name: str) -> str:
    """The mark at the beginning of a scene: `demo 1/5: slots`."""
    return f"demo {number}/{of}: {name}"
