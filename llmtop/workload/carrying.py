"""What every request carries besides its prompt: further fields of its body, a model by its share, an end by us.

All of it is a function of the seeds and of the request's number alone, so that a run can be driven again as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec
from msgspec import structs

from llmtop.domain.bounds import WEIGHT
from llmtop.domain.profile import ModelShare, Workload
from llmtop.workload.prompts import Prompt

OWN_FIELDS = (
    "model",
    "stream",
    "stream_options",
    "messages",
    "prompt",
    "input",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
)
"""Fields of a body that the load sets itself. Those that pin the output length (`ignore_eos`, `min_tokens`) are the
user's to set otherwise."""
MOST_BODY = 65_536
"""Bytes of the further fields: they go out with every request, and stand in the run file."""
MOST_STOPS = 16
"""Stop words; OpenAI takes 4, vLLM any number."""
MOST_STOP = 256
"""Letters of one."""
MOST_MODELS = 256
MOST_MODEL = 512
"""Letters of a model's name."""
_MERGED = 64
"""Joined fields that are remembered."""


def body_fault(fields: object) -> tuple[str, str] | None:
    """What is wrong with the further fields of a body: the name of the field (empty: all of it), and why."""
    if not isinstance(fields, dict):
        return "", 'must be a JSON object, such as {"temperature": 0}'
    own = next((name for name in OWN_FIELDS if name in fields), None)
    if own is not None:
        return own, "is set by llmtop itself; leave it out"
    if "" in fields:
        return "", "has a field without a name"
    for name, value in fields.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return name, "holds what JSON cannot: a date, NaN, infinity or too many levels"
    if len(json.dumps(fields)) > MOST_BODY:
        return "", f"is longer than {MOST_BODY:,} bytes"
    return None


def body_text(fields: dict[str, Any]) -> str:
    """As `Workload.body` holds fields without a fault."""
    return json.dumps(fields, separators=(",", ":")) if fields else ""


def stop_fault(words: tuple[str, ...], fields: Mapping[str, object]) -> str | None:
    """What is wrong with stop words beside these fields of the body."""
    if words and "stop" in fields:
        return "stands in the body, too; keep one of them"
    if len(words) > MOST_STOPS:
        return f"must be at most {MOST_STOPS} words"
    if any(not word or len(word) > MOST_STOP for word in words):
        return f"must be words of 1 to {MOST_STOP} letters"
    return None


def models_fault(models: tuple[ModelShare, ...]) -> tuple[int, str] | None:
    """Which of the models, counted from 1, is wrong, and why."""
    if len(models) > MOST_MODELS:
        return MOST_MODELS + 1, f"is one too many: at most {MOST_MODELS}"
    for place, model in enumerate(models, 1):
        if not model.name.strip() or len(model.name) > MOST_MODEL or not model.name.isprintable():
            return place, f"needs a name of 1 to {MOST_MODEL} letters"
        if not WEIGHT.holds(model.weight):
            return place, f"has the weight {model.weight:g}, which must be {WEIGHT.allowed}"
        if model.name in (other.name for other in models[: place - 1]):
            return place, f"is {model.name!r} a second time; give it one weight"
    return None


class Carried:
    """What the requests of a process carry.

    Args:
        workload: says it.
        seed: of the run, beside the workload's own.
        start, step: requests and users of this process have the numbers start, start + step, ... of the run.

    Attributes:
        extra: what is in every body, as in `Prompt.extra`.
    """

    def __init__(self, workload: Workload, seed: int = 0, *, start: int = 0, step: int = 1) -> None:
        self.extra = extra_of(workload)
        self._seed = f"{workload.seed} {seed}"
        self._start, self._step = start, step
        self._names = [model.name for model in workload.models]
        self._weights = [model.weight for model in workload.models]
        self._cancel = workload.cancel
        self._header = workload.user_header
        self.keeps_connection = workload.affinity == "session"
        self._is_plain = not (self.extra or self._names or self._cancel)
        self._merged: dict[bytes, bytes] = {}

    def header(self, user: int) -> tuple[str, str] | None:
        """What tells a router whose request it is: name and value, of the user of that number in this process."""
        return None if self._header is None else (self._header, f"user-{self._start + self._step * user}")

    def dress(self, prompt: Prompt, number: int) -> Prompt:
        """The prompt with all that it does not say itself, as request `number` (from 0) of this process."""
        if self._is_plain:
            return prompt
        index = self._start + self._step * number
        model, hang_up_s = prompt.model, prompt.hang_up_s
        if model is None and self._names:
            place = f"session {prompt.session}" if prompt.session is not None else str(index)
            draw = Random(f"model {self._seed} {place}")
            model = draw.choices(self._names, self._weights)[0]
        cancel = self._cancel
        if hang_up_s is None and cancel is not None and Random(f"end {self._seed} {index}").random() < cancel.share:
            hang_up_s = cancel.after_s
        return structs.replace(prompt, model=model, hang_up_s=hang_up_s, extra=self._with(prompt.extra))

    def _with(self, own: bytes) -> bytes:
        """The fields of every body, and a prompt's own, which count where both say something."""
        if not own or not self.extra:
            return own or self.extra
        merged = self._merged.get(own)
        if merged is None:
            fields: dict[str, msgspec.Raw] = {**_fields(self.extra), **_fields(own)}
            if len(self._merged) >= _MERGED:
                self._merged.clear()
            merged = self._merged[own] = b"," + msgspec.json.encode(fields)[1:-1]
        return merged


def extra_of(workload: Workload) -> bytes:
    """Fields of every body besides those of the dialect, as in `Prompt.extra`."""
    fields: dict[str, Any] = json.loads(workload.body) if workload.body else {}
    if workload.stop:
        fields["stop"] = list(workload.stop)
    return b"," + json.dumps(fields, separators=(",", ":")).encode()[1:-1] if fields else b""


def _fields(extra: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(b"{" + extra[1:] + b"}", type=dict[str, msgspec.Raw])


def read_models(text: str) -> tuple[ModelShare, ...]:
    """`base:3,lora-a:1`: names, each with its weight behind the last colon; without one it is 1.

    Raises ValueError in words. What stands behind a colon and is no number is of the name (`llama3:8b`).
    """
    models = []
    for part in text.split(","):
        name, colon, weight = part.strip().rpartition(":")
        try:
            share = float(weight)
        except ValueError:
            name, share = part.strip(), 1.0
        else:
            if not colon:
                name, share = part.strip(), 1.0
        models.append(ModelShare(name=name, weight=share if math.isfinite(share) else -1.0))
    fault = models_fault(tuple(models))
    if fault is not None:
        raise ValueError(f"model {fault[0]} {fault[1]}")
    return tuple(models)


PLAIN = Carried(Workload())
"""Requests that carry nothing besides their prompts."""
