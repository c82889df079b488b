"""What a server and its GPUs tell about themselves, read beside the load on a connection of its own."""

from llmtop.telemetry.exposition import ExpositionParser, parse_exposition
from llmtop.telemetry.scraper import Scraper

__all__ = ["ExpositionParser", "Scraper", "parse_exposition"]
