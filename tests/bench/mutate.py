"""How many small faults in a room its tests notice: mutation testing, for rooms whose figures people rely on.

    python tests/bench/mutate.py ROOM [--count 50] [--seed 0] [--jobs 1] [--minutes M] [--tests PATH ...]
                                   [--files GLOB ...] [--killers]

ROOM is a folder below llmtop (`meter`, `simulator/engine`). `count` places in it are drawn by `seed`, one small change
is made at each, and every changed program is run against the tests that execute the changed statement, the quickest and
most specific ones first, until one fails. A change that no test notices has *survived*: either a test is missing, or
the line is not needed, or the changed program does the same (an equivalent mutant: put it into
`mutate_equivalents.txt` with the reason, and it is counted apart).

How to read it: each survivor is `file:line`, the line as it is, and the line as nobody noticed it. Ask what a user
would see; if the answer is a wrong figure, write the test. A survivor in a guard (an `if` that leaves, a bound, an
`and`) matters most, one in a tuned constant least. A run that takes five times its clean time counts as killed.

Everything runs in copies of the tree in the temporary folder, so nothing that ends it leaves a mutation behind.
What was found out about one state of the tree is kept there as well: with `--minutes` a run ends after so long, and
the same command goes on where it ended.

Not seen: lines that run in other processes. A line that no test executes in its own process is run against all tests
of the room. By default these are the room's own, and those of the rooms in `JUDGES`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mutants import Mutant, find

REPO = Path(__file__).parents[2]
EQUIVALENTS = Path(__file__).with_name("mutate_equivalents.txt")
CACHE = Path(tempfile.gettempdir()) / f"llmtop-mutate-{os.getuid()}"
JUDGES = {
    "meter": ("report", "session", "recording"),
    "load": ("session",),
}
"""Rooms whose tests judge another room as well, where they execute its lines."""
OPTIONS = (
    *("-n", "0", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "mutate_plugin"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
PATIENCE = 5.0
"""A run that takes so many times its clean time, and `START_S` more, is stuck."""
START_S = 30.0
"""Python, pytest and imports, on a busy machine."""
UNSURE_S = 0.5
"""A test that takes as long waits for something real: a failure must come twice."""


@dataclass(frozen=True, slots=True)
class Map:
    """What the clean tree's tests do: seconds of each, and the lines that each executes."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, frozenset[int]]]
    modules: list[str]
    """What they import from elsewhere."""

    def tests_for(self, mutant: Mutant, own: str) -> list[str]:
        """Those that can see it, the most telling first."""
        touching = [test for test in self.seconds if mutant.file in self.lines[test]]
        span = range(mutant.first, mutant.last + 1)
        found = [test for test in touching if not self.lines[test][mutant.file].isdisjoint(span)]
        if not mutant.inside:
            found = touching + [test for test in self.seconds if mutant.file not in self.lines[test]]
        found = found or [test for test in self.seconds if test.startswith(own)]
        return sorted(found, key=lambda test: self._cost(test, own))

    def _cost(self, test: str, own: str) -> tuple[bool, float]:
        """A test that executes few lines besides, and takes little time, is the likeliest to fail and the cheapest."""
        lines = sum(len(seen) for seen in self.lines[test].values())
        return not test.startswith(own), self.seconds[test] + lines / 5000


class Tree:
    """A copy of the working tree in a folder of its own, and the process whose forks run tests there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in tracked():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, target)
        self._nursery = self._started([])

    def _started(self, modules: Sequence[str]) -> subprocess.Popen[str]:
        bench = self.folder / Path(__file__).parent.relative_to(REPO)
        names = self.folder / "mutate-modules.json"
        names.write_text(json.dumps(modules))
        return subprocess.Popen(
            [sys.executable, str(bench / "mutate_nursery.py"), str(names)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{self.folder}{os.pathsep}{bench}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def warm(self, modules: Sequence[str]) -> None:
        """From now on these modules, none of which may be of the tree, are imported once."""
        self.close()
        self._nursery = self._started(modules)

    def close(self) -> None:
        self._nursery.communicate()

    def run(self, tests: Sequence[str], limit_s: float | None = None, traced: str | None = None) -> dict | None:
        """Run these tests here; what the plugin wrote. None: it took too long.

        Args:
            limit_s: then it is killed, with all its children.
            traced: record the lines of this folder, and do not stop at the first failure.
        """
        out = self.folder / "mutate-out.json"
        out.unlink(missing_ok=True)
        env = {"MUTATE_OUT": str(out)}
        env |= {"MUTATE_TRACED": str(self.folder / traced)} if traced else {"PYTHONDONTWRITEBYTECODE": "1"}
        options = [*OPTIONS, *([] if traced else ["-x"]), *tests]
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print(json.dumps({"options": options, "env": env, "limit_s": limit_s}), file=self._nursery.stdin, flush=True)
        if not json.loads(self._nursery.stdout.readline()):
            return None
        if not out.exists():  # it did not come as far as the tests
            return {"failed": ["(start)"], "tests": {}}
        return json.loads(out.read_text())

    def notices(self, mutant: Mutant, tests: Sequence[str], seconds: dict[str, float]) -> str | None:
        """What noticed the mutant: the id of a test, or `(time)`. None: nothing did."""
        path, original = self.folder / mutant.file, REPO / mutant.file
        path.write_bytes(mutant.applied(original.read_bytes()))
        for cached in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            cached.unlink()
        try:
            return self._failing(tests, seconds)
        finally:
            shutil.copy2(original, path)

    def _failing(self, tests: Sequence[str], seconds: dict[str, float]) -> str | None:
        left = list(tests)
        while left:
            limit_s = START_S + PATIENCE * sum(seconds[test] for test in left)
            result = self.run(left, limit_s)
            if result is None:
                return "(time)"
            if not result["failed"]:
                return None
            name = result["failed"][0]
            if name not in left or seconds[name] < UNSURE_S:
                return name
            again = self.run([name], START_S + PATIENCE * seconds[name])
            if again is None or again["failed"]:
                return name
            left = left[left.index(name) + 1 :]
        return None


def tracked() -> list[str]:
    """Files of the working tree that git knows or would not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({name for name in names if (REPO / name).is_file()})


def state_of_the_tree() -> str:
    digest = hashlib.sha256()
    for name in tracked():
        if name.startswith(("llmtop/", "tests/", "profiles/", "pyproject")) and "bench/" not in name:
            digest.update(name.encode() + b"\0" + (REPO / name).read_bytes())
    return digest.hexdigest()[:16]


def clean_map(tree: Tree, room: str, tests: Sequence[str], cache: Path) -> Map:
    """Run the tests on the clean tree; those that fail there judge nothing."""
    if not cache.exists():
        print(f"clean run of {' '.join(tests)}", flush=True)
        result = tree.run(tests, traced=f"llmtop/{room}")
        assert result is not None
        if not result["tests"]:
            raise SystemExit(f"no test ran: {result['failed']}")
        broken = [test for test in result["failed"] if (again := tree.run([test])) is None or again["failed"]]
        for test in broken:
            print(f"left out, it fails on the clean tree: {test}", flush=True)
            result["tests"].pop(test, None)
        cache.write_text(json.dumps(result))
    result = json.loads(cache.read_text())
    told = result["tests"]
    return Map(
        {test: each["s"] for test, each in told.items()},
        {test: {file: frozenset(lines) for file, lines in each["lines"].items()} for test, each in told.items()},
        result["modules"],
    )


def drawn(room: str, count: int, seed: int, files: Sequence[str]) -> list[Mutant]:
    """One mutant at each of `count` random sites of a room, in the order of the source."""
    rng = random.Random(seed)
    sources = {str(path.relative_to(REPO)): path.read_bytes() for path in sorted((REPO / "llmtop" / room).glob("*.py"))}
    chosen = [file for file in sources if any(fnmatch(Path(file).name, pattern) for pattern in files)]
    sites = [site for file in chosen for site in find(sources[file], file)]
    rng.shuffle(sites)
    mutants = (rng.choice(site) for site in sites)
    sound = [mutant for mutant in mutants if mutant.sound(sources[mutant.file])]
    return sorted(sound[:count], key=lambda mutant: (mutant.file, mutant.start))


def equivalents(path: Path = EQUIVALENTS) -> dict[tuple[str, str, str], str]:
    """(file, line, mutated line) -> why it does the same. Lines may hold ` | ` themselves, both the same number."""
    known = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.strip() and not line.startswith("#"):
            file, *middle, why = line.split(" | ")
            half = len(middle) // 2
            known[file, " | ".join(middle[:half]), " | ".join(middle[half:])] = why
    return known


def default_tests(room: str) -> list[str]:
    own = room.replace("/", "_")
    return [f"tests/{name}" for name in (own, *JUDGES.get(room, ())) if (REPO / "tests" / name).is_dir()]


def report(done: dict[str, str | None], mutants: Sequence[Mutant], show_killers: bool) -> None:
    known = equivalents()
    survivors, same = [], []
    for mutant in mutants:
        key = _key(mutant)
        if key not in done:
            continue
        before, after = mutant.lines((REPO / mutant.file).read_bytes())
        if done[key] is not None:
            if show_killers:
                print(f"{mutant.file}:{mutant.line}\n    - {before}\n    + {after}\n    killed by {done[key]}")
            continue
        (same if (mutant.file, before, after) in known else survivors).append((mutant, before, after))
    for mutant, before, after in same:
        print(f"{mutant.file}:{mutant.line} equivalent: {known[mutant.file, before, after]}\n    + {after}")
    for mutant, before, after in survivors:
        print(f"{mutant.file}:{mutant.line} {mutant.kind}\n    - {before}\n    + {after}")
    count = sum(_key(mutant) in done for mutant in mutants)
    judged = count - len(same)
    share = f"{len(survivors) / judged:.0%}" if judged else "-"
    print(f"{judged} mutants, {judged - len(survivors)} killed, {len(survivors)} survived ({share})", end="")
    print(f"; {len(same)} known equivalents" if same else "")
    if count < len(mutants):
        print(f"{len(mutants) - count} are left: the same command goes on")


def _key(mutant: Mutant) -> str:
    return f"{mutant.file}:{mutant.start}:{mutant.stop}:{mutant.new.decode()}"


def run_all(args: argparse.Namespace, mutants: Sequence[Mutant], tests: Sequence[str], folder: Path) -> dict:
    own = f"tests/{args.room.replace('/', '_')}/" if not args.tests else ""
    state = hashlib.sha256(f"{state_of_the_tree()} {args.room} {tests}".encode()).hexdigest()[:16]
    CACHE.mkdir(exist_ok=True)
    results = CACHE / f"{state}-results.json"
    done: dict[str, str | None] = json.loads(results.read_text()) if results.exists() else {}
    end = time.monotonic() + 60 * args.minutes if args.minutes else None
    trees: queue.Queue[Tree] = queue.Queue()
    for job in range(args.jobs):
        trees.put(Tree(folder / str(job)))
    clean = clean_map(trees.queue[0], args.room, tests, CACHE / f"{state}-map.json")
    for tree in trees.queue:
        tree.warm(clean.modules)

    def judge(mutant: Mutant) -> None:
        if end is not None and time.monotonic() > end:
            return
        tree = trees.get()
        try:
            done[_key(mutant)] = tree.notices(mutant, clean.tests_for(mutant, own), clean.seconds)
        finally:
            trees.put(tree)
        results.write_text(json.dumps(done))

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(judge, [mutant for mutant in mutants if _key(mutant) not in done]))
    for tree in trees.queue:
        tree.close()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH")
    parser.add_argument("--files", nargs="+", default=["*"], metavar="GLOB", help="names of files to change")
    parser.add_argument("--minutes", type=float, metavar="M", help="end after so long; the same command goes on")
    parser.add_argument("--killers", action="store_true", help="say which test noticed which mutant")
    args = parser.parse_args()
    mutants = drawn(args.room, args.count, args.seed, args.files)
    with tempfile.TemporaryDirectory(prefix="llmtop-mutate-") as folder:
        done = run_all(args, mutants, args.tests or default_tests(args.room), Path(folder))
    report(done, mutants, args.killers)


if __name__ == "__main__":
    main()
