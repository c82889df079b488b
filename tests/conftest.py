"""What tests of several rooms share, and how properties are tried.

At a desk the examples of a property are the same in every run. Where `CI` is set, and with `--hypothesis-seed=N`, they
follow a seed that the run names: `pytest --hypothesis-seed=N` repeats it, test by test, on any number of workers.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import ports

BY_THE_CLOCK = {
    *("cli", "cluster", "endpoint", "exchange", "faults", "host", "load", "real", "session", "simulator_server"),
    *("sinks", "telemetry", "tui", "web"),
}
"""Rooms whose tests start processes, listen on sockets or wait: where a machine stands still, they can fail."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load the one profile before any test is read; the workers of xdist get the controller's options and its seed."""
    if config.option.hypothesis_seed is None and os.environ.get("CI"):
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))
    same = config.option.hypothesis_seed is None
    settings.register_profile(
        "llmtop", max_examples=50, deadline=None, derandomize=same, database=None, print_blob=True
    )
    settings.load_profile("llmtop")
    os.environ.pop("GITHUB_STEP_SUMMARY", None)  # runs of tests are no news of the job that runs the tests
    if sys.dont_write_bytecode and config.pluginmanager.hasplugin("cacheprovider"):
        _keep_bytecode_apart(config.rootpath / ".pytest_cache" / "bytecode")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What ten thousand tests are made of is no garbage, and is not looked through whenever one of them leaves some."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 20, 100)  # screens and servers are thousands of objects that stay for a test
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lives by the clock has one second try, with its examples unchanged, and the summary tells what failed first.

    Whatever else fails once, fails; so does a run in which a worker would need more than `--max-suite-reruns`.
    """
    for item in items:
        if item.path.parent.name in BY_THE_CLOCK:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One more than there are cores: a third of what tests take is waiting, for processes and servers of their own."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or config.option.numprocesses != "auto":
        return None
    return (os.cpu_count() or 1) + 1


def _keep_bytecode_apart(folder: Path) -> None:
    """None beside the sources, as is wanted; but without any, every process that a test starts compiles the package."""
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.option.hypothesis_seed
    return None if seed is None else f"examples by --hypothesis-seed={seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Quiet runs have no header: there the seed stands at the end."""
    seed = pytest_report_header(config)
    if seed is not None and not terminalreporter.showheader:
        terminalreporter.write_line(seed)


@pytest.fixture
def unused_port() -> int:
    return ports.unused_port()
