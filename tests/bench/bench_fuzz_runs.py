"""How many damaged rows the reader of run files stands, and how fast: `python tests/bench/bench_fuzz_runs.py [ROWS]`.

Rows of every table of a run are damaged in one to three columns, with values of all kinds and with random ones. Each
is a fact then, or a `BrokenRow` in words; anything else ends the bench with the row. Memory is told before and after.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from run_mutants import DAMAGES, write_run

from llmtop.recording import schema

ROWS = 1_000_000


def _value(rng: random.Random) -> Any:
    """One of the damages, or anything that SQLite may hold."""
    match rng.randrange(5):
        case 0:
            return rng.choice((-1, 1)) * rng.getrandbits(rng.randrange(63))
        case 1:
            return rng.choice((-1, 1)) * 10.0 ** rng.uniform(-320, 308)
        case 2:
            return bytes(rng.getrandbits(8) for _ in range(rng.randrange(20)))
        case 3:
            return "".join(rng.choice('[]{}",:0123456789.eE-+nultrfasé\x00\x1b') for _ in range(rng.randrange(40)))
        case _:
            return rng.choice(list(DAMAGES.values()))


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, sqlite3.connect(write_run(Path(folder) / "run.llmtop")) as database:
        kinds = []
        for table in schema.BATCH_TABLES.values():
            columns = list(table.columns)
            quoted = ", ".join(f'"{name}"' for name in columns)
            rows = database.execute(f"SELECT {quoted} FROM {table.name}").fetchall()
            kinds.append((table.name, columns, table.reader(columns), rows))
    ended: Counter[str] = Counter()
    before_mb, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, time.process_time()
    for number in range(wanted):
        name, columns, read, rows = kinds[number % len(kinds)]
        row = list(rng.choice(rows))
        for _ in range(rng.randrange(1, 4)):
            row[rng.randrange(len(columns))] = _value(rng)
        try:
            read(row)
        except schema.BrokenRow as error:
            ended["refused" if str(error).isprintable() and len(str(error)) < 1000 else "refused in a mess"] += 1
        except Exception:
            print(name, [str(value)[:60] for value in row])
            raise
        else:
            ended["read"] += 1
    took_s = time.process_time() - started
    after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    other = wanted - ended["refused"] - ended["read"]
    print(f"{wanted} rows: {ended['refused']} refused, {ended['read']} read, {other} otherwise; {took_s:.0f} s of CPU")
    print(f"{wanted / took_s:,.0f} rows/s; peak of memory {before_mb:.0f} -> {after_mb:.0f} MB")


if __name__ == "__main__":
    main()
