"""`python -m llmtop`, which imports what lies in the working directory before this module is reached.

`llmtop` does not, nor does `python -P -m llmtop`.
"""

import sys

from llmtop.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
