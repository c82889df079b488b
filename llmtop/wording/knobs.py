"""What is said of the knobs of a real server: who turns them, why one does not turn, and what would give some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmtop.wording.sentences import listed

HOW = "`llmtop knobs` says how"
GATE_STANDS = "--gate stands for fewer slots of any server"


def none_text(title: str, could: bool, found: str = "") -> str:
    """`vLLM turns no knob while it runs: start it with llmtop's scheduler (`llmtop knobs` says how)`

    Args:
        could: whether it would with llmtop's scheduler.
        found: what was seen where that scheduler's knobs would be.
    """
    if could:
        by_itself = f"{found}; {title} by itself" if found else title
        return f"{by_itself} turns no knob while it runs: start it with llmtop's scheduler ({HOW})"
    cause = f": {found}" if found else ""
    return f"{title} turns no knob while it runs{cause}; --serve starts it anew with other settings"


def simulated_text() -> str:
    """Of a simulated server that somebody else started."""
    return "the simulated engine turns its knobs for a run that started it: llmtop --sim, without a URL"


def replicas_text(replicas: int | None = None) -> str:
    """Of several servers behind one address: who is reached by a turn is not known.

    Args:
        replicas: how many; None: several.
    """
    told = "several" if replicas is None else str(replicas)
    return f"{told} replicas answer here, and a knob would turn on one of them alone: drive one by its own address"


def elsewhere_text() -> str:
    """Of llmtop's scheduler on another machine, where nobody has said how it is reached."""
    return "knobs of llmtop's scheduler are looked for on this machine alone; --knobs-url names another address"


def no_panel_text(where: str, what: str) -> str:
    """`127.0.0.1:9475 answers something else (status 404): name the address of its knobs with --knobs-url`"""
    return f"{where} {what}: name the address of its knobs with --knobs-url"


def not_its_panel_text(where: str, models: Iterable[str], model: str) -> str:
    """A panel that turns the knobs of a server with another model."""
    return no_panel_text(where, f"turns the knobs of a server of {listed(list(models)) or 'no model'}, not of {model}")


def other_start_text(where: str) -> str:
    """A panel of the same model that says that its server was started at another time."""
    return no_panel_text(where, "turns the knobs of another server of the same model")


def engines_text(where: str, engines: int, missing: Iterable[str]) -> str:
    """Some engines of a server have a panel, others not."""
    return f"{where} has knobs, but {listed(list(missing))} of {engines} engines shows none: all must turn, or none"


def no_knob_text(name: str, there: Iterable[str]) -> str:
    """`there is no knob num_gpu_blocks that turns while it runs: max_num_seqs does`"""
    names = list(there)
    return f"there is no knob {name} that turns while it runs: {listed(names)} {'does' if len(names) == 1 else 'do'}"


def beyond_text(name: str, value: float, most: float | None, flag: str | None) -> str:
    """`max_num_seqs 64: takes whole numbers from 1 to 16, what the server was started with; more takes a start with a
    larger --max-num-seqs`"""
    if most is None:
        return f"{name} {value:g}: takes whole numbers from 1 on"
    takes = f"{name} {value:g}: takes whole numbers from 1 to {most:g}, what the server was started with"
    return f"{takes}; more takes a start with a larger {flag}" if value > most and flag else takes


def unmoved_text(name: str, value: float, stands: float | None) -> str:
    """`max_num_seqs still stands at 16: the server did not take 4`"""
    where = "is not told any more" if stands is None else f"still stands at {stands:g}"
    return f"{name} {where}: the server did not take {value:g}"


def refused_text(name: str, value: float, engine: int | None, why: str) -> str:
    """`engine 1 did not take max_num_seqs 4 (timed out): the others were turned back`"""
    who = "the server" if engine is None else f"engine {engine}"
    return f"{who} did not take {name} {value:g}{f' ({why})' if why else ''}"


def moved_text(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """`max_num_seqs 16 → 8, not turned from here`"""
    names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    shown = [[f"{each[name]:g}" if name in each else "not told" for each in (before, now)] for name in names]
    moves = [f"{name} {old} → {new}" for name, (old, new) in zip(names, shown, strict=True)]
    return f"{', '.join(moves)}, not turned from here"


def stands_text(knobs: Mapping[str, float], most: Mapping[str, float], by: str) -> str:
    """`max_num_seqs 16 (1 to 16)`, a line for each, and who turns them."""
    lines = [f"{name} {value:g}" + (f" (1 to {most[name]:g})" if name in most else "") for name, value in knobs.items()]
    return "\n".join((*lines, f"turned by {by}"))
