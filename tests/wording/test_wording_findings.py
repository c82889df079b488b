"""What doctor's findings mean: every gap has words of its own, whatever found it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llmtop
from llmtop.cli.doctor import WIDTH, as_text
from llmtop.domain.endpoint import Dialect, EndpointInfo, Finding
from llmtop.wording.findings import ALWAYS_WELL, GAPS, explained

_MADE = re.compile(r"(?:Finding|_find)\(\s*(f?)\"([^\"]+)\"")


def names_made() -> set[str]:
    """The names of all findings that the code makes."""
    texts = [path.read_text() for path in sorted(Path(llmtop.__file__).parent.rglob("*.py"))]
    found = [match for text in texts for match in _MADE.findall(text)]
    assert {name for is_pattern, name in found if is_pattern} == {"{api} API"}
    return {name for is_pattern, name in found if not is_pattern} | {"chat API", "completions API"}


def test_every_finding_has_its_meaning_and_its_remedy_in_one_place() -> None:
    assert names_made() == GAPS.keys() | ALWAYS_WELL
    assert not GAPS.keys() & ALWAYS_WELL


@pytest.mark.parametrize("name", GAPS)
@pytest.mark.parametrize("ok", [True, False, None])
def test_a_gap_is_told_with_what_it_means_and_what_to_type(name: str, ok: bool | None) -> None:
    finding = explained(Finding(name, ok, "seen"))
    if ok:
        assert finding == Finding(name, ok, "seen")
    else:
        assert finding.means == GAPS[name][0]
        assert finding.advice == GAPS[name][1]
        known = explained(Finding(name, ok, "seen", "--flag", "so"))
        assert (known.means, known.advice) == ("so", "--flag")


def test_doctor_has_room_on_a_terminal_of_80_columns() -> None:
    told = "http://127.0.0.1:8000/metrics answers 404 without the names " * 3
    findings = tuple(explained(Finding(name, False, told)) for name in GAPS)
    text = as_text(EndpointInfo(dialect=Dialect.VLLM, model="m", findings=findings))
    assert max(map(len, text.splitlines())) <= WIDTH == 80
    flat = " ".join(text.split())
    for finding in findings:
        for part in (finding.found, finding.means, finding.advice):
            assert " ".join((part or "").split()) in flat
        assert not re.search(r"--?[a-z]*-$", text, re.MULTILINE)
