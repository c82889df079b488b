"""What the environment says to Textual does not reach it."""

from __future__ import annotations

import os
import subprocess
import sys

LOOK = """
import llmtop.tui
from textual import constants
print(constants.PRESS, constants.DRIVER, constants.LOG_FILE, constants.DEBUG, constants.MAX_FPS, constants.COLOR_SYSTEM,
      constants.SCREENSHOT_DELAY, constants.SHOW_RETURN, constants.DISABLE_KITTY_KEY)
"""
LEFT = {
    "TEXTUAL": "devtools,debug",
    "TEXTUAL_PRESS": "c,6,4,enter",
    "TEXTUAL_DRIVER": "x:Y",
    "TEXTUAL_LOG": "/tmp/never",
    "TEXTUAL_DEBUG": "1",
    "TEXTUAL_FPS": "1000",
    "TEXTUAL_COLOR_SYSTEM": "none of these",
    "TEXTUAL_SCREENSHOT": "1",
    "TEXTUAL_SHOW_RETURN": "1",
    "TEXTUAL_DISABLE_KITTY_KEY": "1",
}


def test_variables_of_textual_press_no_keys_write_no_logs_and_change_no_driver() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, **LEFT},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.split() == ["None", "None", "False", "60", "auto", "-1", "False", "True"]
