"""Request bodies: built cheaply, and without what an endpoint has refused before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from llmtop.dialects import RequestFields
from llmtop.domain.endpoint import RequestShape
from llmtop.endpoint.least import UNTOLD, least_length
from llmtop.meter.failures import folded

_CONTINUOUS = "continuous_usage_stats"
_NEWER = "max_completion_tokens"
"""What OpenAI's newer models want in the place of `max_tokens`."""
_FIELD = r"(?:fields?|param(?:eter)?s?|arguments?|propert(?:y|ies)|attributes?|options?)"
_UNKNOWN = re.compile(
    rf"(?:unknown|unrecogni[sz]ed|unexpected|unsupported|additional|extra)\b[\w\s]{{0,20}}\b{_FIELD}\b|\bextra inputs"
    rf"|\b{_FIELD}\b[^.]{{0,40}}(?:unknown|unrecogni[sz]ed|unexpected|unsupported|not (?:supported|permitted|allowed))",
    re.I,
)
"""Said of a field that is not named. An unexpected error or an unsupported model is none."""
_INSTEAD = re.compile(
    r"unknown|unrecogni[sz]ed|unsupported|not (?:supported|permitted|allowed)|deprecated|instead|did you mean|required"
    r"|missing",
    re.I,
)
"""Said of a field whose other name is wanted; servers that name both where the length is too large take both."""
_LEAST_GUESSES = (16, 64)
"""Tried where the least length is not told."""
_LEAST_STEPS = len(_LEAST_GUESSES) + 1
"""Least lengths that one request may be told in turn."""
_OTHER_NAMES = 1
"""Of the field of the output length."""

_REFUSALS = (400, 422)
"""Statuses with which a server complains of a body."""
_MOST_PREFIXES = 64
"""Beginnings of bodies that are remembered: one for each API, model and set of further fields."""
_MOST_VAIN = 64
"""Refusals of which it is known that nothing helps: they are read once."""

_encode = msgspec.json.encode
_Names = dict[str, msgspec.Raw]
_NONE: frozenset[str] = frozenset()


class RequestBodies:
    """Builds bodies for one endpoint, and learns how it wants them.

    Args:
        fields: what its dialect puts into a body.
        shape: what is known already of how it wants them.

    Attributes:
        version: grows when something was learned: a request of an older version that was refused is worth another try.
        shape: what is known by now.
    """

    def __init__(self, fields: RequestFields, model: str, shape: RequestShape) -> None:
        self.version = 0
        self.shape = shape
        self.model = model
        self._fields = fields
        self._prefixes: dict[tuple[str, str, bytes, bool], bytes] = {}
        self._users: dict[bytes, frozenset[str]] = {}
        self._lesson = ("", shape)
        """What the last refusal said that taught something, and the shape before it did."""
        self._vain: set[str] = set()
        """Refusals against which nothing helps that is known, without their numbers and ids."""

    @property
    def pins_output(self) -> bool:
        """Whether the output length is pinned by what is sent now."""
        fields = self._fields
        pins = [name for name in (*fields.pin, fields.min_tokens) if name]
        return any(name not in self.shape.dropped for name in pins)

    @property
    def asks_usage(self) -> bool:
        return self._fields.usage and "stream_options" not in self.shape.dropped

    @property
    def lessons(self) -> int:
        """How often a request may be refused, each time for something else, until nothing is left to be learned."""
        return len(self._optional()) + _OTHER_NAMES + _LEAST_STEPS

    def body(
        self,
        prompt: str | Sequence[Any],
        output_tokens: int,
        api: str,
        model: str | None = None,
        extra: bytes = b"",
        pinned: bool = True,
    ) -> bytes:
        """The JSON body.

        Args:
            prompt: text, or for chat and responses the list of messages, or for completions a list of token ids.
            model: that is asked; None: the endpoint's.
            extra: further fields, as in `Prompt.extra`.
            pinned: whether the length is pinned, where that can be; else it is the most.
        """
        shape = self.shape
        output_tokens = max(output_tokens, shape.least_tokens)
        model = self.model if model is None else model
        prefix = self._prefixes.get((api, model, extra, pinned))
        if prefix is None:
            if len(self._prefixes) >= _MOST_PREFIXES:
                self._prefixes.clear()
            prefix = self._prefixes[api, model, extra, pinned] = self._prefix(api, model, extra, pinned)
        if api == "completions":
            middle = b',"prompt":' + _encode(prompt)
        elif api in ("responses", "embeddings"):
            middle = b',"input":' + _encode(prompt if isinstance(prompt, str) else _as_input(prompt))
        elif isinstance(prompt, str):
            middle = b',"messages":[{"role":"user","content":' + _encode(prompt) + b"}]"
        else:
            middle = b',"messages":' + _encode(prompt)
        if api == "embeddings":
            return b"".join((prefix, middle, b"}"))
        if api == "responses":
            return b"".join((prefix, middle, f',"max_output_tokens":{output_tokens}}}'.encode()))
        tail = f',"{self._max_tokens}":{output_tokens}'
        least = self._fields.min_tokens
        if least and pinned and least not in shape.dropped and not (extra and least in self.users_of(extra)):
            tail += f',"{least}":{output_tokens}'
        return b"".join((prefix, middle, tail.encode(), b"}"))

    def users_of(self, extra: bytes) -> frozenset[str]:
        """The names of the user's own fields, which count where the dialect would say something else."""
        if not extra:
            return _NONE
        names = self._users.get(extra)
        if names is None:
            if len(self._users) >= _MOST_PREFIXES:
                self._users.clear()
            names = self._users[extra] = frozenset(msgspec.json.decode(b"{" + extra[1:] + b"}", type=_Names))
        return names

    def blamed(self, status: int | None, message: str, extra: bytes) -> str | None:
        """The user's own field that a refusal names, the longest of several; None: it names none."""
        if status not in _REFUSALS or not extra:
            return None
        named = (name for name in self.users_of(extra) if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message))
        return min(named, key=lambda name: (-len(name), name), default=None)

    def use_continuous_usage(self) -> None:
        """Ask for usage in every event from now on, where the endpoint takes it."""
        shape = self.shape
        if self._fields.continuous_usage and _CONTINUOUS not in shape.dropped and not shape.continuous_usage:
            self.shape = structs.replace(shape, continuous_usage=True)
            self._prefixes.clear()

    def learn(self, status: int | None, message: str, version: int) -> bool:
        """Read a refusal; returns whether the request, built as `version`, is worth another try.

        400 and 422 that name an optional field drop it; those that complain of an unknown one without a name that is
        known drop them all. A refusal that stays the same whatever is done was no complaint of a field: what it taught
        is taken back. Any other refusal stands.
        """
        if status not in _REFUSALS:
            return False
        if version != self.version:
            return True
        said = folded(message)
        if said in self._vain:
            return False
        shape, (before, old) = self._taught(message), self._lesson
        teaches = shape != self.shape
        if teaches and said != before:
            self._lesson = (said, self.shape)
        elif not teaches:
            shape = old if said == before else shape
            if len(self._vain) < _MOST_VAIN:
                self._vain.add(said)
        if shape != self.shape:
            self.shape = shape
            self.version += 1
            self._prefixes.clear()
        return teaches

    def answered(self, version: int) -> None:
        """A request that was built as `version` is answered: what was learned by then stays."""
        if version == self.version:
            self._lesson = ("", self.shape)

    @property
    def _max_tokens(self) -> str:
        return self.shape.max_tokens or self._fields.max_tokens

    def _taught(self, message: str) -> RequestShape:
        """The shape after a refusal; the same: it complains of nothing that can be helped."""
        shape, optional = self.shape, self._optional()
        named = {name for name in optional.union(shape.dropped) if name in message}
        is_unnamed = not named and _UNKNOWN.search(message) is not None
        if self._max_tokens == "max_tokens" and (
            (_NEWER in message and _INSTEAD.search(message)) or (is_unnamed and "max_tokens" in message)
        ):
            return structs.replace(shape, max_tokens=_NEWER)
        if (least := self._least_in(message)) > shape.least_tokens:
            return structs.replace(shape, least_tokens=least)
        refused = named.difference(shape.dropped)
        if _CONTINUOUS in refused:
            refused = {_CONTINUOUS}  # it is named with the field that it is in
        elif is_unnamed:
            refused = optional
        return structs.replace(shape, dropped=tuple(sorted(refused.union(shape.dropped))))

    def _least_in(self, message: str) -> int:
        """The least output length that a refusal asks for; 0: it complains of something else."""
        told = least_length(message)
        if told != UNTOLD:
            return told or 0
        return next((guess for guess in _LEAST_GUESSES if guess > self.shape.least_tokens), 0)

    def _optional(self) -> set[str]:
        """Optional fields that are sent now."""
        names = set(self._fields.pin)
        if self._fields.min_tokens:
            names.add(self._fields.min_tokens)
        if self._fields.usage:
            names.add("stream_options")
        if self.shape.continuous_usage:
            names.add(_CONTINUOUS)
        return names.difference(self.shape.dropped)

    def _prefix(self, api: str, model: str, extra: bytes, pinned: bool) -> bytes:
        if api == "embeddings":
            return _encode({"model": model})[:-1] + extra
        users = self.users_of(extra)
        fields: dict[str, Any] = {"model": model, "stream": True}
        if api == "responses":  # its usage comes unasked
            if "store" not in users:
                fields["store"] = False
        elif self.asks_usage:
            fields["stream_options"] = {"include_usage": True}
            if self.shape.continuous_usage and _CONTINUOUS not in self.shape.dropped:
                fields["stream_options"][_CONTINUOUS] = True
        for name, value in self._fields.pin.items():
            if pinned and name not in self.shape.dropped and name not in users:
                fields[name] = value
        return _encode(fields)[:-1] + extra


def _as_input(messages: Sequence[Any]) -> list[Any]:
    """The messages of a chat as the input of a response: parts of text have other names there."""
    told = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            kind = "output_text" if message.get("role") == "assistant" else "input_text"
            parts = [
                {**part, "type": kind} if isinstance(part, dict) and part.get("type") == "text" else part
                for part in content
            ]
            message = {**message, "content": parts}
        told.append(message)
    return told
