"""What a server's metrics tell and what they leave out: rows of `llmtop doctor`, and the table of all dialects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import perf_counter_ns

from msgspec import structs

from llmtop.dialects import DIALECTS, DialectTable, Evidence, Signal
from llmtop.domain.endpoint import Dialect, Endpoint, Finding
from llmtop.domain.places import places_in
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.places import USUAL_PAGE
from llmtop.telemetry.scraper import OWN_PAGE, Scraper
from llmtop.telemetry.signals import RANK_LABELS
from llmtop.wording.figures import TEXT

ABSENT = "n/a (metric absent)"
MEANS = {
    "ttft_mean_s": "TTFT",
    "queue_mean_s": "queue",
    "prefill_mean_s": "prefill",
    "decode_mean_s": "decode",
    "itl_mean_s": "ITL",
    "e2e_mean_s": "end to end",
    "iteration_tokens_mean": "tokens per step",
}
COLUMNS = {
    "running": ("running",),
    "waiting": ("waiting",),
    "KV usage": ("kv_usage",),
    "preemptions": ("preemptions_total",),
    "prefix hits": ("prefix_hits_total", "prefix_hit_ratio"),
    "TTFT histogram": ("ttft_mean_s",),
    "output tokens": ("generation_tokens_total",),
}
_SHOWN = ("running", "waiting", "kv_usage", "max_num_seqs")
"""Of a snapshot: figures that rows of their own tell. Where there is none of them, one row says so for all."""
SCRAPES = 4
"""In as many, up to three replicas that answer in turn are seen to."""
FROM_SOURCE = "(from source)"


async def examine_metrics(endpoint: Endpoint, dialect: Dialect) -> tuple[Finding, ...]:
    """Scrape, look for GPUs, and say what was found and what is missing. Raises UsageError as `Access`."""
    table = DIALECTS[dialect]
    if table.metrics_path is None and endpoint.dialect is None and not endpoint.metrics_urls:
        # What is at the usual place says more than that an unknown server has none.
        endpoint = structs.replace(endpoint, metrics_urls=(endpoint.base_url + USUAL_PAGE,))
    scraper = Scraper(endpoint, dialect, perf_counter_ns())
    gpus = GpuReader()
    try:
        for _ in range(SCRAPES):
            snapshot = await scraper.scrape()
            if scraper.missing is not None:
                break
        found = scraper.gpus or gpus.read(snapshot.t_s)
    finally:
        gpus.close()
        await scraper.close()
    if places_in(endpoint.metrics_urls) and not scraper.partly:  # nothing that the server is started with helps
        table = structs.replace(table, advice=structs.replace(table.advice, enable_metrics=None))
    return metrics_findings(
        table, snapshot, scraper.known, scraper.missing, found, in_turn=scraper.in_turn, hidden=scraper.hidden
    )


def metrics_findings(
    table: DialectTable,
    snapshot: ServerSnapshot,
    known: Collection[str],
    missing: str | None,
    gpus: Sequence[GpuSnapshot] = (),
    *,
    in_turn: bool = False,
    hidden: bool = False,
) -> tuple[Finding, ...]:
    """The rows, from one scrape.

    Args:
        known: fields of `ServerSnapshot` that the server exports, with or without a value yet.
        missing: why there is no page; None if there is one.
        in_turn: several servers answer at one address; `missing` names it.
        hidden: something in front of the server answers: no flag of the server's helps.
    """
    if missing is not None and in_turn:
        found, _, what_to_type = missing.rpartition(": ")
        return (Finding("server figures", False, f"{found}: none is one server's", what_to_type), _gpu(gpus))
    if hidden:
        table = structs.replace(table, advice=structs.replace(table.advice, enable_metrics=OWN_PAGE))
    advice = table.advice.enable_metrics
    found, _, tail = (missing or "").rpartition(": ")
    if missing is not None and advice is not None and missing.endswith(f": {advice}"):
        found, tail = missing.removesuffix(f": {advice}"), advice
    elif missing is not None and "--" not in tail:
        found, tail = missing, advice or ""
    figures = Finding("server figures", missing is None, found or f"{len(known)} are told", tail or None)
    if missing is None and not known:
        figures = Finding(
            "server figures", False, "its metrics have no number yet", "llmtop doctor once more, under load"
        )
    if missing is not None and not known and all(getattr(snapshot, name) is None for name in _SHOWN):
        return (figures, _gpu(gpus))
    rows = [
        figures,
        _queue(table, snapshot),
        _kv(table, snapshot),
        _slots(table, snapshot),
        _counters(table, known),
        _histograms(table, known),
    ]
    if snapshot.spec_accept_ratio is not None:
        rows.append(
            Finding("speculation", True, f"{TEXT.percent(snapshot.spec_accept_ratio)} of the drafted tokens accepted")
        )
    rows.append(_gpu(gpus))
    return tuple(rows)


def dialect_table_markdown() -> str:
    """A table for the README: the metric by which each dialect shows a figure; what no real answer backs is marked."""
    lines = [
        f"| server | {' | '.join(COLUMNS)} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    for dialect in Dialect:
        table = DIALECTS[dialect]
        if table.metrics or table.slots_path:
            cells = [_cell(table, fields) for fields in COLUMNS.values()]
            lines.append(f"| {table.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(table: DialectTable, fields: Sequence[str]) -> str:
    signals = [signal for field in fields for signal in table.metrics.get(field, ())]
    backed = [signal for signal in signals if signal.evidence is Evidence.CAPTURE]
    if not backed and fields == ("kv_usage",) and table.slots_path:
        return f"≈ `{table.slots_path}`"
    if not signals:
        return "none"
    return _name(backed[0]) if backed else f"{_name(signals[0])} {FROM_SOURCE}"


def _name(signal: Signal) -> str:
    """The metric as one would ask Prometheus for it; that only rank 0 of an engine counts is left out."""
    where = ",".join(f'{key}="{text}"' for key, text in signal.where.items() if key not in RANK_LABELS)
    less = f" - {signal.minus}" if signal.minus else ""
    over = f" / {signal.over}" if signal.over else ""
    return f"`{signal.name}{'{' + where + '}' if where else ''}{less}{over}`"


def _queue(table: DialectTable, snapshot: ServerSnapshot) -> Finding:
    parts = [
        f"{word} {ABSENT if value is None else f'{value:g}'}"
        for word, value in (("running", snapshot.running), ("waiting", snapshot.waiting))
    ]
    ok = snapshot.running is not None and snapshot.waiting is not None
    return Finding("queue", ok, ", ".join(parts), None if ok else table.advice.enable_metrics)


def _kv(table: DialectTable, snapshot: ServerSnapshot) -> Finding:
    usage = _whole_percent(snapshot.kv_usage)
    about = "~" if "kv_usage" in snapshot.estimated else ""
    found = f"{about}{usage} used" if usage else ABSENT
    if snapshot.kv_capacity_tokens is not None:
        about = "~" if "kv_capacity_tokens" in snapshot.estimated else ""
        found += f", {about}{snapshot.kv_capacity_tokens:g} tokens"
    if snapshot.num_gpu_blocks is not None and snapshot.block_size is not None:
        found += f" ({snapshot.num_gpu_blocks:g} blocks of {snapshot.block_size:g})"
    if snapshot.gpu_memory_utilization is not None:
        found += f", GPU memory share {snapshot.gpu_memory_utilization:g}"
    return Finding("KV cache", usage is not None, found, None if usage else table.advice.enable_metrics)


def _slots(table: DialectTable, snapshot: ServerSnapshot) -> Finding:
    seqs, length = snapshot.max_num_seqs, snapshot.max_model_len
    found = f"{seqs:g} requests at once" if seqs is not None else "not told: estimated (~) once requests wait"
    if snapshot.max_num_batched_tokens is not None:
        found += f", {snapshot.max_num_batched_tokens:g} tokens a step"
    if length is not None:
        found += f", context {length:g} tokens"
    setting = table.advice.more_slots
    return Finding(
        "slots",
        seqs is not None or None,
        found,
        f"see {setting} where the server is started" if setting and seqs is None else None,
    )


def _counters(table: DialectTable, known: Collection[str]) -> Finding:
    words = {
        "generation_tokens_total": "output tokens",
        "prompt_tokens_total": "prompt tokens",
        "preemptions_total": "preemptions",
        "prefix_hits_total": "prefix hits",
        "requests_total": "requests",
        "rejections_total": "rejections",
    }
    if "prefix_hit_ratio" in known:
        words["prefix_hits_total"] = "prefix hits"
    there = [word for field, word in words.items() if field in known]
    absent = [word for field, word in words.items() if field not in known]
    found = ", ".join(there) or ABSENT
    found += f"; absent: {', '.join(absent)}" if there and absent else ""
    return Finding("counters", bool(there), found, None if there else _closes(table, words))


def _histograms(table: DialectTable, known: Collection[str]) -> Finding:
    there = [word for field, word in MEANS.items() if field in known]
    if not there:
        return Finding("server latency", False, ABSENT, _closes(table, MEANS))
    return Finding("server latency", True, ", ".join(there))


def _closes(table: DialectTable, fields: Collection[str]) -> str | None:
    """What closes a gap on a page that is read: the server's flag, if the server has such figures at all."""
    if table.metrics and table.metrics.keys().isdisjoint(fields):
        return f"nothing: {table.title} does not tell it"
    return table.advice.enable_metrics


def _gpu(gpus: Sequence[GpuSnapshot]) -> Finding:
    if not gpus:
        return Finding("GPU", None, "none seen", "--metrics-url with the page of dcgm-exporter or AMD's exporter")
    first = gpus[0]
    total = first.memory_total_bytes
    memory = f", {total / (1 << 30):.0f} GiB" if total is not None else ""
    throttled = sorted({reason for gpu in gpus for reason in gpu.throttle})
    held = f", throttled: {', '.join(throttled)}" if throttled else ""
    return Finding("GPU", True, f"{len(gpus)} x {first.name or 'GPU'}{memory}{held}")


def _whole_percent(share: float | None) -> str | None:
    """A share as it is read at a glance; what is nearly nothing or nearly all is not told as that."""
    if share is None:
        return None
    return "<1%" if 0 < share < 0.005 else ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _share(value: float | None) -> str | None:
    return None if value is None else TEXT.percent(value)
