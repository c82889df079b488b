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
`and`) matters most, one in a tuned constant least. A test that takes five times its clean time has noticed, too.

Everything runs in copies of the tree in the temporary folder, so nothing that ends it leaves a mutation behind.
What was found out is kept there as well: with `--minutes` a run ends after so long, and the same command goes on where
it ended; after a new test it is run against the survivors alone.

Not seen: lines that run in other processes. A line that no test executes in its own process is run against all tests
of the room. By default these are the room's own, and those of the rooms in `JUDGES`.
"""

from __future__ import annotations

import argparse
import queue
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from mutants import Mutant, find
from mutate_runs import CACHE, REPO, Memory, Tree, clean_run, test_files

EQUIVALENTS = Path(__file__).with_name("mutate_equivalents.txt")
JUDGES = {
    "meter": ("report", "session", "recording"),
    "load": ("session",),
}
"""Rooms whose tests judge another room as well, where they execute its lines."""


def drawn(room: str, count: int, seed: int, files: Sequence[str]) -> list[Mutant]:
    """One mutant at each of `count` random sites of a room, in the order of the source."""
    rng = random.Random(seed)
    sources = {str(path.relative_to(REPO)): path.read_bytes() for path in sorted((REPO / "llmtop" / room).glob("*.py"))}
    chosen = [file for file in sources if any(fnmatch(Path(file).name, pattern) for pattern in files)]
    sites = [site for file in chosen for site in find(sources[file], file)]
    rng.shuffle(sites)
    mutants = (rng.choice(site) for site in sites)
    sound = islice((mutant for mutant in mutants if mutant.sound(sources[mutant.file])), count)
    return sorted(sound, key=lambda mutant: (mutant.file, mutant.start))


def default_tests(room: str) -> list[str]:
    own = room.replace("/", "_")
    return [f"tests/{name}" for name in (own, *JUDGES.get(room, ())) if (REPO / "tests" / name).is_dir()]


def equivalents(path: Path = EQUIVALENTS) -> dict[tuple[str, str, str], str]:
    """(file, line, mutated line) -> why it does the same. Lines may hold ` | ` themselves, both the same number."""
    known = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.strip() and not line.startswith("#"):
            file, *middle, why = line.split(" | ")
            half = len(middle) // 2
            known[file, " | ".join(middle[:half]), " | ".join(middle[half:])] = why
    return known


def judge_all(
    room: str, mutants: Sequence[Mutant], files: Sequence[str], own: str, jobs: int, end: float | None
) -> dict[Mutant, str | None]:
    """What noticed each mutant; None: nothing. Mutants that were not come to until `end` are left out.

    Args:
        files: files of tests.
        own: how the ids of the room's own tests begin.
        end: of the monotonic clock.
    """
    CACHE.mkdir(exist_ok=True)
    memory = Memory(files)
    found: dict[Mutant, str | None] = {}
    with tempfile.TemporaryDirectory(prefix="llmtop-mutate-") as folder:
        trees: queue.Queue[Tree] = queue.Queue()
        for job in range(jobs):
            trees.put(Tree(Path(folder, str(job))))
        clean = clean_run(trees.queue[0], room, files)
        for tree in trees.queue:
            tree.warm(clean.modules)

        def judge(mutant: Mutant) -> None:
            killer, untried = memory.killer(mutant), memory.untried(mutant)
            tests = [test for test in clean.tests_for(mutant, own) if test.split("::")[0] in untried]
            if killer is None and tests:
                if end is not None and time.monotonic() > end:
                    return
                tree = trees.get()
                try:
                    killer = tree.notices(mutant, tests, clean.seconds)
                finally:
                    trees.put(tree)
                memory.note(mutant, killer)
            found[mutant] = killer

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(judge, mutants))
        for tree in trees.queue:
            tree.close()
    return found


def report(mutants: Sequence[Mutant], found: dict[Mutant, str | None], show_killers: bool) -> None:
    known = equivalents()
    survived = same = 0
    for mutant in (mutant for mutant in mutants if mutant in found):
        before, after = mutant.lines((REPO / mutant.file).read_bytes())
        if found[mutant] is not None:
            end = f"killed by {found[mutant]}"
        elif (mutant.file, before, after) in known:
            end, same = f"equivalent: {known[mutant.file, before, after]}", same + 1
        else:
            end, survived = "survived", survived + 1
        if found[mutant] is None or show_killers:
            print(f"{mutant.file}:{mutant.line} {mutant.kind} {end}\n    - {before}\n    + {after}")
    count = len(found) - same
    share = f"{survived / count:.0%}" if count else "-"
    print(f"{count} mutants, {count - survived} killed, {survived} survived ({share}), and {same} known equivalents")
    if len(found) < len(mutants):
        print(f"{len(mutants) - len(found)} are left: the same command goes on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tests", nargs="+", metavar="PATH")
    parser.add_argument("--files", nargs="+", default=["*"], metavar="GLOB", help="names of files to change")
    parser.add_argument("--minutes", type=float, metavar="M", help="end after so long; the same command goes on")
    parser.add_argument("--killers", action="store_true", help="say which test noticed which mutant")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes if args.minutes else None
    mutants = drawn(args.room, args.count, args.seed, args.files)
    files = test_files(args.tests or default_tests(args.room))
    own = f"tests/{args.room.replace('/', '_')}/"
    report(mutants, judge_all(args.room, mutants, files, own, args.jobs, end), args.killers)


if __name__ == "__main__":
    main()
