"""GPUs: of this machine through NVML, of others through the page of an exporter.

NVML is NVIDIA's library (`nvidia-ml-py`); where it is not installed or has no device there is simply no GPU. Exporters:
NVIDIA's dcgm-exporter (etc/default-counters.csv: frame buffer in MiB, power in W, clocks in MHz, utilisation in %) and
AMD's device-metrics-exporter (docs/configuration/metricslist.md: VRAM in MB, which are MiB; older versions write names
in capitals, newer ones can prefix `amd_`). What a page or a board does not tell is None.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from llmtop.domain.plain import plain
from llmtop.domain.samples import GpuSnapshot
from llmtop.telemetry.exposition import ExpositionParser, MetricSeries, Sample, at_once, is_figure

MIB = float(1 << 20)
THROTTLE_BITS = {
    0x002: "clocks set by hand",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal",
    0x040: "thermal, hardware",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Bits of nvmlClocksEventReasons (nvml.h), also of DCGM_FI_DEV_CLOCKS_EVENT_REASONS. Idle (0x001) is no throttle."""

# Metric -> field and factor; the first of several that the page has counts.
_DCGM = {
    "dcgm_fi_dev_fb_used": ("memory_used_bytes", MIB),
    "dcgm_fi_dev_fb_total": ("memory_total_bytes", MIB),
    "dcgm_fi_dev_gpu_util": ("utilisation", 0.01),
    "dcgm_fi_dev_power_usage": ("power_w", 1.0),
    "dcgm_fi_dev_enforced_power_limit": ("power_limit_w", 1.0),
    "dcgm_fi_dev_power_mgmt_limit": ("power_limit_w", 1.0),
    "dcgm_fi_dev_sm_clock": ("sm_clock_mhz", 1.0),
    "dcgm_fi_dev_gpu_temp": ("temperature_c", 1.0),
}
_AMD = {
    "gpu_used_vram": ("memory_used_bytes", MIB),
    "gpu_total_vram": ("memory_total_bytes", MIB),
    "gpu_gfx_activity": ("utilisation", 0.01),
    "gpu_package_power": ("power_w", 1.0),
    "gpu_average_package_power": ("power_w", 1.0),
    "gpu_power_usage": ("power_w", 1.0),
    "gpu_clock": ("sm_clock_mhz", 1.0),
    "gpu_junction_temperature": ("temperature_c", 1.0),
    "gpu_edge_temperature": ("temperature_c", 1.0),
}
_DCGM_REASONS = ("dcgm_fi_dev_clocks_event_reasons", "dcgm_fi_dev_clock_throttle_reasons")
_DCGM_FREE = ("dcgm_fi_dev_fb_free", "dcgm_fi_dev_fb_reserved")
_AMD_VIOLATIONS = {
    "gpu_violation_ppt_residency_percentage": "power cap",
    "gpu_violation_socket_thermal_residency_percentage": "thermal",
    "gpu_violation_vr_thermal_residency_percentage": "thermal, voltage regulator",
    "gpu_violation_hbm_thermal_residency_percentage": "thermal, memory",
    "gpu_violation_processor_hot_residency_percentage": "thermal, hardware",
}
_SIGNS = (b"\nDCGM_FI_", b"gpu_gfx_activity", b"GPU_GFX_ACTIVITY")
_INDEX_DIGITS = 6
_NAME_LABELS = ("modelName", "card_model", "card_series")


class GpuReader:
    """The GPUs of this machine. Loads NVML at the first reading, and stays silent where there is none.

    Args:
        nvml: the module to use in place of `pynvml`.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._devices: list[Any] | None = None

    def read(self, t_s: float) -> tuple[GpuSnapshot, ...]:
        """One snapshot per device; () where there is no NVIDIA driver. About 1 ms per device: call it off the loop."""
        if self._devices is None:
            self._devices = self._find()
        return tuple(self._snapshot(t_s, index, device) for index, device in enumerate(self._devices))

    def close(self) -> None:
        """Let go of NVML."""
        if self._devices:
            self._ask(lambda: self._nvml.nvmlShutdown())
        self._devices = []

    def _find(self) -> list[Any]:
        if self._nvml is None:
            try:
                import pynvml
            except ImportError:
                return []
            self._nvml = pynvml
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            return []

    def _snapshot(self, t_s: float, index: int, device: Any) -> GpuSnapshot:
        nvml = self._nvml
        name = self._ask(lambda: nvml.nvmlDeviceGetName(device))
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device, nvml.nvmlMemory_v2))
        if memory is None:  # the first version counts what the driver keeps for itself as used: 480 MiB of an H100
            memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device))
        utilisation = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu)
        power_mw = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        limit_mw = self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device))
        clock = self._ask(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM))
        temperature = self._ask(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(device))
        if reasons is None:
            reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))
        return GpuSnapshot(
            t_s=t_s,
            index=index,
            name=plain(name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")),
            memory_used_bytes=None if memory is None else float(memory.used),
            memory_total_bytes=None if memory is None else float(memory.total),
            utilisation=None if utilisation is None else utilisation / 100,
            power_w=None if power_mw is None else power_mw / 1000,
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            sm_clock_mhz=None if clock is None else float(clock),
            temperature_c=None if temperature is None else float(temperature),
            throttle=throttle_reasons(int(reasons or 0)),
        )

    def _ask(self, call: Callable[[], Any]) -> Any:
        """One figure; None where the board does not have it or is gone, or the driver is too old to know it."""
        try:
            return call()
        except (self._nvml.NVMLError, AttributeError):
            return None


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """The words for a mask of clock event reasons."""
    return tuple(words for bit, words in THROTTLE_BITS.items() if bits & bit)


def is_exporter_page(page: bytes) -> bool:
    """Whether a metrics page is that of a GPU exporter."""
    return page.startswith(b"DCGM_FI_") or any(sign in page for sign in _SIGNS)


def read_exporter(page: bytes, t_s: float) -> tuple[GpuSnapshot, ...]:
    """The GPUs on the page of dcgm-exporter or of AMD's exporter, in the order of hosts and indices.

    Raises TooManySeries.
    """
    return at_once(exporter_steps(page, t_s))


def exporter_steps(page: bytes, t_s: float) -> Generator[None, None, tuple[GpuSnapshot, ...]]:
    """The same, a few milliseconds at a time.

    A MIG or partition instance is a GPU of its own. Indices are the exporter's where they are unique, else counted.
    """
    boards: dict[tuple[str, int, str], _Board] = {}
    for part in ExpositionParser().bounded(page):
        for sample in part:
            key = _board_of(sample[0])
            if key is not None and is_figure(sample[1]):
                boards.setdefault(key, _Board(sample[0])).add(sample)
        yield
    found = [(key, board) for key, board in sorted(boards.items(), key=lambda item: item[0]) if board.fields]
    indices = [key[1] for key, _ in found]
    unique = len(set(indices)) == len(indices)
    return tuple(board.snapshot(t_s, key[1] if unique else position) for position, (key, board) in enumerate(found))


def _board_of(series: MetricSeries) -> tuple[str, int, str] | None:
    """Host, index and part of the GPU that a series is of; None: of none."""
    labels = series.labels
    index = labels.get("gpu", labels.get("gpu_id", ""))
    if not (index.isascii() and index.isdecimal() and len(index) <= _INDEX_DIGITS):
        return None
    host = labels.get("Hostname", labels.get("hostname", ""))
    return host, int(index), labels.get("GPU_I_ID", labels.get("partition_id", ""))


class _Board:
    """Collects the samples of one GPU."""

    def __init__(self, series: MetricSeries) -> None:
        labels: Mapping[str, str] = series.labels
        self.name = next((labels[key] for key in _NAME_LABELS if labels.get(key)), "")
        if labels.get("GPU_I_PROFILE"):
            self.name = f"{self.name} MIG {labels['GPU_I_PROFILE']}"
        self.fields: dict[str, float] = {}
        self._free_bytes = 0.0
        self._throttle: list[str] = []

    def add(self, sample: Sample) -> None:
        series, value = sample
        name = series.name.lower().removeprefix("amd_")
        if name in _DCGM_FREE:
            self._free_bytes += value * MIB
        elif name in _DCGM_REASONS:
            self._note(throttle_reasons(int(value)))
        elif name in _AMD_VIOLATIONS:
            self._note((_AMD_VIOLATIONS[name],) if value > 0 else ())
        elif name == "gpu_clock" and "SYSTEM" not in series.labels.get("clock_type", "SYSTEM").upper():
            return
        else:
            field, factor = _DCGM.get(name) or _AMD.get(name) or (None, 1.0)
            if field is not None:
                self.fields.setdefault(field, value * factor)

    def snapshot(self, t_s: float, index: int) -> GpuSnapshot:
        fields = dict(self.fields)
        if self._free_bytes and "memory_used_bytes" in fields:
            fields.setdefault("memory_total_bytes", fields["memory_used_bytes"] + self._free_bytes)
        return GpuSnapshot(t_s=t_s, index=index, name=self.name, throttle=tuple(self._throttle), **fields)

    def _note(self, reasons: Sequence[str]) -> None:
        self._throttle.extend(reason for reason in reasons if reason not in self._throttle)
