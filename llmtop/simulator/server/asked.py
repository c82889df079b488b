"""What a client asks for: OpenAI chat and completions bodies, checked, with vLLM's refusals word for word.

No tokenizer: a prompt given as token ids counts exactly; in a text each whitespace-separated word is one token (true
of llmtop's synthetic prompts), unless words are so long on average that four characters a token is the better guess.
A chat message costs four more, and the template's call for an answer three.

Source of messages: vLLM 0.32 `vllm/entrypoints/openai/*/protocol.py` and `serving.py`, recorded from a real server.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any, NamedTuple

import msgspec

MAX_WORD_CHARACTERS = 12
"""Mean characters a word above which a text is no sequence of one-token words (CJK, base64, minified code)."""

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 4, 200, 200, 40
_SHOWN.maxlist = _SHOWN.maxdict = 20

_MALFORMED = re.compile(r"\(byte (\d+)\)")


class ApiError(Exception):
    """An answer that is not a stream: status and the body's four fields."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param
        super().__init__(message)

    def body(self) -> bytes:
        """As vLLM sends it with an HTTP status."""
        return b'{"error":%b}' % msgspec.json.encode(self._fields())

    def event(self) -> bytes:
        """As vLLM sends it inside a stream that has begun (spaces after the separators included)."""
        fields = ", ".join(f'"{name}": {msgspec.json.encode(value).decode()}' for name, value in self._fields().items())
        return f'data: {{"error": {{{fields}}}}}\n\n'.encode()

    def _fields(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}


def shown(value: object) -> str:
    """What a client has sent, as an error repeats it: a little of it, however large or deep it is."""
    return _SHOWN.repr(value)


def engine_busy() -> ApiError:
    """The queue limit (max_num_queued_reqs, max_num_queued_tokens) is reached."""
    return ApiError(
        503,
        "Service Unavailable",
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance.",
    )


class Asked(NamedTuple):
    """A generation that can be run."""

    api: str
    """chat, completions, responses or embeddings."""
    model: str
    """By the name that its answer repeats."""
    chat: bool
    """Whether its answer begins with an event that holds no token."""
    tokens: list[Any]
    """Stand-ins of the prompt's tokens: ids or pieces of text. Equal heads are equal prefixes."""
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    priority: int
    inputs: int = 1
    """Of embeddings: vectors that are answered."""


def read_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, or vLLM's refusal of it."""
    try:
        asked = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:  # no JSON or no UTF-8, numbers too long, lists too deep
        found = _MALFORMED.search(str(error))
        where = f"body.{found.group(1)}" if found else "body.0"
        raise _invalid(
            "json_invalid", where, "JSON decode error", {}, ", 'ctx': {'error': 'Expecting value'}"
        ) from error
    if not isinstance(asked, dict):
        raise _invalid("model_attributes_type", "body", "Input should be a valid dictionary", asked)
    return asked


def read_generation(body: bytes, *, api: str, models: tuple[str, ...], max_model_len: int) -> Asked:
    """Check a body of one of the APIs. Raises Refusal."""
    asked = read_json(body)
    model = check_model(asked, models)
    if api == "embeddings":
        return _read_embeddings(asked, model, max_model_len)
    chat = api != "completions"
    if api == "responses":
        limit = _integer(asked, "max_output_tokens", None)
    else:
        limit = _integer(asked, "max_completion_tokens", None) if chat else None
        if limit is None:
            limit = _integer(asked, "max_tokens", None if chat else 16)
    min_tokens = _integer(asked, "min_tokens", 0) or 0
    if _integer(asked, "n", 1) not in (None, 1):
        raise _bad("The simulated engine gives one answer per request: n must be 1.", "n")
    stream = _boolean(asked, "stream")
    options = asked.get("stream_options")
    if options is not None and not stream:
        raise _invalid("value_error", "body", "Value error, Stream options can only be defined when `stream=True`.", {})
    if not isinstance(options, dict):
        options = {}
    tokens = _input_messages(asked) if api == "responses" else prompt_tokens(asked, chat=chat)
    return Asked(
        api=api,
        model=model,
        chat=chat,
        tokens=tokens,
        max_tokens=_output_limit(limit, min_tokens, len(tokens), max_model_len),
        min_tokens=min_tokens,
        ignore_eos=_boolean(asked, "ignore_eos"),
        stream=stream,
        include_usage=api == "responses" or _boolean(options, "include_usage"),
        continuous_usage=_boolean(options, "include_usage") and _boolean(options, "continuous_usage_stats"),
        priority=_integer(asked, "priority", 0) or 0,
    )


def _read_embeddings(asked: dict[str, Any], model: str, max_model_len: int) -> Asked:
    """One prefill of all inputs together."""
    if "input" not in asked:
        raise _missing("input", asked)
    given = asked["input"]
    inputs = given if isinstance(given, list) and given else [given]
    if not all(isinstance(text, str) and text for text in inputs):
        raise _bad("The simulated engine takes texts as input.", "input")
    tokens = [token for text in inputs for token in split(text)]
    _output_limit(1, 0, len(tokens), max_model_len)
    return Asked(
        api="embeddings",
        model=model,
        chat=False,
        tokens=tokens,
        max_tokens=1,
        min_tokens=1,
        ignore_eos=True,
        stream=False,
        include_usage=True,
        continuous_usage=False,
        priority=_integer(asked, "priority", 0) or 0,
        inputs=len(inputs),
    )


def _input_messages(asked: dict[str, Any]) -> list[Any]:
    """The input of a response: a text, or messages."""
    if "input" not in asked:
        raise _missing("input", asked)
    given = asked["input"]
    return _message_tokens([{"role": "user", "content": given}] if isinstance(given, str) else given)


def check_model(asked: dict[str, Any], models: tuple[str, ...]) -> str:
    """The model that is asked. No model named means the first that is served."""
    name = asked.get("model")
    if name is None:
        return models[0]
    if name not in models:
        name = name[:200] if isinstance(name, str) else shown(name)
        valid = ", ".join(models)
        raise ApiError(404, "NotFoundError", f"The model `{name}` does not exist. Valid aliases: {valid}.", "model")
    return str(name)


def prompt_tokens(asked: dict[str, Any], *, chat: bool) -> list[Any]:
    """Stand-ins of the prompt's tokens, chat template included."""
    if chat:
        if "messages" not in asked:
            raise _missing("messages", asked)
        return _message_tokens(asked["messages"])
    prompt = asked.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return split(prompt)
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    if isinstance(prompt, list) and len(prompt) > 1:
        raise _bad("The simulated engine takes one prompt per request.", "prompt")
    raise _invalid(
        "value_error", "body", "Value error, Either prompt or prompt_embeds must be provided and non-empty.", {}
    )


def split(text: str) -> list[Any]:
    """A text as stand-ins of its tokens."""
    words = text.split()
    if len(text) > MAX_WORD_CHARACTERS * max(len(words), 1):
        return [text[start : start + 4] for start in range(0, len(text), 4)]
    return words


def _message_tokens(messages: Any) -> list[Any]:
    if not isinstance(messages, list) or not messages:
        raise _invalid(
            "too_short", "body.messages", "List should have at least 1 item after validation, not 0", messages
        )
    tokens: list[Any] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _invalid("missing", f"body.messages.{index}.role", "Field required", message)
        tokens += ["<start>", message["role"], "<header end>", "<message end>"]
        content = message.get("content")
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = " ".join(text for text in parts if isinstance(text, str))
        if isinstance(content, str):
            tokens += split(content)
    tokens += ["<start>", "assistant", "<header end>"]
    return tokens


def _output_limit(limit: int | None, min_tokens: int, prompt: int, max_model_len: int) -> int:
    """Output tokens at most: what is asked, cut to what the context leaves."""
    if prompt >= max_model_len:
        raise ApiError(
            400,
            "BadRequestError",
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
            f"{max_model_len + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
            f"the length of the input prompt. (parameter=input_tokens, value={max_model_len + 1})",
            "input_tokens",
        )
    if limit is None:
        limit = max_model_len - prompt
    if limit < 1:
        raise _bad(f"max_tokens must be at least 1, got {shown(limit)}.", "max_tokens", limit)
    if limit > max_model_len:
        raise _bad(
            f"max_tokens={shown(limit)} cannot be greater than max_model_len={max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
            limit,
        )
    if min_tokens > limit:
        raise _bad(
            f"min_tokens must be less than or equal to max_tokens={limit}, got {shown(min_tokens)}.", "min_tokens"
        )
    return min(limit, max_model_len - prompt)


def _bad(message: str, param: str, value: object = None) -> ApiError:
    if value is not None:
        message += f" (parameter={param}, value={shown(value)})"
    return ApiError(400, "BadRequestError", message, param)


def _invalid(kind: str, where: str, message: str, value: object, context: str = "") -> ApiError:
    """A refusal by the request's schema, as FastAPI and vLLM word it."""
    given = f"<dict of {len(value)} items>" if isinstance(value, dict) else value
    fields = f"'type': {kind!r}, 'loc': {where!r}, 'msg': {message!r}, 'input': {shown(given)}{context}"
    return ApiError(400, "Bad Request", f"1 validation error:\n  {{{fields}}}", where)


def _missing(name: str, asked: dict[str, Any]) -> ApiError:
    return _invalid("missing", f"body.{name}", "Field required", asked)


def _integer(asked: dict[str, Any], name: str, default: int | None) -> int | None:
    value = asked.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and type(value) is not int:
        problem = "Input should be a valid integer, unable to parse string as an integer"
        raise _invalid("int_parsing", f"body.{name}", problem, value)
    return value


def _boolean(asked: dict[str, Any], name: str) -> bool:
    value = asked.get(name)
    if value is not None and type(value) is not bool:
        problem = "Input should be a valid boolean, unable to interpret input"
        raise _invalid("bool_parsing", f"body.{name}", problem, value)
    return bool(value)
