"""What a server and its GPUs tell about themselves, read beside the load on a connection of its own."""

from llmtop.telemetry.exposition import ExpositionParser, parse_exposition
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.scraper import Scraper

__all__ = ["ExpositionParser", "GpuReader", "Scraper", "parse_exposition"]
