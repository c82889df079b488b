"""Mutants of the shipped profiles: each can be driven, written and read again, or is refused by file and key.

PYTHONPATH=. python tests/profiles/test_profiles_mutants.py 1000000 0    (how many, from which)
"""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path
from random import Random

import pytest

from llmtop.errors import ProfileError
from llmtop.load.pacer import Pacer
from llmtop.profiles import shipped_folder
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text

PATH = Path("/profiles/mine.toml")
OF_ALL_KINDS = """
peak = 10
at_least = 3
[endpoint]
url = "http://h:1"
model = "m"
[workload]
source = "trace"
file = "~/x.csv"
prompt = { kind = "lognormal", cv = 1.5 }
output = { kind = "quantiles", table = [[0, 1], [0.5, 3e2], [1, 900]], scale = true }
seed = 3
api = "completions"
[load]
rate_rps = 3.5
shared_prefix = "25%"
think_time = "500ms"
burstiness = inf
[[stage]]
duration = "1h"
shape = "sine"
low = 1
high = "80%"
period = "2min"
[[stage]]
name = "r"
duration = 20
shape = "replay"
points = [{ at = 0, concurrency = 3 }, { at = "2s", rate_rps = 1.5, burstiness = 2.5 }]
[slo]
ttft_p95 = "5.1e+3s"
error_ratio = { limit = 0.00006, warn = "0.001%" }
queue = 10
e2e = "3min"
[limits]
max_concurrency = 4000
stop_error_ratio = "never"
idle_timeout = "9s"
"""
SEEDS = [*(path.read_text() for path in sorted(shipped_folder().glob("*.toml"))), OF_ALL_KINDS]
WORDS = sorted({word for seed in SEEDS for word in re.findall(r'[\w."%-]+', seed)})
ODD = [
    *("nan", "inf", "-1", "0", "-0.0", "1e308", "1e400", "1e-300", "9" * 400, "99999999999999999999", "1e5", "31"),
    *("1_000", "0x10", "0.00006", "5.1e19", "true", "2020-01-01", '"80%"', '"1e5%"', '"500ms"', '"1e9h"'),
    *("\x00", '"', '"""', "'", "[", "{", "]", "}", ",", "=", ".", "#", "\n", "\r\n", "\ufeff", "é", "٣"),
    *("[[stage]]", "peak", "\\u001b", "\\ud800", "~nobody/", "kv<", "ttft_p95<1s,"),
]


def mutant(rng: Random) -> str:
    text = rng.choice(SEEDS)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        kind, place = rng.random(), rng.randrange(len(text) + 1)
        if kind < 0.45:
            word = rng.choice([*re.finditer(r'"[^"\n]*"|[\w.+-]+', text)] or [re.match("", text)])
            assert word is not None
            text = text[: word.start()] + rng.choice(ODD if rng.random() < 0.6 else WORDS) + text[word.end() :]
        elif kind < 0.6:
            text = text[:place] + rng.choice(ODD) + text[place:]
        elif kind < 0.75:
            text = text[:place] + text[place + rng.randrange(1, 30) :]
        elif kind < 0.85:
            lines = text.split("\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            text = "\n".join(lines)
        else:
            text = text[:place] + chr(rng.randrange(128)) + text[place + 1 :]
    return text


def holds(text: str) -> bool:
    """Whether it is a profile; then it was driven a little, written and read again."""
    try:
        profile = parse_profile(text, PATH)
    except ProfileError as error:
        assert str(error).startswith(str(PATH)), error  # noqa: PT017
        return False
    pacer = Pacer(profile.plan)
    for at_s in (0.0, 1.5, profile.plan.duration_s / 2):
        pacer.target(at_s)
        pacer.next_send(at_s, 0)
    assert parse_profile(profile_text(profile, PATH), PATH) == profile
    return True


def tried(count: int, first: int = 0) -> float:
    """The longest that one of so many mutants took, in seconds of this process."""
    longest_s, sound = 0.0, 0
    for number in range(first, first + count):
        text = mutant(Random(number))
        began = time.process_time()
        try:
            sound += holds(text)
        except Exception as error:
            error.add_note(f"mutant {number}: {text!r}")
            raise
        longest_s = max(longest_s, time.process_time() - began)
    assert 0.05 * count < sound < 0.95 * count
    return longest_s


def test_mutants_are_profiles_or_errors_with_a_key() -> None:
    assert tried(1000) < 1


@pytest.mark.faults
def test_two_hundred_thousand_mutants_take_no_memory() -> None:
    tried(2000, first=5000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert tried(200_000, first=7000) < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


if __name__ == "__main__":
    COUNT, FIRST, BEGAN = int(sys.argv[1]), int(sys.argv[2]), time.monotonic()
    LONGEST_S = tried(COUNT, FIRST)
    USED = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{COUNT} mutants, {COUNT / (time.monotonic() - BEGAN):.0f}/s, longest {LONGEST_S * 1e3:.0f} ms, "
        f"{USED.ru_maxrss / 1e3:.0f} MB at most"
    )
