"""Lets the tests of this room import what they share by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "cli"))
sys.path.insert(2, str(Path(__file__).parents[1] / "host"))
