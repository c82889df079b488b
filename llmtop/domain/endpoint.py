"""An endpoint: what is driven, what it speaks, and how it is doing."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, field, structs


class Dialect(StrEnum):
    """The server's own flavour of the OpenAI protocol and of /metrics."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TGI = "tgi"
    LLAMACPP = "llamacpp"
    TRTLLM = "trtllm"
    DYNAMO = "dynamo"
    LMDEPLOY = "lmdeploy"
    OLLAMA = "ollama"
    OPENAI = "openai"


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where to send requests and how to be let in.

    The API key itself is never in here: only the name of the environment variable that holds it, so that no frame,
    recording, report or log can leak it.
    """

    base_url: str
    """Scheme, host, port and base path without a trailing slash and without `/v1`."""
    model: str | None = None
    """None: the first model the endpoint lists."""
    dialect: Dialect | None = None
    """None: detected."""
    api_key_env: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str | None = None
    insecure: bool = False
    unix_socket: str | None = None
    metrics_urls: tuple[str, ...] = ()
    """Where replicas show their metrics; empty: the dialect's usual path under `base_url`."""
    transport: str = "auto"
    """`auto` (own transport, stock httpx behind a proxy) or `httpx`."""
    simulated: bool = False


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def safe_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint without what may let somebody in: user and query of URLs, values of headers."""
    return structs.replace(
        endpoint,
        base_url=safe_url(endpoint.base_url),
        metrics_urls=tuple(map(safe_url, endpoint.metrics_urls)),
        headers=tuple((name, "…") for name, _ in endpoint.headers),
    )


def safe_url(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Finding(Struct, frozen=True):
    """One line of `llmtop doctor`: what was looked for, what was found, and what closes the gap."""

    name: str
    ok: bool | None
    """None: could not be tried."""
    found: str
    advice: str | None = None


class EndpointInfo(Struct, frozen=True, kw_only=True):
    """What a probe learned about an endpoint."""

    dialect: Dialect
    model: str
    models: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    """Which of chat and completions can be streamed, the preferred one first."""
    server: str | None = None
    """Name and version as the server tells them, for display."""
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    has_tokenize: bool = False
    has_metrics: bool = False
    pins_output: bool = False
    """Whether the output length can be pinned (ignore_eos, min_tokens)."""
    has_usage: bool = False
    findings: tuple[Finding, ...] = ()


class EndpointState(StrEnum):
    CONNECTING = "connecting"
    UP = "up"
    STALE = "stale"
    DOWN = "down"
    AUTH_FAILED = "auth failed"


class EndpointStatus(Struct, frozen=True, kw_only=True):
    """How the endpoint is doing now; the header shows it."""

    state: EndpointState
    since_s: float = 0.0
    label: str = ""
    """Host and port, for display."""
    dialect: Dialect | None = None
    model: str | None = None
    server: str | None = None
    last_error: str | None = None
    retry_in_s: float | None = None
    metrics: str | None = None
    """None: metrics flow. Otherwise why they do not, and which server flag gives them."""
    stamp_source: str | None = None
    """Which clock stamps token arrivals: kernel, select or protocol."""
    simulated: bool = False
    preset: str | None = None
    knobs: dict[str, float] = field(default_factory=dict)
    """Server knobs that can be turned live (the simulated engine only)."""
    faults: dict[str, float] = field(default_factory=dict)
    """Faults that the simulated engine knows, by name, with their figure; 0: off."""
    max_model_len: int | None = None
    """Longest prompt and answer together, in tokens."""
