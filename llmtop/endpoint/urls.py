"""What people type when they mean an endpoint."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

from llmtop.domain.endpoint import APIS, USUAL_ROOT, Api, Endpoint, host_and_port, safe_url
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

_ONE_API = re.compile(
    r"/(?P<tail>chat/completions|completions|responses|embeddings|invocations(?:-[a-z-]+)?|predict|score|[\w.-]+:[A-Za-z]{6,})$"
)
"""The end of a full URL. SageMaker and Databricks take chat's bodies at `/invocations` and
`/invocations-response-stream`, Baseten at `/predict`, Azure's own endpoints at `/score`, Snowflake at
`/inference:complete`, Vertex at `/ID:rawPredict`."""
_PAGE = re.compile(
    r"(?<=/v1)/(models/.+|chat|messages|audio/\w+|images/\w+)$"
    r"|/(models|metrics|health|docs|redoc|openapi\.json)$"
    r"|/api/(chat|generate|tags|ps|version)$"
)
"""The end of a URL that was copied from a page beside it, or from an API of the same server that is not OpenAI's."""
_WRAPPED = re.compile(r"""(?P<mark>['"`])(.*)(?P=mark)[,;]?|<(.*)>""")
"""A URL with what stands around it where it was copied from."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a server says that it listens on all addresses, and the address by which it is asked then."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
MOST_NAME = 253
"""Letters of a host's name (RFC 1035)."""
_SAFE = "/%:@!$&'()*+,;=~-._"
"""What stays as it is in a path."""
_SAFE_QUERY = _SAFE + "?[]{}|"
MOST_URL = 2000
"""Letters of a URL; servers and proxies take no more."""
SHOWN = 80
"""Letters of one that are shown in an error."""
_HOW = "write it like http://127.0.0.1:8000, host:port, https://host/path or unix:/run/llm.sock"


def normalise_url(text: str) -> str:
    """The base URL behind `text`: scheme, host, port and base path, without /v1, a known path or a trailing slash.

    See `read_url`.
    """
    return read_url(text)[0]


def read_url(text: str) -> tuple[str, Api]:
    """The base URL behind `text`, and where the API is below it.

    Takes host:port, a bare port, IPv6 in brackets or bare, and URLs copied from a client's settings. The full URL of
    an API (`.../chat/completions`, `.../responses`, `.../invocations`) stands for that one alone, path and query as
    given but for a slash at the end; other paths are a base, whose query is sent, too. A unix socket (`unix:/path`)
    has the base URL http://localhost. Raises UsageError.
    """
    text = _bare(text)
    if not text.isprintable() or len(text) > MOST_URL:
        shown = plain(text.rpartition("@")[2], SHOWN)
        raise UsageError(f"URL {shown!r}: is not one line of at most {MOST_URL} letters; {_HOW}")
    if unix_path(text) is not None:
        return "http://localhost", Api()
    if re.match(r":?\d+(/|$)", text, re.ASCII):
        text = f"127.0.0.1:{text.lstrip(':')}"
    text = re.sub(r"^(https?://)+(?=https?://)", "", text, flags=re.I)
    text = re.sub(r"^(https?):/?(?=[^/\d])", r"\1://", text, flags=re.I)  # a slash too few
    if not _SCHEME.match(text):  # a query may hold a URL
        if re.split("[/?#]", text, maxsplit=1)[0].count(":") > 1 and not text.startswith("["):  # a bare IPv6 address
            host, slash, rest = text.partition("/")
            text = f"{host_and_port(host)}{slash}{rest}"
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:  # its own words repeat what may be a password
        what = "its port is above 65535" if "out of range" in str(error) else "its host or port cannot be read"
        raise UsageError(f"URL {safe_url(text)!r}: {what}; {_HOW}") from None
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"URL {safe_url(text)!r}: {parts.scheme}:// cannot be driven; {_HOW}")
    name = _ascii((parts.hostname or "").replace("%25", "%"))  # of a zone
    if not name or re.search(r"[\s\\<>\"]", parts.netloc):
        raise UsageError(f"URL {safe_url(text)!r}: there is no host in it; {_HOW}")
    if parts.username or parts.password:
        raise UsageError(
            f"URL of {parts.hostname}: a user name or password does not belong into a URL; "
            "put user:password into an environment variable and name it with --basic-auth env:VAR "
            "(a key: with --api-key-env VAR)"
        )
    name = _EVERYWHERE.get(name, name)
    host = host_and_port(name)
    scheme = "https" if port == 443 else parts.scheme
    shown = "" if port is None or port == {"http": 80, "https": 443}[scheme] else f":{port}"
    base, api = _read_path(quote(parts.path, safe=_SAFE).rstrip("/"), quote(parts.query, safe=_SAFE_QUERY))
    return f"{scheme}://{host}{shown}{base}", api


def _read_path(path: str, query: str) -> tuple[str, Api]:
    """The base path, and where the API is below it."""
    one = _ONE_API.search(path)
    head = (path[: one.start()] if one else _PAGE.sub("", path)).rstrip("/")
    base = head.removesuffix(USUAL_ROOT).rstrip("/")
    has_usual = head.endswith(USUAL_ROOT)
    if one is None:
        return base, Api(root=USUAL_ROOT if has_usual else None, query=query)
    only = one["tail"] if one["tail"] in APIS else "chat"
    return base, Api(root=USUAL_ROOT if has_usual else "", only=only, given=path[len(base) :], query=query)


def _bare(text: str) -> str:
    """What was typed, without blanks and marks around it."""
    found = _WRAPPED.fullmatch(text.strip())
    return (found[2] or found[3] or "").strip() if found else text.strip()


def _ascii(host: str) -> str:
    """A host's name as it is asked for; empty: it has none that a host may have."""
    try:
        name = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        return ""
    return name if len(name) <= MOST_NAME else ""


def unix_path(text: str) -> str | None:
    """The path of `unix:/path` or `unix:///path`, else None."""
    text = _bare(text)
    if text[:5].lower() != "unix:":
        return None
    path = text[5:]
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path:
        raise UsageError(f"URL {text!r}: there is no path in it; {_HOW}")
    return path


def endpoint_from_url(text: str, **fields: Any) -> Endpoint:
    """An Endpoint for what a user typed; `fields` as in Endpoint. Raises UsageError."""
    text = text.strip()
    path = unix_path(text)
    if path is not None:
        fields["unix_socket"] = path
    base_url, api = read_url(text)
    return Endpoint(base_url=base_url, api=api, **fields)
