"""A plain JSON call to a server's own controls, beside the load."""

from __future__ import annotations

from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import JSON_BYTES, NoAnswer, ask, json_of
from llmtop.endpoint.refusals import refusal_text
from llmtop.errors import EndpointUnreachable, EndpointUnusable

CONTROL_S = 10.0
"""For one call. The simulated engine answers between two steps."""


async def control(
    endpoint: Endpoint, method: str, path: str, payload: object | None = None, *, limit_bytes: int = JSON_BYTES
) -> object:
    """What the server answers. Raises EndpointUnreachable, or EndpointUnusable with what the server said.

    Args:
        limit_bytes: of the answer.
    """
    access = Access(endpoint)
    url = f"{endpoint.base_url}{path}"
    async with access.stock_client() as stock:
        try:
            answer = await ask(stock, path, limit_s=CONTROL_S, limit_bytes=limit_bytes, method=method, payload=payload)
        except NoAnswer as error:
            raise EndpointUnreachable(url, access.heard(str(error))) from None
    if answer.status != 200:
        said = access.heard(refusal_text(answer.body))
        raise EndpointUnusable(url, f"status {answer.status}: {said}")
    if not answer.body:
        return None
    told: object = json_of(answer.body, limit_bytes)
    if told is None:
        raise EndpointUnusable(url, f"no JSON: {access.heard(refusal_text(answer.body))}")
    return told
