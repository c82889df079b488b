"""`python -m llmtop`."""

import sys

from llmtop.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
