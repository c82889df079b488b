"""Before the load: what the endpoint counts our words as, so that already the first prompts have the asked length."""

from __future__ import annotations

import asyncio

from msgspec import structs

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trace import Nobody, Trace
from llmtop.workload import sizing
from llmtop.workload.prompts import PromptSource

LIMIT_S = 10.0
"""A server that takes longer for these few short texts is slow or busy, and the load is not to wait for it."""
FIRST_LIMIT_S = 30.0
"""One count is waited for this long: without any, the first prompts may be wrong by a factor."""
MOST_TEXTS = 16
"""A context so short that more are needed has prompts of few words, each of which matters more than the mean."""


async def count_words(
    client: EndpointClient,
    prompts: PromptSource,
    point: LoadPoint,
    api: str,
    has_tokenize: bool,
    room: int | None,
    extra: bytes = b"",
) -> str | None:
    """Let the endpoint count our words: by its tokenizer, else by its usage.

    Usage takes some requests of one output token, one after the other, which no statistics know of. Chat takes one in
    any case: a tokenizer does not count the template. Whoever runs out of time uses what was counted until then.

    Returns:
        What to tell of it; None: nothing was learnt, or the prompts are those of a file.
    """
    if not prompts.drawn:
        return None
    closed = prompts.closes(point.prompt_tokens)
    texts = sizing.texts(room, closed)
    if len(texts) > MOST_TEXTS:
        return None
    counts: list[int] = []
    template: int | None = 0
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(FIRST_LIMIT_S) as limit:
            for text in texts:
                counted = await client.tokenize(text) if has_tokenize else None
                if counted is None and has_tokenize and not counts:
                    has_tokenize = False
                if counted is None and not has_tokenize:
                    counted = await _usage(client, text, api, extra)
                if counted is None:
                    break
                counts.append(counted)
                limit.reschedule(began_s + LIMIT_S)
            if has_tokenize and api == "chat":
                template = await _usage(client, texts[0], api, extra)
                template = None if template is None else template - counts[0]
    except TimeoutError:
        pass
    found = sizing.sizes(tuple(counts), room, closed, "tokenize" if has_tokenize else "usage")
    if found is None:
        return None
    if template is not None and template > 0:
        found = structs.replace(found, constant=found.constant + template)
    prompts.settle(found)
    sent = f"in {len(counts)} requests of one token, which nothing counts"
    roughly = "roughly " if len(counts) < sizing.LEAST_COUNTS else ""
    return f"a word of the prompts is {roughly}{found.ratio:.2f} tokens here: counted before the load " + (
        "by the server's tokenizer" if has_tokenize else sent
    )


async def _usage(client: EndpointClient, text: str, api: str, extra: bytes) -> int | None:
    trace = Trace()
    await client.generate(text, 1, api, trace, Nobody(), extra=extra)
    return trace.prompt_tokens if trace.outcome is Outcome.OK else None
