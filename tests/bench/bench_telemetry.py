"""Cost of one scrape of eight data parallel engines, beside prometheus-client's parser.

Prints CPU milliseconds per page, median of 30 readings: reading a page to figures (warm: its lines are known; cold: the
first page of a server), parsing alone, and the peer. Bound: 3 ms warm.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect
from llmtop.telemetry.exposition import ExpositionParser, parse_exposition
from llmtop.telemetry.signals import PageReader, interval

CAPTURES = Path(__file__).parents[1] / "telemetry" / "data" / "captures.tar.xz"
ENGINES = 8
BOUND_MS = 3.0


def eight_engines() -> bytes:
    """A page of vLLM, its engine's series repeated for eight engines."""
    with tarfile.open(CAPTURES) as archive:
        handle = archive.extractfile("vllm/metrics_idle_after_load.txt")
        assert handle is not None
        one = handle.read().decode()
    lines = []
    for line in one.splitlines():
        copies = ENGINES if 'engine="0"' in line else 1
        lines += [line.replace('engine="0"', f'engine="{engine}"') for engine in range(copies)]
    return "\n".join(lines).encode()


def median_ms(call: Callable[[], object], rounds: int = 30) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return sorted(times)[rounds // 2] * 1e3


def main() -> None:
    page = eight_engines()
    table = DIALECTS[Dialect.VLLM]
    reader, parser = PageReader(table), ExpositionParser()
    before = reader.read(page)
    parser.parse(page)
    samples = len(parse_exposition(page))
    warm = median_ms(lambda: interval(before, reader.read(page)))
    rows = {
        "page to figures and interval, warm": warm,
        "parse all samples, warm": median_ms(lambda: parser.parse(page)),
        "parse all samples, cold": median_ms(lambda: parse_exposition(page), 5),
        "prometheus-client": median_ms(lambda: list(text_string_to_metric_families(page.decode())), 5),
    }
    print(f"page of {ENGINES} engines: {len(page) / 1e3:.0f} KB, {page.count(10) + 1} lines, {samples} samples kept")
    for name, cost_ms in rows.items():
        print(f"{name:36} {cost_ms:8.2f} ms CPU   {rows['prometheus-client'] / cost_ms:6.1f} x the peer's speed")
    print(f"bound {BOUND_MS:g} ms: {'met' if warm <= BOUND_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
