"""The README says what is so: its commands, its table of servers, its pictures and its links."""

from __future__ import annotations

import re
from pathlib import Path

from llmtop.cli.main import COMMANDS
from llmtop.profiles import list_profiles, load_profile
from llmtop.telemetry.findings import dialect_table_markdown
from llmtop.tui.app import key_chapters
from llmtop.tui.keys import markdown
from llmtop.wording.figures import TEXT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_servers_is_the_one_that_the_code_reads_by() -> None:
    """To renew it: replace what stands between the markers by `dialect_table_markdown()`."""
    between = README.split("<!-- dialects -->\n")[1].split("<!-- /dialects -->")[0]
    assert between == dialect_table_markdown()


def test_the_table_of_keys_is_what_is_bound() -> None:
    """To renew it: replace what stands between the markers by `markdown(key_chapters())`."""
    between = README.split("<!-- keys -->\n")[1].split("<!-- /keys -->")[0]
    assert between == markdown(key_chapters())


def test_every_command_is_told() -> None:
    for name in COMMANDS.keys() - {"live"}:
        assert f"`llmtop {name}" in README, name


def test_every_shipped_profile_is_told() -> None:
    for entry in list_profiles():
        if entry.shipped:
            assert f"`{entry.name}`" in README, entry.name


def test_the_limits_of_smoke_are_told_as_they_are() -> None:
    limits = [TEXT.target(target) for target in load_profile("smoke").slo.targets]
    assert ", ".join(limits).replace("error_ratio", "errors") in " ".join(README.split())


def test_pictures_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = "pip install -e '.[dev]' && pytest"
    assert command in README
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()
