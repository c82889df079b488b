"""What a server and its GPUs tell about themselves, read beside the load on a connection of its own."""

from llmtop.telemetry.exposition import ExpositionParser, parse_exposition
from llmtop.telemetry.findings import dialect_table_markdown, examine_metrics, metrics_findings
from llmtop.telemetry.gpu import GpuReader, read_exporter
from llmtop.telemetry.scraper import Scraper

__all__ = [
    "ExpositionParser",
    "GpuReader",
    "Scraper",
    "dialect_table_markdown",
    "examine_metrics",
    "metrics_findings",
    "parse_exposition",
    "read_exporter",
]
