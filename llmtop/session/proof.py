"""Whether a server is the one that was asked for: restarted, and with the settings it was to have. Pure.

A server that ignores a flag, a wrong service that was restarted, an old container that still answers: each gives
figures that look right. What a server tells of itself decides; where it tells nothing, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.settings import SLOTS, is_slots, setting_key

_LEFT_OPEN = ("auto", "none", "default", "")
"""Values by which the choice is left to the server: whatever it tells then is no contradiction."""
_THOUSANDS = {"k": 1e3, "m": 1e6, "g": 1e9, "K": 1024.0, "M": 1024.0**2, "G": 1024.0**3}
"""As vLLM reads `--max-model-len 8k` and `8K`."""
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Proof(Struct, frozen=True, kw_only=True):
    """What is known of a server after it was started or changed."""

    restarted: bool | None
    """None: neither metrics nor a connection that was refused tell."""
    knobs: tuple[tuple[str, str, str | None], ...]
    """(name, wanted, what the server tells) of each setting; None: it does not tell."""
    ok: bool | None
    """True: it tells every setting as wanted. False: not applied. None: nothing contradicts, and not all is told."""
    text: str

    @property
    def contradicted(self) -> tuple[tuple[str, str, str], ...]:
        """Those settings of which the server tells something else."""
        return tuple(
            (name, wanted, seen) for name, wanted, seen in self.knobs if seen is not None and not agree(wanted, seen)
        )


def proof_of(wanted: Mapping[str, str], info: EndpointInfo, restarted: bool | None) -> Proof:
    """What a server's own words prove."""
    knobs = tuple((name, value, told_of(info, name)) for name, value in wanted.items())
    proof = Proof(restarted=restarted, knobs=knobs, ok=None, text="")
    others = proof.contradicted
    silent = [name for name, value, seen in knobs if seen is None or (setting_key(value) in _LEFT_OPEN)]
    how = {True: "restarted", False: "the same process as before", None: "it does not tell whether it restarted"}
    if others:
        told = " and ".join(f"{name} {seen} instead of {value}" for name, value, seen in others)
        return _with(proof, False, f"not applied: it says {told}")
    if not silent:
        told = " and ".join(f"{name} {value}" for name, value, _ in knobs)
        return _with(proof, True, f"{how[restarted]}; it says {told}" if told else how[restarted])
    unsaid = f"it does not tell {' and '.join(silent)}"
    if restarted is False:
        return _with(proof, False, f"not applied: {how[False]}, and {unsaid}")
    return _with(proof, None, f"{how[restarted]}; {unsaid}")


def told_of(info: EndpointInfo, name: str) -> str | None:
    """What the server tells of one setting, by whichever of its names; None: nothing."""
    flags = {setting_key(flag): value for flag, value in info.flags}
    key = setting_key(name)
    if key in flags:
        return flags[key]
    if is_slots(key):
        told = next((flags[each] for each in SLOTS if each in flags), None)
        return told if told is not None or info.max_num_seqs is None else str(info.max_num_seqs)
    if key == "max_model_len" and info.max_model_len is not None:
        return str(info.max_model_len)
    return None


def agree(wanted: str, seen: str) -> bool:
    """Whether two ways of writing mean the same value: 8k and 8000, 0.90 and 0.9, fp8 and fp8_e4m3, True and true."""
    one, other = setting_key(wanted), setting_key(seen).removeprefix("torch.")
    if one in _LEFT_OPEN or one == other:
        return True
    if one in _TRUTH and other in _TRUTH:
        return _TRUTH[one] == _TRUTH[other]
    numbers = _number(wanted), _number(seen)
    if numbers[0] is not None and numbers[1] is not None:
        return abs(numbers[0] - numbers[1]) <= 1e-9 * max(abs(numbers[0]), abs(numbers[1]))
    return other.startswith(f"{one}_")


def _number(text: str) -> float | None:
    text = text.strip()
    factor = _THOUSANDS.get(text[-1:], 1.0)
    try:
        return float(text[:-1] if text[-1:] in _THOUSANDS else text) * factor
    except ValueError:
        return None


def _with(proof: Proof, ok: bool | None, text: str) -> Proof:
    return Proof(restarted=proof.restarted, knobs=proof.knobs, ok=ok, text=text)
