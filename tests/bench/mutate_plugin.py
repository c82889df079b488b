"""A pytest plugin for `mutate.py`: the same examples in every run, and which test executes which lines.

MUTATE_OUT     where to write, as JSON,
                {"failed": ids, "tests": {id: {"s": seconds, "lines": {file: [line, ...]}}}, "modules": names}
MUTATE_LIMITS  a JSON file: seconds after which a test fails, by its id
MUTATE_TRACED  a folder: lines of the files below it are recorded; without it, only failures are

A fixture that lives longer than a test runs in the first test that asks for it; its lines count for all who ask.
Lines that run in other processes are not seen.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

import pytest
from hypothesis import Phase, settings

MOST_MEMORY = 6 << 30
"""A mutant that collects for ever must not take the machine along."""

Lines = set[tuple[str, int]]


class Tracer:
    """Adds every executed line below `folder` to the set that is `current`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.current: Lines = set()

    def start(self) -> None:
        threading.settrace(self.call)
        sys.settrace(self.call)

    def call(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        if not file.startswith(self.folder):
            return None

        def line(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            if event == "line":
                self.current.add((file, frame.f_lineno))
            return line

        return line


class Recorder:
    def __init__(self) -> None:
        folder = os.environ.get("MUTATE_TRACED")
        self.tracer = Tracer(folder) if folder else None
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, Lines] = {}
        self.fixture_lines: dict[str, Lines] = defaultdict(set)
        self.fixtures: dict[str, list[str]] = {}

    def pytest_sessionstart(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        phases = (Phase.explicit, Phase.generate)
        same = {"deadline": None, "derandomize": True, "database": None, "phases": phases}
        settings.register_profile("mutate", settings.default, **same)
        settings.load_profile("mutate")
        if self.tracer is not None:
            self.tracer.start()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        limits = json.loads(Path(os.environ["MUTATE_LIMITS"]).read_text())
        for item in items:
            if item.nodeid in limits:
                item.add_marker(pytest.mark.timeout(limits[item.nodeid]), append=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        started = perf_counter()
        if self.tracer is not None:
            self.lines[item.nodeid] = self.tracer.current = set()
            self.fixtures[item.nodeid] = list(getattr(item, "fixturenames", []))
        result = yield
        if self.tracer is not None:
            self.tracer.current = set()
        self.seconds[item.nodeid] = perf_counter() - started
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        if self.tracer is None or fixturedef.scope == "function":
            return (yield)
        outer, self.tracer.current = self.tracer.current, self.fixture_lines[fixturedef.argname]
        try:
            return (yield)
        finally:
            self.tracer.current = outer

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)
        tests = {test: {"s": round(seconds, 3), "lines": self._by_file(test)} for test, seconds in self.seconds.items()}
        told = {"failed": self.failed, "tests": tests, "modules": _foreign_modules()}
        Path(os.environ["MUTATE_OUT"]).write_text(json.dumps(told))

    def _by_file(self, test: str) -> dict[str, list[int]]:
        seen = set().union(
            self.lines.get(test, ()), *(self.fixture_lines[name] for name in self.fixtures.get(test, ()))
        )
        found: dict[str, list[int]] = defaultdict(list)
        for file, line in sorted(seen):
            found[os.path.relpath(file)].append(line)
        return found


def _foreign_modules() -> list[str]:
    """What has been imported from elsewhere than the working folder."""
    here = f"{Path.cwd()}{os.sep}"
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return [name for name, file in files.items() if file is not None and not file.startswith(here)]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(), "mutate-recorder")
