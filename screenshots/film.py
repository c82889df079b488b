"""The moving picture of the README: a replayed recording, frame by frame as the cockpit draws it, in one SVG.

python screenshots/film.py            draw film.svg from film.llmtop
python screenshots/film.py --record   drive the simulated laptop first, turn its slots, and keep that run (two minutes)

What two frames have in common is written once and shown during both; nothing is loaded from anywhere.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from llmtop.domain.commands import Seek, SetKnob
from llmtop.domain.load import LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile
from llmtop.domain.shown import Shown
from llmtop.domain.slo import parse_slo
from llmtop.host.headless import run_to_end
from llmtop.host.host import Host
from llmtop.host.link import SessionLink
from llmtop.host.replay import ReplayLink
from llmtop.session.options import SessionOptions

HERE = Path(__file__).parent
RUN, FILM = HERE / "film.llmtop", HERE / "film.svg"
SIZE = (100, 30)
LEVELS = (8, 16, 24, 32, 40, 48, 32, 40, 48, 56)
LEVEL_S, TURN_S = 14.0, 84.0
SLO = "ttft_p95<1s,error_ratio<1%"
KNOB = SetKnob("max_num_seqs", 48.0)
STEP_S, EVERY = 3, 2
"""Of the run between two judgements, and how many of them come to a frame."""
LAST = 3
"""Frames that the last one stands for."""
FILM_S = 20.0
CAPTIONS = (
    (0.0, "drive: PgUp doubles the users, → adds a few"),
    (56.0, "see: latency bends where the slots are full, and the line says what to turn"),
    (TURN_S, "turn: k, and 32 slots become 48"),
    (TURN_S + LEVEL_S, "compare: the same users again, and a few more"),
)
_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = re.compile(r"\.terminal-\d+-(r\d+) \{([^}]*)\}")
_LEFT, _TOP = 9, 41


def record() -> None:
    """A run up to and past the cliff of the simulated laptop, and again with half as many slots more."""
    stage = Stage(name="steps", duration_s=LEVEL_S * len(LEVELS), shape=Steps(LEVELS))
    plan = LoadPlan(stages=(stage,), base=LoadPoint(concurrency=LEVELS[0]))
    profile = Profile(name="by hand", plan=plan, slo=parse_slo(SLO))
    RUN.unlink(missing_ok=True)
    link = SessionLink(SessionOptions(profile=profile, run_file=str(RUN), label="film"))
    wishes = [KNOB]

    def show(shown: Shown) -> None:
        if shown.frame is not None:
            if shown.frame.t_s >= TURN_S and wishes:
                link.send(wishes.pop())
            print(f"{shown.frame.t_s:.0f} s", end="\r")

    run_to_end(link, profile.slo, show)


async def frames() -> list[str]:
    """The cockpit as SVG, some seconds of the run apart, to where its plan ends."""
    from llmtop.tui.app import LlmtopApp

    replay = ReplayLink(RUN, clock=lambda: 0.0)
    seconds = itertools.count()
    host = Host(replay, replay.meta.profile.slo, clock=lambda: float(next(seconds)))
    app = LlmtopApp(host)
    drawn = []
    async with app.run_test(size=SIZE) as pilot:
        # Step by step, as a person saw it: the verdict settles over several judgements.
        for t_s in range(STEP_S, int(LEVEL_S * len(LEVELS)) + 1, STEP_S):
            host.send(Seek(t_s=float(t_s), playing=False))
            host.step()
            if t_s // STEP_S % EVERY == 0:
                app.tick()
                await pilot.pause()
                drawn.append(app.export_screenshot(title=caption(t_s)))
    return drawn


def caption(t_s: float) -> str:
    return [text for from_s, text in CAPTIONS if from_s <= t_s][-1]


def film(drawn: Sequence[str], film_s: float = FILM_S, last: int = LAST) -> str:
    """Frames that Textual has drawn, all of one size, as one SVG that shows one after the other, for ever.

    Args:
        film_s: how long one round lasts.
        last: frames that the last one stands for. It is also what is shown where nothing may move.
    """
    styles: dict[str, str] = {}
    shown: dict[str, set[int]] = {}
    for number, svg in enumerate(drawn):
        for element in _elements(ElementTree.fromstring(svg), styles):
            shown.setdefault(element, set()).add(number)
    total = len(drawn) + last - 1
    groups: dict[frozenset[int], list[str]] = {}
    for element, numbers in shown.items():
        groups.setdefault(frozenset(numbers), []).append(element)
    rules = [f".{name}{{{style}}}" for style, name in styles.items()]
    parts = []
    for at, (numbers, elements) in enumerate(groups.items()):
        body = "".join(sorted(elements, key=lambda each: not each.startswith("<rect")))
        if len(numbers) == len(drawn):
            parts.insert(0, f"<g>{body}</g>")
            continue
        rules.append(_rule(f"m{at}", numbers, len(drawn), total, film_s))
        parts.append(f'<g class="m{at}">{body}</g>')
    rules.append("@media (prefers-reduced-motion:reduce){g{animation:none!important}}")
    width, height = re.search(r'viewBox="0 0 (\S+) (\S+)"', drawn[0]).groups()  # type: ignore[union-attr]
    return (
        f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"><style>'
        f"text{{font:20px ui-monospace,Menlo,Consolas,monospace;white-space:pre}}{''.join(rules)}</style>"
        f'<rect fill="#292929" width="{width}" height="{height}" rx="8"/>{"".join(parts)}</svg>\n'
    )


def _elements(root: ElementTree.Element, styles: dict[str, str]) -> list[str]:
    """Boxes and texts of a frame, with the caption, each as it is written into the film; what looks alike is alike."""
    sheet = "".join(style.text or "" for style in root.iter(f"{_SVG}style"))
    looks = dict(_STYLE.findall(sheet))
    width = root.attrib["viewBox"].split()[2]
    written = []
    for element in root.iter():
        told = element.attrib
        if element.tag == f"{_SVG}text" and told.get("class", "").endswith("-title"):
            place = f'x="{float(width) / 2:g}" y="27" fill="#c5c8c6" text-anchor="middle"'
            written.append(f"<text {place}>{escape(element.text or '')}</text>")
        elif element.tag == f"{_SVG}rect" and "shape-rendering" in told:
            box = " ".join(f'{name}="{float(told[name]):g}"' for name in ("width", "height"))
            written.append(f'<rect fill="{told["fill"]}" {_place(told)} {box} shape-rendering="crispEdges"/>')
        elif element.tag == f"{_SVG}text" and (element.text or "").strip("\xa0 \n"):
            look = looks[told["class"].rpartition("-")[2]]
            name = styles.setdefault(look, f"s{len(styles)}")
            length = f'textLength="{float(told["textLength"]):g}"'
            written.append(f'<text class="{name}" {_place(told)} {length}>{escape(element.text or "")}</text>')
    return written


def _place(told: dict[str, str]) -> str:
    return f'x="{float(told["x"]) + _LEFT:g}" y="{float(told["y"]) + _TOP:g}"'


def _rule(name: str, numbers: frozenset[int], count: int, total: int, film_s: float) -> str:
    """When a group is seen: from each of its frames to the first that has it not."""
    at_end = "visible" if count - 1 in numbers else "hidden"
    steps, before = [], None
    for number in range(count):
        now = "visible" if number in numbers else "hidden"
        if now != before:
            steps.append(f"{100 * number / total:.4g}%{{visibility:{now}}}")
        before = now
    return (
        f".{name}{{visibility:{at_end};animation:{name} {film_s:g}s step-end infinite}}"
        f"@keyframes {name}{{{''.join(steps)}100%{{visibility:{at_end}}}}}"
    )


def main() -> None:
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    if "--record" in sys.argv[1:]:
        record()
    FILM.write_text(film(asyncio.run(frames())))
    print(FILM)


if __name__ == "__main__":
    main()
