"""The last seconds of a run: what the diagnosis, the SLO of now and the overload marker look at."""

from __future__ import annotations

import numpy as np

from llmtop.analysis.cliff import QUEUE_SHARE, QUEUED_TTFT
from llmtop.analysis.diagnosis import WINDOW_S, Recent
from llmtop.analysis.fits import Array
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.measured import server_gauges, waiting_ages
from llmtop.analysis.sessions import Requests
from llmtop.analysis.slo import Sample
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.meter.facts import Facts, Table

SLO_WINDOW_S = 60.0
MIN_SLO_WINDOW_S = 10.0
_QUEUE_POLLS = 5
_FIRST_TOKENS = 8


def recent_of(facts: Facts, requests: Requests, point: LoadPoint, now_s: float) -> Recent:
    """Means and growth over the last `WINDOW_S` seconds (fewer since the load last changed, but at least five)."""
    changed_s = facts.changes[-1].t_s if facts.changes else 0.0
    start_s = max(now_s - WINDOW_S, min(changed_s, now_s - 5.0))
    server = _Rows(facts.server, start_s, now_s)
    bins = _Rows(facts.bins, start_s, now_s)
    client = _Rows(facts.client, start_s, now_s)
    waiting = server.known("waiting")
    ended = requests.pick((requests.end_s > start_s) & (requests.end_s <= now_s))
    return Recent(
        polls=server.count,
        in_flight=bins.mean("in_flight"),
        running=server.median("running"),
        running_max=server.highest("running"),
        waiting=server.mean("waiting"),
        waiting_share=float(np.mean(waiting >= 1)) if len(waiting) else 0.0,
        kv_usage=server.mean("kv_usage"),
        preemptions=server.growth("preemptions_total"),
        requests=server.growth("requests_total"),
        iteration_tokens=server.mean("iteration_tokens_mean"),
        server_ttft_s=server.mean("ttft_mean_s"),
        flops=server.growth("flops_total"),
        memory_bytes=server.growth("memory_bytes_total"),
        prefix_hit_ratio=server.mean("prefix_hit_ratio"),
        shared_prefix=point.shared_prefix,
        red_share=client.mean("red") or 0.0,
        ended=ended,
    )


class _Rows:
    """Rows of one table within (start, stop]."""

    def __init__(self, table: Table, start_s: float, stop_s: float) -> None:
        self._table = table
        t_s: Array = self._table.column("t_s")
        self._first = int(np.searchsorted(t_s, start_s, side="right"))
        self._stop = int(np.searchsorted(t_s, stop_s, side="right"))
        self.count = self._stop - self._first

    def known(self, name: str) -> Array:
        values: Array = self._table.column(name)[self._first : self._stop]
        return values[np.isfinite(values)]

    def mean(self, name: str) -> float | None:
        values = self.known(name)
        return float(values.mean()) if len(values) else None

    def median(self, name: str) -> float | None:
        values = self.known(name)
        return float(np.median(values)) if len(values) else None

    def highest(self, name: str) -> float | None:
        values = self.known(name)
        return float(values.max()) if len(values) else None

    def growth(self, name: str) -> float | None:
        values = self.known(name)
        return max(0.0, float(values[-1] - values[0])) if len(values) >= 2 else None


def limits_of(facts: Facts, meta: RunMeta, point: LoadPoint) -> Limits:
    """What the server tells of its own limits now, by its metrics or by the probe.

    A figure that the last snapshot lacks is not known, whatever an earlier one had: that was another server's.
    """

    def latest(name: str) -> float | None:
        values = facts.server.column(name)
        return float(values[-1]) if len(values) and np.isfinite(values[-1]) else None

    blocks, size = latest("num_gpu_blocks"), latest("block_size")
    pool = latest("kv_capacity_tokens")
    if pool is None and blocks is not None and size is not None:
        pool = blocks * size
    probed = meta.info.max_num_seqs if meta.info is not None else None
    return Limits(
        max_num_seqs=latest("max_num_seqs") or probed,
        kv_capacity_tokens=pool,
        max_num_batched_tokens=latest("max_num_batched_tokens"),
        prompt_tokens=point.prompt_tokens,
        output_tokens=point.output_tokens,
        max_concurrency=meta.profile.caps.max_concurrency,
    )


def slo_sample(facts: Facts, meta: RunMeta, requests: Requests, now_s: float) -> Sample:
    """What the SLO is held against: a finished run as a whole, a live one since the load last changed.

    Live it is at most the last `SLO_WINDOW_S` and at least the last `MIN_SLO_WINDOW_S` seconds.
    """
    gauges = server_gauges(facts)
    if meta.ended_s is not None:
        return Sample.of_window(requests, gauges, EMPTY, now_s)
    changed_s = facts.changes[-1].t_s if facts.changes else 0.0
    start_s = float(np.clip(changed_s, now_s - SLO_WINDOW_S, now_s - MIN_SLO_WINDOW_S))
    members = requests.pick((requests.end_s > start_s) & (requests.end_s <= now_s))
    shown = gauges.pick((gauges.t_s > start_s) & (gauges.t_s <= now_s))
    return Sample.of_window(members, shown, waiting_ages(facts), max(1e-9, now_s - max(0.0, start_s)))


def overloaded_now(
    facts: Facts, requests: Requests, base_s: float | None, now_s: float, before: bool, usual_s: float
) -> bool:
    """Past the cliff right now.

    Raised by five polls in a row with requests waiting, or by the last eight first tokens: queue share of E2E above
    `QUEUE_SHARE` and TTFT above `QUEUED_TTFT` times the base. Cleared when nothing waits for one service time and
    TTFT is below 1.3 times the base.

    Args:
        base_s: median TTFT of the lowest level; None: not known yet.
        before: the answer a moment ago.
        usual_s: median time from first to last token.
    """
    polls = _Rows(facts.server, now_s - 30.0, now_s)
    waiting = polls.known("waiting")[-_QUEUE_POLLS:]
    queued = len(waiting) == _QUEUE_POLLS and bool(np.all(waiting >= 1))
    first = requests.first_token_s
    recent = np.flatnonzero(np.isfinite(first) & (first > now_s - 30.0) & requests.ok)
    recent = recent[np.argsort(first[recent], kind="stable")][-_FIRST_TOKENS:]
    ttft_s = float(np.median(requests.ttft_s[recent])) if len(recent) else None
    slow = False
    if ttft_s is not None and base_s is not None and len(recent) == _FIRST_TOKENS:
        share = (ttft_s - base_s) / float(np.median(requests.e2e_s[recent]))
        slow = share > QUEUE_SHARE and ttft_s > QUEUED_TTFT * base_s
    if queued or slow:
        return True
    if not before:
        return False
    calm = _Rows(facts.server, now_s - max(usual_s, 1.0), now_s).known("waiting")
    empty = bool(np.all(calm < 1))
    return not (empty and (ttft_s is None or base_s is None or ttft_s < 1.3 * base_s))
