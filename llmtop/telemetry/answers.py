"""What a server tells in JSON beside its metrics page: how it was configured, and llama.cpp's slots."""

from __future__ import annotations

import math

import httpx
import msgspec
from msgspec import Struct

from llmtop.dialects import DialectTable, dig

TIMEOUT_S = 2.0
RETRY_S = 30.0
"""How long an answer that did not come is left alone. One that was refused stays so until the server starts anew."""
LIVE_FIELDS = frozenset({"running", "waiting", "kv_usage"})
"""Asked at every scrape; the rest is configuration, asked once per start of the server."""


class Slots(Struct, frozen=True):
    """llama.cpp's /slots, summed."""

    busy: int
    total: int
    used_tokens: float
    """In the contexts of busy slots."""
    capacity_tokens: float

    @property
    def kv_usage(self) -> float | None:
        return min(self.used_tokens / self.capacity_tokens, 1.0) if self.capacity_tokens else None


class AnswerReader:
    """Asks one server for the JSON answers that its dialect table names.

    Args:
        root: scheme, host, port and base path.
    """

    def __init__(self, root: str, table: DialectTable) -> None:
        self.values: dict[str, float] = {}
        """By field of `ServerSnapshot`."""
        self.slots: Slots | None = None
        self._root = root
        self._slots_path = table.slots_path
        self._facts = table.json_facts
        self._next_try_s: dict[str, float] = {}

    def forget(self) -> None:
        """The server started anew: ask everything again."""
        self.values.clear()
        self._next_try_s.clear()

    async def read(self, client: httpx.AsyncClient, now_s: float) -> None:
        """Ask what is not known yet and what changes. Never raises for what the server does.

        Slots that were not answered this time stay as they were; slots that were refused are gone.
        """
        if self._slots_path is not None and self._due(self._slots_path, now_s):
            answer = await self._ask(client, self._slots_path, now_s)
            if answer is not None or self._next_try_s[self._slots_path] == math.inf:
                self.slots = read_slots(answer)
        asked: dict[str, object] = {}
        for field, facts in self._facts.items():
            if field in self.values and field not in LIVE_FIELDS:
                continue
            value = None
            for fact in facts:
                if fact.path not in asked:
                    asked[fact.path] = (
                        await self._ask(client, fact.path, now_s) if self._due(fact.path, now_s) else None
                    )
                value = pick_number(asked[fact.path], fact.key)
                if value is not None:
                    break
            if value is not None:
                self.values[field] = value
            elif field in LIVE_FIELDS:
                self.values.pop(field, None)

    def _due(self, path: str, now_s: float) -> bool:
        return now_s >= self._next_try_s.get(path, 0.0)

    async def _ask(self, client: httpx.AsyncClient, path: str, now_s: float) -> object:
        """The decoded answer; None, and a pause before the next try, where there is none."""
        self._next_try_s[path] = now_s + (0.0 if path == self._slots_path else RETRY_S)
        try:
            answer = await client.get(self._root + path, timeout=TIMEOUT_S)
            decoded: object = msgspec.json.decode(answer.content) if answer.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if decoded is not None:
            self._next_try_s[path] = now_s
        elif not answer.is_server_error:
            self._next_try_s[path] = math.inf
        return decoded


def pick_number(answer: object, key: str) -> float | None:
    """The number at `key` of a decoded JSON answer, `data.0.max_model_len`; a text of digits counts as one."""
    answer = dig(answer, key)
    if isinstance(answer, bool) or not isinstance(answer, (int, float, str)):
        return None
    try:
        number = float(answer)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_slots(answer: object) -> Slots | None:
    """Sum up an answer of /slots; None if it is none (503 when all are busy, or the endpoint is off).

    The tokens in a slot's context are `n_prompt_tokens`, which grows with every token that is generated; servers that
    count only the prompt there need `n_decoded` added to what was processed, so the larger of the two counts. A slot
    that never had a task has neither. Only busy slots count: an idle one keeps its tokens until another request wants
    the room. With a unified cache (`--kv-unified`) each slot claims the whole of it, so the usage is a lower bound.
    """
    if not isinstance(answer, list) or not answer:
        return None
    busy, used, capacity = 0, 0.0, 0.0
    for slot in answer:
        size = pick_number(slot, "n_ctx")
        if size is None:
            return None
        capacity += size
        if not slot.get("is_processing"):
            continue
        busy += 1
        decoded = pick_number(slot, "next_token.0.n_decoded") or pick_number(slot, "next_token.n_decoded") or 0.0
        processed = sum(pick_number(slot, f"n_prompt_tokens_{part}") or 0.0 for part in ("processed", "cache"))
        used += max(pick_number(slot, "n_prompt_tokens") or 0.0, processed + decoded)
    return Slots(busy, len(answer), used, capacity)
