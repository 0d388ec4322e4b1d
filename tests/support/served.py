"""A server in the process of the tests, and one behind a real socket."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from rscap.sample import sample_examples
from rscap.serving.app import Server
from rscap.serving.models import ServedModels
from rscap.serving.running import protocol
from rscap.serving.settings import ServeSettings

SCENES = sample_examples()[:33]
"""Of the sample, a scene of each kind."""


def png(number: int = 0) -> bytes:
    """A scene as the bytes of a file."""
    stream = io.BytesIO()
    SCENES[number].image.load().save(stream, "PNG")
    return stream.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """An image as OpenAI's clients send it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def chat(number: int = 0, *, text: str | None = None, model: str = "nano", **more: Any) -> dict[str, Any]:
    """The body of a request for a caption."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_uri(png(number))}}]
    if text is not None:
        content.insert(0, {"type": "text", "text": text})
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **more}


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    """The server's tasks, without sockets."""
    async with server.routes.router.lifespan_context(server.routes):
        yield


@asynccontextmanager
async def client_of(server: Server, address: str = "10.0.0.1", **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application itself."""
    transport = httpx.ASGITransport(server.app, client=(address, 5000), raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60, **more) as client:
        yield client


def asked(models: ServedModels, *calls: Callable[[httpx.AsyncClient], Any], **settings: Any) -> list[httpx.Response]:
    """The answers to some calls, made at once to a server with such settings."""

    async def work() -> list[httpx.Response]:
        server = Server(models, ServeSettings(**settings))
        async with running(server), client_of(server) as client:
            answers = await asyncio.gather(*(call(client) for call in calls))
        assert server.scheduler.held == 0, "a caption was left in the queue"
        return list(answers)

    return asyncio.run(work())


class Live:
    """A server behind a socket, in a thread."""

    def __init__(self, models: ServedModels, **settings: Any) -> None:
        self.server = Server(models, ServeSettings(**settings))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        limits = self.server.settings
        config = uvicorn.Config(
            self.server.app,
            http=protocol(limits.header_seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            loop="asyncio",
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: self._uvicorn.run(sockets=[self.socket]), daemon=True)

    def __enter__(self) -> Live:
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join()

    def settled(self) -> bool:
        """Whether nothing is held or waits, within a few seconds."""
        for _ in range(500):
            if self.server.scheduler.held == 0:
                return True
            time.sleep(0.01)
        return False
