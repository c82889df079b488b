"""What the bank of a server's knobs says: what turns live, what is only asked about, and how it would be set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmtop.domain.endpoint import EndpointStatus
from llmtop.domain.settings import is_slots
from llmtop.domain.verdicts import Foresight
from llmtop.wording.figures import UNKNOWN

SEP = " · "
SLOTS, KV = "max_num_seqs", "num_gpu_blocks"
"""What a twin is asked about, whatever the server calls it."""
_LABELS = {KV: "KV blocks", "max_num_batched_tokens": "tok budget", "max_num_scheduled_tokens": "tok budget"}
_NOT_SET = "asked about, not set"


def label_of(name: str) -> str:
    """The name of a setting where a label has room: `max seqs`, `KV blocks`."""
    return _LABELS.get(name) or name.replace("max_num_", "max ").replace("_", " ")


def as_the_twin(name: str) -> str:
    """A setting's name as a twin is asked about it; empty: it knows nothing of it."""
    return SLOTS if is_slots(name) else name if name == KV else ""


def past_startup(value: float, most: float) -> str:
    """Of a knob that turns live, but never above what the server was started with."""
    return f"{value:g} is more than the {most:g} the server was started with: {_NOT_SET}"


def past_slots(value: float, slots: float) -> str:
    """Of a gate, which stands for fewer slots and never for more."""
    return f"{value:g} is more than the {slots:g} slots of the server, and a gate only goes down: {_NOT_SET}"


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


def knobs_hint(endpoint: EndpointStatus) -> str:
    """What turns live and by whom, or what stands in for it, and why."""
    if any(is_slots(name) for name in endpoint.knobs):
        by = f" by {endpoint.knobs_by}" if endpoint.knobs_by else ""
        return f"a knob is turned at once{by}; u turns it back"
    gate = "the gate lets so many through at once, as a server with fewer slots would"
    return f"{gate}{SEP}{endpoint.no_knobs}" if endpoint.no_knobs else gate


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
    gives = "" if foreseen is None else foreseen.text or (foreseen.missing and f"{UNKNOWN}: {foreseen.missing}")
    what = ", ".join(each.told for each in asked)
    unset = [each for each in asked if not each.is_set]
    if not unset:
        return [f"{what}: {gives}"] if gives else []
    flag = ", ".join(filter(None, (restart_words(each.name, each.value, flags) for each in unset)))
    how = f"{SEP}restart with {flag}" if flag else ""
    if not gives:
        return [f"{what} is {_NOT_SET}{how}", f"{what} not set{how}"]
    return [f"{what}, not set: {gives}{how}", f"not set ({flag or what}): {gives}"]
