"""The pictures of the README, drawn by the cockpit itself from a replayed recording.

python screenshots/make.py            draw cockpit.svg, cockpit-80x24.svg and stage.svg from demo.llmtop
python screenshots/make.py --record   drive the simulated laptop first, and keep that run as demo.llmtop (90 s)
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from llmtop.domain.commands import Seek
from llmtop.domain.load import LoadPlan, LoadPoint, Stage, Steps
from llmtop.domain.profile import Profile
from llmtop.host.headless import run_to_end
from llmtop.host.host import Host
from llmtop.host.link import SessionLink
from llmtop.host.replay import ReplayLink
from llmtop.session.options import SessionOptions

HERE = Path(__file__).parent
RUN = HERE / "demo.llmtop"
PICTURES = {
    "cockpit.svg": ((120, 40), None),
    "cockpit-80x24.svg": ((80, 24), None),
    "stage.svg": ((120, 40), "stage"),
}
"""Size and layout of each."""
LEVELS = (2, 4, 8, 12, 16, 24, 32, 40, 48)
SECONDS_PER_LEVEL = 10.0


def record() -> None:
    """A run up to and past the cliff of the simulated laptop, by hand as it were."""
    stage = Stage(name="steps", duration_s=SECONDS_PER_LEVEL * len(LEVELS), shape=Steps(LEVELS))
    profile = Profile(name="by hand", plan=LoadPlan(stages=(stage,), base=LoadPoint(concurrency=LEVELS[0])))
    RUN.unlink(missing_ok=True)
    options = SessionOptions(profile=profile, run_file=str(RUN), label="demo")
    run_to_end(SessionLink(options), profile.slo, lambda shown: print(f"{shown.frame.t_s:.0f} s", end="\r"))


async def draw(name: str, size: tuple[int, int], layout: str | None) -> None:
    from llmtop.tui.app import LlmtopApp

    replay = ReplayLink(RUN, clock=lambda: 0.0)
    seconds = itertools.count()
    host = Host(replay, replay.meta.profile.slo, clock=lambda: float(next(seconds)))
    app = LlmtopApp(host, layout=layout)
    async with app.run_test(size=size) as pilot:
        # Step by step, as a person saw it: the verdict settles over several judgements.
        for t_s in range(10, int(replay.length_s), 5):
            host.send(Seek(t_s=float(t_s), playing=False))
            host.step()
        app.tick()
        await pilot.pause()
        (HERE / name).write_text(app.export_screenshot(title="llmtop"))


def main() -> None:
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    if "--record" in sys.argv[1:]:
        record()
    for name, (size, layout) in PICTURES.items():
        asyncio.run(draw(name, size, layout))
        print(HERE / name)


if __name__ == "__main__":
    main()
