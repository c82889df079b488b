"""A profile: everything that makes a run repeatable, but for the server."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.load import Caps, LoadPlan
from llmtop.domain.slo import Slo


class Fixed(Struct, frozen=True, tag_field="kind", tag="fixed", forbid_unknown_fields=True):
    """Every length the same: the load point's."""


class Normal(Struct, frozen=True, tag_field="kind", tag="normal", forbid_unknown_fields=True):
    """Normal around the load point's length, cut off at 1 token."""

    cv: float = 0.25
    """Standard deviation / mean."""


class LogNormal(Struct, frozen=True, tag_field="kind", tag="lognormal", forbid_unknown_fields=True):
    """Log-normal whose mean is the load point's length."""

    cv: float = 1.0


class Quantiles(Struct, frozen=True, tag_field="kind", tag="quantiles", forbid_unknown_fields=True):
    """A table of (share, tokens), interpolated; scaled so that its mean is the load point's length when `scale`."""

    table: tuple[tuple[float, float], ...]
    scale: bool = False


LengthDistribution = Fixed | Normal | LogNormal | Quantiles


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where prompts and their lengths come from."""

    source: str = "synthetic"
    """synthetic, sharegpt, jsonl or trace."""
    file: str | None = None
    prompt: LengthDistribution = Fixed()
    output: LengthDistribution = Fixed()
    seed: int = 0
    api: str = "chat"
    """chat (/v1/chat/completions) or completions (/v1/completions)."""


class Profile(Struct, frozen=True, kw_only=True):
    """What a profile file holds. `plan` without stages: driven by hand from `plan.base`, or by the capacity search."""

    name: str
    description: str = ""
    endpoint_url: str | None = None
    model: str | None = None
    workload: Workload = Workload()
    plan: LoadPlan = LoadPlan(stages=())
    search: bool = False
    """The capacity search picks the loads, from `plan.base` on; there are no stages."""
    slo: Slo = Slo()
    caps: Caps = Caps()
