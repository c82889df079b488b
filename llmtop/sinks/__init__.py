"""Figures of a run that flow out while it runs: to Prometheus, to a collector of OpenTelemetry, into a file.

    --out prometheus[=HOST:PORT]   a page at /metrics (default: 127.0.0.1:9464)
    --out otlp=URL                 OTLP/HTTP, every 10 s and at the end
    --out json=FILE                a line a second

All render the same `Figures`. A sink has a thread of its own: one that is down, slow or full neither slows the load nor
loses what comes later. The page is there until the process ends, and no end waits for a scrape: who needs the last
seconds of a run without a screen takes a sink that pushes or writes.
"""

from llmtop.sinks.flow import Flow, opened
from llmtop.sinks.otlp import VARIABLES
from llmtop.sinks.specs import check

__all__ = ["VARIABLES", "Flow", "check", "opened"]
