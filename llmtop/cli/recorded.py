"""What a recording drove, what is remembered of a run at its end, and what is said where recordings take much room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.cli.output import complain
from llmtop.domain.plain import plain
from llmtop.errors import UsageError
from llmtop.wording.figures import TEXT

if TYPE_CHECKING:
    from llmtop.domain.assessment import Assessment

MUCH_BYTES = 1_000_000_000
"""Of all recordings together: from here on somebody should know how to be rid of them."""


def driven_preset(text: str) -> tuple[str, dict[str, float]] | None:
    """Preset and turned knobs of the simulated engine that a recording drove; None: `text` names no recording.

    Raises UsageError: it drove a real server.
    """
    from llmtop.profiles import simulated_by
    from llmtop.recording import shelf
    from llmtop.recording.reader import RunReader
    from llmtop.recording.runfile import SUFFIX
    from llmtop.simulator.engine import preset_names

    named = (
        text == shelf.LAST or text.endswith(SUFFIX) or (text not in preset_names() and shelf.named(text) is not None)
    )
    if not named:
        return None
    with RunReader(shelf.run_path(text)) as reader:
        chapters = [chapter for batch in reader.batches() for chapter in batch.chapters]
        preset, knobs = simulated_by(reader.meta, chapters)
    if preset is None:
        raise UsageError(
            f"{plain(text, 60)}: drove a real server, which no preset stands for: fit a twin to it (--fit)"
        )
    return preset, dict(knobs)


def note_run(run_file: str | None, assessment: Assessment) -> None:
    """What was said of a run at its end is what `llmtop runs` shows of it; recordings that take much room are told."""
    from llmtop.recording import shelf  # late: the cockpit's first picture does not wait for it

    if run_file is not None:
        shelf.remember(Path(run_file), assessment.judgement.sentence)
        complain(much_room())


def much_room() -> str | None:
    """What to say where recordings take much room; None: they do not."""
    from llmtop.recording import shelf

    found = shelf.own_recordings()
    size = sum(each.size for each in found)
    if size < MUCH_BYTES:
        return None
    return f"{len(found)} recordings take {TEXT.size(size)}: `llmtop runs prune --keep 20` deletes the older ones"
