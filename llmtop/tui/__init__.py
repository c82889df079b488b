"""The cockpit: draws frames and assessments, sends commands. Knows nothing of load, endpoints or simulation.

What the environment says to Textual is taken away before that reads it: left from other work, it would press keys, draw
through another driver, or write logs. But for `KEPT`.
"""

import os

KEPT = ("TEXTUAL_DISABLE_KITTY_KEY", "TEXTUAL_SNAPSHOT")
"""How such names begin: the first helps terminals that a question confuses, the second is of those who test screens."""

for _name in [name for name in os.environ if name.startswith("TEXTUAL") and not name.startswith(KEPT)]:
    del os.environ[_name]
