"""What a server tells of its own settings is kept by its flags' names; what else it tells of itself is not."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.flags import LABELS_LETTERS, VALUE_LETTERS, flags_in

LABELS = (
    b'vllm:cache_config_info{block_size="128",cache_dtype="auto",enable_prefix_caching="True",num_gpu_blocks="24"} 1\n'
)
LIST = {"data": [{"id": "m", "max_model_len": 2048}]}


def told(dialect: Dialect, answers: dict[str, Any], *pages: bytes) -> dict[str, str]:
    heard = Access(Endpoint(base_url="http://127.0.0.1:1")).heard
    found = flags_in(DIALECTS[dialect], answers.get, pages, "m", heard)
    assert list(found) == sorted(found)
    return dict(found)


def test_vllm_tells_by_labels_what_it_hides_outside_of_dev_mode() -> None:
    assert told(Dialect.VLLM, {"/v1/models": LIST}, b"# HELP x\nvllm:x 1\n" + LABELS) == {
        "block_size": "128",
        "kv_cache_dtype": "auto",
        "enable_prefix_caching": "true",
        "num_gpu_blocks": "24",
        "max_model_len": "2048",
    }


def test_what_the_server_says_in_words_of_its_own_goes_before_labels() -> None:
    info = {"vllm_config": {"cache_config": {"cache_dtype": "fp8"}, "scheduler_config": {"max_num_seqs": 8}}}
    found = told(Dialect.VLLM, {"/server_info?config_format=json": info}, LABELS)
    assert (found["kv_cache_dtype"], found["max_num_seqs"], found["block_size"]) == ("fp8", "8", "128")


def test_the_simulated_engine_tells_its_knobs_with_its_version() -> None:
    assert told(Dialect.VLLM, {"/version": {"version": "0.33", "max_num_seqs": 64}}) == {"max_num_seqs": "64"}


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_sglang_tells_its_arguments_without_keys_and_paths(path: str) -> None:
    args = {"max_running_requests": 64, "mem_fraction_static": 0.837, "kv_cache_dtype": "auto", "quantization": None}
    private = {
        "api_key": "k-1",
        "admin_api_key": "k-2",
        "model_path": "/home/ada/m",
        "launch_command": "python --api-key k",
    }
    assert told(Dialect.SGLANG, {path: args | private}) == {
        "max_running_requests": "64",
        "mem_fraction_static": "0.837",
        "kv_cache_dtype": "auto",
    }


def test_llamacpp_and_tgi_tell_theirs() -> None:
    props = {"total_slots": 4, "default_generation_settings": {"n_ctx": 2048}, "model_path": "/home/ada/m.gguf"}
    assert told(Dialect.LLAMACPP, {"/props": props}) == {"parallel": "4", "n_ctx": "2048"}
    info = {"model_id": "/data/m", "max_batch_size": None, "max_concurrent_requests": 128, "waiting_served_ratio": 0.3}
    assert told(Dialect.TGI, {"/info": info}) == {"max_concurrent_requests": "128", "waiting_served_ratio": "0.3"}


@pytest.mark.parametrize(
    "value", [None, "", "None", "x" * (VALUE_LETTERS + 1), {"a": 1}, [1], 1 << 80, float("inf"), float("nan")]
)
def test_what_no_flag_can_be_is_not_kept(value: object) -> None:
    assert told(Dialect.VLLM, {"/version": {"max_num_seqs": value}}) == {}


@pytest.mark.parametrize(
    "page",
    [
        b"vllm:cache_config_info",
        b"vllm:cache_config_info{block_size",
        b'vllm:cache_config_info{block_size="' + b"1" * LABELS_LETTERS + b'"} 1\n',
        b"x_vllm:cache_config_info_of_another 1\n",
        b'sglang:cache_config_info{block_size="128"} 1\n',
    ],
)
def test_a_page_that_is_cut_or_anothers_tells_nothing(page: bytes) -> None:
    assert told(Dialect.VLLM, {}, page) == {}


def test_words_from_outside_are_made_fit_to_be_shown() -> None:
    assert told(Dialect.VLLM, {"/version": {"max_num_seqs": "8\x1b[2J"}}) != {"max_num_seqs": "8\x1b[2J"}


def test_names_that_a_collector_has_rewritten_are_found() -> None:
    page = b"vllm_num_requests_running 0\n" + LABELS.replace(b":", b"_")
    assert told(Dialect.VLLM, {}, page)["block_size"] == "128"
