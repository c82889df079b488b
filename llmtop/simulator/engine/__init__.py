"""The simulated engine: vLLM's scheduler, a model of step times, presets, and a driver in virtual time.

Pure: time and seeds are parameters. The same engine runs under the virtual driver here and, second by second, behind
the HTTP face.
"""

from __future__ import annotations

from llmtop.simulator.engine.autoscaling import Autoscaling, ScaleOrder
from llmtop.simulator.engine.blocks import BlockPool
from llmtop.simulator.engine.config import ENGINE_VERSIONS, LIVE_KNOBS, EngineConfig, EngineVersion, LiveKnob
from llmtop.simulator.engine.driver import Lengths, VirtualDriver, Visit, closed_loop, open_loop
from llmtop.simulator.engine.engine import Engine
from llmtop.simulator.engine.prediction import (
    Latency,
    LevelSamples,
    PredictedPoint,
    PredictedRequest,
    Prediction,
    ReplayRequest,
    predict,
)
from llmtop.simulator.engine.preset import Preset, load_preset, preset_folder, preset_names
from llmtop.simulator.engine.request import Rejected, SimRequest, TokenEvent, chain_hashes
from llmtop.simulator.engine.scheduler import StepPlan
from llmtop.simulator.engine.statistics import EngineStatistics, Histogram
from llmtop.simulator.engine.steptime import Hardware, Model, Overhead, StepLoad, StepModel, kv_blocks

__all__ = [
    "ENGINE_VERSIONS",
    "LIVE_KNOBS",
    "Autoscaling",
    "BlockPool",
    "Engine",
    "EngineConfig",
    "EngineStatistics",
    "EngineVersion",
    "Hardware",
    "Histogram",
    "Latency",
    "Lengths",
    "LevelSamples",
    "LiveKnob",
    "Model",
    "Overhead",
    "PredictedPoint",
    "PredictedRequest",
    "Prediction",
    "Preset",
    "Rejected",
    "ReplayRequest",
    "ScaleOrder",
    "SimRequest",
    "StepLoad",
    "StepModel",
    "StepPlan",
    "TokenEvent",
    "VirtualDriver",
    "Visit",
    "chain_hashes",
    "closed_loop",
    "kv_blocks",
    "load_preset",
    "open_loop",
    "predict",
    "preset_folder",
    "preset_names",
]
