"""Why somebody is not let in, and with which option they would be."""

from __future__ import annotations

import re

from llmtop.domain.endpoint import Endpoint
from llmtop.wording.refused import login_page

_BASIC, _BEARER = re.compile(r"(?i)(^|,)\s*basic\b"), re.compile(r"(?i)\bbearer\b")
_MEANT_TLS = re.compile(
    rb"(?i)to (an )?https (port|server)|https scheme|ssl-enabled server port|requires (tls|ssl|https)\b"
    rb"|\b(tls|ssl|https) (is )?required"
)
"""As nginx, Go (Caddy, Traefik), Apache, Tomcat, Jetty and IIS answer plain HTTP on a port of TLS."""
_SENT_BACK = (400, 403, 426, 497)
"""With which they do."""

_HEADER = re.compile(r"(?i)(?<![\w-])(x-[\w-]*(?:key|token)|[\w-]+-(?:key|token))(?![\w-])")
"""A header that may take a key. Prose has `API-key` too: one without `x-` counts only beside the word header."""
_WANTS_CERTIFICATE = re.compile(rb"(?i)no required ssl certificate|ssl certificate error")
"""As nginx says it, after a handshake that went well."""
CERTIFICATE_WANTED = (
    "it wants a client certificate that it trusts: name one with --client-cert and its key with --client-key"
)


def is_certificate_wanted(status: int, body: bytes) -> bool:
    """Whether an answer says that no client certificate was shown, or one that is not trusted."""
    return status in (495, 496) or (status == 400 and _WANTS_CERTIFICATE.search(body) is not None)


def is_port_of_tls(status: int, body: bytes) -> bool:
    """Whether an answer to plain HTTP says that TLS is spoken there."""
    return status in _SENT_BACK and _MEANT_TLS.search(body) is not None


def admission_problem(
    endpoint: Endpoint, status: int, said: str, *, wants: str = "", is_page: bool = False, by_proxy: bool = False
) -> str:
    """What a 401 or 403 means, and what to do.

    Args:
        said: the server's own words; empty: none.
        wants: its WWW-Authenticate.
        is_page: what came is a web page, as no LLM server sends one.
        by_proxy: it came through a proxy.
    """
    seen = f"status {status} ({said or 'no reason given'})"
    if _BASIC.search(wants) and not _BEARER.search(wants):
        if endpoint.basic_auth_env is not None:
            return f"{seen}: the user and password in {endpoint.basic_auth_env} were refused"
        return (
            f"{seen}: it wants a user and a password; put user:password into an environment variable "
            "and name that with --basic-auth env:VAR"
        )
    if is_page and (login := login_page(said)) is not None:
        return f"{seen}: {login}"
    if status == 403 and is_page:
        around = ", or --proxy none" if by_proxy else ""
        return f"{seen}: a web page, so a proxy or gateway in front of the server refuses; ask whoever runs it{around}"
    header, wanted = endpoint.api_key_header, _header_in(said)
    if wanted is not None and wanted.lower() != (header or "").lower():
        key = "" if endpoint.api_key_env else "put it into an environment variable, name that with --api-key-env, and "
        return f"{seen}: it wants the key in a header of its own; {key}type --api-key-header {wanted}"
    if endpoint.api_key_env is None:
        return f"{seen}: it wants an API key; put it into an environment variable and name that with --api-key-env"
    other = "a header of its own, named with --api-key-header" if header is None else f"another header than {header}"
    return (
        f"{seen}: the key in {endpoint.api_key_env} was refused; is it the right one, or does it belong into {other}?"
    )


def _header_in(said: str) -> str | None:
    """The header that a server's words name for a key."""
    found = _HEADER.search(said)
    if found is None or not (found[1].lower().startswith("x-") or "header" in said.lower()):
        return None
    return found[1]
