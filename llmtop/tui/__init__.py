"""The cockpit: draws frames and assessments, sends commands. Knows nothing of load, endpoints or simulation.

What the environment says to Textual is taken away before that reads it: left from other work, it would press keys, draw
through another driver, or write logs. But for `KEPT`, which helps terminals that are confused by what they are asked.
"""

import os

KEPT = ("TEXTUAL_DISABLE_KITTY_KEY",)

for _name in [name for name in os.environ if name.startswith("TEXTUAL") and name not in KEPT]:
    del os.environ[_name]
