"""Which URLs are asked for what people type: the base URLs and full URLs that vendors' pages name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtop.domain.endpoint import Api, Endpoint, safe_endpoint
from llmtop.domain.load import Caps
from llmtop.endpoint.access import Access
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import unchecked
from llmtop.endpoint.question import Answer
from llmtop.endpoint.roots import settle
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import LlmtopError
from llmtop.profiles.files import load_profile

VENDORS = {
    "OpenAI": ("https://api.openai.com/v1", "https://api.openai.com", "/v1"),
    "OpenRouter": ("https://openrouter.ai/api/v1", "https://openrouter.ai/api", "/v1"),
    "Groq": ("https://api.groq.com/openai/v1", "https://api.groq.com/openai", "/v1"),
    "Fireworks": ("https://api.fireworks.ai/inference/v1", "https://api.fireworks.ai/inference", "/v1"),
    "Together": ("https://api.together.xyz/v1/", "https://api.together.xyz", "/v1"),
    "DashScope": (
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "https://dashscope.aliyuncs.com/compatible-mode",
        "/v1",
    ),
    "Cloudflare": (
        "https://api.cloudflare.com/client/v4/accounts/ID/ai/v1",
        "https://api.cloudflare.com/client/v4/accounts/ID/ai",
        "/v1",
    ),
    "Ollama": ("http://localhost:11434/v1", "http://localhost:11434", "/v1"),
    "LM Studio": ("localhost:1234/v1", "http://localhost:1234", "/v1"),
    "Perplexity": ("https://api.perplexity.ai", "https://api.perplexity.ai", None),
    "Zhipu": ("https://open.bigmodel.cn/api/paas/v4/", "https://open.bigmodel.cn/api/paas/v4", None),
    "Volcengine": ("https://ark.cn-beijing.volces.com/api/v3", "https://ark.cn-beijing.volces.com/api/v3", None),
    "Gemini": (
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        None,
    ),
    "GitHub": ("https://models.github.ai/inference", "https://models.github.ai/inference", None),
    "Databricks": ("https://w.databricks.com/serving-endpoints", "https://w.databricks.com/serving-endpoints", None),
    "DeepInfra": ("https://api.deepinfra.com/v1/openai", "https://api.deepinfra.com/v1/openai", None),
    "Vertex": (
        "https://l-aiplatform.googleapis.com/v1/projects/P/locations/L/endpoints/openapi",
        "https://l-aiplatform.googleapis.com/v1/projects/P/locations/L/endpoints/openapi",
        None,
    ),
}  # fmt: skip
"""What is typed, the base URL, and the root where it is said."""

FULL = {
    "https://x.example/v1beta/openai/chat/completions": ("chat", "https://x.example/v1beta/openai/models"),
    "https://r.openai.azure.com/openai/deployments/d1/chat/completions?api-version=2024-06-01": (
        "chat",
        "https://r.openai.azure.com/openai/deployments/d1/models?api-version=2024-06-01",
    ),
    "https://x.example/v1/chat/completions": ("chat", "https://x.example/v1/models"),
    "https://x.example/openai/v1/completions?b=2&a=1&b=": ("completions", "https://x.example/openai/v1/models?b=2&a=1&b="),
    "https://x.example/v2/inference/completions": ("completions", "https://x.example/v2/inference/models"),
    "https://api.perplexity.ai/chat/completions": ("chat", "https://api.perplexity.ai/models"),
    "https://w.example/serving-endpoints/llm/invocations": ("chat", "https://w.example/serving-endpoints/llm/models"),
    "https://r.example/endpoints/llm/invocations-response-stream": ("chat", "https://r.example/endpoints/llm/models"),
    "https://m.example/environments/production/predict": ("chat", "https://m.example/environments/production/models"),
    "https://e.inference.ml.example/score": ("chat", "https://e.inference.ml.example/models"),
    "https://a.example/api/v2/cortex/inference:complete": ("chat", "https://a.example/api/v2/cortex/models"),
    "https://a.example/v1/projects/P/endpoints/4711:rawPredict": ("chat", "https://a.example/v1/projects/P/endpoints/models"),
    "http://x.example//a%2fb//v1/chat/completions": ("chat", "http://x.example//a%2fb/v1/models"),
    "http://127.0.0.1:8000/c/chat/completions?next=http://y/?z": ("chat", "http://127.0.0.1:8000/c/models?next=http://y/?z"),
}  # fmt: skip


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_base_url_of_a_vendor_is_read(vendor: str) -> None:
    typed, base_url, root = VENDORS[vendor]
    endpoint = endpoint_from_url(typed)
    assert (endpoint.base_url, endpoint.api) == (base_url, Api(root=root))
    for api, tail in (("chat", "/chat/completions"), ("completions", "/completions"), ("models", "/models")):
        assert endpoint.api.url(base_url, api) == f"{base_url}/v1{tail}"
        bare = msgspec.structs.replace(endpoint.api, root="")
        assert bare.url(base_url, api) == base_url + tail


@pytest.mark.parametrize("url", FULL)
def test_a_full_url_is_used_as_it_is_for_one_api(url: str) -> None:
    only, models = FULL[url]
    endpoint = endpoint_from_url(url)
    assert endpoint.api.among(("completions", "chat")) == (only,)
    assert endpoint.api.url(endpoint.base_url, only) == url
    assert endpoint.api.url(endpoint.base_url, "models") == models


_SEGMENT = st.text("abz09-._~%2F:@!$&'()*+,;=", min_size=1, max_size=8).filter(lambda text: text.strip("."))


@given(
    st.lists(st.sampled_from(["", "v1", "v4", "openai", "chat", "models"]) | _SEGMENT, max_size=5).map("/".join),
    st.sampled_from(["chat/completions", "completions", "invocations", "invocations-response-stream", "predict"]),
    st.none() | st.text("abz09-._~%2F:@!$&'()*+,;=/?", min_size=1, max_size=20),
)
@example("v1/v1", "chat/completions", None)
@example("/", "completions", "?")
def test_what_is_asked_is_byte_for_byte_the_full_url(path: str, tail: str, query: str | None) -> None:
    asked = f"/{path}/{tail}" + ("" if query is None else f"?{query}")
    endpoint = endpoint_from_url("http://h:8000" + asked)
    assert endpoint.api.only is not None
    url = endpoint.api.url(endpoint.base_url, endpoint.api.only)
    assert url == "http://h:8000" + asked
    assert httpx.URL(url).raw_path.decode() == asked
    assert endpoint_from_url(url) == endpoint


@given(st.lists(st.sampled_from(["v1", "v4", "models", "metrics", "a", "", "health"]), max_size=5).map("/".join))
def test_a_base_url_with_its_root_means_the_same_again(path: str) -> None:
    endpoint = endpoint_from_url(f"http://h/{path}")
    if endpoint.api.root is not None:
        assert endpoint_from_url(endpoint.base_url + endpoint.api.root) == endpoint


@pytest.mark.parametrize(
    ("typed", "base_url"),
    [
        ("http:host:8000", "http://host:8000"),
        ("HTTPS:/Host/v1", "https://host"),
        ("host:8000/llm?u=http://x", "http://host:8000/llm"),
        ("[fe80::1%25eth0]:8000", "http://[fe80::1%eth0]:8000"),
        ("fe80::1%eth0", "http://[fe80::1%eth0]"),
        ("::1/llm", "http://[::1]/llm"),
        ("http://HOST.example.:80//a//b/", "http://host.example.//a//b"),
        ("http://h/a#part", "http://h/a"),
        ("'http://h:8000/v1'", "http://h:8000"),
        ("<https://h/llm>", "https://h/llm"),
        ("http://http://h:8000/v1", "http://h:8000"),
        ("8000/v1", "http://127.0.0.1:8000"),
        (":8000/llm", "http://127.0.0.1:8000/llm"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("http://h/v1/models/org/m", "http://h"),
        ("http://h/hf/models/org/m/v1", "http://h/hf/models/org/m"),
        ("http://h/v1/messages", "http://h"),
        ("http://h:11434/api/chat", "http://h:11434"),
        ("http://h/openapi.json", "http://h"),
        ("UNIX:/run/llm.sock", "http://localhost"),
    ],
)
def test_addresses_in_odd_spelling(typed: str, base_url: str) -> None:
    endpoint = endpoint_from_url(typed)
    assert endpoint.base_url == base_url
    assert endpoint_from_url(base_url).base_url == base_url
    Access(endpoint)


def test_the_key_in_a_query_is_sent_and_never_shown() -> None:
    endpoint = endpoint_from_url("https://h/v1/chat/completions?api-version=2024-06-01&code=hush-hush-4711")
    assert "code=hush-hush-4711" in endpoint.api.path("chat")
    assert "code=hush-hush-4711" in endpoint.api.path("models")
    assert "hush" not in repr(endpoint)
    assert b"hush" not in msgspec.json.encode(safe_endpoint(endpoint))
    heard = Access(endpoint).heard("no such key: hush-hush-4711, in version 2024-06-01")
    assert heard == "no such key: ***, in version 2024-06-01"


@pytest.mark.parametrize("told", [endpoint_from_url, load_profile])
def test_a_query_does_not_get_into_an_error(told: Callable[[str], object]) -> None:
    with pytest.raises(LlmtopError) as caught:
        told("ftp://h/v1?code=hush-hush-4711")
    assert "hush" not in str(caught.value)


_LIST = (200, b'{"data": [{"id": "m"}]}')
_GONE = (404, b'{"detail": "Not Found"}')
_PAGE = (200, b"<!doctype html><html><title>Chat</title></html>")
_WRONG = (400, b'{"error": {"message": "no model"}}')
_AWAY = (302, b"")
_BARRED = (403, b'{"message": "Missing Authentication Token"}')
_SHUT = (401, b'{"error": {"message": "no key"}}')


@pytest.mark.parametrize(
    ("answers", "root"),
    [
        ({"/v1/models": _LIST}, "/v1"),
        ({"/v1/models": _LIST, "/models": _LIST}, "/v1"),
        ({"/v1/models": _SHUT, "/models": _LIST}, "/v1"),
        ({"/models": _LIST}, ""),
        ({"/v1/models": _PAGE, "/models": _LIST}, ""),
        ({"/v1/models": _PAGE, "/models": _PAGE, "/chat/completions": _PAGE}, "/v1"),
        ({"/chat/completions": _WRONG}, ""),
        ({"/v1/chat/completions": _WRONG, "/chat/completions": _WRONG}, "/v1"),
        ({"/v1/chat/completions": _WRONG, "/models": _SHUT}, "/v1"),
        ({"/v1/models": _AWAY, "/models": _LIST}, ""),
        ({"/v1/models": _BARRED, "/v1/chat/completions": _BARRED, "/chat/completions": _WRONG}, ""),
        ({"/v1/models": _BARRED, "/v1/chat/completions": _WRONG, "/models": _LIST}, "/v1"),
        ({"/models": (200, b'{"theme": "dark"}')}, "/v1"),
        ({}, "/v1"),
    ],
)
async def test_the_root_is_the_one_where_something_answers(
    answers: dict[str, tuple[int, bytes]], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        status, body = answers.get(request.url.path.removeprefix("/base"), _GONE)
        return httpx.Response(status, stream=httpx.ByteStream(body))

    def stock(access: Access, urls: Any = ()) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url=access.endpoint.base_url)

    monkeypatch.setattr(Access, "stock_client", stock)
    client = EndpointClient(Endpoint(base_url="http://h/base"), None, Caps(), 0)
    try:
        found, listed = await settle(client, Answer(*answers.get("/v1/models", _GONE)), 1.0)
    finally:
        await client.close()
    assert found == root
    assert listed.status == answers.get(f"{root}/models", _GONE)[0]


@pytest.mark.parametrize(
    ("typed", "chat"),
    [
        ("https://h/api/paas/v4", "/chat/completions"),
        ("https://h/api/v3/", "/chat/completions"),
        ("https://h/v1beta", "/chat/completions"),
        ("https://h/v1", "/v1/chat/completions"),
        ("https://h/llm", "/v1/chat/completions"),
        ("https://h/v2/ID/openai", "/v1/chat/completions"),
    ],
)
def test_a_base_url_that_ends_in_a_version_is_the_root_where_nobody_is_asked(typed: str, chat: str) -> None:
    endpoint = endpoint_from_url(typed, model="m")
    assert EndpointClient(endpoint, unchecked(endpoint), Caps(), 0).api.path("chat") == chat
