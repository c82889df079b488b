"""What a demo says to its audience: one sentence for each part of a scene, without any figure that is not measured."""

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
    breaks="More users than slots: the rest stands in a queue, and only the wait for the first token grows.",
    named="max_num_seqs is too low for these users.",
    cured="More slots under the same users: the queue drains; watch TTFT come back.",
)
KV = Told(
    name="KV cache",
    rises="Longer answers: each token under way keeps its keys and values in the cache.",
    breaks="The cache is full while slots are free: requests are thrown out half-way and computed again.",
    named="more slots would not help, more memory does.",
    cured="A larger cache under the same users: preemptions end; watch TTFT come back.",
)
TOKEN_BUDGET = Told(
    name="token budget",
    rises="Long prompts: each is read before its first token, in steps of so many tokens and no more.",
    breaks="Prompts wait for their share of a step: TTFT grows, tokens that flow stay quick.",
    named="max_num_batched_tokens is too low for prompts of this length.",
    cured="More tokens a step under the same users: watch TTFT fall, and TPOT pay a little for it.",
)
COMPUTE = Told(
    name="compute",
    rises="Slots, cache and budget are wide open now: nothing has to wait.",
    breaks="A step computes for everybody: each user more makes the tokens of all come slower.",
    named="no queue, no full cache; the steps themselves take longer.",
    cured="Fewer users: watch TPOT come back; to carry more of them takes another engine.",
)
SICK = Told(
    name="a sick server",
    rises="A healthy server, at a load that it carries with ease.",
    breaks="The server is sick: requests fail whatever the load, and the brake is there to cut it.",
    named="no latency means anything while that lasts.",
    cured="The server is well again, and its users come back: watch errors end.",
)
RESTS = "A moment of rest; then the next limit."
IN_HAND = "The wheel is yours: PgUp adds users, k turns knobs; a goes on with the demo, as does a minute without a key."
STOPPED = "The load was stopped and stays at 0: a goes on with the demo."
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
