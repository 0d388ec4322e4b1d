"""What every request passes before a route sees it: id, host, origin, key, size and time of the body, log, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from rscap.serving.metrics import Metrics
from rscap.serving.problems import Problem, problem_of
from rscap.serving.settings import ServeSettings

LOG = logging.getLogger("rscap.serving")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/", "/health", "/ready", "/docs", "/openapi.json", "/samples")
"""Paths without secrets, for which no key is asked: the page must load before it can ask for one."""
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": (
        b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}


class Gate:
    """ASGI middleware around the routes of a server."""

    def __init__(self, app: App, *, settings: ServeSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._bodies = 0
        """Bytes of bodies in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        held = 0
        try:
            self._admit(scope, visit.headers)
            body, held = await self._body(visit.headers, receive)
            await self.app(scope, _replayed(body, receive), visit.send)
        except _Left:
            visit.status = 499
        except Exception as error:
            problem = problem_of(error)
            if not isinstance(error, Problem):
                LOG.error("failed", exc_info=error, extra={"request": visit.id})
            await visit.refuse(problem)
        finally:
            self._bodies -= held
            self._tell(visit)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raises: Problem: the host, the origin or the key is not one that may ask."""
        name = _host_name(headers)
        if name is None or not self.settings.knows_host(name):
            raise Problem(421, "this server is not addressed by the name in the Host header", code="unknown_host")
        if scope["method"] not in ("GET", "HEAD") and _from_elsewhere(headers):
            raise Problem(403, "pages of other sites may not use this server", code="cross_origin")
        path = str(scope["path"])
        if self.settings.key is None or path in _OPEN or path.startswith(("/static/", "/samples/")):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        pair = (given.strip(), self.settings.key)
        right = hmac.compare_digest(*(hashlib.sha256(one.encode("utf-8", "replace")).digest() for one in pair))
        if scheme.lower() != "bearer" or not right:
            raise Problem(
                401,
                "a key is needed: send it as `Authorization: Bearer KEY`" if not given else "this key is not valid",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, headers: Headers, receive: Receive) -> tuple[bytes, int]:
        """The whole body, within size and time, and how many bytes it holds in memory."""
        declared = headers.get("content-length", "0")
        size = int(declared) if declared.isdecimal() and declared.isascii() and len(declared) < 19 else 0
        if size > self.settings.max_body:
            raise self._too_large()
        if self._bodies + size > self.settings.max_bodies:
            raise Problem(429, "too much is being uploaded at once", code="busy", headers={"Retry-After": "1"})
        parts: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    part = message.get("body", b"")
                    held += len(part)
                    self._bodies += len(part)
                    if held > self.settings.max_body:
                        raise self._too_large()
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            self._bodies -= held
            raise Problem(
                408, f"the body did not arrive within {self.settings.body_seconds:g} s", code="slow_body"
            ) from None
        except BaseException:
            self._bodies -= held
            raise
        return b"".join(parts), held

    def _too_large(self) -> Problem:
        mib = self.settings.max_body / 2**20
        return Problem(413, f"the request is larger than {mib:g} MiB", code="body_too_large")

    def _tell(self, visit: _Visit) -> None:
        """A line in the log, and the numbers. No body, no query, no header of the client's stands in it."""
        seconds = time.perf_counter() - visit.begun
        route = getattr(visit.scope.get("route"), "path", None) or "none"
        self.metrics.requests.labels(route, str(visit.status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        told = dict(visit.scope.get("state", {}).get("told", {}))
        details = {"route": route, "method": visit.scope["method"][:16], "status": visit.status, **told}
        LOG.info("request", extra={"request": visit.id, "ms": round(seconds * 1000, 1), **details})


class _Left(Exception):
    """The client left before its request was whole."""


class _Visit:
    """One request and what became of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.id
        self.begun, self.status, self.sent = time.perf_counter(), 0, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.sent, self.status = True, message["status"]
            ours = {b"x-request-id": self.id.encode(), **_SAFE}
            given = {name.lower(): value for name, value in message.get("headers", [])}
            message = {**message, "headers": list({**given, **ours}.items())}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self.sent:
            return
        body = json.dumps(problem.body()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
        if problem.status in (408, 413):
            headers["connection"] = "close"  # what is still to come of the body is not read
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what the connection says: that the client left."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _host_name(headers: Headers) -> str | None:
    """The name in the Host header, without its port; None if there is none, are several, or it is a strange one."""
    given = headers.getlist("host")
    if len(given) != 1:
        return None
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+))(?::\d{1,5})?", given[0])
    return (found.group(1) or found.group(2)).lower() if found else None


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser sent this for a page of another site, which it may do without asking for some kinds of body."""
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:
        return True
