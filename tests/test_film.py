"""The moving picture of the README: what it is made of, and that what is made is what was drawn."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

PICTURES = Path(__file__).parent.parent / "screenshots"
MOST_BYTES = 1_500_000
NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("film", PICTURES / "film.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["film"] = module
    spec.loader.exec_module(module)
    return module


def drawn(identity: int, *texts: tuple[str, str, str]) -> str:
    """A frame as Textual writes it: (look, x, text) of each piece."""
    looks = sorted({look for look, _, _ in texts})
    style = "".join(f".terminal-{identity}-r{at} {{ fill: {look} }}" for at, look in enumerate(looks))
    pieces = "".join(
        f'<text class="terminal-{identity}-r{looks.index(look)}" x="{x}" y="20" textLength="12.2">{text}</text>'
        for look, x, text in texts
    )
    return (
        f'<svg viewBox="0 0 99 50" xmlns="http://www.w3.org/2000/svg"><style>{style}</style>'
        f'<text class="terminal-{identity}-title">a &amp; b</text>'
        f'<rect fill="#000" x="0" y="1.5" width="9" height="24.65" shape-rendering="crispEdges"/>{pieces}</svg>'
    )


def seen(film: str, share: float) -> set[str]:
    """The texts that are visible at a share of the film."""
    rules = dict(re.findall(r"@keyframes (m\d+)\{((?:[^{}]*\{[^{}]*\})*)\}", film))
    texts: set[str] = set()
    for group in ElementTree.fromstring(film).iter(f"{NS}g"):
        rule = rules.get(group.get("class", ""), "0%{visibility:visible}")
        steps = re.findall(r"([\d.]+)%\{visibility:(\w+)\}", rule)
        if [state for at, state in steps if float(at) <= 100 * share][-1] == "visible":
            texts |= {each.text or "" for each in group.iter(f"{NS}text")}
    return texts


def test_each_frame_is_seen_in_its_time_and_what_stays_is_written_once(maker: ModuleType) -> None:
    frames = [
        drawn(1, ("#fff", "0", "stays"), ("#f00", "9", "one")),
        drawn(22, ("#f00", "9", "two"), ("#fff", "0", "stays")),
        drawn(333, ("#fff", "0", "stays"), ("#0f0", "9", "one"), ("#0f0", "40", "\xa0")),
    ]
    film = maker.film(frames, film_s=4.0, last=2)
    assert [seen(film, share) for share in (0.0, 0.2, 0.3, 0.55, 0.99)] == [
        {"a & b", "stays", "one"},
        {"a & b", "stays", "one"},
        {"a & b", "stays", "two"},
        {"a & b", "stays", "one"},
        {"a & b", "stays", "one"},
    ]
    assert film.count(">stays<") == film.count('<rect fill="#000"') == 1
    assert film.count(">one<") == 2, "in another colour it is another"
    assert "terminal-" not in film
    assert film == maker.film(frames, film_s=4.0, last=2)


def test_the_film_of_the_readme_is_small_needs_nothing_and_lasts_twenty_seconds(maker: ModuleType) -> None:
    film = (PICTURES / "film.svg").read_text()
    assert len(film.encode()) < MOST_BYTES
    assert re.findall(r"https?://[^\"]+", film) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\(|<script|<image|href", film)
    assert set(re.findall(r"animation:m\d+ (\S+) step-end infinite", film)) == {"20s"}
    told = {(each.text or "").replace("\xa0", " ") for each in ElementTree.fromstring(film).iter(f"{NS}text")}
    assert {caption for _, caption in maker.CAPTIONS} <= told
    assert "(screenshots/film.svg)" in (PICTURES.parent / "README.md").read_text()
