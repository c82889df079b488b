"""`python -m llmtop`."""

import sys

from llmtop.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
