"""The process of a server: its models, its sockets, its log and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rscap.captioner.loading import Dtype, ModelRef, load_together, weights_digests
from rscap.progress import Say
from rscap.serving.app import Server
from rscap.serving.models import ServedModel, ServedModels, digest_of
from rscap.serving.settings import ServeSettings, ServingError

_FIELDS = ("request", "method", "route", "status", "ms", "model", "images", "captions")
"""What a line of the log may hold beside its time, level and message: nothing of an image, a prompt or a key."""


def open_models(
    model: str, adapters: Mapping[str, str], *, device: str | None = None, dtype: Dtype | None = None
) -> ServedModels:
    """Load a base model once, and runs over it.

    Raises:
        RscapError: whatever keeps one of them from being loaded.
    """
    captioners = load_together(model, adapters, device=device, dtype=dtype)
    folders = {Path(model).name: model, **adapters}
    created = int(time.time())
    described = list(captioners.values())[-1].base.describe()
    served = []
    for name, captioner in captioners.items():
        ref = ModelRef.of(folders[name]) if name in folders else None
        digest = _learned(ref) if ref else None
        served.append(
            ServedModel(
                name=name,
                kind="run" if ref and (ref.trained or ref.adapter) else "base",
                captioner=captioner,
                digest=digest or described["digest"],
                base=described,
                training_prompts=ref.training_prefixes if ref else (),
                created=created,
            )
        )
    return ServedModels(served)


def leave_a_core() -> None:
    """Let a model on the processor use all cores but one, which receives requests and decodes their images.

    The threads of a product wait for the slowest of them, so one that shares its core delays all. A number that the
    user chose in `OMP_NUM_THREADS` stays.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def _learned(ref: ModelRef) -> str | None:
    """The digest of what was learned beside or in place of the base's weights."""
    if ref.trained:
        return digest_of(weights_digests(ref.trained[0]))
    return str(ref.adapter.describe()["digest"]) if ref.adapter else None


def serve(models: ServedModels, settings: ServeSettings, *, say: Say) -> None:
    """Serve until a signal ends it; what was accepted is answered first.

    Raises:
        ServingError: the address is taken, or not one of this machine.
    """
    leave_a_core()
    _log_to_stderr()
    server = Server(models, settings)
    config = uvicorn.Config(
        server.app,
        host=settings.host,
        port=settings.port,
        http=protocol(settings.header_seconds),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.deadline + settings.body_seconds) + 1,
    )
    running = _Running(config, server, say)
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise ServingError(
            f"{settings.host}:{settings.port} cannot be served on: it is taken, or no address of this machine",
            hint="choose another --port, or 0 for a free one",
        ) from None
    with socket:
        asyncio.run(running.serve(sockets=[socket]))
    models.close()


class _Running(uvicorn.Server):
    """Tells the address once it is open, and that it is closing."""

    def __init__(self, config: uvicorn.Config, server: Server, say: Say) -> None:
        super().__init__(config)
        self._server, self._say = server, say

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal that ended the server in order is done with; uvicorn would send it to the process once more."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            names = ", ".join(model.name for model in self._server.models)
            self._say(f"serving {names} at http://{shown}:{port} (the API: http://{shown}:{port}/v1)")

    async def shutdown(self, sockets: Any = None) -> None:
        self._server.scheduler.draining = True
        if held := self._server.scheduler.held:
            self._say(f"stopping: {held} captions are still to be made")
        await super().shutdown(sockets=sockets)


def protocol(header_seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which drops a connection on which no head of a request arrives in time."""

    class Protocol(H11Protocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._patience = self.loop.call_later(header_seconds, self._drop_idle)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and self._patience is not None:
                self._patience.cancel()
                self._patience = None
            if self._patience is None and (self.cycle is None or self.cycle.response_complete):
                self._patience = self.loop.call_later(header_seconds, self._drop_idle)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._patience is not None:
                self._patience.cancel()
            super().connection_lost(exc)

        def _drop_idle(self) -> None:
            self._patience = None
            if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
                self.transport.close()

    return Protocol


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        row |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name, level in (("rscap.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
