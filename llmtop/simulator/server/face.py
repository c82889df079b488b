"""The simulated server as its clients see it: routes, admission and pages, over a deployment."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from time import perf_counter_ns
from weakref import WeakKeyDictionary

import msgspec

from llmtop.errors import UsageError
from llmtop.simulator.engine import SimRequest, chain_hashes
from llmtop.simulator.server import exposition
from llmtop.simulator.server.answers import AnswerWriter
from llmtop.simulator.server.asked import ApiError, Asked, engine_busy, prompt_tokens, read_generation, read_json
from llmtop.simulator.server.beside import EmbeddingWriter, ResponseWriter
from llmtop.simulator.server.deployment import Deployment, change, state
from llmtop.simulator.server.generation import Generation, Impairment
from llmtop.simulator.server.guard import Guard
from llmtop.simulator.server.http import Connections, ServerConnection
from llmtop.simulator.server.incoming import Request
from llmtop.simulator.server.pods import Pod, listing
from llmtop.simulator.server.replica import Replica

ANSWER_MEDIAN_TOKENS = 130
ANSWER_SIGMA = 0.9
"""Length of an answer that may end by itself: log-normal, as in ShareGPT (median 134, mean 201)."""

MAX_ID_CHARACTERS = 256
"""A longer x-request-id is not repeated in every event."""

_TOLD_WITH_VERSION = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_num_queued_reqs",
    "max_num_queued_tokens",
    "enable_chunked_prefill",
)

_APIS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
_WRITERS: dict[str, tuple[type[AnswerWriter], str]] = {
    "chat": (AnswerWriter, "chatcmpl"),
    "completions": (AnswerWriter, "cmpl"),
    "responses": (ResponseWriter, "resp"),
    "embeddings": (EmbeddingWriter, "embd"),
}
"""Who writes an answer, and how its id begins."""
REPLICAS = "/replicas/"
"""Each replica's own pages are below this and its name."""
Route = Callable[[ServerConnection, Request], None]


class Face:
    """Answers every request of one simulated server.

    Args:
        deployment: what is behind it.
        guard: who is let in.
        seed: of request ids.
        names: by which its model is served, the first one by itself; (): the preset's.
    """

    def __init__(self, deployment: Deployment, guard: Guard, *, seed: int = 0, names: tuple[str, ...] = ()) -> None:
        self.on_restart: Callable[[float], None] | None = None
        """Called when the fault `restart` has dropped everything, with how many seconds the server is to be gone."""
        self._deployment = deployment
        self._guard = guard
        self._seed = seed
        self._models_served = names or (deployment.preset.model.name,)
        self._number = 0
        self._connections = Connections()
        self._stalled: dict[ServerConnection, Request] = {}
        self._pinned: WeakKeyDictionary[ServerConnection, Pod] = WeakKeyDictionary()
        """Who had the last request of a connection."""
        self._routes: dict[str, dict[str, Route]] = {
            "/v1/chat/completions": {"POST": self._generate},
            "/v1/completions": {"POST": self._generate},
            "/v1/responses": {"POST": self._generate},
            "/v1/embeddings": {"POST": self._generate},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": self._version},
            "/load": {"GET": self._load},
            "/tokenize": {"POST": self._tokenize},
            "/metrics": {"GET": self._metrics},
            "/llmtop/replicas": {"GET": self._listing},
            "/llmtop/control": {"GET": self._control, "POST": self._control},
        }

    def connect(self) -> ServerConnection:
        """A protocol for one accepted connection."""
        return ServerConnection(self.answer, self._connections, server=b"llmtop-sim")

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def answer(self, connection: ServerConnection, request: Request) -> None:
        """Answer one request, now or as its tokens come."""
        methods = self._routes.get(request.path) or self._of_replica(request.path)
        if methods is None:
            connection.respond(404, b'{"detail":"Not Found"}')
        elif request.method not in methods:
            allow = ((b"allow", ", ".join(methods).encode()),)
            connection.respond(405, b'{"detail":"Method Not Allowed"}', headers=allow)
        elif request.path.startswith("/v1/") and not self._guard.lets_in(request):
            connection.respond(401, b'{"error":"Unauthorized"}')
        else:
            try:
                methods[request.method](connection, request)
            except ApiError as refusal:
                headers = ((b"retry-after", b"1"),) if refusal.status == 429 else ()
                connection.respond(refusal.status, refusal.body(), headers=headers)

    # Generations

    def _generate(self, connection: ServerConnection, request: Request) -> None:
        now_ns = perf_counter_ns()
        deployment = self._deployment
        if deployment.hits("hang"):
            return
        if deployment.hits("http_500"):
            raise ApiError(500, "InternalServerError", "EngineCore encountered an issue (injected fault http_500).")
        if deployment.hits("http_429"):
            raise ApiError(429, "Too Many Requests", "Too many requests (injected fault http_429).")
        asked = read_generation(
            request.body,
            api=_APIS[request.path],
            models=self._models_served,
            max_model_len=deployment.config.request_limit_tokens,
        )
        if not deployment.admits():
            raise engine_busy()
        replica = self._replica_for(connection)
        answer = self._new_answer(asked, request)
        line = Impairment(self._cut_after(asked), deployment.faults.get("slow_client", 0.0))
        generation = Generation(connection, asked, answer, deployment.stream_interval, line)
        connection.on_disconnect = lambda: replica.abort(answer.id)
        replica.start(self._sim_request(asked, answer.id, now_ns), generation)

    def _replica_for(self, connection: ServerConnection) -> Replica:
        pod = self._deployment.given(self._pinned.get(connection))
        self._pinned[connection] = pod
        assert pod.replica is not None, "given to one that runs"
        return pod.replica

    def _new_answer(self, asked: Asked, request: Request) -> AnswerWriter:
        """Its id carries the client's x-request-id, as vLLM's does."""
        self._number += 1
        deployment = self._deployment
        own = request.headers.get(b"x-request-id", b"").decode("latin-1")
        if len(own) > MAX_ID_CHARACTERS or not own.replace("-", "").replace("_", "").isalnum():
            own = hashlib.blake2b(b"%d:%d" % (self._seed, self._number), digest_size=8).hexdigest()
        writer, prefix = _WRITERS[asked.api]
        id = f"{prefix}-{own}"
        if any(replica.has(id) for replica in deployment.replicas):
            id += f"-{self._number}"
        return writer(asked, id, int(time.time()), deployment.config.engine_version, self._number * 7)

    def _sim_request(self, asked: Asked, id: str, now_ns: int) -> SimRequest:
        deployment = self._deployment
        overhead, config = deployment.preset.overhead, deployment.config
        in_ns = overhead.api_in_ms * 1e6 + overhead.api_in_us_per_token * 1e3 * len(asked.tokens)
        natural = round(ANSWER_MEDIAN_TOKENS * deployment.random.lognormvariate(0.0, ANSWER_SIGMA))
        return SimRequest(
            id=id,
            arrival_ns=now_ns + round(in_ns),
            prompt_tokens=len(asked.tokens),
            max_tokens=asked.max_tokens,
            block_hashes=chain_hashes(asked.tokens, config.block_size) if config.enable_prefix_caching else (),
            priority=asked.priority,
            stop_after=None if asked.ignore_eos else max(asked.min_tokens, natural, 1),
        )

    def _cut_after(self, asked: Asked) -> int | None:
        deployment = self._deployment
        return deployment.random.randrange(asked.max_tokens) if asked.stream and deployment.hits("cut") else None

    # Pages

    def _models(self, connection: ServerConnection, request: Request) -> None:
        deployment = self._deployment
        created = int(deployment.started_s)
        permission = {
            "id": f"modelperm-{self._seed:016x}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        cards = [
            {
                "id": model,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": model,
                "parent": None,
                "max_model_len": deployment.config.request_limit_tokens,
                "permission": [permission],
            }
            for model in self._models_served
        ]
        connection.respond(200, msgspec.json.encode({"object": "list", "data": cards}))

    def _health(self, connection: ServerConnection, request: Request) -> None:
        connection.respond(200, content_type=None)

    def _version(self, connection: ServerConnection, request: Request) -> None:
        """As vLLM's, with the flags that vLLM tells nowhere: for the one client that looks for them here."""
        config = self._deployment.config
        told: dict[str, object] = {name: getattr(config, name) for name in _TOLD_WITH_VERSION}
        told["version"] = f"{config.engine_version}.0+llmtop"
        connection.respond(200, msgspec.json.encode(told))

    def _load(self, connection: ServerConnection, request: Request) -> None:
        load = sum(replica.load for replica in self._deployment.replicas)
        connection.respond(200, msgspec.json.encode({"server_load": load}))

    def _tokenize(self, connection: ServerConnection, request: Request) -> None:
        asked = read_json(request.body)
        tokens = prompt_tokens(asked, chat="messages" in asked)
        ids = [hash(token) % self._deployment.preset.model.vocab for token in tokens]
        limit = self._deployment.config.request_limit_tokens
        page = {"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": None}
        connection.respond(200, msgspec.json.encode(page))

    def _metrics(self, connection: ServerConnection, request: Request) -> None:
        if "metrics_stalled" in self._deployment.faults:
            self._stalled[connection] = request
            connection.on_disconnect = lambda: self._forget(connection)
        else:
            connection.respond(200, exposition.page(self._deployment), exposition.CONTENT_TYPE)

    def _of_replica(self, path: str) -> dict[str, Route] | None:
        """The routes of one replica's own page; None: there is none at this path."""
        _, _, rest = path.partition(REPLICAS)
        name, slash, page = rest.partition("/")
        pod = next((pod for pod in self._deployment.pods.present if pod.name == name and pod.replica), None)
        if path != f"{REPLICAS}{name}{slash}metrics" or page != "metrics" or pod is None:
            return None

        def metrics(connection: ServerConnection, request: Request) -> None:
            connection.respond(200, exposition.page(self._deployment, pod), exposition.CONTENT_TYPE)

        return {"GET": metrics}

    def _listing(self, connection: ServerConnection, request: Request) -> None:
        """Which replicas there are, for who only looks."""
        connection.respond(200, msgspec.json.encode(listing(self._deployment.pods)))

    def _forget(self, connection: ServerConnection) -> None:
        self._stalled.pop(connection, None)

    def _control(self, connection: ServerConnection, request: Request) -> None:
        self._guard.check_control(request, connection.address)
        restart = None
        if request.method == "POST":
            try:
                restart = change(self._deployment, read_json(request.body))
            except UsageError as error:
                raise ApiError(400, "BadRequestError", str(error)) from error
        connection.respond(200, msgspec.json.encode(state(self._deployment)))
        if restart is not None:
            self._restart(restart)
        elif "metrics_stalled" not in self._deployment.faults:
            stalled, self._stalled = self._stalled, {}
            for waiting, asked in stalled.items():
                self._metrics(waiting, asked)

    def _restart(self, gone_s: float) -> None:
        """Everything in flight is lost; a new process with the same flags follows."""
        self.drop_connections()
        self._stalled.clear()
        self._deployment.set_fault("replica_added", None)
        self._deployment.boot()
        if self.on_restart is not None:
            self.on_restart(gone_s)
