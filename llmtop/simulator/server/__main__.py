"""`python -m llmtop.simulator.server`."""

from __future__ import annotations

import sys

from llmtop.channel import ends_in_words
from llmtop.simulator.server.serving import main

if __name__ == "__main__":
    sys.exit(ends_in_words(main))
