"""The page over HTTP: everything passes the gate first, nothing is fetched from elsewhere, and nothing is logged."""

from __future__ import annotations

import asyncio
import contextlib
import html
import importlib.util
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template

from aiohttp import WSMsgType, web

from llmtop.domain.plain import LONG, plain
from llmtop.errors import LlmtopError, shortage
from llmtop.web.gate import Gate
from llmtop.web.visitor import MOST_TYPED, Start, show, visit
from llmtop.wording import browser as words

MOST_VISITORS = 50
"""Each is a process of some 45 MB."""
END_S = 1.0
"""What is being sent when the server ends may take so long."""
HEARTBEAT_S = 15.0
"""So often a browser is asked whether it is there."""
MOST_MESSAGE = 8 * MOST_TYPED
PAGE = Path(__file__).parent / "page"
FRONT = "textual_serve"
"""Whose terminal the page has: xterm.js, as Textual drives it."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Styles are written into the page by the terminal itself; all else comes from here and goes nowhere."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def files() -> dict[str, Path]:
    """What the page is made of, by name. Raises ModuleNotFoundError: textual-serve is not installed."""
    found = importlib.util.find_spec(FRONT)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(FRONT)
    static = Path(found.submodule_search_locations[0]) / "static"
    theirs = ("js/textual.js", "css/xterm.css", "fonts/RobotoMono-VariableFont_wght.ttf")
    named = [*(static / each for each in theirs), PAGE / "page.js", PAGE / "page.css"]
    return {path.name: path for path in named}


class Site:
    """A page that shows one run.

    Args:
        title: of the page.
        start: starts a visitor's screen.
    """

    def __init__(self, gate: Gate, title: str, start: Start, most: int = MOST_VISITORS) -> None:
        self._gate, self._start, self._most = gate, start, most
        self._files = files()
        self._page = Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
            title=html.escape(title), over=html.escape(words.CONNECTION_OVER), again=html.escape(words.CONNECT_AGAIN)
        )
        self._visits: set[asyncio.Task[None]] = set()

    def runner(self) -> web.AppRunner:
        """Of all that is asked nothing is logged: the link would be in it."""
        silent = logging.getLogger("llmtop.web.silent")
        silent.disabled = True
        return web.AppRunner(
            self._application(), access_log=None, logger=silent, handle_signals=False, shutdown_timeout=END_S
        )

    def _application(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        made = web.Application(middlewares=[guard], client_max_size=0)
        made.add_routes(
            [
                web.get("/{token}/", self._index),
                web.get("/{token}/{name}", self._file),
                web.get("/{token}/screen/", self._screen),
            ]
        )
        made.on_response_prepare.append(_sign)
        made.on_shutdown.append(self._close)
        return made

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._gate.lets_in(request.raw_path, request.headers.get("Host")):
            return _said(403, words.WHOLE_LINK)
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            return _said(refusal.status, refusal.reason)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if len(self._visits) >= self._most:
            return _said(503, words.full(self._most))
        return web.Response(text=self._page, content_type="text/html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self._files.get(request.match_info["name"])
        return web.FileResponse(path) if path is not None else _said(404, "Not Found")

    async def _screen(self, request: web.Request) -> web.StreamResponse:
        if not self._gate.lets_talk(request.headers.get("Origin"), request.headers.get("Host")):
            return _said(403, words.FOREIGN_PAGE)
        response = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MOST_MESSAGE, compress=False)
        await response.prepare(request)
        socket = _Browser(response)
        if len(self._visits) >= self._most:
            await show(socket, words.full(self._most))
            await response.close()
            return response
        task = asyncio.ensure_future(self._visit(socket, request))
        self._visits.add(task)
        try:
            await task
        finally:
            task.cancel()
            self._visits.discard(task)
        await response.close()
        return response

    async def _visit(self, socket: _Browser, request: web.Request) -> None:
        size = [request.query.get(name, "") for name in ("width", "height")]
        columns, rows = (int(text) if text.isdecimal() and len(text) < 6 else 80 for text in size)
        with contextlib.suppress(ConnectionError):
            try:
                await visit(socket, self._start, columns, rows)
            except (LlmtopError, OSError, RuntimeError) as error:
                if (short := shortage(error)) is None and not isinstance(error, LlmtopError):
                    raise
                await show(socket, short or str(error))

    async def _close(self, application: web.Application) -> None:
        """Every visitor's process is gone when this returns."""
        for task in self._visits:
            task.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)


class _Browser:
    """A WebSocket as a visitor needs it."""

    def __init__(self, response: web.WebSocketResponse) -> None:
        self._response = response
        self.send_bytes, self.send_str = response.send_bytes, response.send_str

    async def receive(self) -> str | None:
        message = await self._response.receive()
        return str(message.data) if message.type is WSMsgType.TEXT else None


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.popall("Server", None)


def _said(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{plain(text, LONG)}\n")


async def serve(site: Site, address: str, port: int, ready: Callable[[int], None]) -> signal.Signals:
    """Serve until a signal comes, and return it; no process is left then.

    Args:
        ready: called with the port once connections are taken.

    Raises OSError: the port cannot be had.
    """
    ended: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def end(number: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(number)

    runner = site.runner()
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        ready(runner.addresses[0][1])
        return await ended
    finally:
        await runner.cleanup()
