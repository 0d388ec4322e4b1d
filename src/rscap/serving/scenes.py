"""`/scene`: a GeoTIFF in, its captions with their places as GeoJSON out; what takes longer is a job with an address.

A scene is opened by GDAL's GTiff driver alone and from memory, where no file lies beside it: a VRT, which names other
files, is not a GeoTIFF. One scene is captioned at a time; its batches and those of other requests take turns.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rscap.progress import no_messages
from rscap.serving.models import ServedModel
from rscap.serving.problems import Problem, problem_of

_WAITING = 4
"""Scenes that may wait or be at work."""
_KEPT_SECONDS = 600.0
"""How long a result waits for its client."""
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OPTIONS = ("window", "stride", "gsd", "min_valid", "crs")


def available() -> bool:
    """Whether the extra `geo` is installed."""
    return all(find_spec(name) for name in ("rasterio", "shapely", "pyproj"))


@dataclass(slots=True)
class SceneJob:
    """A scene from its arrival to the collection of its captions."""

    number: str
    client: str
    model: ServedModel
    name: str
    done: int = 0
    windows: int | None = None
    given_up: bool = False
    ended: float = 0.0
    answer: asyncio.Future[dict[str, Any]] = field(default_factory=asyncio.Future)

    @property
    def url(self) -> str:
        return f"/scene/{self.number}"

    def state(self) -> dict[str, Any]:
        """How far it is, with its result once there is one."""
        row: dict[str, Any] = {"id": self.number, "url": self.url, "done": self.done, "windows": self.windows}
        if not self.answer.done():
            return {**row, "status": "working" if self.windows else "waiting"}
        if self.answer.cancelled():
            return {**row, "status": "cancelled"}
        if error := self.answer.exception():
            return {**row, "status": "failed", **problem_of(error).body()}  # type: ignore[arg-type]
        return {**row, "status": "finished", "result": self.answer.result()}


class _GivenUpError(Exception):
    """Its client does not want the captions any more."""


class SceneDesk:
    """Takes scenes in and keeps their results for a while."""

    def __init__(self, *, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._jobs: dict[str, SceneJob] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scenes")

    def close(self) -> None:
        """Give up what is under way."""
        for job in self._jobs.values():
            job.given_up = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    def begin(
        self, client: str, model: ServedModel, name: str | None, content: bytes, options: dict[str, Any]
    ) -> SceneJob:
        """Take a scene in.

        Raises:
            Problem: 429, too many wait; 400, an option that cannot be used, or no GeoTIFF by its first bytes.
        """
        self._forget()
        open_jobs = [job for job in self._jobs.values() if not job.answer.done()]
        if len(open_jobs) >= _WAITING or any(job.client == client for job in open_jobs):
            whose = "a scene of this client is being captioned" if len(open_jobs) < _WAITING else "too many scenes wait"
            raise Problem(429, f"{whose}; try again later", code="queue_full", headers={"Retry-After": "10"})
        if content[:4] not in _MAGIC:
            raise Problem(400, "a scene is a GeoTIFF; this file is none", param="scene", code="invalid_image")
        shown = re.sub(r"[^A-Za-z0-9._-]", "_", name or "scene.tif")[-80:].lstrip(".") or "scene.tif"
        job = SceneJob(number=uuid.uuid4().hex, client=client, model=model, name=shown)
        self._jobs[job.number] = job
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._thread, self._captioned, job, content, options)
        working.add_done_callback(lambda done: _end(job, done))
        return job

    def __getitem__(self, number: str) -> SceneJob:
        """Raises: Problem: 404, there is no such job, or it was long ago."""
        self._forget()
        if number not in self._jobs:
            raise Problem(404, "there is no such scene; results are kept for ten minutes")
        return self._jobs[number]

    def give_up(self, job: SceneJob) -> None:
        """Stop at the next window."""
        job.given_up = True

    def _forget(self) -> None:
        now = time.monotonic()
        for number, job in list(self._jobs.items()):
            if job.ended and now - job.ended > _KEPT_SECONDS:
                del self._jobs[number]

    def _captioned(self, job: SceneJob, content: bytes, options: dict[str, Any]) -> dict[str, Any]:
        from rasterio.io import MemoryFile

        from rscap.scene import SceneRequest, caption_scenes
        from rscap.scene.model import asked_model

        def step(done: int, total: int) -> None:
            job.done, job.windows = done, total
            if job.given_up:
                raise _GivenUpError

        folder = Path(tempfile.mkdtemp(prefix="rscap-scene-"))
        try:
            with MemoryFile(content, filename=f"{job.number}/{job.name}") as memory:
                self._check(memory)
                out = folder / "captions.geojson"
                request, asked = SceneRequest(**options), asked_model(job.model.captioner)
                result = caption_scenes(memory.name, asked, out, request, say=no_messages, progress=step)
                complaints = [reason.replace(memory.name, job.name) for reason in result.complaints.values()]
                if not result.captioned:
                    raise Problem(
                        400, f"nothing of the scene could be captioned: {'; '.join(complaints)}", param="scene"
                    )
                collection = json.loads(out.read_text(encoding="utf-8").replace(memory.name, job.name))
        except _GivenUpError:
            raise Problem(499, "given up") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        own = {"run": job.model.name, "digest": job.model.digest, "skipped": result.skipped, "complaints": complaints}
        return {**collection, "rscap": own}

    def _check(self, memory: Any) -> None:
        """Raises: Problem: the GTiff driver cannot open it, or it has too many pixels."""
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # its captions have no places then
                with memory.open(driver="GTiff") as source:
                    pixels = source.width * source.height
        except RasterioError as error:
            message = str(error).replace(memory.name, "the scene")
            raise Problem(
                400, f"the GeoTIFF cannot be opened: {message}", param="scene", code="invalid_image"
            ) from None
        if pixels > self.max_pixels:
            raise Problem(
                400, f"a scene of {pixels:,} pixels; at most {self.max_pixels:,} here", param="scene", code="too_large"
            )


def _end(job: SceneJob, done: asyncio.Future[dict[str, Any]]) -> None:
    job.ended = time.monotonic()
    if done.cancelled():
        job.answer.cancel()
    elif error := done.exception():
        job.answer.set_exception(problem_of(error))  # type: ignore[arg-type]
        job.answer.exception()  # it is told where it is asked for
    else:
        job.answer.set_result(done.result())


def scene_options(fields: dict[str, str]) -> dict[str, Any]:
    """Options of `rscap.caption_scene` out of the text fields of a form.

    Raises:
        Problem: 400, an unknown field, or a value that cannot be used.
    """
    options: dict[str, Any] = {}
    for name, text in fields.items():
        if name in ("window", "stride"):
            options[name] = _within(name, text, int, 16, 4_096)
        elif name == "gsd":
            options[name] = _within(name, text, float, 0.01, 1_000)
        elif name == "min_valid":
            options[name] = _within(name, text, float, 0, 1)
        elif name == "bands" and all(one.strip() for one in text[:200].split(",")):
            options[name] = tuple(one.strip() for one in text[:200].split(","))
        elif name == "crs" and re.fullmatch(r"EPSG:\d{1,6}", text):
            options[name] = text
        else:
            there = ", ".join(("scene", "model", "bands", *_OPTIONS))
            raise Problem(400, f"{name[:80]} = {text[:40]!r} cannot be used; there is {there}", param=name[:80])
    return options


def _within(name: str, text: str, kind: type[int] | type[float], low: float, high: float) -> float:
    try:
        value = kind(text[:20])
    except ValueError:
        value = kind(low) - 1
    if not low <= value <= high:
        raise Problem(400, f"{name} is a number from {low:g} to {high:g}, found {text[:40]!r}", param=name)
    return value
