"""Panels of words as rows: the percentiles with what the run and the server tell, and the log of events."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.domain.frame import Distribution, Frame
from llmtop.domain.verdicts import Assessment
from llmtop.meter.split import split_ttft
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.lines import Entry
from llmtop.view.runs import Runs, cut
from llmtop.wording.figures import TIGHT, UNKNOWN, clock

_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def percentiles(frame: Frame, assessment: Assessment | None, stale: bool, glyphs: Glyphs, width: int) -> list[Runs]:
    """Percentiles of the window with their n, the totals of the run, and what is advised in full length."""
    ink = "stale" if stale else "text"
    window = frame.window
    if assessment is not None and assessment.path:
        window = replace(window, **_VOID)
    cells = min(10, max(7, (width - 12) // 6))
    rows: list[Runs] = [[(f" {'':<5}{'n':>5}", "dim"), *((f"{name:>{cells}}", "dim") for name in _COLUMNS)]]
    for name, figures in (("TTFT", window.ttft), ("TPOT", window.tpot), ("E2E", window.e2e)):
        rows.append([(f" {name:<5}", "dim"), *_figures(figures, cells, ink)])
    gaps = Distribution(p50=window.gap_p50_ms, p99=window.gap_p99_ms, max=window.gap_max_ms)
    rows.append([(" gap  ", "dim"), *_figures(gaps, cells, ink)])
    rows.append([])
    for name, value in (*_totals(frame), *_server(frame), *_gpus(frame), *_client(frame)):
        rows.append([(f" {name:<9}", "dim"), *cut([(value, ink)], width - 10, glyphs.more)])
    for name, sentence in _opinions(assessment):
        for line in textwrap.wrap(plain(sentence, glyphs), max(8, width - 11)):
            rows.append([(f" {name:<9}", "dim"), (line, "text")])
            name = ""
    return rows


def events(entries: Sequence[Entry], width: int, height: int) -> list[Runs]:
    """What happened, newest first."""
    rows: list[Runs] = []
    for entry in reversed(entries):
        stamp = f" {clock(entry.t_s)} "
        for line in textwrap.wrap(entry.text, max(8, width - len(stamp) - 1)):
            rows.append([(stamp, "faint"), (line, entry.role)])
            stamp = " " * len(stamp)
        if len(rows) >= height:
            break
    return rows[:height]


_VOID = {"ttft": Distribution(), "tpot": Distribution(), "gap_p50_ms": None, "gap_p99_ms": None, "gap_max_ms": None}
"""Figures that are the path's where it buffers."""


def _figures(figures: Distribution, cells: int, ink: str) -> Runs:
    runs: Runs = [(f"{figures.n or '':>5}", "dim")]
    for name in _COLUMNS:
        value = getattr(figures, name)
        runs.append((f"{TIGHT.latency(value):>{cells}}", "faint" if value is None else ink))
    return runs


def _totals(frame: Frame) -> list[tuple[str, str]]:
    totals = frame.totals
    ok, failed, cancelled = (TIGHT.whole(count) for count in (totals.ok, totals.errors, totals.cancelled))
    return [
        ("requests", f"{ok} ok  {failed} failed  {cancelled} cancelled"),
        ("tokens", f"{TIGHT.whole(totals.output_tokens)} out  {TIGHT.count(frame.window.output_tokens_per_s)}/s"),
    ]


def _server(frame: Frame) -> list[tuple[str, str]]:
    server = frame.server
    if server is None:
        return []
    slots = "" if server.max_num_seqs is None else f"/{TIGHT.whole(server.max_num_seqs)}"
    hits = "" if server.prefix_hit_ratio is None else f"  prefix hits {TIGHT.percent(server.prefix_hit_ratio)}"
    return [
        ("server", f"{TIGHT.count(server.running)}{slots} running  {TIGHT.count(server.waiting)} waiting{hits}"),
        *_ttft(frame),
    ]


def _ttft(frame: Frame) -> list[tuple[str, str]]:
    """Where the time to the first token went, as far as the server tells."""
    server, client_ms = frame.server, frame.window.ttft.mean
    if server is None or server.ttft_mean_s is None or client_ms is None:
        return []
    split = split_ttft(client_ms / 1e3, server.ttft_mean_s, server.queue_mean_s, server.prefill_mean_s)
    parts = {"queue": split.queue_s, "prefill": split.prefill_s, "network": split.network_s}
    told = [f"{name} {TIGHT.latency(part * 1e3)}" for name, part in parts.items() if part is not None]
    return [("TTFT is", "  ".join(told))]


def _gpus(frame: Frame) -> list[tuple[str, str]]:
    rows = []
    for gpu in frame.gpus[:2]:
        memory = UNKNOWN
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes:
            memory = f"{TIGHT.digits(gpu.memory_used_bytes / 2**30)}/{TIGHT.digits(gpu.memory_total_bytes / 2**30)}GiB"
        power = "" if gpu.power_w is None else f"  {gpu.power_w:.0f}W"
        heat = "" if gpu.temperature_c is None else f"  {gpu.temperature_c:.0f}C"
        throttle = f"  throttled: {', '.join(gpu.throttle)}" if gpu.throttle else ""
        rows.append((f"gpu {gpu.index}", f"{memory}{power}{heat}{throttle}"))
    return rows


def _client(frame: Frame) -> list[tuple[str, str]]:
    client = frame.client
    if client is None:
        return []
    lag, slip = TIGHT.latency(client.lag_p99_ms), TIGHT.latency(client.send_slip_p99_ms)
    return [("client", f"lag {lag}  slip {slip}  cpu {TIGHT.percent(client.cpu)}")]


def _opinions(assessment: Assessment | None) -> list[tuple[str, str]]:
    """What the verdict line has no room for."""
    if assessment is None:
        return []
    diagnosis, capacity = assessment.diagnosis, assessment.capacity
    evidence = "; ".join(diagnosis.evidence or assessment.cliff.evidence)
    told = (
        ("path", assessment.path),
        ("advice", diagnosis.advice),
        ("because", evidence),
        ("capacity", capacity.sentence),
    )
    return [(name, sentence) for name, sentence in told if sentence]
