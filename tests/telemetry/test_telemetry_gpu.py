"""GPUs through NVML and through the pages of exporters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.telemetry.gpu import GpuReader, is_exporter_page, read_exporter, throttle_reasons

# Lines as dcgm-exporter 4 writes them (etc/default-counters.csv).
DCGM = b"""\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 1980
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-b",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 1200
DCGM_FI_DEV_GPU_TEMP{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 61
DCGM_FI_DEV_POWER_USAGE{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 655.5
DCGM_FI_DEV_ENFORCED_POWER_LIMIT{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 700
DCGM_FI_DEV_GPU_UTIL{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 97
DCGM_FI_DEV_FB_USED{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 70000
DCGM_FI_DEV_FB_FREE{gpu="0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 11000
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{gpu="1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 36
"""
# Lines as AMD's device-metrics-exporter writes them (docs/configuration/metricslist.md).
AMD = b"""\
gpu_package_power{gpu_id="0",card_model="Instinct MI300X",hostname="n"} 748
gpu_gfx_activity{gpu_id="0",card_model="Instinct MI300X",hostname="n"} 88
gpu_used_vram{gpu_id="0",card_model="Instinct MI300X",hostname="n"} 183265
gpu_total_vram{gpu_id="0",card_model="Instinct MI300X",hostname="n"} 196592
gpu_junction_temperature{gpu_id="0",card_model="Instinct MI300X",hostname="n"} 76
gpu_clock{gpu_id="0",clock_type="GPU_CLOCK_TYPE_MEMORY",clock_index="8",hostname="n"} 1292
gpu_clock{gpu_id="0",clock_type="GPU_CLOCK_TYPE_SYSTEM",clock_index="0",hostname="n"} 1533
gpu_violation_ppt_residency_percentage{gpu_id="0",hostname="n"} 12
gpu_violation_socket_thermal_residency_percentage{gpu_id="0",hostname="n"} 0
"""


class NvmlError(Exception):
    pass


def _raise(*_: Any) -> Any:
    raise NvmlError


# What an H100 told with 20 GiB allocated by one program (driver 580): nvidia-smi shows 21007 of 81559 MiB.
_KEPT = 480 << 20


def _memory(device: int, version: int = 1) -> SimpleNamespace:
    used = 21007 << 20
    return SimpleNamespace(used=used if version == 2 else used + _KEPT, total=81559 << 20)


def nvml(**calls: Any) -> SimpleNamespace:
    working = {
        "NVMLError": NvmlError,
        "NVML_CLOCK_SM": 1,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda device: b"NVIDIA L4" if device else "NVIDIA L4",
        "nvmlMemory_v2": 2,
        "nvmlDeviceGetMemoryInfo": _memory,
        "nvmlDeviceGetUtilizationRates": lambda device: SimpleNamespace(gpu=50, memory=20),
        "nvmlDeviceGetPowerUsage": lambda device: 70_500,
        "nvmlDeviceGetEnforcedPowerLimit": lambda device: 72_000,
        "nvmlDeviceGetClockInfo": lambda device, kind: 1590,
        "nvmlDeviceGetTemperature": lambda device, kind: 66,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda device: 0x4,
    }
    return SimpleNamespace(**(working | calls))


def test_nvml_figures_have_their_units() -> None:
    first, second = GpuReader(nvml()).read(2.5)
    assert (first.t_s, first.index, first.name, second.name) == (2.5, 0, "NVIDIA L4", "NVIDIA L4")
    assert (first.memory_used_bytes, first.memory_total_bytes) == (21007 << 20, 81559 << 20)
    assert (first.utilisation, first.power_w, first.power_limit_w) == (0.5, 70.5, 72.0)
    assert (first.sm_clock_mhz, first.temperature_c, first.throttle) == (1590, 66, ("power cap",))


def test_what_a_board_does_not_tell_is_none() -> None:
    calls = {name: _raise for name in vars(nvml()) if name.startswith("nvmlDeviceGet") and "Handle" not in name}
    calls |= {"nvmlDeviceGetCount": lambda: 1}
    (board,) = GpuReader(nvml(**calls)).read(0.0)
    assert (board.memory_used_bytes, board.utilisation, board.power_w, board.throttle) == (None, None, None, ())


def test_an_old_driver_library_calls_its_reasons_by_the_old_name() -> None:
    library = nvml(nvmlDeviceGetCurrentClocksThrottleReasons=lambda device: 0x20)
    del library.nvmlDeviceGetCurrentClocksEventReasons
    assert GpuReader(library).read(0.0)[0].throttle == ("thermal",)


def test_an_old_driver_tells_memory_together_with_what_it_keeps_for_itself() -> None:
    def refuse_second(device: int, version: int = 1) -> SimpleNamespace:
        return _memory(device) if version == 1 else _raise()

    library = nvml(nvmlDeviceGetMemoryInfo=refuse_second)
    assert GpuReader(library).read(0.0)[0].memory_used_bytes == (21007 << 20) + _KEPT
    del library.nvmlMemory_v2
    assert GpuReader(library).read(0.0)[0].memory_used_bytes == (21007 << 20) + _KEPT


def test_no_driver_means_no_gpus_and_no_noise() -> None:
    reader = GpuReader(nvml(nvmlInit=_raise))
    assert reader.read(0.0) == ()
    assert reader.read(1.0) == ()
    reader.close()
    assert GpuReader().read(0.0) == () or GpuReader().read(0.0)[0].index == 0


def test_dcgm_page() -> None:
    assert is_exporter_page(DCGM)
    first, second = read_exporter(DCGM, 1.0)
    assert (first.name, first.index, second.index) == ("NVIDIA H100 80GB HBM3", 0, 1)
    assert first.memory_used_bytes == 70000 * 2**20
    assert first.memory_total_bytes == 81000 * 2**20
    assert (first.utilisation, first.power_w, first.power_limit_w) == (0.97, 655.5, 700)
    assert (first.sm_clock_mhz, first.temperature_c, first.throttle) == (1980, 61, ())
    assert second.throttle == ("power cap", "thermal")
    assert second.memory_used_bytes is None


@pytest.mark.parametrize(
    "page", [AMD, b"amd_" + AMD.replace(b"\ngpu_", b"\namd_gpu_"), AMD.replace(b"gpu_used_vram", b"GPU_USED_VRAM")]
)
def test_amd_page_in_all_its_spellings(page: bytes) -> None:
    assert is_exporter_page(page)
    (board,) = read_exporter(page, 1.0)
    assert (board.name, board.power_w, board.utilisation) == ("Instinct MI300X", 748, 0.88)
    assert (board.memory_used_bytes, board.memory_total_bytes) == (183265 * 2**20, 196592 * 2**20)
    assert (board.sm_clock_mhz, board.temperature_c, board.throttle) == (1533, 76, ("power cap",))


def test_gpus_of_two_hosts_and_of_one_board_in_parts_are_told_apart() -> None:
    hosts = b'DCGM_FI_DEV_GPU_UTIL{gpu="0",Hostname="a"} 1\nDCGM_FI_DEV_GPU_UTIL{gpu="0",Hostname="b"} 2\n'
    assert [gpu.index for gpu in read_exporter(hosts, 0.0)] == [0, 1]
    parts = (
        b'DCGM_FI_DEV_FB_USED{gpu="0",modelName="A100",GPU_I_ID="1",GPU_I_PROFILE="3g.40gb"} 5\n'
        b'DCGM_FI_DEV_FB_USED{gpu="0",modelName="A100",GPU_I_ID="2",GPU_I_PROFILE="3g.40gb"} 7\n'
    )
    assert [gpu.name for gpu in read_exporter(parts, 0.0)] == ["A100 MIG 3g.40gb"] * 2


@given(st.binary(max_size=200))
def test_no_page_crashes_it(page: bytes) -> None:
    read_exporter(page, 0.0)
    read_exporter(b'DCGM_FI_DEV_GPU_UTIL{gpu="' + page + b'"} 1\n', 0.0)


def test_an_engines_page_is_no_exporters() -> None:
    assert not is_exporter_page(b"vllm:num_requests_running 1\n")


def test_idle_is_no_throttle() -> None:
    assert throttle_reasons(0x1) == ()
    assert throttle_reasons(0x61) == ("thermal", "thermal, hardware")
