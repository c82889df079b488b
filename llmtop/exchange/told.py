"""What is printed of another tool's measurement."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.load import Axis
from llmtop.exchange.foreign import Foreign, Group


class ForeignLevel(Struct, frozen=True, kw_only=True):
    """One load as another tool has measured it, by our definitions. What the file does not say is null."""

    load: float
    """Requests in flight as commanded, else as delivered; or requests/s."""
    ok: int | None
    """Requests that ended well."""
    failed: int | None
    duration_s: float | None
    output_tokens_per_s: float | None
    requests_per_s: float | None
    """That ended well."""
    prompt_tokens: float | None
    """Mean length, as the next."""
    output_tokens: float | None
    ttft_mean_ms: float | None
    ttft_p50_ms: float | None
    ttft_p90_ms: float | None
    ttft_p95_ms: float | None
    ttft_p99_ms: float | None
    tpot_mean_ms: float | None
    tpot_p50_ms: float | None
    tpot_p90_ms: float | None
    tpot_p95_ms: float | None
    tpot_p99_ms: float | None
    e2e_mean_ms: float | None
    e2e_p50_ms: float | None
    e2e_p90_ms: float | None
    e2e_p95_ms: float | None
    e2e_p99_ms: float | None
    from_requests: bool
    """Whether the statistics are reckoned from the requests in the file; else they are those that it states."""
    when: str
    """As the tool writes it."""


class ForeignSide(Struct, frozen=True, kw_only=True):
    """The levels of one configuration, and what they come to."""

    name: str
    tool: str
    version: str
    """Of the tool; empty: not told."""
    model: str
    server: str
    axis: Axis
    traits: dict[str, str]
    """What else the file says of the configuration."""
    levels: tuple[ForeignLevel, ...]
    assessment: Assessment
    notes: tuple[str, ...] = ()
    """What was taken to be so, and what was left out."""


def told_of(group: Group, assessment: Assessment) -> ForeignSide:
    first = group.runs[-1]
    return ForeignSide(
        name=group.name,
        tool=first.tool,
        version=first.version,
        model=first.model,
        server=first.server,
        axis=group.axis,
        traits=dict(first.traits),
        levels=tuple(_level(run, level.load) for run, level in zip(group.runs, group.levels, strict=True)),
        assessment=assessment,
        notes=group.notes,
    )


def _level(run: Foreign, load: float) -> ForeignLevel:
    names = [name.removesuffix("_ms") for name in ForeignLevel.__struct_fields__ if name.endswith("_ms")]
    figures = {name: run.figure(name) for name in names}
    return ForeignLevel(
        load=load,
        ok=run.ok,
        failed=run.failed,
        duration_s=run.duration_s,
        output_tokens_per_s=run.output_tokens_per_s,
        requests_per_s=run.requests_per_s,
        prompt_tokens=run.prompt_tokens,
        output_tokens=run.output_tokens,
        from_requests=bool(run.samples),
        when=run.when,
        **{f"{name}_ms": None if value is None else value * 1e3 for name, value in figures.items()},
    )
