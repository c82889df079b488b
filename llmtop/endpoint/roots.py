"""Under which path of its base URL an endpoint has its API, where nobody has said: `/v1`, or right there."""

from __future__ import annotations

import re

from llmtop.dialects.listing import entries_in
from llmtop.domain.endpoint import USUAL_ROOT
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.question import JSON_BYTES, LIST_BYTES, Answer, NoAnswer, Refused, ask
from llmtop.endpoint.refusals import is_html

BARE_ROOT = ""
_NO_PATH = (301, 302, 303, 307, 308, 404, 405)
"""What servers answer where they have no such path, or only pages."""
_NO_ENTRY = 403
"""What gateways answer for paths that they do not know, and for lists that a key may not read."""
_VERSION = re.compile(r"/v[0-9]+(?:alpha|beta)?[0-9]*$", re.IGNORECASE)


def likely_root(base_url: str) -> str:
    """The root of an API that nobody is asked for: where the base URL ends in a version, that is all of it."""
    return BARE_ROOT if _VERSION.search(base_url) else USUAL_ROOT


async def settle(client: EndpointClient, listed: Answer, limit_s: float) -> tuple[str, Answer]:
    """The root, and what its list of models answers.

    The usual one unless something speaks against it and for the other: a list of models only there, or a path of chat
    only there (asked with an empty body, which generates nothing).

    Args:
        listed: what the list of models under the usual root has answered.
        limit_s: for each question.
    """
    is_open = listed.status != _NO_ENTRY
    is_likely = likely_root(client.endpoint.base_url) == USUAL_ROOT
    if is_likely and not _is_missing(listed):
        return USUAL_ROOT, listed
    client.use_root(BARE_ROOT)
    bare = await _ask(client, "models", limit_s)
    if is_open and bare is not None and bare.status == 200 and entries_in(bare.json) is not None:
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
    return answer.status in (*_NO_PATH, _NO_ENTRY) or is_html(answer.body)


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
