"""Hosts as they stand in a URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.endpoint import host_and_port

HOSTS = st.sampled_from(("h2", "gpu-3.lan", "localhost")) | st.ip_addresses().map(str)


@given(HOSTS, st.integers(1, 65535))
def test_a_host_is_read_out_of_a_url_as_it_was_put_in(host: str, port: int) -> None:
    parts = urlsplit(f"http://{host_and_port(host, port)}/metrics")
    assert (parts.hostname, parts.port, parts.path) == (host, port, "/metrics")
    alone = urlsplit(f"http://{host_and_port(host)}")
    assert (alone.hostname, alone.port) == (host, None)


def test_only_an_ipv6_address_has_brackets() -> None:
    assert [host_and_port(host) for host in ("h2", "10.0.0.1", "::1", "fd00::2")] == [
        "h2", "10.0.0.1", "[::1]", "[fd00::2]",
    ]  # fmt: skip
