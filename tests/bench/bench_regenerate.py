"""Traffic, its profile, and the load that the profile drives: how far one is from the other, over services and seeds.

python tests/bench/bench_regenerate.py [--seeds N] [--hours N] [--real]
--real: one service for four minutes, by `llmtop run` on the simulated engine, against what its recording tells
bars: mean rate 2 %, peak 5 %, CV 15 %, p50 to p99 of lengths 5 %
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "traffic")]

from made import SERVICES, made, off, profile_of  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from llmtop.cli.main import main as command  # noqa: E402
from llmtop.profiles.writing import profile_text  # noqa: E402
from llmtop.recording.traffic import traffic_of_run  # noqa: E402
from llmtop.traffic.figures import characterise  # noqa: E402

BARS = {"rate": 0.02, "peak": 0.05, "cv": 0.15, "lengths": 0.05}


def real() -> int:
    """The mean of one service, driven: as many requests as make chance a third of each bar or less."""
    service = SERVICES["ServeGen m-large"]._replace(output_mean=60, prompt_p50=200, prompt_p99=1500)
    figures, profile = profile_of(made(service, 6.0, 1))
    stage = replace(profile.plan.stages[0], duration_s=240.0)
    profile = replace(profile, plan=replace(profile.plan, stages=(stage,)), question=None, peak=None)
    with TemporaryDirectory() as folder:
        path, run = Path(folder) / "mine.toml", Path(folder) / "run.llmtop"
        path.write_text(profile_text(profile, path))
        words = ["run", str(path), "--sim", "h100-llama-3.1-8b", "--record", str(run), "--unknown-ok"]
        code = command(words)
        again = characterise(traffic_of_run(run))
    print(f"exit code {code}; {again.requests} requests")
    pairs = {"rate": (figures.mean_rps, again.mean_rps), "CV": (figures.cv, again.cv)}
    for side in ("prompt", "output"):
        old, new = getattr(figures, side), getattr(again, side)
        pairs |= {f"{side} {name}": (getattr(old, name), getattr(new, name)) for name in ("p50", "p90", "p95", "p99")}
    for name, (old, new) in pairs.items():
        print(f"{name:12} {old:10.4g} {new:10.4g} {new / old - 1:+8.2%}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    if arguments.real:
        return real()
    broken = 0
    print(
        f"{'worst of ' + str(arguments.seeds) + ' seeds':24}{'rate':>8}{'peak':>8}{'CV':>8}{'lengths':>9}{'means':>8}"
    )
    for name, service in SERVICES.items():
        found = [off(made(service, arguments.hours, seed), seed, 3600.0, 4000) for seed in range(arguments.seeds)]
        worst = {field: max(getattr(each, field) for each in found) for field in (*BARS, "means")}
        cells = "".join(f"{worst[field]:{width}.2%}" for field, width in zip(worst, (8, 8, 8, 9, 8), strict=True))
        wrong = [field for field, bar in BARS.items() if worst[field] > bar]
        broken += len(wrong)
        print(f"{name:24}{cells}  {'' if not wrong else 'BROKEN: ' + ', '.join(wrong)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
