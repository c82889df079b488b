"""What users that are a Python file did in a rehearsal."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["request", "call", "pause"]


class Act(Struct, frozen=True, kw_only=True):
    """One thing that a user did: a request to the model, another HTTP call, or a pause."""

    kind: Kind
    visit: int
    """From 1."""
    at_s: float
    """When it began, since the first visit did."""
    took_s: float
    name: str = ""
    turn: int | None = None
    """Of a request: which of its visit, from 1."""
    ok: bool = True
    error: str = ""
    status: int | None = None
    """HTTP status; None: nobody answered."""
    ttft_s: float | None = None
    """Time to first token; None: none came."""
    e2e_s: float | None = None
    """To the last token."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Those of the prompt that the server found in its prefix cache; None: it does not tell."""
    output_tokens: int | None = None


class Rehearsal(Struct, frozen=True, kw_only=True):
    """Visits of one user, one after the other."""

    file: str
    model: str
    server: str
    visits: int
    took_s: float
    """All of them."""
    acts: tuple[Act, ...]
    """In the order in which they began."""
    notes: tuple[str, ...] = ()
    """What was told meanwhile: functions that held the event loop, a visit without any request."""

    def of(self, kind: Kind) -> tuple[Act, ...]:
        return tuple(act for act in self.acts if act.kind == kind)

    @property
    def ok(self) -> bool:
        """Whether every request to the model ended well."""
        return all(act.ok for act in self.of("request"))
