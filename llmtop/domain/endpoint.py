"""An endpoint: what is driven, what it speaks, and how it is doing."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

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


PROXY_FROM_ENVIRONMENT = "env"
"""As `Endpoint.proxy`: the one that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name, unless NO_PROXY spares the host."""
PROXY_NONE = "none"


class Api(Struct, frozen=True, kw_only=True):
    """Where an OpenAI API is below a base URL."""

    root: str | None = None
    """What stands before `/chat/completions`, `/completions` and `/models`: `/v1` or nothing; None: to be found."""
    only: str | None = None
    """One of `APIS`, whose full URL was given: no other is asked."""
    given: str | None = None
    """The path of that one, as it was given."""
    query: str = ""
    """Without its `?`; sent with every request to the API. It may hold a key: not in a run file."""

    def url(self, base_url: str, api: str) -> str:
        """The URL of `models` or one of `APIS`."""
        return base_url + self.path(api)

    def path(self, api: str) -> str:
        """The same below the base URL, with its query."""
        root = USUAL_ROOT if self.root is None else self.root
        path = self.given if self.given is not None and api == self.only else root + _API_PATHS[api]
        return f"{path}?{self.query}" if self.query else path

    def among(self, apis: tuple[str, ...]) -> tuple[str, ...]:
        """Those that may be asked."""
        return apis if self.only is None else (self.only,)


USUAL_ROOT = "/v1"
USUAL_APIS = ("chat", "completions")
"""Those that every server of the common protocol may stream; others are tried where they are asked for."""
APIS = (*USUAL_APIS, "responses", "embeddings")
_API_PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "models": "/models",
}


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where to send requests and how to be let in.

    The API key itself is never in here, nor a password: only the name of the environment variable that holds it, so
    that no frame, recording, report or log can leak it. What headers and URLs hold of that kind is not in its `repr`.
    """

    base_url: str
    """Scheme, host, port and base path without a trailing slash and without `/v1`."""
    api: Api = Api()
    """Where its API is below that."""
    model: str | None = None
    """None: the first model the endpoint lists."""
    dialect: Dialect | None = None
    """None: detected."""
    api_key_env: str | None = None
    api_key_header: str | None = None
    """The header that takes the key as it is; None: `Authorization: Bearer`."""
    basic_auth_env: str | None = None
    """The variable that holds user:password."""
    headers: tuple[tuple[str, str], ...] = ()
    headers_env: tuple[tuple[str, str], ...] = ()
    """Headers, each with the variable that holds its value."""
    proxy: str = PROXY_FROM_ENVIRONMENT
    """A proxy's URL, `env` or `none`."""
    ca_file: str | None = None
    client_cert: str | None = None
    """A PEM file: the certificate to show, with those of its issuers, and perhaps with its key."""
    client_key: str | None = None
    """A PEM file; None: the key is in `client_cert`."""
    insecure: bool = False
    unix_socket: str | None = None
    metrics_urls: tuple[str, ...] = ()
    """Where replicas show their metrics; empty: the dialect's usual path under `base_url`."""
    transport: str = "auto"
    """`auto` (own transport, stock httpx behind a proxy) or `httpx`."""
    simulated: bool = False
    addresses: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Names that stand for this machine, and the addresses by which they do. They are connected to as long as the run
    lasts, whatever the names come to mean; not in a run file."""

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The environment variables that hold what lets somebody in here."""
        names = (self.api_key_env, self.basic_auth_env, *(variable for _, variable in self.headers_env))
        return tuple(name for name in names if name is not None)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, by its socket or by its address."""
        return self.unix_socket is not None or self.has_here(urlsplit(self.base_url).hostname or "")

    @property
    def stands_here(self) -> bool:
        """Whether it is told of as one on this machine: by what a run file keeps, and what names of it mean."""
        return self.simulated or self.is_here or urlsplit(self.base_url).hostname == "localhost"

    def has_here(self, host: str) -> bool:
        """Whether a host of its URLs is this machine. What a name claims counts for nothing."""
        return is_loopback(host) or bool(self.addresses_of(host))

    def addresses_of(self, host: str) -> tuple[str, ...]:
        """Where a name is to be connected to; (): it is not pinned."""
        return dict(self.addresses).get(ascii_name(host), ())

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        safe = safe_endpoint(self)
        return [(name, getattr(safe, name)) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"Endpoint({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own; a name is none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def host_and_port(host: str, port: int | None = None) -> str:
    """As they stand in a URL, an IPv6 address in brackets: `h2:8000`, `[::1]:8000`; without a port `[::1]`."""
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"


def ascii_name(host: str) -> str:
    """A host's name as resolvers are asked for it; one that has no such form stays as it is."""
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


_HOST_AND_PORT = re.compile(r"(\[[^\]@]*\]|[^:@\[\]]*)(:\d*)?")


def safe_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint without what may let somebody in: user and query of URLs, values of headers; and unpinned."""
    return structs.replace(
        endpoint,
        base_url=safe_url(endpoint.base_url),
        api=structs.replace(endpoint.api, query=""),
        metrics_urls=tuple(map(safe_url, endpoint.metrics_urls)),
        headers=tuple((name, "…") for name, _ in endpoint.headers),
        proxy=safe_url(endpoint.proxy),
        addresses=(),
    )


def safe_url(url: str) -> str:
    """A URL, or what was meant as one, without user, password, query and fragment."""
    address = re.split("[?#]", url, maxsplit=1)[0]
    scheme, colon, rest = address.partition("://") if "://" in address else ("", "", address)
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    if not _HOST_AND_PORT.fullmatch(host):  # the half of a password that has a slash, perhaps
        return f"{scheme}{colon}…"
    return f"{scheme}{colon}{host}{slash}{path}"


class Finding(Struct, frozen=True):
    """One row of `llmtop doctor`: what was looked for, what was seen, what that means, and what to type."""

    name: str
    ok: bool | None
    """None: could not be tried."""
    found: str
    """What was seen."""
    advice: str | None = None
    """What to type, or to do; None: nothing, as all is well."""
    means: str | None = None
    """What a gap means for a run; None: there is none."""


class RequestShape(Struct, frozen=True, kw_only=True):
    """How requests must be built for an endpoint where its dialect alone does not say it: learned from its refusals."""

    dropped: tuple[str, ...] = ()
    """Optional fields that it refused, sorted."""
    max_tokens: str | None = None
    """The field of the asked output length that it wants; None: the dialect's own."""
    least_tokens: int = 0
    """The least output length that it takes, where it refused shorter ones."""
    continuous_usage: bool = False
    """Whether usage is asked for in every event: only worth its bytes where events hold several tokens."""


class EndpointInfo(Struct, frozen=True, kw_only=True):
    """What a probe learned about an endpoint."""

    dialect: Dialect
    model: str
    models: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    """Which were tried and can be driven, the preferred one first."""
    api_root: str | None = None
    """The root of its API, where it was found out."""
    server: str | None = None
    """Name and version as the server tells them, for display."""
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    has_tokenize: bool = False
    has_metrics: bool = False
    pins_output: bool = False
    """Whether the output length can be pinned (ignore_eos, min_tokens)."""
    has_usage: bool = False
    flags: tuple[tuple[str, str], ...] = ()
    """What the server tells of its own settings: (name, value), sorted by name."""
    request_shape: RequestShape = RequestShape()
    findings: tuple[Finding, ...] = ()

    @property
    def traits(self) -> tuple[tuple[str, str], ...]:
        """What tells a configuration from another: flags, model and server, as (name, value)."""
        told = (*self.flags, ("model", self.model), ("server", self.server or ""))
        return tuple((name, value) for name, value in told if value)


class EndpointState(StrEnum):
    CONNECTING = "connecting"
    UP = "up"
    STALE = "stale"
    DOWN = "down"
    AUTH_FAILED = "auth failed"


SILENCE_S = 10.0
"""With requests in flight and not one token for so long, while scrapes fail too, what is shown is stale."""


class CommandStatus(Struct, frozen=True, kw_only=True):
    """How it stands with the command that starts or changes the server."""

    serves: bool
    """It is the server; otherwise it changes one."""
    runs: bool = True
    """A server may answer: this one's runs, or it is not ours."""
    settings: tuple[tuple[str, str], ...]
    """Those that the command takes, by name, as they were given and not contradicted; without a value: not known."""
    wanted: tuple[tuple[str, str], ...] = ()
    """Those that were tried last, where that has not ended or went wrong."""
    work: str = ""
    """What is waited for; empty: nothing."""
    problem: str = ""
    """Why the last try went wrong, or how the server came to its end; empty: all is well."""
    start_s: float | None = None
    """How long the last start took."""
    log: tuple[str, ...] = ()
    """The last lines that it wrote."""
    log_path: str | None = None


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
    awaited: str | None = None
    """How far a server is that went away under the run: `models answer, no token yet`; None: none did."""
    away_s: float = 0.0
    """For how long it has been away."""
    metrics: str | None = None
    """None: metrics flow. Otherwise why they do not, and which server flag gives them."""
    stamp_source: str | None = None
    """Which clock stamps token arrivals: kernel, select or protocol."""
    simulated: bool = False
    preset: str | None = None
    named: str = ""
    """What tells this run from others: its label, and what was set and turned: `before, max_num_seqs 46`."""
    knobs: dict[str, float] = field(default_factory=dict)
    """Server knobs that turn while it runs, and where they stand."""
    knob_most: dict[str, float] = field(default_factory=dict)
    """The most that each of them takes; one that is not there has no limit that is known."""
    knobs_by: str = ""
    """Who turns them: `llmtop_knobs`, `/v1/runtime_config`, ...; empty: the simulated engine, or there are none."""
    no_knobs: str = ""
    """Why a real server has none that turn live, and what would give it some; empty: it has, or nobody looked."""
    slots: int | None = None
    """How many requests it runs at once, all its engines together, as it says itself; None: it does not say."""
    faults: dict[str, float] = field(default_factory=dict)
    """Faults that the simulated engine knows, by name, with their figure; 0: off."""
    command: CommandStatus | None = None
    """None: the server was not started from here."""
    max_model_len: int | None = None
    """Longest prompt and answer together, in tokens."""
