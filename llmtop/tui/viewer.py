"""A screen in a browser that only looks on: `python -m llmtop.tui.viewer RUN COLUMNS ROWS [stage] [private]`.

What it draws goes to stdout and what is typed comes from stdin, as Textual's driver for browsers packs both. It ends
when its stdin does.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from textual.driver import Driver
from textual.drivers.web_driver import WebDriver

from llmtop.errors import LlmtopError, UsageError
from llmtop.host.attached import Attached
from llmtop.host.running import find
from llmtop.tui.app import LlmtopApp
from llmtop.view.arrangement import Layout
from llmtop.wording.browser import NOT_SHOWN, run_over


class Browser(WebDriver):
    """Textual's driver for browsers; whoever reads what it draws may go at any time."""

    def run_input_thread(self) -> None:
        super().run_input_thread()
        self._leave()

    def write(self, data: str) -> None:
        try:
            super().write(data)
        except OSError:
            self._leave()

    def write_meta(self, data: dict[str, object]) -> None:
        with suppress(OSError):
            super().write_meta(data)

    def _leave(self) -> None:
        assert isinstance(self._app, BrowserApp)
        self._app.leave()


class BrowserApp(LlmtopApp):
    def get_driver_class(self) -> type[Driver]:
        return Browser


def main(words: list[str]) -> int:
    name, columns, rows, *shown_as = words
    private = "private" in shown_as
    try:
        attached = Attached.join(find(name), view=True)
    except LlmtopError as error:
        over = run_over("" if private else name)
        hidden = NOT_SHOWN if private else str(error)
        sys.stderr.write(f"{over if isinstance(error, UsageError) else hidden}\n")
        return error.exit_code
    try:
        layout = Layout.STAGE if "stage" in shown_as else None
        app = BrowserApp(attached, title="llmtop" if private else name, layout=layout, private=private)
        app.run(size=(int(columns), int(rows)))
    finally:
        attached.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
