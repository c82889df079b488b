"""What the bank of a server's knobs says: what turns live, what is only asked about, and how it would be set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmtop.domain.endpoint import EndpointStatus
from llmtop.domain.foresight import Foresight
from llmtop.domain.settings import is_kv, is_slots, setting_key
from llmtop.wording.figures import TEXT, UNKNOWN
from llmtop.wording.foresight import users_text, wall_text

SEP = " · "
SLOTS, KV_BLOCKS, KV_TOKENS = "max_num_seqs", "num_gpu_blocks", "kv_capacity_tokens"
"""What a twin is asked about, whatever the server calls it."""
_LABELS = {KV_BLOCKS: "KV blocks", KV_TOKENS: "KV tokens", "max_num_batched_tokens": "tok budget"}
_NOT_SET = "asked about, not set"


def label_of(name: str) -> str:
    """The name of a setting where a label has room: `max seqs`, `KV blocks`."""
    return _LABELS.get(name) or name.replace("max_num_", "max ").replace("_", " ")


def as_the_twin(name: str) -> str:
    """A setting's name as a twin is asked about it; empty: it knows nothing of it."""
    return SLOTS if is_slots(name) else setting_key(name) if is_kv(name) else ""


def past_startup(value: float, most: float) -> str:
    """Of a knob that turns live, but never above what the server was started with."""
    return f"{value:g} is more than the {most:g} the server was started with: {_NOT_SET}"


def past_slots(value: float, slots: float) -> str:
    """Of a gate, which stands for fewer slots and never for more."""
    return f"{value:g}: the server has {slots:g} slots, a gate only goes down: {_NOT_SET}"


def fixed(label: str, value: float) -> str:
    """Of a setting that is known and does not turn."""
    return f"{label} {value:g}: no server changes that while it runs: {_NOT_SET}"


def restart_words(name: str, value: float, flags: Mapping[str, str]) -> str:
    """`--max-num-seqs 64`, `OLLAMA_NUM_PARALLEL=8`; of a KV cache, which has no such number, `another
    --gpu-memory-utilization`; empty: the server's flag is not known.

    Args:
        flags: the server's own words, by setting.
    """
    if name not in flags:
        return ""
    flag, blank, rest = flags[name].partition(" ")
    if not is_slots(name):
        return f"another {flags[name]}"
    return f"{flag}{' ' if flag.startswith('-') else '='}{value:g}{blank}{rest}"


def hints(endpoint: EndpointStatus) -> list[str]:
    """What turns live and by whom, or what stands in for it, and why; the longest way of saying it first."""
    if any(map(is_slots, endpoint.knobs)):
        by = f" by {endpoint.knobs_by}" if endpoint.knobs_by else ""
        return [f"a knob is turned at once{by}; u turns it back"]
    gate, brief = "the gate lets so many through at once, as a server with fewer slots would", "gate: as fewer slots"
    whys = [f"{each}{SEP}{endpoint.no_knobs}" for each in (gate, brief) if endpoint.no_knobs]
    return [*filter(None, (*whys, endpoint.no_knobs)), gate, brief]


def also_here(labels: Sequence[str]) -> str:
    """`also here: tok budget, faults`: rows that have no room."""
    return f"also here: {', '.join(labels)}" if labels else ""


class Asked(Struct, frozen=True):
    """A setting with a value that is asked about."""

    name: str
    value: float
    label: str
    """`max seqs`, `gate`."""
    is_set: bool = False
    """It stands so; otherwise it is only asked about."""

    @property
    def told(self) -> str:
        return f"{self.label} {self.value:g}"


def asked_ways(asked: Sequence[Asked], flags: Mapping[str, str], foreseen: Foresight | None) -> list[str]:
    """What is asked about and what it would give, the longest way of saying it first; nothing of what is set while
    there is no answer.

    Args:
        flags: as `restart_words` takes them.
        foreseen: the answer; None: there is none yet.
    """
    what = ", ".join(each.told for each in asked)
    unset = [each for each in asked if not each.is_set]
    flag = ", ".join(filter(None, (restart_words(each.name, each.value, flags) for each in unset)))
    how = f"restart with {flag}" if flag else ""
    if foreseen is None:
        told = SEP.join(filter(None, (f"{what} is {_NOT_SET}", how)))
        return [told, f"not set: {how or what}"] if unset else []
    if not unset:
        return [foreseen.text, f"{what}: {_brief(foreseen)}"]
    gives, after = _brief(foreseen), f"{SEP}not set{f': {how}' if how else ''}"
    ways = [f"{foreseen.text}{after}", f"{what}: {gives}{after}", f"not set ({flag or what}): {gives}"]
    return [*ways, f"{what} not set: {gives}", f"not set: {gives}"]


def with_note(note: str, ways: Sequence[str], asked: Sequence[Asked]) -> list[str]:
    """The same with who holds the load before it: of what is set, that is what counts, and what it is goes first."""
    if not note or not ways:
        return list(ways)
    short = note.partition(", ")[0]
    told = [f"{each}{SEP}{way}" for each in (note, short) for way in ways]
    if all(each.is_set for each in asked):
        return [*told, f"{short}{SEP}{ways[-1].partition(': ')[2]}"]
    return [*told, *ways]


def _brief(foreseen: Foresight) -> str:
    """`~71 users at the SLO (62 to 80), twin 3 % off`, or `--, drag prompt to 2048 for 10 s`"""
    if foreseen.users is None and foreseen.wall is None:
        return f"{UNKNOWN}, {foreseen.missing}" if foreseen.missing else foreseen.text
    found = users_text(foreseen.users, foreseen.axis) if foreseen.users is not None else ""
    found = found or (wall_text(foreseen.wall, foreseen.axis) if foreseen.wall is not None else "")
    return found if foreseen.off is None else f"{found}, twin {TEXT.round_percent(round(foreseen.off, 2))} off"
