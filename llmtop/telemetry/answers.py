"""What a server tells in JSON beside its metrics page: how it was configured, and llama.cpp's slots."""

from __future__ import annotations

import math

import httpx
from msgspec import Struct

from llmtop.dialects import DialectTable, number_at
from llmtop.dialects.listing import fact_at
from llmtop.endpoint.question import FOLLOWS, JSON_BYTES, SLOTS_BYTES, Late, NoAnswer, Refused, ask

TIMEOUT_S = 2.0
RETRY_S = 30.0
"""How long an answer is left alone that did not come or did not tell all. One that was refused stays so until the
server starts anew."""
SLOTS_LIMIT = 4096
"""Slots of one server. llama.cpp has 256 at most."""
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
        model: the one that is driven, of several that a list may tell of.
    """

    def __init__(self, root: str, table: DialectTable, model: str | None = None) -> None:
        self.values: dict[str, float] = {}
        """By field of `ServerSnapshot`."""
        self.slots: Slots | None = None
        self._root = root
        self._model = model
        self._slots_path = table.slots_path
        self._facts = table.json_facts
        self._live = {fact.path for field in LIVE_FIELDS for fact in table.json_facts.get(field, ())}
        self._next_try_s: dict[str, float] = {}
        self._is_late = False
        """An answer took too long this time: the others are asked next time, so that figures do not wait for them."""

    def forget(self) -> None:
        """The server started anew: ask everything again."""
        self.values.clear()
        self._next_try_s.clear()

    async def read(self, client: httpx.AsyncClient, now_s: float) -> None:
        """Ask what is not known yet and what changes. Never raises for what the server does.

        Slots that were not answered this time stay as they were; slots that were refused are gone.
        """
        self._is_late = False
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
                value = fact_at(asked[fact.path], fact, self._model)
                if value is not None and field not in LIVE_FIELDS and value < 1:
                    value = None  # no setting of a server is nothing: -1 and 0 stand for what it does not tell
                if value is not None:
                    break
            if value is not None:
                self.values[field] = value
            elif field in LIVE_FIELDS:
                self.values.pop(field, None)

    def _due(self, path: str, now_s: float) -> bool:
        return not self._is_late and now_s >= self._next_try_s.get(path, 0.0)

    async def _ask(self, client: httpx.AsyncClient, path: str, now_s: float) -> object:
        """The decoded answer; None, and a pause before the next try, where there is none."""
        is_slots = path == self._slots_path
        self._next_try_s[path] = now_s + (0.0 if is_slots else RETRY_S)
        limit = SLOTS_BYTES if is_slots else JSON_BYTES
        try:
            answer = await ask(client, self._root + path, limit_s=TIMEOUT_S, limit_bytes=limit, follows=FOLLOWS)
        except Refused:
            self._next_try_s[path] = math.inf
            return None
        except NoAnswer as error:
            self._is_late = isinstance(error, Late)
            return None
        decoded: object = answer.json if answer.status == httpx.codes.OK else None
        if decoded is not None:
            self._next_try_s[path] = now_s if is_slots or path in self._live else now_s + RETRY_S
        elif not httpx.codes.is_server_error(answer.status):
            self._next_try_s[path] = math.inf
        return decoded


def read_slots(answer: object) -> Slots | None:
    """Sum up an answer of /slots; None if it is none (503 when all are busy, or the endpoint is off).

    The tokens in a slot's context are `n_prompt_tokens`, which grows with every token that is generated; servers that
    count only the prompt there need `n_decoded` added to what was processed, so the larger of the two counts. A slot
    that never had a task has neither. Only busy slots count: an idle one keeps its tokens until another request wants
    the room. With a unified cache (`--kv-unified`) each slot claims the whole of it, so the usage is a lower bound.
    """
    if not isinstance(answer, list) or not 0 < len(answer) <= SLOTS_LIMIT:
        return None
    busy, used, capacity = 0, 0.0, 0.0
    for slot in answer:
        size = number_at(slot, "n_ctx")
        if size is None:
            return None
        capacity += size
        if not slot.get("is_processing"):
            continue
        busy += 1
        decoded = number_at(slot, "next_token.0.n_decoded") or number_at(slot, "next_token.n_decoded") or 0.0
        processed = sum(number_at(slot, f"n_prompt_tokens_{part}") or 0.0 for part in ("processed", "cache"))
        used += max(number_at(slot, "n_prompt_tokens") or 0.0, processed + decoded)
    return Slots(busy, len(answer), used, capacity)
