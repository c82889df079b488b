"""Places that list replicas: their forms, what they find, what they say of finding nothing, what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.places import DnsName, KubeService, PrometheusServer, asked_in, pages_in, place_in, places_in
from llmtop.errors import SessionLost, UsageError
from llmtop.telemetry import kubernetes
from llmtop.telemetry import places as looking
from llmtop.telemetry.kept_pods import picked, pods_of
from llmtop.telemetry.kubectl import Kubectl, login_environment
from llmtop.telemetry.kubernetes import NoSuchPort, Pod, pods_in
from llmtop.telemetry.places import Lookout, NameAddresses
from llmtop.telemetry.promql import Series
from llmtop.telemetry.scraper import Scraper
from tests.telemetry.fleet import FORBIDDEN, NOT_FOUND, FakeKubectl, endpoint, slice_of
from tests.waiting import until_gone

SERVICE = "k8s://prod/vllm"
LOGGED = 'E1128 08:54:14.924742   32101 memcache.go:265] "Unhandled Error" err="couldn\'t get API group list"\n'


def page(running: float = 1, waiting: float = 0, tokens: float = 100, start: float = 1.7e9) -> bytes:
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}\nvllm:num_requests_waiting{{engine="0"}} {waiting}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {tokens}\nprocess_start_time_seconds {start}\n'
    ).encode()


# ── Forms ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://h:8000/metrics", None),
        ("dns://vllm-headless.prod:8000", DnsName("vllm-headless.prod", 8000, "")),
        ("DNS://h:1/prometheus/metrics/", DnsName("h", 1, "/prometheus/metrics")),
        ("k8s://prod/vllm", KubeService("prod", "vllm", "", "")),
        ("k8s://prod/vllm:8000", KubeService("prod", "vllm", "8000", "")),
        ("k8s://prod/vllm:http-metrics/m", KubeService("prod", "vllm", "http-metrics", "/m")),
        ("prometheus://p:9090", PrometheusServer("http://p:9090", ())),
        ("prometheus+https://u:w@p/graph", PrometheusServer("https://u:w@p", ())),
        (
            'prometheus://p:9090/base/?selector={app="v,m", pod=~"a.+",ns!=x}',
            PrometheusServer("http://p:9090/base", (("app", "=", "v,m"), ("pod", "=~", "a.+"), ("ns", "!=", "x"))),
        ),
        (
            f"prometheus://p:9090?selector={quote('app=vllm')}",
            PrometheusServer("http://p:9090", (("app", "=", "vllm"),)),
        ),
    ],
)
def test_a_place_is_read(url: str, place: Any) -> None:
    assert place_in(url) == place
    assert (pages_in([url]), places_in([url])) == (((url,), ()) if place is None else ((), (url,)))


@pytest.mark.parametrize(
    "url",
    [
        "dns://h",
        "dns://h:0",
        "dns://h:99999",
        "dns://:8000",
        "dns://user:secret@h:8000",
        "dns://h:8000?x=secret",
        "k8s://prod",
        "k8s://prod/",
        "k8s:///vllm",
        "k8s://prod/vllm:0",
        "k8s://prod/vllm:70000",
        "k8s://Prod/vllm",
        "k8s://prod/-o",
        "k8s://-A/vllm",
        "k8s://prod/vllm,secret?x",
        "prometheus://:9090",
        "prometheus://p:0",
        "prometheus://u:secret@p:9090?query=secret",
        "prometheus://p:9090?selector=secret",
        'prometheus://p:9090?selector={app="secret}',
        "prometheus://p:9090?selector=__name__=secret",
    ],
)
def test_a_place_that_is_none_is_refused_and_no_secret_of_it_is_shown(url: str) -> None:
    with pytest.raises(UsageError, match="write it like") as refused:
        place_in(url)
    assert str(refused.value).startswith("--metrics-url ")
    assert "secret" not in str(refused.value).partition(": write it")[0].replace("vllm,secret", "")
    with pytest.raises(UsageError):
        tuple(asked_in([url]))


# ── EndpointSlices, as data ────────────────────────────────────


def listed(*slices: dict[str, Any]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": slices}).encode()


def test_pods_are_told_by_name_with_port_and_readiness() -> None:
    answer = listed(
        slice_of(
            8000, endpoint("b", "10.0.0.2"), endpoint("a", "10.0.0.1", ready=False), endpoint("c", "10.0.0.3", None)
        ),
        slice_of(8000, endpoint("b", "fd00::2"), endpoint("d", "fd00::4"), kind="IPv6"),
    )
    assert pods_in(answer) == (
        Pod("a", "10.0.0.1", 8000, False),
        Pod("b", "10.0.0.2", 8000, True),
        Pod("c", "10.0.0.3", 8000, True),
        Pod("d", "fd00::4", 8000, True),
    )


@pytest.mark.parametrize(("asked", "port"), [("", 9000), ("http", 8000), ("metrics", 9000), ("7000", 7000)])
def test_the_port_is_the_one_that_is_named_or_the_likeliest(asked: str, port: int) -> None:
    ports = [("http", 8000), ("metrics", 9000), ("grpc", 1)]
    assert [pod.port for pod in pods_in(listed(slice_of(ports, endpoint("a", "10.0.0.1"))), asked)] == [port]


def test_a_port_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(NoSuchPort) as refused:
        pods_in(listed(slice_of([("http", 8000), ("grpc", 1)], endpoint("a", "10.0.0.1"))), "metrics")
    assert refused.value.ports == ("http", "grpc")


@pytest.mark.parametrize(
    "answer", [b"", b"garbage", b"[]", b'{"items": 3}', b'{"items":[{"endpoints":"x"}]}', b"[" * 9999]
)
def test_what_is_no_list_of_slices_is_said_to_be_none(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        pods_in(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["IPv4", "10.0.0.1", "Pod"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["items", "endpoints", "addresses", "ports", "port", "name", "targetRef", "conditions", "ready"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["", "8000", "http"]))
def test_whatever_is_listed_gives_pods_or_is_said_to_be_none(listing: Any, port: str) -> None:
    with contextlib.suppress(ValueError, NoSuchPort):
        for pod in pods_in(json.dumps({"items": listing}).encode(), port):
            assert 0 < pod.port < 1 << 16
            socket.inet_pton(socket.AF_INET6 if ":" in pod.address else socket.AF_INET, pod.address)


@pytest.mark.parametrize("address", ["x/../y", "user:pw@10.0.0.1", "10.0.0.1:1", "pod.example", ""])
def test_what_is_no_address_is_no_pod(address: str) -> None:
    assert pods_in(listed(slice_of(8000, endpoint("a", address)))) == ()


def test_a_slice_without_anything_has_no_pods() -> None:
    bare: dict[str, Any] = {"addressType": "IPv4", "endpoints": None, "ports": None}
    assert pods_in(listed(bare, slice_of(8000), slice_of(8000, endpoint("a", "x.example"), kind="FQDN"))) == ()


# ── kubectl ───────────────────────────────────────────────────


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return FakeKubectl(folder)


Make = Callable[..., Scraper]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Scraper] = []

    def build(*urls: str, dialect: Dialect = Dialect.VLLM, **fields: Any) -> Scraper:
        target = Endpoint(base_url="http://127.0.0.1:1", metrics_urls=urls, **fields)
        made.append(Scraper(target, dialect, time.perf_counter_ns()))
        return made[-1]

    yield build
    for scraper in made:
        await scraper.close()


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scrape looks again."""
    monkeypatch.setattr(kubernetes.ServicePods, "every_s", 0.0)
    monkeypatch.setattr(NameAddresses, "every_s", 1e-9)


async def until(scraper: Scraper, wanted: Callable[[], bool], limit_s: float = 30.0) -> Any:
    """Scrape until something is so; the last snapshot."""
    deadline_s = time.monotonic() + limit_s
    while True:
        snapshot = await scraper.scrape()
        if wanted():
            return snapshot
        assert time.monotonic() < deadline_s, (scraper.missing, scraper.seen)
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("_often")
async def test_pods_are_found_come_and_go_by_name(
    kubectl: FakeKubectl, server: Any, second_server: Any, make: Make
) -> None:
    server.pages["/metrics"] = page(running=2, tokens=1000)
    second_server.pages["/metrics"] = page(running=5, waiting=3, tokens=9000)
    first = slice_of(server.port, endpoint("vllm-a", "127.0.0.1"))
    kubectl.lists(first)
    scraper = make(SERVICE)
    snapshot = await scraper.scrape()
    assert (scraper.missing, snapshot.running, snapshot.generation_tokens_total) == (None, 2, 1000)
    assert [(each.name, each.ready, each.answers, each.served) for each in scraper.seen] == [
        ("vllm-a", True, True, False)
    ]

    kubectl.lists(first, slice_of(second_server.port, endpoint("vllm-b", "127.0.0.1", ready=False)))
    await until(scraper, lambda: len(scraper.seen) == 2)
    assert [each.ready for each in scraper.seen] == [True, False]
    kubectl.lists(first, slice_of(second_server.port, endpoint("vllm-b", "127.0.0.1")))
    both = await until(scraper, lambda: scraper.seen[1].ready is True)
    assert (both.running, both.waiting) == (7, 3)
    assert both.generation_tokens_total == 1000, "what it did before it was seen is not its doing here"
    assert both.replicas == (("vllm-a", 2, 0, None), ("vllm-b", 5, 3, None))
    second_server.pages["/metrics"] = page(tokens=9040)
    grown = await until(scraper, lambda: scraper.seen[1].served)
    assert grown.generation_tokens_total == 1040

    kubectl.lists(first)
    one = await until(scraper, lambda: scraper.seen[1].gone)
    assert (one.running, one.generation_tokens_total, scraper.missing) == (2, 1040, None)
    assert [each.gone for each in scraper.seen] == [False, True]
    assert one.replicas == (("vllm-a", 2, 0, None), ("vllm-b", None, None, None))
    kubectl.lists(first, slice_of(second_server.port, endpoint("vllm-b", "127.0.0.1")))
    back = await until(scraper, lambda: scraper.seen[1].answers)
    assert (len(scraper.seen), back.generation_tokens_total) == (2, 1040)


NOTHING_FOUND: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (
        {"get endpointslices": {"err": FORBIDDEN, "code": 1}},
        ("forbidden to list endpointslices.discovery.k8s.io in namespace prod", "loadtest a Role", "--metrics-url"),
    ),
    (
        {"get endpointslices": {"out": '{"items":[]}'}, "get service": {"err": NOT_FOUND, "code": 1}},
        ("there is no service vllm in namespace prod", "kubectl get services -n prod"),
    ),
    (
        {"get endpointslices": {"out": '{"items":[]}'}, "get service": {"out": "service/vllm\n"}},
        ("service vllm has no pods",),
    ),
    ({"get endpointslices": {"out": "<html>"}}, ("no list of endpointslices",)),
    (
        {
            "get endpointslices": {
                "err": LOGGED + "The connection to the server localhost:8080 was refused\n",
                "code": 1,
            }
        },
        ("kubectl says The connection to the server localhost:8080 was refused", "in this terminal"),
    ),
    ({"get endpointslices": {"code": 9}}, ("kubectl says nothing and fails",)),
    (
        {"get endpointslices": {"out": json.dumps({"items": [slice_of([("grpc", 1)], endpoint("a", "127.0.0.1"))]})}},
        ("has no port metrics; it has grpc",),
    ),
]


async def test_why_nothing_is_found_is_said_with_what_to_do(kubectl: FakeKubectl) -> None:
    ours = Kubectl()
    for answers, words in NOTHING_FOUND:
        kubectl.answer(answers)
        url = f"{SERVICE}:metrics" if "port" in words[0] else SERVICE
        target = Endpoint(base_url="http://127.0.0.1:1", metrics_urls=(url,))
        scraper = Scraper(target, Dialect.VLLM, time.perf_counter_ns(), kubectl=ours)
        with pytest.raises(SessionLost) as refused:
            await scraper.reach()
        snapshot = await scraper.scrape()
        await scraper.close()
        assert str(refused.value) == scraper.missing
        assert snapshot.running is None
        assert not scraper.partly
        for word in (SERVICE, *words):
            assert word in (scraper.missing or "")
    await ours.close()


async def test_before_a_load_one_place_of_several_is_enough(kubectl: FakeKubectl, server: Any, make: Make) -> None:
    server.pages["/metrics"] = page(running=2)
    kubectl.answer({"get endpointslices": {"err": FORBIDDEN, "code": 1}})
    await make(SERVICE, f"dns://127.0.0.1:{server.port}").reach()
    kubectl.lists(slice_of(server.port, endpoint("vllm-a", "127.0.0.1")))
    scraper = make(SERVICE)
    await scraper.reach()
    assert (await scraper.scrape()).running == 2


async def test_a_kubectl_that_hangs_is_ended_and_said(kubectl: FakeKubectl, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr(kubernetes.Kubectl.ask, "__kwdefaults__", {"limit_s": 0.3})
    kubectl.answer({"get endpointslices": {"sleep": 60}})
    scraper = make(SERVICE)
    await scraper.scrape()
    assert "kubectl took longer than" in (scraper.missing or "")
    await asyncio.to_thread(until_gone, kubectl.asked[0].pid)


async def test_no_kubectl_is_said_and_one_in_the_working_directory_is_not_run(
    tmp_path: Path, make: Make, monkeypatch: Any
) -> None:
    FakeKubectl(tmp_path).lists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{os.pathsep}.{os.pathsep}/nowhere")
    scraper = make(SERVICE)
    await scraper.scrape()
    assert "there is no kubectl on PATH: install it" in (scraper.missing or "")
    assert not any((tmp_path / "asked").iterdir())


async def test_kubectl_sees_the_login_and_no_key_of_the_endpoint(
    kubectl: FakeKubectl, make: Make, monkeypatch: Any
) -> None:
    kubectl.lists()
    for name in ("KUBECONFIG", "AWS_PROFILE", "AWS_TOKEN_OF_LLM", "OPENAI_API_KEY", "SOME_SECRET"):
        monkeypatch.setenv(name, f"of-{name.lower()}")
    scraper = make(SERVICE, api_key_env="AWS_TOKEN_OF_LLM")
    await scraper.scrape()
    seen = kubectl.asked[0].variables
    assert {"KUBECONFIG", "AWS_PROFILE", "HOME", "PATH"} <= seen
    assert not {"AWS_TOKEN_OF_LLM", "OPENAI_API_KEY", "SOME_SECRET"} & seen
    assert login_environment([SERVICE], ["AWS_TOKEN_OF_LLM"]).keys() >= {"KUBECONFIG", "AWS_PROFILE"}
    assert "AWS_TOKEN_OF_LLM" not in login_environment([SERVICE], ["AWS_TOKEN_OF_LLM"])
    assert login_environment(["http://h/metrics", "dns://h:1"]) == {}


async def test_pods_out_of_reach_are_forwarded_to_and_forwards_end_with_us(
    kubectl: FakeKubectl, server: Any, make: Make, monkeypatch: Any
) -> None:
    server.pages["/metrics"] = page(running=4)
    kubectl.lists(
        slice_of(8000, endpoint("vllm-a", "192.0.2.1")), **{"port-forward": {"forward": {"pod/vllm-a": server.port}}}
    )
    monkeypatch.setattr(kubernetes.ServicePods, "_reaches", nowhere_reached)
    scraper = make(SERVICE)
    snapshot = await scraper.scrape()
    assert (scraper.missing, snapshot.running) == (None, 4)
    assert snapshot.replicas == ()
    forwards = [asked for asked in kubectl.asked if asked.arguments[0] == "port-forward"]
    assert [asked.arguments for asked in forwards] == [
        ["port-forward", "-n", "prod", "pod/vllm-a", ":8000", "--address", "127.0.0.1"]
    ]
    await scraper.close()
    await asyncio.to_thread(until_gone, forwards[0].pid)


async def nowhere_reached(self: Any, pod: Pod) -> bool:
    return False


async def test_a_forward_that_is_refused_is_said(kubectl: FakeKubectl, make: Make, monkeypatch: Any) -> None:
    refused = FORBIDDEN.replace("endpointslices.discovery.k8s.io", "pods").replace(
        'list resource "endpointslices" in API group "discovery.k8s.io"',
        'create resource "pods/portforward" in API group ""',
    )
    kubectl.lists(slice_of(1, endpoint("a", "127.0.0.1")), **{"port-forward": {"err": refused, "code": 1}})
    monkeypatch.setattr(kubernetes.ServicePods, "_reaches", nowhere_reached)
    place = kubernetes.ServicePods(SERVICE, KubeService("prod", "vllm", "", ""), "/metrics", asked := Kubectl())
    found = await place.look()
    await place.close()
    await asked.close()
    assert found is not None
    assert [each.url for each in found] == ["http://127.0.0.1:1/metrics"]
    assert "create pods/portforward in namespace prod" in (place.problem or "")


async def test_what_kubectl_runs_ends_when_its_keeper_is_killed(kubectl: FakeKubectl) -> None:
    kubectl.answer({"port-forward": {"forward": {"pod/a": 1}}})
    ours = Kubectl()
    forward = await ours.forward("prod", "a", 8000)
    assert forward.open
    child = ours._child
    assert child is not None
    child.kill()
    child.wait()
    await asyncio.to_thread(until_gone, kubectl.asked[0].pid)
    assert not forward.open
    await ours.close()


# ── DNS ───────────────────────────────────────────────────────


def answer_of(*addresses: str) -> list[Any]:
    kinds = {True: socket.AF_INET6, False: socket.AF_INET}
    return [(kinds[":" in each], socket.SOCK_STREAM, 6, "", (each, 8000)) for each in addresses]


@pytest.mark.parametrize(
    ("addresses", "hosts"),
    [
        (("10.0.0.2", "10.0.0.1", "10.0.0.1"), ["10.0.0.1:8000", "10.0.0.2:8000"]),
        (("10.0.0.10", "10.0.0.9"), ["10.0.0.9:8000", "10.0.0.10:8000"]),
        (("fd00::1", "10.0.0.1"), ["10.0.0.1:8000"]),
        (("fd00::1", "10.0.0.1", "fd00::2"), ["[fd00::1]:8000", "[fd00::2]:8000"]),
    ],
)
async def test_a_name_has_a_page_at_each_address_of_one_kind(addresses: tuple[str, ...], hosts: list[str]) -> None:
    async def resolve(host: str, port: int) -> Any:
        assert (host, port) == ("svc", 8000)
        return answer_of(*addresses)

    place = NameAddresses("dns://svc:8000", DnsName("svc", 8000, ""), "/metrics", resolve)
    found = await place.look()
    assert found is not None
    assert [each.name for each in found] == hosts
    assert [each.url for each in found] == [f"http://{host}/metrics" for host in hosts]
    assert place.problem is None


async def test_a_place_is_asked_again_every_ten_seconds() -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Any:
        asked.append(host)
        return answer_of("10.0.0.1")

    lookout = Lookout("dns://svc:8000", NameAddresses("dns://svc:8000", DnsName("svc", 8000, ""), "/m", resolve))
    for t_s, times in ((0.0, 1), (9.9, 1), (10.0, 2), (19.9, 2), (20.0, 3)):
        await lookout.turn(t_s)
        await asyncio.sleep(0)
        assert len(asked) == times
        await lookout.turn(t_s)
    assert lookout.place.every_s == kubernetes.ServicePods.every_s
    await lookout.close()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ()),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), None),
        (TimeoutError(), None),
    ],
)
async def test_a_name_without_addresses_says_so_and_a_resolver_that_fails_changes_nothing(
    error: OSError, found: Any
) -> None:
    async def resolve(host: str, port: int) -> Any:
        raise error

    place = NameAddresses("dns://svc:8000", DnsName("svc", 8000, ""), "/metrics", resolve)
    assert await place.look() == found
    assert "dns://svc:8000: svc has no address" in (place.problem or "")
    assert "headless service" in (place.problem or "")


@pytest.mark.usefixtures("_often")
async def test_addresses_that_come_are_scraped(server: Any, second_server: Any, make: Make, monkeypatch: Any) -> None:
    """Loopback has many addresses, all with the same ports."""
    there = ["127.0.0.1"]

    async def resolve(host: str, port: int) -> Any:
        return answer_of(*there)

    monkeypatch.setattr(looking.NameAddresses.__init__, "__defaults__", (resolve,))
    server.pages["/metrics"] = page(running=2)
    scraper = make(f"dns://svc:{server.port}")
    first = await scraper.scrape()
    assert (first.running, first.replicas) == (2, ())
    other = await asyncio.start_server(server._serve, "127.0.0.2", server.port)
    there.append("127.0.0.2")
    both = await until(scraper, lambda: len(scraper.seen) == 2 and scraper.seen[1].answers)
    assert [row[0] for row in both.replicas] == [f"127.0.0.{each}:{server.port}" for each in (1, 2)]
    other.close()


# ── Prometheus ────────────────────────────────────────────────


class FakePrometheus:
    """Answers /api/v1/query of a page server: series by name, and when they were scraped."""

    def __init__(self, server: Any) -> None:
        self.server, self.asked = server, []  # type: ignore[var-annotated]
        self.series: list[dict[str, str]] = []
        self.values: list[float] = []
        self.scraped_s = 1000.0
        self.now_s = 1003.0
        server.pages = self

    def get(self, path: str, default: Any) -> Any:
        if not path.startswith("/api/v1/query?"):
            return default
        query = parse_qs(urlsplit(path).query)["query"][0]
        self.asked.append(query)
        if query.startswith("max by"):
            pods = {each["pod"] for each in self.series}
            result = [{"metric": {"pod": pod}, "value": [self.now_s, str(self.scraped_s)]} for pod in sorted(pods)]
        else:
            pairs = zip(self.series, self.values, strict=True)
            result = [{"metric": each, "value": [self.now_s, str(value)]} for each, value in pairs]
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()

    def tell(self, **pods: dict[str, float]) -> None:
        told = [(pod, name, value) for pod, values in pods.items() for name, value in values.items()]
        self.series = [
            {"__name__": f"vllm:{name}", "pod": pod, "instance": f"{pod}:8000", "engine": "0", "job": "j"}
            for pod, name, _ in told
        ]
        self.values = [value for *_, value in told]


async def test_pods_are_read_out_of_a_prometheus_and_no_pod_is_asked(server: Any, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr("llmtop.telemetry.kept_pods.KeptPods.every_s", 0.0)
    kept = FakePrometheus(server)
    kept.tell(
        a={"num_requests_running": 3, "num_requests_waiting": 1, "generation_tokens_total": 500},
        b={"num_requests_running": 5, "num_requests_waiting": 0, "generation_tokens_total": 700},
    )
    scraper = make(f"prometheus://127.0.0.1:{server.port}?selector=app=vllm,namespace=prod")
    first = await scraper.scrape()
    assert (scraper.missing, scraper.fresh) == (None, True)
    assert (first.running, first.waiting, first.generation_tokens_total) == (8, 1, 1200)
    assert first.replicas == (("a", 3, 1, None), ("b", 5, 0, None))
    assert first.age_s == pytest.approx(3.0, abs=0.5), "as old as what it has scraped"
    assert 'app="vllm",namespace="prod"}' in kept.asked[0]
    assert "vllm[:_]num_requests_running" in kept.asked[0]
    assert len(server.paths()) == 2

    await until(scraper, lambda: len(kept.asked) >= 6)
    assert not scraper.fresh, "asked again, and told the same scrape"
    kept.scraped_s, kept.now_s = 1015.0, 1016.0
    kept.tell(a={"num_requests_running": 3, "generation_tokens_total": 560})
    then = await until(scraper, lambda: scraper.fresh)
    assert (then.running, then.generation_tokens_total) == (3, 1260)
    assert [each.gone for each in scraper.seen] == [False, True]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, ("no series of vLLM with app=", "does it scrape the pods")),
        ((400, b'{"status":"error","error":"invalid parameter"}', ""), ("answers 400: invalid parameter",)),
        ((401, b"", ""), ("answers 401", "--basic-auth")),
        (b"<html>", ("a web page, and is no Prometheus",)),
        ((503, b"", ""), ("answers 503",)),
    ],
    ids=["no series", "error", "shut", "page", "down"],
)
async def test_a_prometheus_that_tells_nothing_says_why(
    server: Any, make: Make, answer: Any, words: tuple[str, ...]
) -> None:
    kept = FakePrometheus(server)
    if answer is not None:
        kept.get = lambda path, default: answer  # type: ignore[method-assign]
    scraper = make(f"prometheus://user:secretword@127.0.0.1:{server.port}?selector=app=vllm")
    snapshot = await scraper.scrape()
    assert snapshot.running is None
    for word in (f"prometheus://127.0.0.1:{server.port}", *words):
        assert word in (scraper.missing or "")
    assert "secretword" not in (scraper.missing or "")
    assert server.asked[0][1]["authorization"].startswith("basic ")


async def test_a_prometheus_that_is_not_there_says_so(make: Make) -> None:
    scraper = make("prometheus://127.0.0.1:1")
    await scraper.scrape()
    assert (scraper.missing or "").startswith("prometheus://127.0.0.1:1: ")


def told(name: str, value: float, **labels: str) -> Series:
    return Series(metric={"__name__": name, **labels}, value=(5.0, str(value)))


def test_only_pods_of_an_engine_count_and_instances_tell_them_apart_where_pods_do_not() -> None:
    own = ("vllm:num_requests_running",)
    series = [
        told("vllm:num_requests_running", 1, pod="a", instance="1:8000"),
        told("process_start_time_seconds", 7, pod="a", instance="1:8000"),
        told("process_start_time_seconds", 9, pod="a", instance="1:15020"),
        told("process_start_time_seconds", 9, pod="other", instance="2:80"),
        told("ray_vllm_num_requests_running", 2, instance="3:8000"),
        told("vllm:num_requests_running", 2),
    ]
    found = pods_of(series, own)
    assert [pod.name for pod in found] == ["3:8000", "a"]
    assert found[1].page == (
        b'vllm:num_requests_running{pod="a",instance="1:8000"} 1\n'
        b'process_start_time_seconds{pod="a",instance="1:8000"} 7\n'
    )


def test_what_is_quoted_stays_one_label() -> None:
    assert picked(["vllm:x_total"], (("a", "=~", 'b"\\'),)) == (
        '{__name__=~"(?:ray_)?(?:vllm[:_]x)(?:_total)?",a=~"b\\"\\\\"}'
    )


@pytest.mark.parametrize("dialect", [each for each in Dialect if DIALECTS[each].metrics])
def test_a_question_to_a_prometheus_is_no_longer_than_servers_take(dialect: Dialect) -> None:
    from llmtop.telemetry.signals import names_of

    assert len(quote(picked(names_of(DIALECTS[dialect]), ()))) < 8000
