"""A plain JSON call to a server's own controls, beside the load."""

from __future__ import annotations

import httpx

from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.refusals import refusal_text
from llmtop.errors import EndpointUnreachable, EndpointUnusable


async def control(endpoint: Endpoint, method: str, path: str, payload: object | None = None) -> object:
    """What the server answers. Raises EndpointUnreachable, or EndpointUnusable with what the server said."""
    access = Access(endpoint)
    url = f"{endpoint.base_url}{path}"
    async with access.stock_client() as stock:
        try:
            response = await stock.request(method, path, json=payload)
        except httpx.HTTPError as error:
            raise EndpointUnreachable(url, access.mask(str(error) or type(error).__name__)) from error
    if response.status_code >= 400:
        said = access.mask(refusal_text(response.content))
        raise EndpointUnusable(url, f"status {response.status_code}: {said}")
    try:
        answer: object = response.json() if response.content else None
    except ValueError:
        raise EndpointUnusable(url, f"no JSON: {refusal_text(response.content)}") from None
    return answer
