"""Opinions over facts: the cliff, the SLO, the bottleneck, the capacity and the search for it. Pure numpy."""

from llmtop.analysis.assess import assess
from llmtop.analysis.judge import Limits, judge
from llmtop.analysis.levels import Level
from llmtop.analysis.search import CapacitySearch
from llmtop.analysis.tabled import assess_levels
from llmtop.analysis.tested import found

__all__ = ["CapacitySearch", "Level", "Limits", "assess", "assess_levels", "found", "judge"]
