"""Why an endpoint cannot be asked: what was seen, what it means, and what to type."""

from __future__ import annotations

import contextlib
import ssl
from urllib.parse import urlsplit

from llmtop.endpoint import reach
from llmtop.endpoint.admission import (
    CERTIFICATE_WANTED,
    admission_problem,
    is_certificate_wanted,
    is_port_of_tls,
)
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.question import REFUSAL_BYTES, Answer, Late, NoAnswer, NotConnected, Refused, TlsFailed, ask
from llmtop.endpoint.reach import SECOND_LOOK_S
from llmtop.endpoint.refusals import is_html, refusal_text
from llmtop.endpoint.tls import CUT_OFF, tls_problem
from llmtop.errors import EndpointAuthFailed, EndpointError, EndpointUnreachable, EndpointUnusable
from llmtop.wording.refused import NAME_A_MODEL, login_page, meaning


class Contact:
    """Asks whether an endpoint can be reached, and reads what its first answer says is wrong with it."""

    def __init__(self, client: EndpointClient) -> None:
        self._client = client
        self._endpoint = client.endpoint
        self._url = client.endpoint.base_url
        self._heard = client.access.heard

    async def reach(self) -> None:
        """Connect once. Raises EndpointUnreachable or EndpointUnusable with what is in the way."""
        access, timeout_s = self._client.access, self._client.caps.connect_timeout_s
        if access.uses_stock:
            return
        problem = await reach.failure_to_connect(access.origin, timeout_s)
        if problem is None:
            return
        host = urlsplit(self._url)
        if isinstance(problem, ssl.SSLCertVerificationError):
            raise EndpointUnusable(self._url, tls_problem(problem))
        if host.scheme == "https" and await reach.speaks_plainly(access, timeout_s):
            plain = self._url.replace("https://", "http://", 1)
            raise EndpointUnusable(self._url, f"does not speak TLS: try {plain}")
        if isinstance(problem, ssl.SSLError):
            raise EndpointUnusable(self._url, tls_problem(problem))
        if host.scheme == "https" and isinstance(problem, ConnectionResetError | ConnectionAbortedError):
            raise EndpointUnusable(self._url, CUT_OFF)
        if isinstance(problem, ConnectionRefusedError | FileNotFoundError):
            where = self._endpoint.unix_socket or f"port {host.port or (443 if host.scheme == 'https' else 80)}"
            others = await reach.listening_nearby(access)
            hint = f"; something listens on port {', '.join(map(str, others))}" if others else ""
            raise EndpointUnreachable(self._url, f"nothing listens on {where}: is the server up?{hint}")
        if isinstance(problem, TimeoutError):
            raise EndpointUnreachable(self._url, f"no connection within {timeout_s:g} s: check host, port and firewall")
        raise EndpointUnreachable(self._url, f"{problem.strerror or problem}: check host and port")

    def seen(self, answer: Answer) -> str:
        """An answer that is no list of models, without a guess at its cause."""
        said = self._heard(refusal_text(answer.body[:REFUSAL_BYTES]))
        if answer.status == 200 and not is_html(answer.body):
            return "no list of models"
        if 300 <= answer.status < 400 and answer.location:
            return f"status {answer.status}, redirects to {self._heard(answer.location)}"
        return (
            f"status {answer.status}{' and a web page' if is_html(answer.body) else ''} ({said or 'no reason given'})"
        )

    def problem_of(self, url: str, answer: Answer) -> EndpointError | None:
        """What the answer to the first question says is wrong with the endpoint; None: nothing."""
        status = answer.status
        said = self._heard(refusal_text(answer.body[:REFUSAL_BYTES]))
        seen = f"status {status} ({said or 'no reason given'})"
        otherwise = f"; or {NAME_A_MODEL}" if self._endpoint.model is None else ""
        if is_port_of_tls(status, answer.body):  # before it is taken for a web page: nginx's is one
            return EndpointUnusable(url, f"speaks TLS: try {self._url.replace('http://', 'https://', 1)}")
        if is_certificate_wanted(status, answer.body):
            return EndpointUnusable(url, f"{seen}: {CERTIFICATE_WANTED}")
        if 300 <= status < 400:
            where = self._heard(answer.location) or "elsewhere"
            leads = login_page(where) or "point llmtop there, it does not follow"
            return EndpointUnusable(url, f"status {status}, redirects to {where}: {leads}")
        means = meaning(status, said, answer.wait_s)
        if status in (401, 403) and means is None:
            return EndpointAuthFailed(url, self.auth_problem(status, answer.body, answer.wants) + otherwise)
        if is_html(answer.body) and means is None:
            page = answer.body[:REFUSAL_BYTES].decode("utf-8", "replace")
            why = login_page(f"{said} {page}") or f"wrong port, or a base path is missing{otherwise}"
            return EndpointUnusable(url, f"status {status} and a web page ({said!r}): {why}")
        if means is not None:
            kind = EndpointUnreachable if status == 503 else EndpointUnusable
            return kind(url, f"{seen}: {means}{otherwise if status == 500 else ''}")
        if status >= 400:
            why = "is a base path missing, or is it another port?" if status in (404, 405) else "no list of models"
            return EndpointUnusable(url, f"{seen}: {why}{otherwise}")
        return None

    async def no_answer(self, url: str, error: NoAnswer) -> tuple[EndpointError, bool]:
        """Why the first question has no answer, and whether no other can have one either.

        A second look goes straight to the endpoint, so behind a proxy there is none: it may be barred, or another host.
        """
        said, by_proxy = self._heard(str(error)), self._by_proxy()
        if isinstance(error, Late):
            return EndpointUnreachable(url, f"{said}: is the server hung or still loading?{by_proxy}"), False
        if isinstance(error, Refused):
            return EndpointUnusable(url, f"the answer {said}: is that the right port?{by_proxy}"), False
        other = None if by_proxy else await self._other_protocol()
        if other is not None:
            return EndpointUnusable(url, other), True
        if isinstance(error, TlsFailed):
            return EndpointUnusable(url, f"{said}{by_proxy}"), True
        if isinstance(error, NotConnected):
            return EndpointUnreachable(url, f"{said}{by_proxy}"), True
        more = ""
        if self._url.startswith("https://"):
            cert = self._endpoint.client_cert
            more = ", and does it want a client certificate (--client-cert, --client-key)"
            more = more if cert is None else ", and does it trust the certificate that --client-cert names"
        return EndpointUnusable(url, f"no HTTP answer ({said}): is that the right port{more}?{by_proxy}"), False

    async def _other_protocol(self) -> str | None:
        """What is spoken at the endpoint's address in place of HTTP as it was asked; None: nothing that is known."""
        access, timeout_s = self._client.access, self._client.caps.connect_timeout_s
        if access.origin.tls is None and await reach.speaks_tls(access, timeout_s):
            return f"speaks TLS: try {self._url.replace('http://', 'https://', 1)}"
        if (alert := await reach.refused_after_handshake(access, timeout_s)) is not None:
            return tls_problem(alert)
        if await reach.speaks_http2(access, timeout_s):
            return "speaks HTTP/2 alone: put a proxy in front of it that speaks HTTP/1.1"
        return None

    def auth_problem(self, status: int, body: bytes, wants: str = "") -> str:
        said = self._heard(refusal_text(body))
        return admission_problem(
            self._endpoint, status, said, wants=wants, is_page=is_html(body), by_proxy=bool(self._by_proxy())
        )

    async def not_let_in(self, api: str, status: int, said: str) -> EndpointError:
        """Why a stream is refused with 401 or 403: by another look at the same path, which generates nothing."""
        with contextlib.suppress(NoAnswer):
            answer = await ask(
                self._client.stock,
                self._client.api.path(api),
                limit_s=SECOND_LOOK_S,
                limit_bytes=REFUSAL_BYTES,
                method="POST",
                payload={},
            )
            if answer.status == status:
                return EndpointAuthFailed(self._url, self.auth_problem(status, answer.body, answer.wants))
        return EndpointAuthFailed(self._url, self.auth_problem(status, said.encode()))

    def _by_proxy(self) -> str:
        proxy = self._client.access.proxy
        return f" (through {proxy.shown}: --proxy none asks without one)" if proxy else ""
