"""Facts written by hand: only what a guard looks at, everything else calm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from llmtop.analysis.sessions import Requests
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadChange
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.meter.facts import Facts


def record(
    sent_s: float,
    *,
    ttft_s: float = 0.1,
    e2e_s: float = 1.0,
    outcome: Outcome = Outcome.OK,
    tokens: int = 10,
    client_limited: bool = False,
) -> RequestRecord:
    sent_ns, first_ns, end_ns = (round(1e9 * t_s) for t_s in (sent_s, sent_s + ttft_s, sent_s + e2e_s))
    started = outcome is Outcome.OK
    return RequestRecord(
        scheduled_ns=sent_ns,
        dispatched_ns=sent_ns,
        sent_ns=sent_ns,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=first_ns if started else None,
        first_answer_ns=None,
        last_token_ns=end_ns if started else None,
        end_ns=end_ns,
        started_at=0.0,
        asked_prompt_tokens=192,
        asked_output_tokens=tokens,
        prompt_tokens=192,
        output_tokens=tokens,
        chunks=tokens,
        outcome=outcome,
        client_limited=client_limited,
    )


def facts_of(
    *,
    requests: Iterable[RequestRecord] = (),
    bins: Iterable[LoadBin] = (),
    server: Iterable[ServerSnapshot] = (),
    client: Iterable[ClientSample] = (),
    changes: Sequence[tuple[float, LoadPoint]] = (),
) -> Facts:
    batch = FactBatch(
        t_s=0.0,
        requests=tuple(sorted(requests, key=lambda each: each.end_ns)),
        bins=tuple(bins),
        server=tuple(server),
        client=tuple(client),
        changes=tuple(LoadChange(t_s, point) for t_s, point in changes),
    )
    return Facts.of([batch])


def bins_of(until_s: float, in_flight: float, **more: Any) -> list[LoadBin]:
    """Bins of 250 ms with so many in flight."""
    count = round(4 * until_s)
    return [
        LoadBin(t_s=(i + 1) / 4, span_s=0.25, target=in_flight, in_flight=int(in_flight), **more) for i in range(count)
    ]


def requests_of(
    sent_s: Sequence[float] | np.ndarray,
    *,
    ttft_s: float | np.ndarray = 0.1,
    tpot_s: float | np.ndarray = 0.01,
    e2e_s: float | np.ndarray = 1.0,
    failed: bool = False,
    prompt_tokens: float | np.ndarray = 100.0,
) -> Requests:
    sent = np.asarray(sent_s, dtype=float)
    n = len(sent)
    ttft, tpot, e2e = (np.broadcast_to(np.asarray(each, dtype=float), n).copy() for each in (ttft_s, tpot_s, e2e_s))
    error = np.full(n, failed)
    prompts = np.broadcast_to(np.asarray(prompt_tokens, dtype=float), n).copy()
    return Requests(sent, sent + ttft, sent + e2e, ttft, tpot, e2e, ~error, error, prompts, np.full(n, 100.0))
