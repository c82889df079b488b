"""A real Prometheus scrapes the page, and answers what the dashboard asks."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sinks_fakes import META, request, second

from llmtop.domain.assessment import Assessment
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Curve, Kind, SloVerdict
from llmtop.sinks import Flow, opened
from llmtop.sinks.dashboard import dashboard, queries
from tests.ports import unused_port
from tests.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
SCRAPED = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: llmtop
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
VERDICT = Assessment(
    slo=SloVerdict(ok=True),
    cliff=CliffVerdict(kind=Kind.CLIFF, at=96.0, cause=Bound.QUEUE),
    capacity=Capacity(at_slo=64.0),
    curves=(Curve(label=""),),
)


@pytest.fixture
def flow() -> Iterator[tuple[Flow, int]]:
    port = unused_port()
    (made,) = opened([f"prometheus=127.0.0.1:{port}"])
    made.begin(META)
    yield made, port
    made.end(META)


@pytest.fixture
def prometheus(flow: tuple[Flow, int], tmp_path: Path) -> Iterator[str]:
    """Its URL."""
    port = unused_port()
    (tmp_path / "prometheus.yml").write_text(SCRAPED.format(port=flow[1]))
    words = [
        *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error", "--scrape.discovery-reload-interval=50ms"),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def asked(url: str, query: str) -> list[dict[str, Any]]:
    """The vector that a query gives; [] as long as nobody answers. A query that is refused is an error."""
    words = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{words}", timeout=5) as answer:
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:  # it starts
                return []
            raise AssertionError(f"{query}: {error.read()!r}") from None
    except OSError:
        return []
    found: list[dict[str, Any]] = told["data"]["result"]
    return found


def test_it_is_scraped_and_every_panel_is_answered(flow: tuple[Flow, int], prometheus: str) -> None:
    made, _ = flow
    ticks = iter(range(1, 10_000))

    def go_on() -> None:
        t_s = next(ticks) / 10
        latest = [replace(request(end_s=0.5, ttft_s=0.4), end_ns=int(t_s * 1e9)) for _ in range(3)]
        made.tell(second(t_s, *latest))
        made.judged(VERDICT)

    def answered(query: str) -> list[dict[str, Any]]:
        go_on()
        return asked(prometheus, query)

    p95 = "histogram_quantile(0.95, sum by (le) (rate(llmtop_time_to_first_token_seconds_bucket[4s])))"
    until(lambda: answered(p95) and float(answered(p95)[0]["value"][1]) > 0)
    assert 0.33 < float(asked(prometheus, p95)[0]["value"][1]) <= 0.5, "in the bucket of 0.4 s"
    (ok,) = asked(prometheus, 'llmtop_requests_total{outcome="ok"}')
    assert float(ok["value"][1]) >= 3
    assert ok["metric"]["endpoint"] == "http://127.0.0.1:8000", "the label of the page stands"
    silent = set()
    for query in queries(dashboard(Slo())):
        if not query.startswith("label_values"):
            own = query.replace("$run", ok["metric"]["run"]).replace("$__rate_interval", "4s")
            if not answered(own):
                silent.add(own.partition("{")[0])
    assert silent == {
        *("llmtop_target_requests_per_second", "llmtop_cliff_requests_per_second", "llmtop_requests_per_second_at_slo"),
        "llmtop_client_bound",  # the mark, as long as the client is not the bottleneck
    }
