"""The map in a report: a figure of what was held and foreseen, a table of the contour, and all cells as CSV."""

from __future__ import annotations

import csv
import io
from html import escape

from llmtop.domain.map import Map
from llmtop.report.contents import ReportInput
from llmtop.report.plot import Plot
from llmtop.report.scales import Scale, load_ticks
from llmtop.wording import mapping as words
from llmtop.wording.figures import PAGE

TITLE = "The map: users by prompt length"
FIGURES = ("ttft_p95_ms", "tpot_p95_ms", "output_tokens_per_s", "off")
CSV_HEAD = ("prompt_tokens", "load", "axis", "source", "stand", *FIGURES, "n")
SIGNS = {"ok": "●", "near": "◐", "broken": "✖", None: "○"}
STEPS = 80
"""Points of the contour and of the wall."""


def rows(known: Map) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(heads, a row for each prompt length that was measured)."""
    heads = ("prompt tokens", "users at the SLO", "at least", "at most", "highest that held", "KV cache holds", "")
    found = []
    for edge in known.contour:
        users, wall = edge.users, known.wall_at(edge.prompt_tokens)
        ends = (None, None, None) if users is None else (users.value, *words.ends(users, known.axis))
        source = "" if users is None else "measured" if edge.measured else "foreseen"
        loads = [PAGE.load(each, known.axis) for each in (*ends, edge.held)]
        found.append((PAGE.whole(edge.prompt_tokens), *loads, PAGE.whole(wall), source))
    return heads, found


def figure(report: ReportInput) -> str:
    """The chart as HTML; empty where fewer than two prompt lengths were measured."""
    known = report.map
    if known is None:
        return ""
    loads = [cell.load for cell in known.cells]
    plot = Plot(
        Scale(min(loads) / 1.15, max(loads) * 1.1, log=True),
        Scale(known.lengths[0] / 1.25, known.lengths[-1] * 1.25, log=True),
    )
    plot.grid([(length, PAGE.whole(length)) for length in known.lengths], 0.05)
    _draw_foreseen(plot, known)
    _draw_lines(plot, known)
    for cell in known.cells:
        if cell.measured:
            at = plot.x.place(cell.load), 1 - plot.y.place(cell.prompt_tokens)
            plot.label(*at, SIGNS[cell.stand], f"cell {cell.stand or 'untold'}")
    plot.x_axis([(tick, PAGE.load(tick, known.axis)) for tick in load_ticks(plot.x)])
    keys = [
        f"{SIGNS['ok']} SLO holds",
        f"{SIGNS['near']} near a limit",
        f"{SIGNS['broken']} broken",
        "· foreseen to hold",
    ]
    keys += ["- foreseen to break", "line: SLO contour"]
    keys += ["dotted line KV cache full"] if known.kv_tokens else []
    unit = "users" if known.axis == "concurrency" else "requests/s"
    heading = f"<h3>Prompt tokens <small>over {unit}</small><small>{escape(', '.join(keys))}</small></h3>"
    return f'<div class="chart">{heading}{plot.html("tall", known.text)}</div>'


def _draw_foreseen(plot: Plot, known: Map) -> None:
    cells = [cell for cell in known.cells if not cell.measured]
    holds = [(cell.load, float(cell.prompt_tokens)) for cell in cells if cell.stand == "ok"]
    near = [(cell.load, float(cell.prompt_tokens)) for cell in cells if cell.stand == "near"]
    breaks = [(cell.load, float(cell.prompt_tokens)) for cell in cells if cell.stand == "broken"]
    plot.dots(holds, "foreseen ok")
    plot.dots(near, "foreseen near")
    plot.dashes(breaks, "foreseen broken")


def _draw_lines(plot: Plot, known: Map) -> None:
    short, long = known.lengths[0], known.lengths[-1]
    lengths = [short * (long / short) ** (i / STEPS) for i in range(STEPS + 1)]
    found = [(length, users) for length in lengths if (users := known.users_at(length)) is not None]
    if len(found) > 1:
        there = [(max(users.low, plot.x.low), length) for length, users in found]
        back = [(min(users.high, plot.x.high), length) for length, users in found]
        plot.shape([*there, *back[::-1]], "contour")
        plot.line([(users.value, length) for length, users in found], "a")
    walls = [(wall, length) for length in lengths if (wall := known.wall_at(length)) is not None]
    plot.line([(wall, length) for wall, length in walls if plot.x.low <= wall <= plot.x.high], "wall")


def csv_text(known: Map) -> str:
    """One row a cell, the shortest prompts first; an empty cell = not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for cell in sorted(known.cells, key=lambda cell: (cell.prompt_tokens, cell.load)):
        source = "measured" if cell.measured else "foreseen"
        figures = (getattr(cell, name) for name in FIGURES)
        row = (cell.prompt_tokens, cell.load, known.axis, source, cell.stand, *figures, cell.n or None)
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def note(known: Map) -> str:
    """What is known of it, and how sure what is foreseen is."""
    foreseen = "" if known.off is None else f" {words.off_text(known.off, PAGE)}"
    return f"{known.text[:1].upper()}{known.text[1:]}.{foreseen}"
