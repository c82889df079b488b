"""ServeGen's clients: as many requests as their rates say, with lengths as their shares say, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmtop.errors import FileError
from llmtop.traffic import servegen
from llmtop.traffic.read import parse, read

DAY = "\n".join(
    f"{at * 600},{rate},2.0,{pattern},0.5,3.0"
    for at, (rate, pattern) in enumerate([(1.0, "Gamma"), (3.0, "Weibull"), (0, ""), (2.0, "Gamma")])
)
LENGTHS = {"0": {"input_tokens": "{100: 0.25, 900: 0.75}", "output_tokens": "{7: 1.0}", "reason_ratio": "{0.5: 1}"}}


def client(folder: Path, number: int, trace: str = DAY, lengths: object = LENGTHS) -> Path:
    path = folder / f"chunk-{number}-trace.csv"
    path.write_text(trace)
    (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(lengths))
    return path


def test_a_client_asks_as_often_and_as_long_as_it_is_said(tmp_path: Path) -> None:
    path = client(tmp_path, 0)
    traffic = read(path)
    counts = np.histogram(traffic.start_s, bins=[0, 600, 1200, 1800, 2400])[0]
    assert counts.tolist() == pytest.approx([600, 1800, 0, 1200], abs=3)
    assert set(traffic.prompt.tolist()) == {100, 900}
    assert (traffic.prompt == 900).mean() == pytest.approx(0.75, abs=0.05)
    assert set(traffic.output.tolist()) == {7}
    assert traffic.says == (
        "drawn with seed 0 from 1 clients of ServeGen, prompt and answer apart: all of 0.667 h, in which 1.5 "
        "requests/s came on average and 3 in the busiest 10 min",
    )
    gaps = np.diff(traffic.start_s[: counts[0]])
    assert gaps.std() / gaps.mean() == pytest.approx(2**0.5, rel=0.25)
    assert np.array_equal(read(path, source="servegen").start_s, traffic.start_s)


def test_a_folder_is_all_of_its_clients_and_one_too_busy_is_drawn_around_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, 0)
    client(tmp_path, 1, "600,1.0,1,Gamma,1,1\n1200,bad\n\n1800,1,1,Gamma,1,1")
    traffic = read(tmp_path)
    assert len(traffic) == pytest.approx(4800, abs=9)
    assert traffic.says[0].endswith("left out: 1 that are no window of a client")
    monkeypatch.setattr(servegen, "MOST_DRAWN", 4300)
    peak = read(tmp_path)
    assert len(peak) == pytest.approx(4200, abs=9)
    assert ": the 0.5 h at the peak of 0.667 h, in which 2 requests/s came on average and 4 in the" in peak.says[-1]
    assert len(read(tmp_path, most=4203)) == pytest.approx(2400, abs=9)


def test_clients_without_lengths_are_counted_and_halves_of_clients_are_refused(tmp_path: Path) -> None:
    client(tmp_path, 0)
    client(tmp_path, 1, lengths={"0": {"input_tokens": "{}", "output_tokens": "{7: 1}"}})
    assert "3,600 of clients whose lengths are not told" in read(tmp_path).says[0].replace("3,601", "3,600")
    with pytest.raises(FileError, match=r"chunk-0-dataset.json: has the lengths of a client: name its trace"):
        read(tmp_path / "chunk-0-dataset.json")
    with pytest.raises(FileError, match="no request in it"):
        read(client(tmp_path, 2, "0,0,0,,0,0"))
    (tmp_path / "chunk-0-dataset.json").write_text("[")
    with pytest.raises(FileError, match=r"chunk-0-dataset.json: is no JSON of a client's lengths"):
        read(tmp_path)
    (tmp_path / "chunk-0-dataset.json").unlink()
    with pytest.raises(FileError, match=r"chunk-0-dataset.json: cannot be read"):
        read(tmp_path)
    with pytest.raises(FileError, match="whose lengths nobody finds"):
        parse("mine.csv", DAY.encode())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="is a folder without a client of ServeGen"):
        read(tmp_path / "empty")
