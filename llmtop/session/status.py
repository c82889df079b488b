"""How an endpoint is shown, in a live run and in a recording alike."""

from __future__ import annotations

from collections.abc import Mapping

from llmtop.domain.endpoint import EndpointInfo, EndpointState, EndpointStatus
from llmtop.domain.run import RunMeta
from llmtop.session.options import SessionOptions
from llmtop.wording.arrows import arrow
from llmtop.wording.restarts import changed_traits


def endpoint_label(meta: RunMeta) -> str:
    """Host, port and path for display."""
    return meta.endpoint.unix_socket or meta.endpoint.base_url.partition("://")[2] or meta.endpoint.base_url


def endpoint_status(meta: RunMeta, state: EndpointState, since_s: float, error: str | None) -> EndpointStatus:
    """What is known of the endpoint from the run's meta, in the given state."""
    info = meta.info
    return EndpointStatus(
        state=state,
        since_s=since_s,
        label=endpoint_label(meta),
        dialect=info.dialect if info else None,
        model=info.model if info else meta.endpoint.model,
        server=info.server if info else None,
        last_error=error,
        stamp_source=meta.stamp_source,
        simulated=meta.endpoint.simulated,
        preset=meta.preset,
        named=run_name(meta, {}),
        max_model_len=info.max_model_len if info else None,
    )


def settings_of(options: SessionOptions) -> tuple[tuple[str, str], ...]:
    """What was set of the simulated engine, or of a server by its command, as it is written on the command line."""
    if options.serving is not None:
        return tuple(options.serving.settings.items())
    return tuple((name, _written(value)) for name, value in options.knobs.items())


def run_name(meta: RunMeta, turned: Mapping[str, float | str]) -> str:
    """`before, max_num_seqs 46`: the run's label, and what was set at its start and turned since."""
    settings = {**dict(meta.settings), **{name: _written(value) for name, value in turned.items()}}
    return ", ".join(filter(None, (meta.label, *(f"{name} {value}" for name, value in settings.items()))))


def _written(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"


def info_changes(before: EndpointInfo, after: EndpointInfo) -> tuple[str, ...]:
    """What a probe has found otherwise than the one before, in words: flags, model and version, and what else load or
    verdicts rest on; empty: nothing."""
    told = changed_traits(dict(before.traits), dict(after.traits))
    beside = ("findings", "models", "request_shape", "flags", "model", "server", *told)
    names = [name for name in EndpointInfo.__struct_fields__ if name not in beside]
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in names]
    return (*told.values(), *(arrow(f"{name} {_shown(a)}", f"{name} {_shown(b)}") for name, a, b in pairs if a != b))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " and ".join(map(str, value)) or "none"
    return "not told" if value is None else str(value)
