"""Chromium without a window, over WebDriver, and what is to be seen there; the standard library alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1300,850"),
)
"""Nothing is looked up: what a page asks of others fails, and stands in its log."""
REFUSING = ("network", "security")
"""Of whom a warning counts, too."""
COUNT = """
const [picture, done] = arguments, image = new Image();
image.onload = () => {
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d"), counts = {};
  canvas.drawImage(image, 0, 0);
  for (const pixel of new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer))
    counts[pixel] = (counts[pixel] || 0) + 1;
  done(counts);
};
image.src = "data:image/png;base64," + picture;
"""


class Chromium:
    """One browser with one page. A context manager."""

    def __init__(self, folder: Path) -> None:
        assert DRIVER is not None
        self._driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True, cwd=folder)
        assert self._driver.stdout is not None
        said = iter(self._driver.stdout.readline, "")
        port = next(found[1] for line in said if (found := re.search(r"started successfully on port (\d+)", line)))
        self._opener = build_opener(ProxyHandler({}))
        self._base = f"http://127.0.0.1:{port}/session"
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/{made['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)
            assert self._driver.stdout is not None
            self._driver.stdout.close()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        with self._opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def tell(self, script: str) -> Any:
        """What a JavaScript expression is in the page."""
        return self._ask("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def type(self, text: str) -> None:
        keys = [{"type": kind, "value": letter} for letter in text for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def picture(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def colours(self) -> Counter[str]:
        """How many pixels of the page have which colour, as `14171c`; counted by the browser."""
        picture = base64.b64encode(self.picture()).decode()
        counted = self._ask("POST", "/execute/async", {"script": COUNT, "args": [picture]})
        return Counter({int(value).to_bytes(4, "little")[:3].hex(): count for value, count in counted.items()})

    def refused(self) -> list[str]:
        """What was missing, refused or raised since it was asked last; not what the page says of its own speed."""
        told = self._ask("POST", "/se/log", {"type": "browser"})
        return [each["message"] for each in told if each["level"] == "SEVERE" or each["source"] in REFUSING]

    @staticmethod
    def wait_for(holds: Callable[[], object], within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, "it does not come"
            time.sleep(0.1)
