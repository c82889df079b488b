"""Panels of words as rows: the percentiles with what the run and the server tell, and the log of events."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Distribution, Frame
from llmtop.domain.verdicts import Bound
from llmtop.meter.split import split_ttft
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.lines import Entry
from llmtop.view.runs import Runs, cut
from llmtop.wording.failures import failure_seen
from llmtop.wording.figures import TIGHT, UNKNOWN, clock
from llmtop.wording.replicas import counted
from llmtop.wording.sentences import CLIENT_LATE, agreed

_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


class _Group(NamedTuple):
    """Rows that are shown or left out together; of what has no room, the highest rank goes first."""

    rank: int
    rows: list[Runs]


def percentiles(
    frame: Frame,
    assessment: Assessment | None,
    stale: bool,
    glyphs: Glyphs,
    width: int,
    height: int = 99,
    late: bool = False,
) -> list[Runs]:
    """Percentiles of the window with their n, the totals of the run, why requests fail, and what is advised, in full.

    Figures give way to words in a panel of little `height`: what is left out of them stands in other panels.
    """
    ink = "stale" if stale else "text"
    groups = _latencies(frame, assessment, ink, width)
    for rank, name, value in (*_totals(frame), *_server(frame, assessment), *_gpus(frame), *_client(frame)):
        groups.append(_Group(rank, [[(f" {name:<9}", "dim"), *cut([(value, ink)], width - 10, glyphs.more)]]))
    groups += [_words(*each, "bad", glyphs, width) for each in _failures(frame)]
    groups += [_words(*each, "text", glyphs, width) for each in _opinions(assessment, late)]
    while sum(len(group.rows) for group in groups) > height and (worst := max(groups, key=lambda each: each.rank)).rank:
        groups.remove(worst)
    rows = [row for group in groups for row in group.rows]
    if len(rows) > height > 0:
        rows = [*rows[: height - 1], cut([*rows[height - 1], (" " * width, "")], width - 1, glyphs.more)]
    return rows


def _latencies(frame: Frame, assessment: Assessment | None, ink: str, width: int) -> list[_Group]:
    void = assessment is not None and bool(assessment.path)
    window = replace(frame.window, **_VOID) if void else frame.window
    cells = min(10, max(7, (width - 12) // 6))
    head: Runs = [(f" {'':<5}{'n':>5}", "dim"), *((f"{name:>{cells}}", "dim") for name in _COLUMNS)]
    gaps = Distribution(p50=window.gap_p50_ms, p99=window.gap_p99_ms, max=window.gap_max_ms)
    told = (
        (1, "TTFT", window.ttft, UNKNOWN if void else TIGHT.whole(window.ttft.n)),
        (1, "TPOT", window.tpot, UNKNOWN if void else TIGHT.whole(window.tpot.n)),
        (4, "E2E", window.e2e, TIGHT.whole(window.e2e.n)),
        (6, "gap", gaps, ""),
    )
    groups = [_Group(1, [head])]
    groups += [_Group(rank, [[(f" {name:<5}", "dim"), *_figures(of, n, cells, ink)]]) for rank, name, of, n in told]
    return [*groups, _Group(9, [[]])]


def _words(rank: int, name: str, sentence: str, role: str, glyphs: Glyphs, width: int) -> _Group:
    rows: list[Runs] = []
    for line in textwrap.wrap(plain(sentence, glyphs), max(8, width - 11)):
        rows.append([(f" {name if not rows else '':<9}", "dim"), (line, role)])
    return _Group(rank, rows)


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


def _figures(figures: Distribution, count: str, cells: int, ink: str) -> Runs:
    runs: Runs = [(f"{count:>5}", "dim")]
    for name in _COLUMNS:
        value = getattr(figures, name)
        runs.append((f"{TIGHT.latency(value):>{cells}}", "faint" if value is None else ink))
    return runs


_Row = tuple[int, str, str]
"""Rank, name and words of a row."""


def _totals(frame: Frame) -> list[_Row]:
    totals = frame.totals
    ok, failed, cancelled = (TIGHT.whole(count) for count in (totals.ok, totals.errors, totals.cancelled))
    return [
        (0, "run", f"{ok} ok  {failed} failed  {cancelled} cancelled"),
        (
            5,
            "tokens",
            f"{TIGHT.count(frame.window.output_tokens_per_s)}/s  {TIGHT.whole(totals.output_tokens)} in the run",
        ),
    ]


def _failures(frame: Frame) -> list[_Row]:
    """The kinds of failures that came last, the newest first."""
    newest = list(reversed(frame.failures))[:_KINDS]
    return [(2 * i, "" if i else "failed", failure_seen(group, TIGHT)) for i, group in enumerate(newest)]


_KINDS = 2
"""Of failures; the log has all."""


def _server(frame: Frame, assessment: Assessment | None) -> list[_Row]:
    server = frame.server
    if server is None:
        return []
    slots = "" if server.max_num_seqs is None else f"/{TIGHT.whole(server.max_num_seqs)}"
    hits = "" if server.prefix_hit_ratio is None else f"  prefix hits {TIGHT.percent(server.prefix_hit_ratio)}"
    return [
        (3, "server", f"{TIGHT.count(server.running)}{slots} running  {TIGHT.count(server.waiting)} waiting{hits}"),
        *([] if frame.replicas is None else [(4, "", counted(frame.replicas.ready, frame.replicas.desired)[0])]),
        *_ttft(frame, assessment),
    ]


def _ttft(frame: Frame, assessment: Assessment | None) -> list[_Row]:
    """Where the time to the first token went, as far as the server tells.

    Client and server tell of other requests where load or lengths move: what they differ by is told as the network's
    only where it is little, or where the same first tokens show it.
    """
    server, client_ms = frame.server, frame.window.ttft.mean
    if server is None or server.ttft_mean_s is None or client_ms is None:
        return []
    split = split_ttft(client_ms / 1e3, server.ttft_mean_s, server.queue_mean_s, server.prefill_mean_s)
    shown = assessment is not None and assessment.diagnosis.bound is Bound.NETWORK
    network_s = split.network_s
    if network_s is not None and network_s > NETWORK_SHARE * split.client_s and not shown:
        network_s = None
    parts = {"queue": split.queue_s, "prefill": split.prefill_s, "network": network_s}
    told = [f"{name} {TIGHT.latency(part * 1e3)}" for name, part in parts.items() if part is not None]
    return [(7, "TTFT is", "  ".join(told))] if told else []


NETWORK_SHARE = 0.3
"""Of TTFT, up to which the difference of two means may be the network's: more needs proof by the same requests."""


def _gpus(frame: Frame) -> list[_Row]:
    rows = []
    for gpu in frame.gpus[:2]:
        memory = UNKNOWN
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes:
            memory = f"{TIGHT.digits(gpu.memory_used_bytes / 2**30)}/{TIGHT.digits(gpu.memory_total_bytes / 2**30)}GiB"
        power = "" if gpu.power_w is None else f"  {gpu.power_w:.0f}W"
        heat = "" if gpu.temperature_c is None else f"  {gpu.temperature_c:.0f}C"
        throttle = f"  throttled: {', '.join(gpu.throttle)}" if gpu.throttle else ""
        rows.append((3 if throttle else 7, f"gpu {gpu.index}", f"{memory}{power}{heat}{throttle}"))
    return rows


def _client(frame: Frame) -> list[_Row]:
    client = frame.client
    if client is None:
        return []
    lag, slip = TIGHT.latency(client.lag_p99_ms), TIGHT.latency(client.send_slip_p99_ms)
    return [(8, "client", f"lag {lag}  slip {slip}  cpu {TIGHT.percent(client.cpu)}")]


def _opinions(assessment: Assessment | None, late: bool) -> list[_Row]:
    """What the verdict has no room for; what to do is never left out."""
    if assessment is None:
        return []
    diagnosis, capacity, fewer = assessment.diagnosis, assessment.capacity, assessment.fewer_slots
    evidence = "; ".join(diagnosis.evidence or assessment.cliff.evidence)
    because = ": ".join(filter(None, (agreed(*diagnosis.votes), evidence)))
    advice = CLIENT_LATE if late and diagnosis.advice else diagnosis.advice
    told = (
        (0, "path", assessment.path),
        (0, "advice", advice),
        (1, "alone", next((each.alone for each in (*assessment.by_name, *assessment.by_model) if each.alone), "")),
        (2, "because", "" if late else because),
        (2, "capacity", capacity.sentence),
        (3, "slots", "" if late or fewer is None or not fewer.worth else fewer.text),
    )
    return [(rank, name, sentence) for rank, name, sentence in told if sentence]
