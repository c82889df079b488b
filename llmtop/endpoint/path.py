"""Whether tokens come through one by one: an answer long enough to see it, and what its reads tell."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from llmtop.analysis.buffering import FASTEST_S, LEAST_TOKENS, kept_back
from llmtop.domain.endpoint import Endpoint, EndpointInfo, Finding
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trace import Nobody, Trace
from llmtop.wording.between import NOT_THE_SERVERS, STREAM_THROUGH, arrives, reads_seen

TOKENS = 32
"""Asked for: a proxy's buffer of 4 KiB holds some 20 events."""
LIMIT_S = 30.0
_BREAKS = (Outcome.TRUNCATED, Outcome.STREAM_ERROR)
"""How an answer ends of which a trial of two tokens shows nothing."""
_TEXT = "Count from one to fifty in words: one, two, three,"


async def examine_path(endpoint: Endpoint, info: EndpointInfo) -> Finding:
    """Stream one answer and look at how it arrives. Raises UsageError as `Access`."""
    client = EndpointClient(endpoint, info, Caps(), perf_counter_ns())
    trace = Trace()
    try:
        async with asyncio.timeout(LIMIT_S):
            await client.generate(_TEXT, TOKENS, info.apis[0], trace, Nobody())
    except TimeoutError:
        pass
    finally:
        await client.close()
    return path_finding(trace, client.stamper.coalesced)


def path_finding(trace: Trace, coalesced: int) -> Finding:
    """What the reads of one answer tell of the path that it came by; of one that breaks off, that streaming fails.

    Args:
        coalesced: reads that held several token events.
    """
    tokens = trace.output_tokens - trace.hidden_tokens
    first_ns, last_ns, sent_ns = trace.first_token_ns, trace.last_token_ns, trace.sent_ns
    if trace.outcome in _BREAKS:
        came = f"after {trace.tokens_seen} tokens " if trace.tokens_seen else ""
        return Finding("streaming", False, f"an answer of {TOKENS} tokens breaks off {came}({trace.error})")
    if trace.outcome is Outcome.OK and first_ns is None and last_ns is not None:
        return Finding("path", True, "a vector comes whole: there is no stream to look at")
    if trace.outcome is not Outcome.OK or first_ns is None or last_ns is None or sent_ns is None:
        return Finding("path", None, f"no whole answer to look at: {trace.error or 'none came in time'}")
    ttft_s, e2e_s = (first_ns - sent_ns) / 1e9, (last_ns - sent_ns) / 1e9
    seen = reads_seen(tokens, trace.chunks, ttft_s, e2e_s)
    if tokens < LEAST_TOKENS or e2e_s < FASTEST_S * tokens:
        return Finding("path", None, f"{seen}: {'too short' if tokens < LEAST_TOKENS else 'too fast'} to tell")
    share = coalesced / max(1, trace.chunks)
    span_s, at_first = e2e_s - ttft_s, trace.first_chunk_tokens
    together, whole = kept_back(tokens, trace.chunks, at_first, span_s, e2e_s, share, coalesced)
    if not together:
        return Finding("path", True, f"tokens come as they are made: {seen}")
    return Finding("path", False, f"{arrives(bool(whole))} ({seen}); {NOT_THE_SERVERS}", STREAM_THROUGH)
