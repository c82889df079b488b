"""How fast the simulated engine runs: times real time at saturation, and seconds for a predicted curve.

Bars: 50x real time for the H100 8B preset with 256 running (a step of some 40 ms in less than 0.8 ms of one core), and
a curve of ten levels in less than 10 s for every preset. Figures are CPU seconds of this process, so that a busy
machine does not spoil them.

    python tests/bench/bench_engine.py
"""

from __future__ import annotations

import time
from statistics import median

from llmtop.simulator.engine import Engine, Lengths, VirtualDriver, closed_loop, load_preset, predict, preset_names

LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384)


def saturated(name: str, slots: int, users: int, lengths: Lengths, requests: int) -> tuple[float, float, float]:
    """Ratio of simulated to CPU time, CPU microseconds a step, and simulated milliseconds a step."""
    preset = load_preset(name).with_knobs({"max_num_seqs": slots})
    engine = Engine(preset.config, preset.step_model)
    driver = VirtualDriver(engine, preset.overhead)
    visits = closed_loop(driver, users, lengths)
    for _ in range(users):
        next(visits)
    steps, simulated_ns, start_s = engine.statistics.steps, driver.now_ns, time.process_time()
    for _ in range(requests):
        next(visits)
    cpu_s = time.process_time() - start_s
    steps = engine.statistics.steps - steps
    simulated_s = (driver.now_ns - simulated_ns) * 1e-9
    return simulated_s / cpu_s, cpu_s / steps * 1e6, simulated_s / steps * 1e3


def main() -> None:
    print("H100 8B at saturation, median of 5          x real time   us/step (CPU)   ms/step (simulated)")
    for title, slots, lengths in (
        ("256 running, 512 in, 128 out", 256, Lengths(prompt_tokens=512, output_tokens=128)),
        (
            "256 running, lengths spread (cv 0.5)",
            256,
            Lengths(prompt_tokens=512, output_tokens=128, prompt_cv=0.5, output_cv=0.5),
        ),
        ("256 running, decode only (16 in, 512 out)", 256, Lengths(prompt_tokens=16, output_tokens=512)),
    ):
        runs = [saturated("h100-llama-3.1-8b", slots, 384, lengths, 1500) for _ in range(5)]
        ratio, cpu_us, step_ms = (median(column) for column in zip(*runs, strict=True))
        print(f"  {title:42} {ratio:10.0f} {cpu_us:15.0f} {step_ms:18.1f}")
    print(f"\npredict, concurrency {', '.join(map(str, LEVELS))}, 512 in, 128 out: CPU seconds")
    for name in preset_names():
        start_s = time.process_time()
        predict(name, concurrency=LEVELS, prompt_tokens=512, output_tokens=128)
        print(f"  {name:28} {time.process_time() - start_s:6.2f}")


if __name__ == "__main__":
    main()
