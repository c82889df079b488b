"""Dask, set so that it disturbs neither the screen nor what is measured. Nothing else here may import it first."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

_SETTINGS: dict[str, Any] = {
    "distributed.worker.profile.enabled": False,  # it looks at all threads a hundred times a second
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.host-cpu": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.http.routes": [],
    "distributed.diagnostics.nvml": False,
    "distributed.comm.timeouts.connect": "5s",
}


def distributed(log: Path | None = None, scratch: Path | None = None) -> ModuleType:
    """The library, imported with our settings, whatever the user's own file says. It takes its time: half a second.

    Args:
        log: a file for its warnings; None: nothing is kept of what it logs.
        scratch: a folder for what it writes; None: it writes nothing.
    """
    import dask

    handler = {"class": "logging.NullHandler"} if log is None else _file_handler(log)
    logger = {"level": "ERROR" if log is None else "WARNING", "handlers": ["ours"], "propagate": False}
    logging = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
        "handlers": {"ours": handler},
        "loggers": {name: dict(logger) for name in ("distributed", "tornado", "bokeh")},
    }
    dask.config.config.pop("logging", None)
    dask.config.config.get("distributed", {}).pop("logging", None)
    dask.config.set({**_SETTINGS, "logging": logging})
    if scratch is not None:
        dask.config.set({"temporary-directory": str(scratch)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import distributed
    warnings.filterwarnings("ignore", module=r"(distributed|dask|tornado)\b")
    return distributed


def _file_handler(log: Path) -> dict[str, Any]:
    """A file that does not grow without end: a scheduler may be away for days."""
    return {
        "class": "logging.handlers.RotatingFileHandler",
        "filename": str(log),
        "maxBytes": 1 << 20,
        "backupCount": 1,
        "delay": True,
        "formatter": "line",
    }
