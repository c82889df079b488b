"""Under which path of its base URL an endpoint has its API, where nobody has said: `/v1`, or right there."""

from __future__ import annotations

from llmtop.domain.endpoint import USUAL_ROOT
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.question import JSON_BYTES, LIST_BYTES, Answer, NoAnswer, Refused, ask
from llmtop.endpoint.refusals import is_html

BARE_ROOT = ""
_NO_PATH = (404, 405)
"""What servers answer where they have no such path, or only pages."""


async def settle(client: EndpointClient, listed: Answer, limit_s: float) -> tuple[str, Answer]:
    """The root, and what its list of models answers.

    The usual one unless something speaks against it and for the other: a list of models only there, or a path of chat
    only there (asked with an empty body, which generates nothing).

    Args:
        listed: what the list of models under the usual root has answered.
        limit_s: for each question.
    """
    if not _is_missing(listed):
        return USUAL_ROOT, listed
    client.use_root(BARE_ROOT)
    bare = await _ask(client, "models", limit_s)
    if bare is not None and bare.status == 200 and isinstance(bare.json, dict | list):
        return BARE_ROOT, bare
    api = client.api.among(("chat",))[0]
    if await _is_there(client, api, limit_s):
        client.use_root(USUAL_ROOT)
        if not await _is_there(client, api, limit_s):
            return BARE_ROOT, Answer(404, b"") if bare is None or is_html(bare.body) else bare
    return USUAL_ROOT, listed


async def _is_there(client: EndpointClient, api: str, limit_s: float) -> bool:
    answer = await _ask(client, api, limit_s)
    return answer is not None and not _is_missing(answer)


def _is_missing(answer: Answer) -> bool:
    return answer.status in _NO_PATH or is_html(answer.body)


async def _ask(client: EndpointClient, what: str, limit_s: float) -> Answer | None:
    """What a path of the API answers; None: nothing that is read."""
    path = client.api.path(what)
    try:
        if what == "models":
            return await ask(client.stock, path, limit_s=limit_s, limit_bytes=LIST_BYTES)
        return await ask(client.stock, path, limit_s=limit_s, limit_bytes=JSON_BYTES, method="POST", payload={})
    except Refused:
        return Answer(0, b"")
    except NoAnswer:
        return None
