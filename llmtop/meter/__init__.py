"""Records into figures: bins while the load runs, columns for the analysis, frames for the screen."""

from llmtop.meter.binner import Binner, merge_bins
from llmtop.meter.client import ClientJudge
from llmtop.meter.facts import Facts, Table
from llmtop.meter.frames import FrameBuilder, whole_run_timeline

__all__ = ["Binner", "ClientJudge", "Facts", "FrameBuilder", "Table", "merge_bins", "whole_run_timeline"]
