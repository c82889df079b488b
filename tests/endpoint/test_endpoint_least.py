"""The least output length is learned from what says it, and from nothing else that servers say of lengths."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, RequestShape
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.least import MOST, UNTOLD, least_length

BELOW = "integer below minimum value. Expected a value >= 16, but got 2 instead."

LEAST = [
    (f"Invalid 'max_output_tokens': {BELOW}", 16),  # OpenAI, Azure
    ("Invalid 'max_output_tokens': integer below minimum value. Expected a value >=16, but got 5 instead.", 16),
    (f"Provider returned error: Invalid 'max_output_tokens': {BELOW}", 16),  # OpenRouter
    (f"litellm.BadRequestError: AzureException - Invalid 'max_output_tokens': {BELOW} Received Model Group=gpt-5", 16),
    (
        f"The parameter max_tokens specified in the request is not valid: {BELOW.replace('. E', ', e')} Request id: 02",
        16,
    ),
    ("2 is less than the minimum of 16 - 'max_tokens'", 16),  # OpenAI of 2023
    ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [10, 65536]", 10),  # DashScope
    ("Invalid max_tokens value, the valid range of max_tokens is [16, 8192]", 16),  # DeepSeek
    ("max_tokens must be greater than 2 (request id: 20260817)", 3),  # b.ai
    ("it has a maxOutputTokens value of 2 but the supported range is from 16 (inclusive) to 8193 (exclusive)", 16),
    ("body.max_tokens: Input should be greater than or equal to 16", 16),  # pydantic 2: Mistral, vLLM, FastAPI
    ("body.max_tokens: Input should be greater than 15", 16),
    ("body.max_tokens: ensure this value is greater than or equal to 16", 16),  # pydantic 1
    ("body.model: Field required; body.max_tokens: Input should be greater than or equal to 16", 16),
    (
        "[{'type': 'greater_than_equal', 'loc': ('body', 'max_tokens'), 'msg': 'Input should be greater than or equal "
        "to 16', 'input': 2, 'ctx': {'ge': 16}}]",
        16,
    ),
    (
        "1 validation error for ChatCompletionRequest max_tokens Input should be greater than or equal to 16 "
        "[type=greater_than_equal, input_value=2, input_type=int]",
        16,
    ),
    ("Too small: expected number to be >=16: max_tokens", 16),  # zod
    ("max_tokens: Number must be greater than or equal to 16", 16),
    ("Input validation error: `max_new_tokens` must be >= 16", 16),  # TGI
    ("max_tokens must be at least 16, got 2.", 16),  # vLLM, SGLang
    ("max_tokens (2) must be at least 16", 16),
    ("max_tokens must be > 15", 16),
    ("max_completion_tokens must be an integer between 16 and 4096", 16),
    ("max_tokens must be between 16 and the limit of the model", 16),
    ("max_tokens should be greater than or equal to 16", 16),
    ("max_tokens must be no less than 16", 16),
    ("max_tokens cannot be less than 16", 16),
    ("max_tokens must be not less than 16", 16),
    ("max_tokens is not allowed to be less than 16", 16),
    ("max_tokens must be 16 or greater", 16),
    ("max_tokens must be equal to or greater than 16", 16),
    ("max_tokens must exceed 15", 16),
    ("max_tokens must be a positive integer of at least 16", 16),
    ("max_tokens must not be smaller than 16", 16),
    ("The minimum value for max_tokens is 16", 16),
    ("max_tokens is too small (minimum 16)", 16),
    ("max_tokens: at least 16 tokens are required", 16),
    ("The model needs at least 16 output tokens", 16),
    ("Please set max_tokens to at least 16", 16),
    ("max_tokens must be at most 4096 and at least 16", 16),
    ("max_tokens must be <= 4096 and >= 16", 16),
    ("Invalid 'max_tokens': integer below minimum value", UNTOLD),
    ("max_tokens is too small", UNTOLD),
]

OTHER = [
    # vLLM
    "This model's maximum context length is 512 tokens. However, you requested 256 output tokens and your prompt "
    "contains at least 257 input tokens, for a total of at least 513 tokens. Please reduce the length of the input "
    "prompt or the number of requested output tokens.",
    "'max_tokens' or 'max_completion_tokens' is too large: 256. This model's maximum context length is 512 tokens and "
    "your request has 300 input tokens (256 > 512 - 300).",
    "max_tokens must be at least 1, got -160.",
    "min_tokens must be less than or equal to max_tokens=1, got 2.",
    # SGLang
    "Requested token count exceeds the model's maximum context length of 512 tokens. You requested a total of 768 "
    "tokens: 512 tokens from the input messages and 256 tokens for the completion.",
    # TGI
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 "
    "`max_new_tokens`",
    "Input validation error: `max_new_tokens` must be <= 192",
    "Input validation error: `max_new_tokens` must be strictly positive",
    # OpenAI
    "max_tokens is too large: 900. This model supports at most 512 completion tokens, whereas you provided 900.",
    "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got -1 instead.",
    "This model's maximum context length is 4097 tokens, however you requested 4116 tokens (3860 in your prompt; 256 "
    "for the completion). Please reduce your prompt; or completion length.",
    # Groq
    "max_tokens for `llama-3.1-8b-instant` must be less than or equal to 800",
    "max_completion_tokens must be less than or equal to 960, the maximum value for max_completion_tokens is less than "
    "the context_window for this model",
    # Anthropic
    "max_tokens: 900 > 512, which is the maximum allowed number of output tokens for claude",
    "`max_tokens` must be greater than `thinking.budget_tokens`",
    # DeepSeek, DashScope, Volcengine, Gemini, Ollama, Mistral
    "Invalid max_tokens value, the valid range of max_tokens is [1, 512]",
    "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 512]",
    "The parameter max_tokens specified in the request is not valid: integer above maximum value, expected a value "
    "<= 512, but got 900 instead. Request id: 02",
    "it has a maxOutputTokens value of 900 but the supported range is from 1 (inclusive) to 513 (exclusive)",
    "max_tokens (900) exceeds model's maximum output tokens (512) for model m",
    "body.max_tokens: Input should be less than or equal to 512",
    # another field, another thing, another number
    "body.max_tokens: Input should be a valid integer; body.top_k: Input should be greater than or equal to 16",
    "max_tokens is not supported; temperature must be at least 16",
    "max_tokens must be an integer, top_k must be at least 16",
    "max_tokens is required. Your quota must be at least 100",
    "the limit of max tokens per minute must be at least 100",
    "the server needs at least 257 MB",
    "you requested at least 600 output tokens",
    "Value 600 for max_tokens is not less than 512",
    "max_tokens must be at least 16k",
    f"max_tokens must be at least {MOST + 1:,}",
]


@pytest.mark.parametrize(("message", "least"), LEAST)
def test_a_least_length_is_read_in_every_form_it_is_told_in(message: str, least: int | None) -> None:
    assert least_length(message) == least


@pytest.mark.parametrize("message", OTHER)
def test_what_is_said_of_other_lengths_teaches_none(message: str) -> None:
    assert least_length(message) is None


FIELDS = st.sampled_from(["max_tokens", "'max_output_tokens'", "`max_new_tokens`", "maxOutputTokens", "output tokens"])
UPPER = [
    "{field} must be below {n}",
    "{field} must be under {n}",
    "{field} must be less than {n}",
    "{field} must be less than or equal to {n}",
    "{field} must be <= {n}",
    "{field} must be <{n}",
    "{field} must be at most {n}",
    "{field} must be no more than {n}",
    "{field} must not be greater than {n}",
    "{field} must not be more than or equal to {n}",
    "{field} must not be above {n}",
    "{field} cannot be larger than {n}",
    "{field} can't be over {n}",
    "{field} may not exceed {n}",
    "{field} must not exceed {n}",
    "{field} must be {n} or less",
    "{field} must be equal to or less than {n}",
    "{field} must be no greater than {n}",
    "{field} should be up to {n}",
    "lower {field}: at least {n} too many",
    "Please set {field} below {n}",
    "{field} should be {n} at most",
    "{field} is greater than {n}",
    "{field} is not less than {n}",
    "{field} is above {n}",
    "{field}: {more} > {n}",
    "{field} > {n}",
    "{field} ({more}) exceeds the maximum of {n}",
    "{field} is too large: at most {n} are allowed",
    "{field} should be in [1, {n}]",
    "{field} must be between 0 and {n}",
    "Invalid {field}: integer above maximum value. Expected a value <= {n}, but got {more} instead.",
    "The maximum value of {field} is {n}",
    "you requested at least {more} {field}, and {n} is the limit",
    "the request has at least {n} {field}",
]


@given(field=FIELDS, form=st.sampled_from(UPPER), n=st.integers(2, 10**6), more=st.integers(1, 10**6))
def test_an_upper_bound_is_never_taken_for_a_least_length(field: str, form: str, n: int, more: int) -> None:
    assert least_length(form.format(field=field, n=n, more=n + more)) is None


@given(field=FIELDS, least=st.integers(2, MOST), above=st.integers(1, 10**5), first=st.booleans())
def test_the_least_length_is_told_of_a_range_or_of_both_bounds(field: str, least: int, above: int, first: bool) -> None:
    most = least + above
    assert least_length(f"{field} must be in [{least}, {most}]") == least
    both = [f"at least {least}", f"at most {most}"]
    assert least_length(f"{field} must be {' and '.join(both if first else both[::-1])}") == least


PARTS = ["max_tokens", "must", "be", "not", ">=", ">", "at least", "minimum", "16", "257", "(", ",", "in [9, 99]", "."]


@given(st.text(max_size=20) | st.lists(st.sampled_from(PARTS), max_size=20).map(" ".join))
def test_any_message_is_read(message: str) -> None:
    assert least_length(message) in (None, UNTOLD, *range(2, MOST + 1))


def test_a_refusal_for_the_context_changes_no_body() -> None:
    bodies = RequestBodies(DIALECTS[Dialect.VLLM].request, "m", RequestShape())
    before = bodies.body("x", 3, "chat")
    for message in OTHER[:3]:
        assert not bodies.learn(400, message, bodies.version)
    assert bodies.body("x", 3, "chat") == before


def test_a_least_length_that_is_not_told_is_found_in_steps() -> None:
    bodies = RequestBodies(DIALECTS[Dialect.OPENAI].request, "m", RequestShape())
    asked = []
    while bodies.learn(400, "max_tokens is too small", bodies.version):
        asked.append(json.loads(bodies.body("x", 3, "chat"))["max_tokens"])
    assert asked == [16, 64]


def test_lengths_that_no_server_asks_for_and_what_stands_late_in_a_refusal_are_left() -> None:
    assert least_length("max_tokens must be at least 1024") == 1024
    assert least_length("max_tokens must be at least 1025") is None
    late = "max_tokens must be at least 16".rjust(1000)
    assert (least_length(late), least_length(" " + late)) == (16, None)


def test_refusals_that_are_remembered_are_bounded() -> None:
    bodies = RequestBodies(DIALECTS[Dialect.VLLM].request, "m", RequestShape())
    for letter in range(100):
        assert not bodies.learn(400, f"no {chr(0x4E00 + letter)}", bodies.version)
    assert len(bodies._vain) == 64
