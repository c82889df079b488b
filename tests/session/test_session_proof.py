"""What a server tells of itself proves a setting, contradicts it, or is silent."""

from __future__ import annotations

import pytest

from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.session.proof import agree, proof_of, told_of


def info(*flags: tuple[str, str], max_num_seqs: int | None = None, max_model_len: int | None = None) -> EndpointInfo:
    return EndpointInfo(
        dialect=Dialect.VLLM, model="m", flags=flags, max_num_seqs=max_num_seqs, max_model_len=max_model_len
    )


def test_a_setting_that_is_told_as_wanted_is_proven() -> None:
    proof = proof_of({"max_num_seqs": "64"}, info(("max_num_seqs", "64")), True)
    assert (proof.ok, proof.knobs, proof.text) == (
        True,
        (("max_num_seqs", "64", "64"),),
        "restarted; it says max_num_seqs 64",
    )


def test_a_server_that_ignores_a_flag_is_not_applied() -> None:
    proof = proof_of({"max_num_seqs": "64", "x": "1"}, info(("max_num_seqs", "32")), True)
    assert proof.ok is False
    assert proof.text == "not applied: it says max_num_seqs 32 instead of 64"


def test_silence_after_a_restart_is_not_known_and_without_one_not_applied() -> None:
    assert proof_of({"x": "1"}, info(), True).ok is None
    assert proof_of({"x": "1"}, info(), None).ok is None
    assert proof_of({"x": "1"}, info(), False).ok is False


def test_a_setting_that_turns_live_needs_no_restart() -> None:
    assert proof_of({"max_num_seqs": "64"}, info(("max_num_seqs", "64")), False).ok is True


def test_what_is_left_to_the_server_is_neither_proven_nor_contradicted() -> None:
    assert proof_of({"kv_cache_dtype": "auto"}, info(("kv_cache_dtype", "bfloat16")), True).ok is None


@pytest.mark.parametrize("name", ["max_num_seqs", "--max-num-seqs", "MAX_NUM_SEQS", "parallel", "total_slots"])
def test_the_slots_go_by_all_of_their_names(name: str) -> None:
    assert told_of(info(("parallel", "4")), name) == "4"
    assert told_of(info(("max_running_requests", "4")), name) == "4"
    assert told_of(info(max_num_seqs=4), name) == "4"


def test_other_names_are_nobodys() -> None:
    assert told_of(info(("parallel", "4"), max_num_seqs=4), "max_num_batched_tokens") is None
    assert told_of(info(max_model_len=8192), "max-model-len") == "8192"


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [("0.90", "0.9"), ("8k", "8000"), ("8K", "8192"), ("True", "true"), ("1", "true"), ("fp8", "fp8_e4m3"),
     ("bfloat16", "torch.bfloat16"), ("auto", "anything")],
)  # fmt: skip
def test_two_ways_to_write_a_value_agree(wanted: str, seen: str) -> None:
    assert agree(wanted, seen)


@pytest.mark.parametrize(("wanted", "seen"), [("64", "32"), ("8k", "8192"), ("true", "false"), ("fp8", "fp16")])
def test_two_values_do_not(wanted: str, seen: str) -> None:
    assert not agree(wanted, seen)
