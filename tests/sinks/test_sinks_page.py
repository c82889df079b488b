"""The page is one that Prometheus reads, and whoever reads it badly keeps nobody else waiting."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sinks_fakes import META, toy

from llmtop.sinks.figures import Figures
from llmtop.sinks.metrics import LABELS, METRICS
from llmtop.sinks.page import CONTENT_TYPE, MOST_READERS, Page, page
from llmtop.sinks.pump import Undelivered
from tests.ports import unused_port
from tests.waiting import until


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
def served(port: int) -> Iterator[Page]:
    sink = Page("127.0.0.1", port, f"127.0.0.1:{port}")
    sink.deliver(toy())
    try:
        yield sink
    finally:
        sink.close()


def asked(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def test_every_metric_is_there_with_its_help_kind_and_labels_alone() -> None:
    families = {family.name: family for family in text_string_to_metric_families(page(toy()))}
    assert families.keys() == {metric.prometheus.removesuffix("_total") for metric in METRICS}
    for metric in METRICS:
        family = families[metric.prometheus.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        own = {"outcome"} if metric.name == "requests" else {"cause"} if metric.label else set()
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == {*LABELS, *own}
            assert META.info is not None
            assert sample.labels["model"] == META.info.model, "quotes and backslashes come back as they were"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say() -> None:
    checked = subprocess.run(["promtool", "check", "metrics"], input=page(toy()), capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_it_is_served_where_it_is_looked_for(served: Page, port: int) -> None:
    assert asked(port) == (200, CONTENT_TYPE, page(toy()).encode())
    assert asked(port, "/metrics?x=1")[0] == 200
    assert asked(port, method="HEAD") == (200, CONTENT_TYPE, b"")
    status, _, body = asked(port, "/")
    assert (status, b"/metrics" in body) == (200, True)
    assert asked(port, "/else")[0] == 404
    assert asked(port, method="POST")[0] == 501
    served.deliver(Figures(time=0.0))
    assert asked(port) == (200, CONTENT_TYPE, b""), "the newest figures: those of no run"


def test_who_asks_slowly_keeps_nobody_else_waiting(served: Page, port: int) -> None:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_READERS - 1)]
    try:
        for each in slow:
            each.sendall(b"GET /metrics HTT")
        assert asked(port)[0] == 200
        until(lambda: _is_turned_away(port, slow))
        assert len(slow) <= MOST_READERS + 1
        served.deliver(toy())
    finally:
        for each in slow:
            each.close()
    until(lambda: asked_or_nothing(port) == 200)


def asked_or_nothing(port: int) -> int:
    try:
        return asked(port)[0]
    except (OSError, http.client.HTTPException):
        return 0


def _is_turned_away(port: int, slow: list[socket.socket]) -> bool:
    """Whether one more is; one who is not stays and is slow."""
    slow.append(socket.create_connection(("127.0.0.1", port), timeout=0.1))
    try:
        return slow[-1].recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_port_that_is_taken_is_said_and_taken_once_it_is_free(port: int) -> None:
    sink = Page("127.0.0.1", port, f"127.0.0.1:{port}")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Undelivered, match="address already in use"):
            sink.deliver(toy())
    sink.deliver(toy())
    try:
        assert asked(port)[0] == 200
    finally:
        sink.close()


def test_it_is_gone_when_it_is_closed(port: int) -> None:
    sink = Page("127.0.0.1", port, f"127.0.0.1:{port}")
    sink.deliver(toy())
    sink.close()
    with pytest.raises(ConnectionError):
        asked(port)
