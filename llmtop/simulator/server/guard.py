"""Who may turn the knobs of a simulated server: whoever has its token, under the server's own name, and no web page.

A page of any origin can send requests to loopback. What it cannot do: read the token, leave out `Origin` (RFC 6454) and
`Sec-Fetch-Site`, or send JSON under its own name; and one whose name is made to resolve here (DNS rebinding) sends a
foreign `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from llmtop.simulator.server.asked import ApiError
from llmtop.simulator.server.incoming import Request

TOKEN_HEADER = "x-llmtop-control-token"
MAX_WISHES_BYTES = 64 * 1024


class Guard:
    """What is asked of those who want something.

    Args:
        token: of the control; None: the control is off.
        api_key: of /v1 and of the control; None: none is asked for.
        host: the name or address that is listened on.
    """

    def __init__(self, token: str | None, api_key: str | None, host: str) -> None:
        self._token = token
        self._api_key = api_key
        self._host = host.lower()

    def lets_in(self, request: Request) -> bool:
        """Whether the request has the server's key."""
        return self._api_key is None or _is_same(request, b"authorization", f"Bearer {self._api_key}")

    def check_control(self, request: Request, address: tuple[str, int]) -> None:
        """Raises ApiError, in words, for a request to the control that is not let in.

        Args:
            address: where the connection was taken.
        """
        own = request.headers.get(b"host", b"").decode("latin-1")
        if not self._is_own(own, address):
            raise _forbidden(f"Host {own[:100]!r} is not this server's: use http://127.0.0.1:{address[1]}")
        if b"origin" in request.headers or request.headers.get(b"sec-fetch-site", b"none") != b"none":
            raise _forbidden("web pages are not let in")
        if not self.lets_in(request):
            raise ApiError(401, "Unauthorized", "The server's key is needed: authorization: Bearer KEY")
        if self._token is None:
            raise _forbidden("it is off: the server was started without a token")
        if TOKEN_HEADER.encode() not in request.headers:
            raise ApiError(401, "Unauthorized", f"Control: the server's token is needed, in the header {TOKEN_HEADER}")
        if not _is_same(request, TOKEN_HEADER.encode(), self._token):
            raise _forbidden(f"{TOKEN_HEADER} has another token")
        if request.method == "POST":
            kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                raise ApiError(415, "Unsupported Media Type", "Control: content-type must be application/json")
            if len(request.body) > MAX_WISHES_BYTES:
                raise ApiError(413, "Request Entity Too Large", f"Control: at most {MAX_WISHES_BYTES} bytes")

    def _is_own(self, host: str, address: tuple[str, int]) -> bool:
        """Whether a Host header names this server: by loopback, by what it listens on, or by where it was reached."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != address[1] or parts.netloc != host or "@" in host:
            return False
        return name in {"localhost", self._host, address[0]} or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_same(request: Request, header: bytes, wanted: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(request.headers.get(header, b""), wanted.encode())


def _forbidden(why: str) -> ApiError:
    return ApiError(403, "Forbidden", f"Control: {why}")
