"""What goes into the engine and what comes out: requests, token events, refusals."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from itertools import chain

from msgspec import Struct


class SimRequest(Struct, frozen=True, kw_only=True):
    """One request as the engine sees it: lengths, and which prompt blocks others may share.

    `block_hashes` names the content of the leading full prompt blocks (see `chain_hashes`); requests with equal heads
    can hit each other's blocks. Blocks past them hold content that is this request's own.
    """

    id: str
    arrival_ns: int
    prompt_tokens: int
    max_tokens: int
    block_hashes: tuple[int, ...] = ()
    priority: int = 0
    """Lower runs first under the priority policy."""
    stop_after: int | None = None
    """Output tokens after which the model ends by itself (finish reason `stop`); None: never (ignore_eos)."""


def chain_hashes(token_ids: Seq[int], block_size: int = 16) -> tuple[int, ...]:
    """Name each full block by its tokens and all before it: hash(parent, its token ids).

    Equal names mean equal prefixes, so the longest run of known names is the longest cached prefix.
    Source: vLLM `vllm/v1/core/kv_cache_utils.py::hash_block_tokens`.
    """
    chain = []
    parent = 0
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = hash((parent, tuple(token_ids[start : start + block_size]))) & 0x7FFF_FFFF_FFFF_FFFF
        chain.append(parent)
    return tuple(chain)


class TokenEvent(Struct, frozen=True, gc=False):
    """One output token. All events of one `Engine.commit` happened at the end of its step."""

    request_id: str
    index: int
    """0 for the first token."""
    finished: bool = False
    finish_reason: str | None = None
    """length, stop, or error when `finished`. With error no token came (`index` is -1)."""


class Rejected(Exception):
    """The engine does not take the request: an outcome, which the server turns into a status.

    Attributes:
        reason: `prompt_too_long`, `max_tokens_too_large`, `queued_reqs` or `queued_tokens`.
        limit: the value that was passed.
        value: what the request asked for, or how much was queued.
    """

    def __init__(self, reason: str, limit: int, value: int) -> None:
        self.reason = reason
        self.limit = limit
        self.value = value
        super().__init__(f"{reason}: {value} > {limit}")

    @property
    def status(self) -> int:
        """HTTP status that vLLM answers with: 400 for what can never run, 503 for a full queue."""
        return 503 if self.reason.startswith("queued") else 400


class Sequence:
    """A request inside the engine. Mutable; only the engine writes to it.

    `computed` is the number of tokens whose KV exists or is being computed, `target` the number to reach before the
    next token can be sampled, `last_target` where it ends: prompt + output - 1, because the last token needs no KV.
    """

    __slots__ = (
        "arrival_ns",
        "blocks",
        "cached_tokens",
        "capacity",
        "computed",
        "emitted",
        "finished",
        "first_token_ns",
        "hashed",
        "id",
        "last_target",
        "last_token_ns",
        "max_tokens",
        "own_key",
        "preemptions",
        "priority",
        "prompt_tokens",
        "running",
        "scheduled_ns",
        "shared_keys",
        "stop_at",
        "target",
    )

    def __init__(self, request: SimRequest, max_tokens: int, serial: int, block_size: int) -> None:
        self.shared_keys = request.block_hashes[: request.prompt_tokens // block_size]
        self.id = request.id
        self.priority = request.priority
        self.arrival_ns = request.arrival_ns
        self.prompt_tokens = request.prompt_tokens
        self.max_tokens = max_tokens
        self.stop_at = max_tokens if request.stop_after is None else min(max_tokens, request.stop_after)
        self.computed = 0
        self.target = request.prompt_tokens
        self.last_target = request.prompt_tokens + max_tokens - 1
        self.emitted = 0
        self.blocks: list[int] = []
        self.capacity = 0
        """Tokens that fit into `blocks`."""
        self.hashed = 0
        """How many of `blocks` the prefix cache knows."""
        self.own_key = -(serial << 32) - 1
        """Names of blocks with content of its own are negative, so that no chain hash can equal one."""
        self.running = False
        self.finished = False
        self.preemptions = 0
        self.cached_tokens = 0
        """Prompt tokens found in the prefix cache at first admission."""
        self.scheduled_ns = -1
        """First time in a step; -1: never yet."""
        self.first_token_ns = -1
        self.last_token_ns = -1

    def keys(self, start: int, stop: int) -> Iterable[int]:
        """Names of the contents of the blocks from `start` up to before `stop`."""
        shared = self.shared_keys
        own = range(self.own_key - max(start, len(shared)), self.own_key - stop, -1)
        return chain(shared[start:stop], own) if start < len(shared) else own
