"""TLS in words: each failure says what was seen, what it means and what to type; certificates of both sides."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint.access import Access
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.tls import tls_problem
from llmtop.endpoint.trace import Trace
from llmtop.errors import EndpointError, UsageError

from .conftest import DATA, Recorder, Request, stream_ok

PEM, KEY = DATA / "loopback.pem", DATA / "loopback.key"
TRUSTED = {"ca_file": str(PEM)}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "no" / "such" / "folder"))


def server_tls(**settings: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM, KEY)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def wanting_a_certificate(newest: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_tls(verify_mode=ssl.CERT_REQUIRED, maximum_version=newest)
    context.load_verify_locations(PEM)
    return context


async def answer(request: Request) -> None:
    if request.path == "/v1/models":
        await request.answer(200, {"data": [{"id": "m"}]})
    else:
        await stream_ok(request)


async def refused(url: str, **fields: Any) -> str:
    with pytest.raises(EndpointError) as caught:
        await probe(Endpoint(base_url=url, **fields), Caps(connect_timeout_s=0.7))
    return str(caught.value)


async def sent(client: EndpointClient) -> Trace:
    trace = Trace()
    await client.generate("hello", 2, "chat", trace, Recorder())
    return trace


# Certificates of ours


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"client_cert": "/no/such.pem"}, "--client-cert /no/such.pem: there is no such file"),
        ({"client_cert": str(PEM), "client_key": "/no/such.key"}, "--client-key /no/such.key: there is no such file"),
        ({"client_cert": str(DATA)}, f"--client-cert {DATA}: is no file"),
        ({"client_key": str(KEY)}, "name its certificate with --client-cert"),
        ({"client_cert": str(PEM)}, "name a key of its own with --client-key"),
        ({"client_cert": str(PEM), "client_key": str(DATA / "other.key")}, "other.key: this key is not that of"),
        ({"client_cert": str(PEM), "client_key": str(DATA / "encrypted.key")}, "encrypted.key: its key is encrypted"),
        ({"client_cert": str(KEY), "client_key": str(KEY)}, "there is no certificate in"),
        ({"client_cert": "/a\0b"}, "--client-cert"),
        ({"ca_file": "/no/ca.pem"}, "--ca-file /no/ca.pem: there is no such file"),
        ({"ca_file": str(KEY)}, "has no certificate of a CA"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Access(Endpoint(base_url="https://h", **fields))  # type: ignore[arg-type]
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_missing_file_of_authorities_is_said_with_the_variable_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/no/such/place")
    with pytest.raises(UsageError, match=rf"^{name} /no/such/place: there is no such file"):
        Access(Endpoint(base_url="https://h"))
    Access(Endpoint(base_url="http://h"))
    Access(Endpoint(base_url="https://h", insecure=True))


async def test_a_file_of_authorities_in_the_environment_is_trusted(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(answer, tls=server_tls())
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    client = connect(server.url)
    assert (await sent(client)).outcome is Outcome.OK
    assert (await client.stock.get("/v1/models")).status_code == 200


@contextlib.contextmanager
def telling(context: ssl.SSLContext, *, stays: bool = True) -> Iterator[str]:
    """A server that shakes hands and tells what it misses, as OpenSSL does; asyncio's closes without a word.

    Unless it `stays`, what is written to it after that breaks the connection, and its word may not be heard.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(1.0)
            wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with wrapped, contextlib.suppress(OSError):
                with contextlib.suppress(ssl.SSLError):
                    wrapped.do_handshake()
                if not stays:
                    continue
                socket.socket.shutdown(wrapped, socket.SHUT_WR)
                while socket.socket.recv_into(wrapped, bytearray(4096)):  # what is left unread would reset it
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(2.0)


VERSIONS = pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
async def test_a_server_that_tells_that_it_wants_a_client_certificate_is_understood(
    connect: Any, newest: ssl.TLSVersion
) -> None:
    with telling(wanting_a_certificate(newest), stays=False) as url:
        said = await refused(url, **TRUSTED)
        assert "--client-cert (and --client-key)" in said or newest is ssl.TLSVersion.TLSv1_2, said
        assert "client certificate" in said
    with telling(wanting_a_certificate(newest)) as url:
        assert "--client-cert" in await refused(url, **TRUSTED)
        for transport in ("auto", "httpx"):
            trace = await sent(connect(url, transport=transport, **TRUSTED))
            assert trace.outcome is Outcome.HTTP_ERROR
            assert "--client-cert" in (trace.error or ""), (transport, trace.error)


@VERSIONS
async def test_a_server_that_wants_a_client_certificate_gets_one_or_the_option_is_named(
    serve: Any, connect: Any, tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    server = await serve(answer, tls=wanting_a_certificate(newest))
    assert "--client-cert" in await refused(server.url, **TRUSTED)
    both = tmp_path / "both.pem"
    both.write_bytes(PEM.read_bytes() + KEY.read_bytes())
    for shown in ({"client_cert": str(PEM), "client_key": str(KEY)}, {"client_cert": str(both)}):
        client = connect(server.url, **TRUSTED, **shown)
        assert (await sent(client)).outcome is Outcome.OK
        assert (await client.stock.get("/v1/models")).status_code == 200


# Failures in words


def certificate_error(code: int, message: str) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "meaning", "remedy"),
    [
        (certificate_error(18, "self-signed certificate"), "not trusted (self-signed", "--ca-file"),
        (certificate_error(19, "self-signed certificate in certificate chain"), "not trusted", "--ca-file"),
        (certificate_error(20, "unable to get local issuer certificate"), "not trusted (unable to get", "--ca-file"),
        (certificate_error(10, "certificate has expired"), "has expired", "renew it"),
        (certificate_error(9, "certificate is not yet valid"), "is not valid yet", "is the clock right"),
        (certificate_error(62, "Hostname mismatch"), "is for another name", "into the URL"),
        (certificate_error(64, "IP address mismatch"), "is for another address", "into the URL"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not speak TLS", "http://"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "no version of TLS in common", "TLS 1.2"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "no version of TLS in common", "TLS 1.2"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "version or cipher", "--client-cert"),
        (tls_error("NO_SHARED_CIPHER"), "version or cipher", "TLS 1.2"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "asks for a client certificate", "--client-cert"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "refuses the certificate", "--client-cert"),
        (tls_error("TLSV1_UNRECOGNIZED_NAME"), "knows no host of this name", "URL"),
        (tls_error("TLSV1_ALERT_NO_APPLICATION_PROTOCOL"), "does not offer HTTP/1.1", "turn it on"),
        (ssl.SSLEOFError(8, "EOF"), "cut off in the TLS handshake", "right port"),
        (tls_error("SOMETHING_NEW"), "TLS failed", "something new"),
        (ssl.SSLError(), "TLS failed", "right port"),
    ],
)
def test_each_failure_says_what_it_means_and_what_to_do(error: ssl.SSLError, meaning: str, remedy: str) -> None:
    said = tls_problem(error)
    assert meaning in said
    assert remedy in said
    assert said.isprintable()


async def test_a_certificate_of_another_name_is_named(serve: Any) -> None:
    server = await serve(answer, tls=server_tls(), host="127.0.0.2")
    assert "is for another address" in await refused(server.url, **TRUSTED)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
async def test_a_server_of_old_tls_alone_is_named() -> None:
    old = server_tls(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with telling(old) as url:
        assert "no version of TLS in common" in await refused(url, **TRUSTED)


NGINX = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
GO = b"Client sent an HTTP request to an HTTPS server.\n"
APACHE = b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.</p>"


@pytest.mark.parametrize("body", [NGINX, GO, APACHE])
async def test_plain_http_on_a_port_of_tls_names_the_url_to_type(serve: Any, body: bytes) -> None:
    async def script(request: Request) -> None:
        await request.answer(400, body, content_type="text/html" if b"<" in body else "text/plain")

    server = await serve(script)
    assert f"speaks TLS: try {server.url.replace('http:', 'https:')}" in await refused(server.url)


async def test_plain_http_on_a_port_of_tls_that_just_closes_names_the_url_to_type(serve: Any) -> None:
    server = await serve(answer, tls=server_tls())
    assert f"speaks TLS: try {server.url}" in await refused(server.url.replace("https:", "http:"))


async def test_tls_on_a_plain_port_names_the_url_to_type(serve: Any) -> None:
    server = await serve(answer)
    assert f"does not speak TLS: try {server.url}" in await refused(server.url.replace("http:", "https:"))


@pytest.mark.parametrize("reset", [True, False])
async def test_a_handshake_that_is_cut_off_is_said(reset: bool) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        if reset:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    said = await refused(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    assert "TLS handshake" in said
    assert "right port" in said
