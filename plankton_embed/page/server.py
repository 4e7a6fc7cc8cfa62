"""The server of `review`: the page, its pictures and its decisions, for this machine alone."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from os import environ
from typing import TYPE_CHECKING, Any

from plankton_embed.errors import InputError, MismatchError, OutputError, PlanktonEmbedError, needs_extra
from plankton_embed.page.document import write_json_text
from plankton_embed.page.session import Session
from plankton_embed.page.thumbnails import read_thumbnail

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

EXTRA = "review"
HOST = "127.0.0.1"
OWN_NAMES = (HOST, "localhost")
MOST_BYTES = 1_000_000  # of a request
THUMBNAIL_SIDE, IMAGE_SIDE = 128, 800  # px
N_THUMBNAILS, N_IMAGES = 20_000, 40  # kept in memory
GRACE = 3  # seconds for requests that are being answered when the server is stopped
ROW = re.compile(r"(thumb|image)/([0-9]{1,9})")
KINDS = {b"\x89PNG": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}  # first bytes
HEADERS = {  # of every answer
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class PageServer:
    """An ASGI application: the page, its pictures, and decisions about its images.

    Everything is below `/TOKEN/`; other paths do not exist. Requests for another host, or from the page of another
    site, are refused, so that no other page in the same browser can read or decide anything. Pictures are chosen by
    their row; no path of a request reaches the disk.

    Args:
        session: the images and their decisions.
        document: the page, as HTML.
        token: the secret part of the address.
        port: where it listens.
        parts: data of parts that are not in the document, as soon as it is computed.
        ticket: `/TICKET` leads to the page once, for the browser that the server starts: other users of the machine
            can read its command line.
    """

    def __init__(
        self,
        session: Session,
        document: str,
        token: str,
        port: int,
        parts: Mapping[str, Future[Any]] | None = None,
        ticket: str | None = None,
    ) -> None:
        self._session = session
        self._parts = dict(parts or {})
        self._document = document.encode()
        self._token = token
        self._ticket = ticket
        ports = [f":{port}", *([""] if port == 80 else [])]
        self._hosts = {f"{name}{end}" for name in OWN_NAMES for end in ports}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._thumbnail = lru_cache(N_THUMBNAILS)(lambda row: self._read_picture(row, THUMBNAIL_SIDE, True))
        self._image = lru_cache(N_IMAGES)(lambda row: self._read_picture(row, IMAGE_SIDE, False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        from starlette.requests import Request

        if scope["type"] != "http":
            raise OutputError("this server answers http only")
        answer = await self._answer(Request(scope, receive))
        answer.headers.update({name: value for name, value in HEADERS.items() if name not in answer.headers})
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import RedirectResponse

        headers = request.headers
        if headers.get("host", "").lower() not in self._hosts:
            return _refuse(403, "this server is for this machine alone")
        if headers.get("origin", next(iter(self._origins))).lower() not in self._origins:
            return _refuse(403, "requests of other pages are not answered")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refuse(403, "requests of other pages are not answered")
        token, slash, name = str(request.scope["path"]).removeprefix("/").partition("/")
        if self._ticket is not None and _is_same(token, self._ticket):
            self._ticket, slash = None, ""
        elif not _is_same(token, self._token):
            return _refuse(404, "not found")
        if not slash:
            return RedirectResponse(f"/{self._token}/")
        if name in ("decide", "undo"):
            return await self._post(name, request)
        if request.method not in ("GET", "HEAD"):
            return _refuse(405, "expected GET", {"Allow": "GET, HEAD"})
        return await self._get(name)

    async def _get(self, name: str) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import Response

        if name == "":
            return Response(self._document, media_type="text/html")
        if name == "state":
            return _to_json(await run_in_threadpool(self._session.state))
        if name.startswith("part/"):
            return await self._get_part(name.removeprefix("part/"))
        found = ROW.fullmatch(name)
        if found is None or int(found[2]) >= len(self._session.images):
            return _refuse(404, "not found")
        read = self._thumbnail if found[1] == "thumb" else self._image
        picture = await run_in_threadpool(read, int(found[2]))
        kind = next((kind for start, kind in KINDS.items() if picture.startswith(start)), "application/octet-stream")
        return Response(picture, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})

    async def _get_part(self, name: str) -> Response:
        from starlette.concurrency import run_in_threadpool

        if name not in self._parts:
            return _refuse(404, "not found")
        try:
            part = await asyncio.wrap_future(self._parts[name])
        except PlanktonEmbedError as error:
            return _refuse(500, str(error))
        if name == "queue" and part is not None:  # it has followed decisions since it was computed
            part = (await run_in_threadpool(self._session.state))["queue"]
        return await run_in_threadpool(_to_json, part)

    async def _post(self, name: str, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect

        if request.method != "POST":
            return _refuse(405, "expected POST", {"Allow": "POST"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _refuse(415, "expected application/json")
        try:
            body = await _read_body(request)
        except ClientDisconnect:
            return _refuse(400, "the request was cut")
        if body is None:
            return _refuse(413, f"expected at most {MOST_BYTES:,} bytes; decide about fewer images at once")
        try:
            wanted = json.loads(body)
        except (ValueError, RecursionError):
            return _refuse(400, "expected JSON")
        if not isinstance(wanted, dict):
            return _refuse(400, "expected a JSON object")
        if name == "undo":
            wanted.setdefault("action", "undo")
        if (wanted.get("action") == "undo") != (name == "undo"):
            return _refuse(422, "action: undo is at the address undo, other actions are at decide")
        try:
            return _to_json(await run_in_threadpool(self._session.decide, wanted))
        except MismatchError as error:
            return _refuse(409, str(error))
        except InputError as error:
            return _refuse(422, str(error))
        except PlanktonEmbedError as error:
            return _refuse(507, str(error))

    def _read_picture(self, row: int, side: int, square: bool) -> bytes:
        return read_thumbnail(self._session.images.table.path[row], side, square=square)


def serve(
    session: Session,
    build_page: Callable[[str], str],
    *,
    parts: Mapping[str, Future[Any]] | None = None,
    port: int = 0,
    open_browser: bool = True,
    announce: Callable[[str], None] = lambda address: print(address, file=sys.stderr, flush=True),
) -> None:
    """Serve a page on this machine until Ctrl-C.

    Args:
        session: the images and their decisions.
        build_page: a function that returns the page, as HTML, for the secret part of its address.
        parts: data of parts that are not in the page, as soon as it is computed.
        port: where to listen; 0: any free port.
        open_browser: open the page in the browser.
        announce: called once with the address of the page, when it can be opened.

    Raises:
        DependencyError: starlette or uvicorn is not installed.
        OutputError: the port is taken.
    """
    with needs_extra("review", EXTRA):
        import starlette  # noqa: F401
        import uvicorn
    token, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    with _listen(port) as listener:
        port = listener.getsockname()[1]
        application = PageServer(session, build_page(token), token, port, parts, ticket)
        config = uvicorn.Config(
            application, http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None, log_level="warning",
            access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=GRACE,
        )  # fmt: skip
        server = uvicorn.Server(config)
        announce(f"http://{HOST}:{port}/{token}/")
        if open_browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=[f"http://{HOST}:{port}/{ticket}"], daemon=True).start()
        with suppress(KeyboardInterrupt):
            _run(server, listener)


def _run(server: Any, listener: socket.socket) -> None:
    """Run the server here; in a notebook, whose thread has an event loop already, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        server.run(sockets=[listener])
        return
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        server.should_exit = True
        thread.join()


def _listen(port: int) -> socket.socket:
    """Return a socket that listens on this machine only.

    Small answers are sent at once: by default the system waits up to 40 ms for more to send. asyncio turns that off
    only for sockets that are made as TCP.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"port: expected 0 (any free one) to 65535; found {port}")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform != "win32":  # there it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OutputError(
            f"port {port}: {error.strerror or error}; give another port (--port), or 0 for any free one"
        ) from error
    return listener


def _has_screen() -> bool:
    """Return whether a browser opens in a window; without a screen, one in the terminal would hide the messages."""
    return sys.platform in ("win32", "darwin") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _is_same(given: str, secret: str) -> bool:
    """Return whether two texts are the same; the time that this takes does not tell how much of them is."""
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


async def _read_body(request: Request) -> bytes | None:
    """Return the body of a request; None if it is too long, of which no more than the limit is read."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 9 or int(stated) > MOST_BYTES:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _to_json(values: Any) -> Response:
    from starlette.responses import Response

    return Response(write_json_text(values).encode(), media_type="application/json")


def _refuse(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(why, status, {"Connection": "close", **(headers or {})} if status == 413 else headers)
