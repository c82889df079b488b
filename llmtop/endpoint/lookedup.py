"""Stock httpx without its own look-up of names: it would take the address of the moment, in a pool of threads that
the end of the process waits for."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from llmtop.endpoint.addresses import look_up


class LookedUp(httpx.AsyncBaseTransport):
    """Sends requests to the addresses of their hosts; Host and the name in TLS stay those of the URL.

    Args:
        addresses_of: where a host is, whatever its name comes to mean; (): as it is looked up.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, addresses_of: Callable[[str], tuple[str, ...]]) -> None:
        self._inner = inner
        self._addresses_of = addresses_of

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError where the name has no address, and what the inner transport raises."""
        host, port = request.url.host, request.url.port or 0
        addresses = self._addresses_of(host)
        if not addresses:
            try:
                found = await look_up(host, port)
            except OSError as error:
                raise httpx.ConnectError(str(error.strerror or error), request=request) from error
            addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
            if len(addresses) > 1:  # httpx tries them at the same time: one that is silent costs nothing
                return await self._inner.handle_async_request(request)
        *others, last = addresses
        for address in others:
            try:
                return await self._inner.handle_async_request(_moved(request, address))
            except httpx.ConnectError:
                continue
        return await self._inner.handle_async_request(_moved(request, last))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _moved(request: httpx.Request, address: str) -> httpx.Request:
    """The request, sent to an address of its host."""
    if address == request.url.host or "%" in address:
        return request
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")},
    )
