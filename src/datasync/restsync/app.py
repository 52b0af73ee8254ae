"""The ASGI application: what lies at which path, who may use it, and how errors are answered."""

from __future__ import annotations

import functools
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any

import msgspec

from datasync.panels import Panel
from datasync.restsync._events import Events

# not when it is asked for: there may be no descriptor left
from datasync.restsync._exposition import exposition
from datasync.restsync._keys import Keys
from datasync.restsync._limits import Limits
from datasync.restsync._metrics import Requests
from datasync.restsync._openapi import description
from datasync.restsync._overview import StatusOf, overview, shown
from datasync.restsync._panels import PANEL, PanelAnswers
from datasync.restsync._paths import KEY, below, path_of
from datasync.restsync._problems import PROBLEM, Problem, problem_of
from datasync.restsync._requests import Exchange, Receive, Send, not_allowed
from datasync.restsync._unsent import Answers
from datasync.serving.access import WANTS_TOKEN
from datasync.serving.hub import Hub
from datasync.serving.incoming import Incoming
from datasync.texts import logger

__all__ = ["RestApp"]

log = logger("datasync.rest")

Handler = Callable[[Exchange], Awaitable[None]]

Admits = Callable[[str | None], bool]
Wake = Callable[[], Awaitable[None]]

_PAGE = "/page/"
_KINDS = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css",
    "js": b"text/javascript",
    "svg": b"image/svg+xml",
}
_PAGE_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
            b"'self'; "
            b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


class RestApp:
    """The source of a hub over HTTP, with the status page at its root. Mount it, or see `Listener`.

    hub: started and ended by its owner.
    status: of the DataSync whose watches are shown.
    panels: those of the application, by name; None where it cannot have any.
    admits: judges the bearer token of a request (None where there is none); without it, everybody
        is let in.
    local: answer only what is addressed to an IP address or to localhost, so that no page of a
        foreign site reaches it under a name of its own.
    wake: called before each answer, for a hub that is started by the first request.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        status: StatusOf | None = None,
        panels: Mapping[str, Panel] | None = None,
        admits: Admits | None = None,
        local: bool = False,
        wake: Wake | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self._hub = hub
        self._status = status
        self._panels = None if panels is None else PanelAnswers(panels, limits)
        self._admits = admits
        self._local = local
        self._wake = wake
        self._host = b""
        self.limits = limits

        self._unsent = Answers(limits.unsent, limits.stalled)
        self._incoming = Incoming(limits.bodies)
        self._started = time.time()
        self._requests = Requests()
        self._keys = Keys(hub.source, limits)
        self._events = Events(hub, limits, watched=status is not None)

        self._page = {
            f"{_PAGE}{file.name}": (file.read_bytes(), _KINDS[file.name.rpartition(".")[2]])
            for file in files("datasync.restsync").joinpath("page").iterdir()
        }
        self._page["/"] = self._page.pop(f"{_PAGE}index.html")

        self._routes: dict[str, Handler] = {
            "/v1/keys": self._keys.keys,
            "/v1/transactions": self._keys.transaction,
            "/v1/events": self._events.follow,
            "/v1/pings": self._events.ping,
            "/v1/catch-ups": self._events.catch_up,
            "/v1/status": self._show_status,
            "/metrics": self._show_metrics,
        }

        self._open: dict[str, Handler] = {
            "/health": self._show_health,
            "/openapi.json": self._show_description,
        }

    def end_streams(self) -> None:
        """End the streams of events, and begin none: a server waits for their
        ends before it ends itself."""
        self._events.end()

    def begin_streams(self) -> None:
        """Streams may begin again."""
        self._events.begin()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here, only http")

        exchange = Exchange(scope, receive, send, self.limits, self._unsent, self._incoming)
        path = path_of(scope)

        try:
            if path is None:
                raise _nothing_here()
            _check_page(exchange)
            if self._wake is not None:
                await self._wake()
            if path.startswith(KEY):
                self._let_in(exchange)
                await self._keys.key(exchange, path)
            elif path.startswith(PANEL) and self._panels is not None:
                self._let_in(exchange)
                await self._panels.answer(exchange, path)
            elif (handler := self._routes.get(path)) is not None:
                self._let_in(exchange)
                await handler(exchange)
            else:
                await self._unsecured(exchange, path)
        except ConnectionResetError:
            return  # the client has gone, or does not read: it hears nothing
        except Exception as error:
            if exchange.status:
                # the answer has begun: only breaking it off says that it is not complete
                raise
            await self._answer_problem(exchange, error)
        finally:
            exchange.body_done()

        self._requests.count(self._route(path), scope["method"], exchange.status)

    def _route(self, path: str | None) -> str:
        """The pattern of a path, for the metrics, which keep one for ever:
        never what a client has made up."""
        if path is None:
            return "other"
        if path.startswith(KEY):
            return f"{KEY}{{key}}"
        if path.startswith(PANEL) and self._panels is not None:
            return f"{PANEL}{{name}}"
        if path in self._routes or path in self._open or path == "/":
            return path
        return f"{_PAGE}{{file}}" if path in self._page else "other"

    async def _unsecured(self, exchange: Exchange, path: str) -> None:
        """Answer what needs no token."""
        if self._local:
            self._check_host(exchange)
        if (handler := self._open.get(path)) is not None:
            await handler(exchange)
            return
        if not path:  # mounted, and asked for without the slash: the page's own links need it
            await exchange.answer(307, headers=[(b"location", below(exchange.scope))])
            return
        if path not in self._page:
            raise _nothing_here()
        _only_get(exchange)
        body, kind = self._page[path]
        await exchange.answer(200, body, kind, _PAGE_HEADERS)

    # -- who may -----------------------------------------------------------------------------------

    def _let_in(self, exchange: Exchange) -> None:
        if self._local:
            self._check_host(exchange)
        if self._admits is None:
            return
        kind, _, given = (
            exchange.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        )
        if not self._admits(given.strip() if kind.lower() == "bearer" else None):
            raise Problem(
                401,
                "Unauthorized",
                f"{WANTS_TOKEN}, or the header Authorization: Bearer ...",
                ((b"www-authenticate", b"Bearer"),),
            )

    def _check_host(self, exchange: Exchange) -> None:
        given = exchange.headers.get(b"host", b"localhost")
        if b"," in given:
            raise Problem(400, "BadHeader", "the host is given twice; give it once")
        if given == self._host:
            return
        host = given.decode("latin-1").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name not in ("localhost", ""):
            try:
                ipaddress.ip_address(name)
            except ValueError:
                raise Problem(
                    421,
                    "WrongHost",
                    "address it by localhost or an IP address; with a token any name will do",
                ) from None
        self._host = given  # nearly always the next request has the same

    # -- small answers -----------------------------------------------------------------------------

    async def _show_status(self, exchange: Exchange) -> None:
        _only_get(exchange)
        await exchange.answer_json(
            overview(self._hub, shown(self._hub, self._status), self._started, self._panel_names),
            headers=[(b"cache-control", b"no-store")],
        )

    @property
    def _panel_names(self) -> Iterable[str]:
        return () if self._panels is None else self._panels.names

    async def _show_metrics(self, exchange: Exchange) -> None:
        _only_get(exchange)
        status = shown(self._hub, self._status)
        now = overview(self._hub, status, self._started, self._panel_names, whole=True)
        accept = exchange.headers.get(b"accept", b"").decode("latin-1")
        body, kind = exposition(now, status.panels, self._events.streams, self._requests, accept)
        await exchange.answer(200, body, kind, [(b"vary", b"accept")])

    async def _show_health(self, exchange: Exchange) -> None:
        _only_get(exchange)
        if not self._hub.ready:
            raise Problem(
                503, "NotReady", "the state is not complete yet", ((b"retry-after", b"1"),)
            )
        await exchange.answer_json({"ready": True})

    @functools.cached_property
    def _description(self) -> bytes:
        """Made for who asks first: it takes longer than all else that a start does here."""
        secured, panels = self._admits is not None, self._panels is not None
        return msgspec.json.encode(description(self.limits, secured=secured, panels=panels))

    async def _show_description(self, exchange: Exchange) -> None:
        _only_get(exchange)
        await exchange.answer(200, self._description)

    async def _answer_problem(self, exchange: Exchange, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            log.error("unexpected error in an answer", exc_info=error)
            problem = Problem(
                500, "InternalError", f"unexpected {type(error).__name__}; see the log of the agent"
            )
        await exchange.answer(problem.status, problem.body(), PROBLEM.encode(), problem.headers)


def _check_page(exchange: Exchange) -> None:
    """Raise `Problem` for what the page of another origin embeds: it could tell by
    success or failure what there is."""
    if exchange.headers.get(b"sec-fetch-site") not in (b"cross-site", b"same-site"):
        return
    mode, kind = exchange.headers.get(b"sec-fetch-mode"), exchange.headers.get(b"sec-fetch-dest")
    # what asks by CORS learns nothing unless an application around this one
    # allows it; a link may be followed
    if mode != b"cors" and (mode, kind) != (b"navigate", b"document"):
        raise Problem(
            403,
            "ForeignPage",
            "a page of another origin cannot embed this; open it in a window of its own",
        )


def _nothing_here() -> Problem:
    return Problem(404, "NoSuchPath", "there is nothing at this path; see /openapi.json")


def _only_get(exchange: Exchange) -> None:
    if exchange.method not in ("GET", "HEAD"):
        raise not_allowed("GET, HEAD")
    exchange.query()
