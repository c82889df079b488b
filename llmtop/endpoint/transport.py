"""An httpx transport of our own: httpx's requests and responses over connections that know when bytes arrived.

Used like any other (`httpx.AsyncClient(transport=KernelTransport(stamper), trust_env=False)`) it streams bodies as
httpx does. A request with the extension `receiver` is told to that object straight from `data_received` instead (see
`connection.Receiver`), and its response comes when it is complete: no task is woken for a chunk. One with the extension
`own` (a `connection.Own`) uses that connection and no other's.

It follows no redirects, decodes no bodies and uses no proxies; stock httpx is there for those.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable

import httpx

from llmtop.endpoint.clock import Stamper, open_socket
from llmtop.endpoint.connection import Connection, ConnectionLost, ConnectionPool, Origin, Receiver
from llmtop.endpoint.direct import Arrivals
from llmtop.endpoint.failures import connect_problem
from llmtop.endpoint.wire import ResponseParser, WireError


class KernelTransport(httpx.AsyncBaseTransport):
    """One pool of connections for each origin.

    Args:
        stamper: gives arrivals their place on the run clock.
        tls: for https; None: it is not spoken.
        unix_path: connect to this socket whatever the URL says.
        reuse: whether connections are used again to begin with.
        addresses_of: where a host is, whatever its name comes to mean; (): as it is looked up.
    """

    def __init__(
        self,
        stamper: Stamper,
        *,
        tls: ssl.SSLContext | None = None,
        unix_path: str | None = None,
        reuse: bool = True,
        addresses_of: Callable[[str], tuple[str, ...]] = lambda host: (),
    ) -> None:
        self.reuse = reuse
        self._addresses_of = addresses_of
        self._stamper = stamper
        self._tls = tls
        self._unix_path = unix_path
        self._pools: dict[tuple[bytes, bytes, int | None], ConnectionPool] = {}
        self._arrivals: Arrivals | None = None
        self._keeps_stamping: socket.socket | None = None

    def pool(self, url: httpx.URL) -> ConnectionPool:
        """The connections to the origin of `url`."""
        key = url.raw_scheme, url.raw_host, url.port
        pool = self._pools.get(key)
        if pool is None:
            tls = self._tls if url.scheme == "https" else None
            port = url.port or (443 if url.scheme == "https" else 80)
            origin = Origin(url.host, port, tls, self._unix_path, self._addresses_of(url.host))
            if self._arrivals is None and Arrivals.possible:
                with contextlib.suppress(OSError):  # no file left for it: asyncio's transports need none
                    self._arrivals = Arrivals(asyncio.get_running_loop())
            pool = ConnectionPool(origin, self._stamper, reuse=self.reuse, arrivals=self._arrivals)
            self._pools[key] = pool
        return pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError, ConnectTimeout, ReadError or RemoteProtocolError."""
        if request.url.scheme == "https" and self._tls is None:
            raise httpx.UnsupportedProtocol("https without a TLS context", request=request)
        receiver = request.extensions.get("receiver")
        if receiver is not None:
            parser = await self._exchange(request, receiver)
            return _response(parser, httpx.ByteStream(b""), request)
        stream = _Body()
        stream.exchange = asyncio.create_task(self._exchange(request, stream))
        parser = await stream.response()
        return _response(parser, stream, request)

    async def open(self, url: httpx.URL, count: int) -> None:
        """Have `count` idle connections to the origin of `url`, as far as they can be had."""
        pool = self.pool(url)
        request = httpx.Request("POST", url)

        async def one() -> None:
            with contextlib.suppress(httpx.TransportError):
                connection, _ = await self._connect(pool, request)
                pool.keep(connection)

        await asyncio.gather(*(one() for _ in range(count - pool.idle)))

    def renew(self) -> int:
        """Keep no connection that is there now any longer than its exchange; returns how many there are."""
        return sum(pool.renew() for pool in self._pools.values())

    async def aclose(self) -> None:
        """Close every connection; exchanges under way raise ReadError."""
        for pool in self._pools.values():
            pool.close()
        if self._arrivals is not None:
            self._arrivals.close()
            self._arrivals = None
        if self._keeps_stamping is not None:
            self._keeps_stamping.close()
            self._keeps_stamping = None

    async def _exchange(self, request: httpx.Request, receiver: Receiver) -> ResponseParser:
        """Send `request`; once more, on a new connection, if an idle one was closed before it brought a byte."""
        pool, own = self.pool(request.url), request.extensions.get("own")
        lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
        lines += [b"%b: %b" % header for header in request.headers.raw]
        message = b"\r\n".join((*lines, b"", await request.aread()))
        connection = pool.pop() if own is None else own.take()
        connect_ns = 0
        if connection is not None:
            try:
                return await connection.exchange(message, receiver, request.method, connect_ns)
            except ConnectionLost as lost:
                if lost.answered:
                    raise httpx.ReadError(str(lost), request=request) from None
                # Closed by the server while the request was on its way: the fault of neither side.
            except WireError as error:
                raise httpx.RemoteProtocolError(str(error), request=request) from None
        connection, connect_ns = await self._connect(pool, request)
        connection.owner = own
        try:
            return await connection.exchange(message, receiver, request.method, connect_ns)
        except ConnectionLost as lost:
            raise httpx.ReadError(str(lost), request=request) from None
        except WireError as error:
            raise httpx.RemoteProtocolError(str(error), request=request) from None

    async def _connect(self, pool: ConnectionPool, request: httpx.Request) -> tuple[Connection, int]:
        """A new connection and how long it took, in ns."""
        if self._keeps_stamping is None:
            # The kernel stamps packets while any socket wants it, and takes a moment to start; until then the time of
            # the read stands in for the stamp (net/socket.c: "Race occurred between timestamp enabling and packet
            # receiving").
            with contextlib.suppress(OSError):
                self._keeps_stamping = open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        started = self._stamper.now_ns()
        try:
            async with asyncio.timeout(timeout_s):
                connection = await pool.connect()
        except (OSError, ssl.CertificateError) as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # not the system's own ETIMEDOUT
                text = f"no connection within {timeout_s:g} s"
                raise httpx.ConnectTimeout(text, request=request) from None
            raise httpx.ConnectError(connect_problem(error), request=request) from error
        return connection, self._stamper.now_ns() - started


BODY_LIMIT = 8 * 1024 * 1024
"""Of a body without a receiver, which httpx keeps whole: only small pages are asked for like that."""


class _Body(httpx.AsyncByteStream):
    """A response body that is read piece by piece by a task."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._bytes = 0
        self.exchange: asyncio.Task[ResponseParser] | None = None
        self._parser: ResponseParser | None = None
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()

    def sent(self, now_ns: int, connect_ns: int, connection: Connection) -> None:
        self._connection = connection

    def head(self, response: ResponseParser, stamp_ns: int) -> None:
        self._parser = response
        self._news.set()

    def body(self, data: bytes, stamp_ns: int) -> None:
        self._bytes += len(data)
        if self._bytes > BODY_LIMIT and self._connection is not None:
            self._connection.fail(WireError(f"a body of more than {BODY_LIMIT // 1024**2} MiB"))
            return
        self._pieces.append(data)
        self._news.set()

    async def response(self) -> ResponseParser:
        """The response, as soon as its head is there."""
        await self._wait()
        assert self.exchange is not None
        return self._parser if self._parser is not None else await self.exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self.exchange is not None
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self.exchange.done():
                break
            self._news.clear()
            await self._wait()
        await self.exchange
        while self._pieces:
            yield self._pieces.popleft()

    async def aclose(self) -> None:
        if self.exchange is not None and not self.exchange.done():
            self.exchange.cancel()
            await asyncio.wait((self.exchange,))

    async def _wait(self) -> None:
        """Until there is something new, or the exchange has ended."""
        assert self.exchange is not None
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait((news, self.exchange), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        finally:
            news.cancel()


def _response(parser: ResponseParser, stream: httpx.AsyncByteStream, request: httpx.Request) -> httpx.Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in parser.headers]
    return httpx.Response(parser.status, headers=headers, stream=stream, request=request)
