"""Why somebody is not let in, and with which option they would be."""

from __future__ import annotations

import re

from llmtop.domain.endpoint import Endpoint

_BASIC, _BEARER = re.compile(r"(?i)(^|,)\s*basic\b"), re.compile(r"(?i)\bbearer\b")
_MEANT_TLS = re.compile(rb"(?i)to (an )?https (port|server)|https scheme|ssl-enabled server port")
"""As nginx, Go and Apache answer plain HTTP on a port of TLS."""


def is_port_of_tls(status: int, body: bytes) -> bool:
    """Whether an answer to plain HTTP says that TLS is spoken there."""
    return status == 400 and _MEANT_TLS.search(body) is not None


def admission_problem(endpoint: Endpoint, status: int, said: str, *, wants: str = "", is_page: bool = False) -> str:
    """What a 401 or 403 means, and what to do.

    Args:
        said: the server's own words; empty: none.
        wants: its WWW-Authenticate.
        is_page: what came is a web page, as no LLM server sends one.
    """
    seen = f"status {status} ({said or 'no reason given'})"
    if _BASIC.search(wants) and not _BEARER.search(wants):
        if endpoint.basic_auth_env is not None:
            return f"{seen}: the user and password in {endpoint.basic_auth_env} were refused"
        return (
            f"{seen}: it wants a user and a password; put user:password into an environment variable "
            "and name that with --basic-auth env:VAR"
        )
    if status == 403 and is_page:
        return f"{seen}: a web page, so a proxy or gateway in front of the server refuses; ask it, or --proxy none"
    if endpoint.api_key_env is None:
        return f"{seen}: it wants an API key; put it into an environment variable and name that with --api-key-env"
    header = endpoint.api_key_header
    other = "a header of its own, named with --api-key-header" if header is None else f"another header than {header}"
    return (
        f"{seen}: the key in {endpoint.api_key_env} was refused; is it the right one, or does it belong into {other}?"
    )
