"""A preset with odd figures is refused by file and key, or it can be predicted with, in bounded time."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from llmtop.errors import ProfileError, UsageError
from llmtop.simulator.engine import Lengths, Preset, load_preset, predict
from llmtop.simulator.engine.driver import Work

ODD = ["nan", "inf", "-inf", "1e308", "1e-308", "0", "-1", "1", "0.5", "9" * 30, "9" * 5000, "true", '"x"', "[]", "{}"]
FIGURES = [
    (section, name)
    for section, table in msgspec.to_builtins(load_preset("laptop")).items()
    if isinstance(table, dict)
    for name, value in table.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]


def text_with(section: str, name: str, value: str) -> str:
    """The laptop's preset with one figure replaced or added."""
    told = msgspec.to_builtins(load_preset("laptop"))
    lines = []
    for key, table in sorted(told.items(), key=lambda item: isinstance(item[1], dict)):
        if not isinstance(table, dict):
            lines.append(f"{key} = {msgspec.json.encode(table).decode()}")
            continue
        figures = {each: msgspec.json.encode(it).decode() for each, it in table.items() if it is not None}
        if key == section:
            figures[name] = value
        lines += [f"[{key}]", *(f"{each} = {it}" for each, it in figures.items())]
    return "\n".join(lines)


@pytest.mark.parametrize(("section", "name"), FIGURES)
def test_an_odd_figure_is_refused_by_its_key_or_can_be_predicted_with(section: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    for value in ODD:
        path.write_text(text_with(section, name, value))
        said = outcome(path)
        assert not said or str(path) not in said or any(w in said for w in (name, "KV cache", "too many digits")), said


def outcome(path: Path) -> str:
    """What is said of a preset; nothing: it gives finite figures."""
    try:
        points = predict(load_preset(path), concurrency=[2], requests_per_level=2).points
    except (ProfileError, UsageError) as refused:
        return str(refused)
    assert all(math.isfinite(figure) for point in points for figure in point.samples.e2e_s)
    return ""


@pytest.mark.parametrize(
    ("knob", "value", "says"),
    [
        ("max_num_seqs", "1.5", "knob max_num_seqs=1.5: must be a whole number"),
        ("max_num_seqs", "1_000", "knob max_num_seqs=1_000: must be a whole number"),
        ("mfu", "nan", "knob mfu=nan: must be a number of 0.01 or more"),
        ("mfu", "1e400", "knob mfu=1e400: is a number that is too large"),
        ("num_gpu_blocks", "2000000", "must be a whole number of 1000000 or less"),
        ("enable_prefix_caching", "yes", "must be true or false"),
        ("memory_gb", "100000", None),
        ("speed\x1b[2J", "1", r"knob 'speed\\x1b[2J' is not known"),
    ],
)
def test_a_knob_that_cannot_be_meant_is_told_with_its_value(knob: str, value: str, says: str | None) -> None:
    preset = load_preset("l4-qwen2.5-0.5b")
    with pytest.raises(UsageError) as refused:
        preset.with_knobs({knob: value})
    assert (says or "num_gpu_blocks would be") in str(refused.value)


def test_what_would_take_minutes_is_refused_at_once_or_when_it_turns_out() -> None:
    preset = load_preset("laptop")
    with pytest.raises(UsageError, match="take minutes"):
        predict(preset, concurrency=[4000], requests_per_level=100_000, lengths=Lengths(output_tokens=1000))
    with pytest.raises(UsageError, match="take minutes"):
        Work(8).spend(9)
    _driven_out_of_work(preset)


def _driven_out_of_work(preset: Preset) -> None:
    from llmtop.simulator.engine import Engine
    from llmtop.simulator.engine.driver import VirtualDriver, closed_loop

    driver = VirtualDriver(Engine(preset.config, preset.step_model), preset.overhead, work=Work(1000))
    with pytest.raises(UsageError, match="take minutes"):
        for _visit in closed_loop(driver, 4, Lengths()):
            pass
    assert driver.now_ns > 0
