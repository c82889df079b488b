"""Why an endpoint cannot be reached: what a look at its address and at those nearby tells."""

from __future__ import annotations

import asyncio
import ssl
from time import perf_counter_ns

import httpx
import msgspec

from llmtop.dialects.listing import LIST_PATH
from llmtop.dialects.recognition import usual_ports
from llmtop.endpoint import question
from llmtop.endpoint.access import Access
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.connection import ConnectionPool, Origin
from llmtop.endpoint.question import ask
from llmtop.endpoint.transport import KernelTransport

SECOND_LOOK_S = 2.0
"""For finding out why a first look failed."""
_NEARBY_S = 0.2
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With which a client begins, and its settings: none."""
_FRAME_BYTES = 9
_FIRST_FRAMES = (4, 7)
"""SETTINGS or GOAWAY: how a server begins."""


async def failure_to_connect(origin: Origin, timeout_s: float) -> OSError | None:
    """Open a connection and close it. Returns why that failed; None: it did not."""
    pool = ConnectionPool(origin, Stamper(perf_counter_ns()))
    try:
        async with asyncio.timeout(timeout_s):
            await pool.connect()
    except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors too
        return error
    finally:
        pool.close()
    return None


async def speaks_tls(access: Access, timeout_s: float) -> bool:
    """Whether a TLS handshake works at the endpoint's address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    secured = msgspec.structs.replace(access.origin, tls=context)
    return await failure_to_connect(secured, min(timeout_s, SECOND_LOOK_S)) is None


async def speaks_plainly(access: Access, timeout_s: float) -> bool:
    """Whether HTTP without TLS is answered at the endpoint's address."""
    origin = access.origin
    plain = httpx.URL(scheme="http", host=origin.host, port=origin.port, path=LIST_PATH)
    transport = KernelTransport(Stamper(perf_counter_ns()), addresses_of=access.endpoint.addresses_of)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        try:
            answer = await ask(
                client, str(plain), limit_s=min(timeout_s, SECOND_LOOK_S), limit_bytes=question.LIST_BYTES
            )
        except question.Refused:
            return True
        except question.NoAnswer:
            return False
    return answer.status != 400  # what TLS servers say to it


async def refused_after_handshake(access: Access, timeout_s: float) -> ssl.SSLError | None:
    """What a server of TLS 1.3 has against the client, which it says when the handshake is over: an alert.

    Whoever writes at once may hear only that the connection is broken; here nothing is written. None: no alert came.
    """
    origin = access.origin
    if origin.tls is None:
        return None
    host = next(iter(origin.addresses), origin.host)
    try:
        async with asyncio.timeout(min(timeout_s, SECOND_LOOK_S)):
            reader, writer = await asyncio.open_connection(
                host, origin.port, ssl=origin.tls, server_hostname=origin.host
            )
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return error
    except OSError:
        pass
    return None


async def speaks_http2(access: Access, timeout_s: float) -> bool:
    """Whether HTTP/2 is answered at the endpoint's address to a client that begins with it (RFC 9113, section 3.3)."""
    origin = access.origin
    context = None
    if origin.tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
    host = next(iter(origin.addresses), origin.host)
    try:
        async with asyncio.timeout(min(timeout_s, SECOND_LOOK_S)):
            if origin.unix_path is not None:
                reader, writer = await asyncio.open_unix_connection(origin.unix_path, ssl=context)
            else:
                reader, writer = await asyncio.open_connection(host, origin.port, ssl=context)
            try:
                writer.write(_PREFACE)
                frame = await reader.readexactly(_FRAME_BYTES)
            finally:
                writer.transport.abort()
    except (OSError, EOFError):
        return False
    return frame[0] == 0 and frame[3] in _FIRST_FRAMES and frame[5:] == bytes(4)


async def listening_nearby(access: Access) -> list[int]:
    """Usual ports of LLM servers that listen on this machine; only asked when the endpoint is on it."""
    origin = access.origin
    if origin.unix_path is not None or not access.endpoint.is_here:
        return []
    ports = sorted({*usual_ports()} - {origin.port})
    nearby = {port: msgspec.structs.replace(origin, port=port, tls=None) for port in ports}
    return [port for port, there in nearby.items() if await failure_to_connect(there, _NEARBY_S) is None]
