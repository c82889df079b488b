"""What is said where load workers cannot be had by Dask: one sentence, that names who and what to do."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from llmtop import __version__
from llmtop.cli.main import main
from llmtop.cluster import by_dask, calm, reach
from llmtop.cluster.scheduler import is_near, source
from llmtop.domain.crew import parse_crew
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.errors import FileError, LlmtopError, SessionLost, UsageError
from llmtop.load import selftest
from llmtop.load.messages import WorkerSetup
from tests.cluster.dask_hosts import Cluster
from tests.cluster.drives import PATIENCE_S, SETUP, connections, driven

CERTIFICATES = Path(__file__).parents[1] / "endpoint" / "data"


async def refused(crew: str, kind: type[LlmtopError] = SessionLost) -> str:
    with pytest.raises(kind) as caught:
        await reach(parse_crew(crew))
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_where_nobody_listens_it_is_said_how_to_start_a_scheduler(unused_port) -> None:
    said = await refused(f"dask://127.0.0.1:{unused_port}")
    assert f"dask://127.0.0.1:{unused_port}: no scheduler listens there" in said
    assert f"dask scheduler --port {unused_port}" in said


async def test_a_server_that_is_no_scheduler_is_told_from_one(monkeypatch) -> None:
    monkeypatch.setattr("llmtop.cluster.scheduler.PATIENCE_S", 0.5)
    async with selftest.known_times() as url:
        assert "is no Dask scheduler" in await refused(url.replace("http", "dask"))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_whoever_hangs_up_or_greets_otherwise_is_none(greeting) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "is no Dask scheduler" in await refused(f"dask://127.0.0.1:{port}")


async def test_who_says_nothing_is_not_waited_for_long(monkeypatch) -> None:
    monkeypatch.setattr("llmtop.cluster.scheduler.PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "is no Dask scheduler" in await refused(f"dask://127.0.0.1:{silent.getsockname()[1]}")


async def test_a_host_that_is_none_is_said(monkeypatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "there is no host load.invalid" in await refused("dask://load.invalid:8786")


async def test_without_the_extra_it_is_said_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("llmtop.cluster.find_spec", lambda _: None)
    assert "pip install 'llmtop[cluster]'" in await refused("dask://127.0.0.1:8786", UsageError)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "('h2', 'n2', OURS, None)",
            f"llmtop is not installed on h2.*pip install 'llmtop\\[cluster\\]=={__version__}'",
        ),
        ("('h2', 'n2', OURS, '0.0.1')", f"h2 has llmtop 0.0.1, this machine {__version__}"),
        ("('h2', 'n2', '2020.1.0', 'x')", r"h2 has distributed 2020.1.0, this machine .*pip install distributed=="),
        ("1 / 0", "the load worker on tcp://.* cannot be used: division by zero"),
    ],
)
async def test_a_load_host_that_is_otherwise_is_named(cluster, monkeypatch, answer, said) -> None:
    answer = answer.replace("OURS", "__import__('distributed').__version__")
    monkeypatch.setattr(by_dask, "_LOOK", source(f"lambda: {answer}"))
    assert re.search(said, await refused(cluster.url))


async def test_a_dask_worker_that_stands_still_does_not_hold_the_start_up(cluster, monkeypatch) -> None:
    monkeypatch.setattr(by_dask, "PATIENCE_S", 1.0)
    crew = await reach(parse_crew(cluster.url))
    pid = int(cluster.said().rpartition("(process ")[2].split(")")[0])
    await crew.close()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "does not answer within 1 s" in await refused(cluster.url)
    finally:
        os.kill(pid, signal.SIGCONT)


# ── Secrets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def setup_with(**endpoint: object) -> WorkerSetup:
    there = Endpoint(base_url="http://gpu1:8000", **endpoint)
    return replace(SETUP, endpoint=there, environment=(("LLMTOP_TEST_KEY", "sesame"),))


async def test_over_an_open_network_a_variable_must_be_set_on_the_load_host(cluster, monkeypatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "sesame")
    monkeypatch.setattr(by_dask, "is_near", lambda _: False)
    crew = await reach(parse_crew(cluster.url))
    try:
        with pytest.raises(SessionLost) as caught:
            await crew.post(setup_with(api_key_env="LLMTOP_TEST_KEY"))
        for word in ("LLMTOP_TEST_KEY is not set on", "tls:// or ssh://"):
            assert word in str(caught.value)
        with pytest.raises(SessionLost, match="without encryption"):
            await crew.post(setup_with(headers=(("x-key", "sesame"),)))
        with pytest.raises(SessionLost, match="without encryption"):
            await crew.post(setup_with(client_cert="me.pem"))
    finally:
        await crew.close()


@pytest.mark.parametrize("near", [True, False])
async def test_a_secret_goes_only_where_nobody_can_read_along(cluster, monkeypatch, near) -> None:
    monkeypatch.setattr(by_dask, "is_near", lambda _: near)
    sent = []
    crew = await reach(parse_crew(cluster.url))
    monkeypatch.setattr(crew, "_put", lambda post, orders: sent.extend(orders))
    try:
        setup = setup_with()
        post = await crew.post(setup)
        post.send(setup)
        assert [order.environment for order in sent] == [setup.environment if near else ()]
        await post.close()
    finally:
        await crew.close()


async def test_the_scheduler_keeps_nothing_of_a_run_and_never_heard_a_secret(cluster, monkeypatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "sesame-open")
    point = LoadPoint(concurrency=2, output_tokens=5)
    key = {"api_key_env": "LLMTOP_TEST_KEY"}
    quick = ("--ttft-ms=5", "--tpot-ms=2", "--tokens=5")
    async with selftest.known_times(*quick) as url, driven(url, cluster.url, point, **key) as load:
        await load.until(lambda: load.ok > 5)
        during = await events_of(cluster)
        await load.end()
    assert len(during["llmtop"]) > 1
    assert "sesame" not in repr(during)
    after = await events_of(cluster)
    assert not after.get("llmtop")
    assert "sesame" not in repr(after)
    logs = [each.read_text() for each in (cluster.folder / "state" / "llmtop" / "log").glob("*.log")]
    assert all("sesame" not in said for said in (*logs, cluster.said(), cluster.said("scheduler")))


async def events_of(cluster) -> dict[str, object]:
    async with calm.distributed().Client(
        cluster.url.replace("dask", "tcp"), asynchronous=True, set_as_default=False
    ) as client:
        return await client.get_events()


def test_dask_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, llmtop.cluster.by_dask, llmtop.cluster.relay; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("address", "near"),
    [("tcp://127.0.0.1:1", True), ("tcp://[::1]:1", True), ("tcp://localhost:1", True), ("tcp://10.0.0.1:1", False)],
)
def test_what_is_near_is_this_machine_alone(address, near) -> None:
    assert is_near(address) is near


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def another_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody else")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now.replace(year=2100)
    )
    authority = x509.BasicConstraints(ca=True, path_length=None)
    certificate = made.add_extension(authority, critical=True).sign(key, hashes.SHA256())
    (folder / "other.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "other.key").write_bytes(written)
    return folder / "other.pem", folder / "other.key"


async def test_over_tls_a_load_is_driven_by_those_with_a_certificate_of_its_authority(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, key = CERTIFICATES / "loopback.pem", CERTIFICATES / "loopback.key"
    files = ("--tls-ca-file", str(ours), "--tls-cert", str(ours), "--tls-key", str(key))
    own_cluster.start_scheduler("--protocol", "tls", *files)
    base = f"tls://127.0.0.1:{own_cluster.port}"
    url = f"{base}?ca={ours}&cert={ours}&key={key}"
    assert f"run llmtop worker {url} on each load host" in await refused(url)
    host = own_cluster.start_host(1, url)
    own_cluster.joined(1)
    async with (
        selftest.known_times("--ttft-ms=5", "--tpot-ms=2", "--tokens=5") as server,
        driven(server, url, LoadPoint(concurrency=2, output_tokens=5)) as load,
    ):
        await load.until(lambda: load.ok > 5)
        await load.end()
    assert {record.outcome for record in load.requests} <= {Outcome.OK, Outcome.CANCELLED}
    other, other_key = another_certificate(own_cluster.folder)
    assert "TLS fails: its certificate is not accepted" in await refused(f"{base}?ca={other}&cert={ours}&key={key}")
    assert "TLS fails: tlsv1 alert unknown ca" in await refused(f"{base}?ca={ours}&cert={other}&key={other_key}")
    monkeypatch.setattr("llmtop.cluster.scheduler.PATIENCE_S", 0.5)
    assert "it may want tls://" in await refused(base.replace("tls", "dask"))
    host.terminate()
    assert host.wait(PATIENCE_S) == 0
    assert "ended" in own_cluster.said()
    left = list((own_cluster.folder / "state" / "llmtop" / "log").iterdir())
    assert [each.suffix for each in left] in ([], [".log"]), "no folder of a Dask worker"


@pytest.mark.parametrize(
    ("query", "kind", "said"),
    [
        ("", UsageError, "not given: ca=FILE.pem and cert=FILE.pem and key=FILE.pem"),
        ("?ca=none.pem&cert=none.pem&key=none.pem", FileError, "none.pem: is no file"),
        ("?ca={0}/loopback.pem&cert={0}/loopback.pem&key={0}/other.key", FileError, "key values mismatch"),
    ],
)
async def test_pem_files_that_will_not_do_are_named(query, kind, said) -> None:
    assert said in await refused(f"tls://127.0.0.1:8786{query.format(CERTIFICATES)}", kind)


@pytest.mark.parametrize(
    ("crew", "said"),
    [
        ("tls://h1", "TLS needs three PEM files"),
        ("tls://h1?ca=none.pem&cert=none.pem&key=none.pem", "none.pem: is no file"),
        ("ssh://h1?llmtop=a b", "must be a path"),
    ],
)
def test_what_is_typed_wrong_is_said_before_the_endpoint_is_waited_for(unused_port, capsys, crew, said) -> None:
    assert main(["run", "smoke", f"http://127.0.0.1:{unused_port}", "--workers", crew]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


# ── The load host ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a load host joins a scheduler"),
        (("ssh://h1",), "a load host joins a scheduler: dask://HOST:8786 or tls://HOST:8786;"),
        (("http://x",), "a load host joins a scheduler: dask://HOST:8786 or tls://HOST:8786;"),
        (("dask://",), "is no host; must be dask://HOST:8786;"),
        (("tls://127.0.0.1:1?ca=none.pem&cert=none.pem&key=none.pem",), "none.pem"),
    ],
)
def test_a_load_host_says_in_one_line_what_it_cannot_join(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["worker", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.faults
def test_a_load_host_joins_again_when_its_scheduler_is_back(own_cluster) -> None:
    own_cluster.start_scheduler()
    own_cluster.start_host(2)
    own_cluster.joined(2)
    own_cluster.scheduler.kill()
    own_cluster.until(lambda: "is gone: no load is sent from here" in own_cluster.said())
    own_cluster.start_scheduler()
    own_cluster.joined(4)
    assert own_cluster.said().count("is gone") == 1


@pytest.mark.faults
async def test_a_load_host_that_is_ended_ends_its_load(own_cluster) -> None:
    own_cluster.start_scheduler()
    host = own_cluster.start_host(2)
    own_cluster.joined(2)
    point = LoadPoint(concurrency=6, output_tokens=60)
    longer = ("--ttft-ms=20", "--tpot-ms=50", "--tokens=60")
    async with selftest.known_times(*longer) as url, driven(url, own_cluster.url, point) as load:
        await load.until(lambda: load.engine.in_flight == 6)
        host.send_signal(signal.SIGINT)
        asked_s = time.monotonic()
        with pytest.raises(SessionLost, match="there is no load any more"):
            await load.until(lambda: False)
        assert host.wait(3) == 130
        assert time.monotonic() - asked_s < 3
        assert connections(url) == 0
        load.drain()
    assert sum(b.sent for b in load.bins) == len(load.requests)
