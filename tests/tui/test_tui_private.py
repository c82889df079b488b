"""No row of any screen tells whose run it is, where that is wanted."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.endpoint import CommandStatus, Endpoint
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended, Event, RunMeta
from llmtop.domain.shown import Answer, Wheel
from llmtop.tui.app import LlmtopApp
from llmtop.tui.cells import cells_of, text_of

NAMES = st.text(string.ascii_lowercase, min_size=4, max_size=8).map(lambda text: f"zq{text}")
"""No word that llmtop itself says."""
PAGES = ("w", "b", "v", "question_mark")
"""Why, big digits, the server's log, help."""


def told(app: LlmtopApp) -> str:
    return "\n".join(text_of(cells_of(strip)) for strip in app.screen._compositor.render_strips())


def name_it(app: Any, names: list[str], port: int) -> None:
    """Have the run tell these names wherever it can."""
    host, model, label, path, file = names
    address = f"{host}.lab:{port}"
    said = f"{address} {model} {label} /home/{path}/{file}.llmtop"
    status = replace(
        app.host.now.frame.endpoint,
        label=address,
        model=f"org/{model}",
        named=label,
        simulated=False,
        last_error=said,
        command=CommandStatus(serves=True, settings=(), log=(said,), log_path=f"/home/{path}/log", problem=said),
    )
    run_file = f"/home/{path}/{file}.llmtop"
    t_s = app.host.now.frame.t_s
    app.host.frame_becomes(
        endpoint=status, run_file=run_file, profile=label, recording_problem=said, events=(Event(t_s, "server", said),)
    )
    found = app.host.now.assessment
    found = replace(found, headline=said, diagnosis=replace(found.diagnosis, advice=said, evidence=(said,)))
    wheel = Wheel(mine=False, holder="pts/9317", screens=2)
    profile = Profile(name="by hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=1)))
    endpoint = Endpoint(base_url=f"http://{address}", model=f"org/{model}")
    meta = RunMeta(llmtop_version="0", started_at=0.0, endpoint=endpoint, profile=profile, label=label)
    app.host.now = replace(app.host.now, meta=meta, assessment=found, wheel=wheel, answer=Answer(1, said))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("private", [True, False])
def test_names_are_on_no_screen(
    cockpit: Callable[..., LlmtopApp], settle: Any, size: tuple[int, int], private: bool
) -> None:
    @settings(max_examples=2 if private else 1, deadline=None, database=None, phases=[Phase.generate])
    @given(st.lists(NAMES, min_size=5, max_size=5, unique=True), st.integers(20_000, 65_535), st.booleans())
    def law(names: list[str], port: int, stage: bool) -> None:
        async def seen() -> str:
            app = cockpit("past", private=private, layout="stage" if stage else None)
            name_it(app, names, port)
            async with app.run_test(size=size) as pilot:
                await settle(pilot)
                screens = [told(app)]
                app.cockpit.unsay()
                await settle(pilot)
                screens.append(told(app))
                for key in PAGES:
                    await pilot.press(key)
                    await settle(pilot)
                    screens.append(told(app))
                    await pilot.press("escape")
                app.host.now = replace(app.host.now, ended=Ended(f"{names[0]}.lab:{port} is gone: {names[1]}"))  # type: ignore[attr-defined]
                await settle(pilot)
                screens.append(told(app))
                assert len(set(screens)) > len(PAGES), "each is another screen"
                return "\n".join(screens)

        screens = asyncio.run(seen())
        on_it = [name for name in (*names, str(port), "pts/9317") if name in screens]
        lines = [row for row in screens.splitlines() if any(name in row for name in on_it)]
        assert (not on_it) if private else set(names[:2]) <= set(on_it), lines

    law()
