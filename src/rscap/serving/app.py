"""The routes of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import rscap
from rscap.records import Answer, Picture
from rscap.serving.asked import Asked
from rscap.serving.chat import ChatAsked, ChatRequest
from rscap.serving.fetching import fetch
from rscap.serving.gate import App, Gate
from rscap.serving.images import bytes_of, is_address, picture_of
from rscap.serving.metrics import CONTENT_TYPE, Metrics
from rscap.serving.models import ServedModels
from rscap.serving.pages import page_file, sample_png, samples
from rscap.serving.problems import Problem, problem_of, problem_of_fields
from rscap.serving.scenes import SceneDesk, scene_options
from rscap.serving.scenes import available as scenes_available
from rscap.serving.scheduler import Admission, Place, Scheduler
from rscap.serving.settings import ServeSettings
from rscap.serving.uploads import Upload, line_of, read_fields, read_form, read_scene

Found = TypeVar("Found")


class Server:
    """The models of a process behind their routes; `app` is the ASGI application."""

    def __init__(self, models: ServedModels, settings: ServeSettings) -> None:
        self.models, self.settings, self.metrics = models, settings, Metrics()
        self.scheduler = Scheduler(settings, self.metrics)
        self.scenes = SceneDesk(max_pixels=settings.max_scene_pixels) if scenes_available() else None
        routes = FastAPI(
            title="rscap",
            version=rscap.__version__,
            description="Captions of remote-sensing images. `/v1` speaks OpenAI's API; additions stand under `rscap`.",
            docs_url=None,
            redoc_url=None,
            lifespan=self._life,
        )
        routes.add_exception_handler(HTTPException, _other)
        routes.add_exception_handler(Problem, _told)
        routes.add_exception_handler(Exception, _told)
        self._add(routes)
        self.routes = routes
        self.app: App = Gate(routes, settings=settings, metrics=self.metrics)

    @asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        self.scheduler.start()
        yield
        self.scheduler.draining = True
        await self.scheduler.close()
        if self.scenes:
            await asyncio.get_running_loop().run_in_executor(None, self.scenes.close)

    def _add(self, routes: FastAPI) -> None:
        chat_body = {"application/json": {"schema": ChatRequest.model_json_schema()}}
        file = {"type": "array", "items": {"type": "string", "format": "binary"}}
        text = {name: {"type": "string"} for name in ("model", "prompt")}
        upload_body = {"multipart/form-data": {"schema": {"type": "object", "properties": {"image": file, **text}}}}
        routes.get("/v1/models", tags=["OpenAI"], summary="The models by name")(self.list_models)
        routes.get("/v1/models/{name:path}", tags=["OpenAI"], summary="One model")(self.one_model)
        routes.post(
            "/v1/chat/completions",
            tags=["OpenAI"],
            summary="Captions of one image",
            openapi_extra={"requestBody": {"content": chat_body, "required": True}},
        )(self.chat)
        routes.post(
            "/caption",
            tags=["rscap"],
            summary="Captions of image files, as JSON Lines",
            openapi_extra={"requestBody": {"content": upload_body, "required": True}},
        )(self.caption)
        for path, work in (("/", self.page), ("/docs", self.page), ("/static/{name}", self.static)):
            routes.get(path, include_in_schema=False)(work)
        routes.get("/samples", include_in_schema=False)(self.list_samples)
        routes.get("/samples/{name}", include_in_schema=False)(self.one_sample)
        if self.scenes:
            scene = {"type": "string", "format": "binary"}
            scene_body = {"multipart/form-data": {"schema": {"type": "object", "properties": {"scene": scene, **text}}}}
            routes.post(
                "/scene",
                tags=["rscap"],
                summary="Captions of a GeoTIFF, window by window, as GeoJSON; what takes long is a job",
                openapi_extra={"requestBody": {"content": scene_body, "required": True}},
            )(self.scene)
            routes.get("/scene/{number}", tags=["rscap"], summary="How far a scene is, and its result")(
                self.scene_state
            )
            routes.delete("/scene/{number}", tags=["rscap"], summary="Give a scene up")(self.scene_given_up)
        routes.get("/health", tags=["operation"], summary="The process answers")(self.health)
        routes.get("/ready", tags=["operation"], summary="Captions can be asked for")(self.ready)
        routes.get("/metrics", tags=["operation"], summary="Numbers for Prometheus")(self.numbers)

    async def list_models(self) -> Response:
        return JSONResponse({"object": "list", "data": [model.described() for model in self.models]})

    async def one_model(self, name: str) -> Response:
        return JSONResponse(self.models[name].described())

    async def scene(self, request: Request) -> Response:
        """Caption a GeoTIFF window by window."""
        assert self.scenes is not None
        _require_type(request, "multipart/form-data")
        try:
            async with request.form(max_files=1, max_fields=16, max_part_size=4_096) as form:
                fields, file = await read_scene(form)
        except HTTPException as error:
            raise Problem(400, f"the form cannot be read: {error.detail}") from None
        name = fields.pop("model", "")
        model = self.models[name] if name else self.models.first
        job = self.scenes.begin(_client(request), model, file[0], file[1], scene_options(fields))
        _tell(request, model=model.name)
        await asyncio.wait({job.answer}, timeout=self.settings.scene_seconds)
        if job.answer.done():
            return JSONResponse(await job.answer, media_type="application/geo+json")
        return JSONResponse(job.state(), status_code=202, headers={"Location": job.url})

    async def scene_state(self, number: str) -> Response:
        assert self.scenes is not None
        return JSONResponse(self.scenes[number].state())

    async def scene_given_up(self, number: str) -> Response:
        assert self.scenes is not None
        job = self.scenes[number]
        self.scenes.give_up(job)
        return JSONResponse(job.state())

    async def page(self, request: Request) -> Response:
        content, kind = page_file("docs.html" if request.url.path == "/docs" else "index.html")
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def static(self, name: str) -> Response:
        content, kind = page_file(name)
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def list_samples(self) -> Response:
        found = await self.scheduler.in_decoder(samples)
        return JSONResponse({"samples": list(found.values()), "scene": self.scenes is not None})

    async def one_sample(self, name: str) -> Response:
        content = await self.scheduler.in_decoder(sample_png, name)
        return Response(content, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    async def health(self) -> Response:
        return JSONResponse({"status": "ok", "version": rscap.__version__})

    async def ready(self) -> Response:
        draining = self.scheduler.draining
        state = {"status": "draining" if draining else "ready", "waiting": self.scheduler.held}
        return JSONResponse(state, status_code=503 if draining else 200)

    async def numbers(self) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def chat(self, request: Request) -> Response:
        """Caption one image, asked for as OpenAI's clients ask."""
        _require_type(request, "application/json")
        asked = _checked(await request.body()).read(self.models, self.settings)
        return await _while_there(request, self._chat(request, asked))

    async def _chat(self, request: Request, asked: ChatAsked) -> Response:
        number = request.state.request_id
        admission = self.scheduler.admit(_client(request), asked.choices)
        handed_on = False
        try:
            places = self._places(request, asked.asked, admission)
            await self.scheduler.make_ready(places, await self._reader(asked), param=asked.param)
            prompt_tokens = len(places[0].row.tokens)
            _tell(request, model=asked.asked.model.name, images=1, captions=len(places))
            if not asked.request.stream:
                answers = await _all(self.scheduler.caption, places)
                return JSONResponse(asked.completion(number, answers, prompt_tokens))
            handed_on = True
            stream = self._stream(asked, places, number, prompt_tokens)
            return _Stream(stream, lambda: self.scheduler.release(admission), "text/event-stream")
        finally:
            if not handed_on:
                self.scheduler.release(admission)

    async def _stream(
        self, asked: ChatAsked, places: list[Place], number: str, prompt_tokens: int
    ) -> AsyncIterator[bytes]:
        yield _event(asked.opening(number))
        try:
            answers = await _all(self.scheduler.caption, places)
        except Problem as problem:
            yield _event(problem.body())
            return
        for part in asked.chunks(number, answers, prompt_tokens):
            yield _event(part)
        yield b"data: [DONE]\n\n"

    async def _reader(self, asked: ChatAsked) -> Callable[[], Picture]:
        """What reads the picture of a request; an address is fetched first."""
        param, limit = asked.param, self.settings.max_pixels
        if not is_address(asked.address):
            return lambda: picture_of(bytes_of(asked.address, param=param), name=None, max_pixels=limit, param=param)
        if not self.settings.remote_images:
            raise Problem(
                400,
                "this server fetches no images: send the image itself as a data URI, data:image/png;base64,…",
                param=param,
                code="remote_images_off",
            )
        content = await fetch(asked.address, limit=self.settings.max_body)
        return lambda: picture_of(content, name=None, max_pixels=limit, param=param)

    async def caption(self, request: Request) -> Response:
        """Caption image files: a multipart form, or one image as the body."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("image/"):
            fields = dict(request.query_params)
            upload = Upload(read_fields(fields, self.models, self.settings), [(None, await request.body())])
        else:
            _require_type(request, "multipart/form-data", "that of an image, such as image/jpeg")
            most = self.settings.max_images
            try:
                async with request.form(max_files=most, max_fields=32, max_part_size=16_384) as form:
                    upload = await read_form(form, self.models, self.settings)
            except HTTPException as error:
                raise Problem(400, f"the form cannot be read: {error.detail}") from None
        return await _while_there(request, self._caption(request, upload))

    async def _caption(self, request: Request, upload: Upload) -> Response:
        count = len(upload.files)
        admission = self.scheduler.admit(_client(request), count)
        handed_on = False
        try:
            places = self._places(request, upload.asked, admission)
            named = await asyncio.gather(*map(self._ready, places, upload.files))
            _tell(request, model=upload.asked.model.name, images=count, captions=count)
            broken = [problem for _, problem in named if problem]
            if len(broken) == count:
                raise broken[0]
            handed_on = True
            lines = self._lines(upload.asked, places, named)
            return _Stream(lines, lambda: self.scheduler.release(admission), "application/jsonl")
        finally:
            if not handed_on:
                self.scheduler.release(admission)

    async def _ready(self, place: Place, file: tuple[str | None, bytes]) -> tuple[str, Problem | None]:
        """Make the place of a file ready; its id, and what is wrong with it."""
        name, content = file
        limit = self.settings.max_pixels

        def read() -> Picture:
            return picture_of(content, name=name, max_pixels=limit, param="image")

        try:
            return await self.scheduler.make_ready([place], read, param="image"), None
        except Problem as problem:
            return name or "image", problem

    async def _lines(
        self, asked: Asked, places: list[Place], named: list[tuple[str, Problem | None]]
    ) -> AsyncIterator[bytes]:
        async def one(place: Place, broken: Problem | None) -> Answer | Problem:
            try:
                return broken or await self.scheduler.caption(place)
            except Problem as problem:
                return problem

        asking = [asyncio.create_task(one(place, problem)) for place, (_, problem) in zip(places, named, strict=True)]
        try:
            for task, (name, _) in zip(asking, named, strict=True):
                yield line_of(name, await task, asked)
        finally:
            for task in asking:
                task.cancel()

    def _places(self, request: Request, asked: Asked, admission: Admission) -> list[Place]:
        deadline = asyncio.get_running_loop().time() + self._seconds(request)
        return [
            Place(
                admission=admission,
                model=asked.model,
                prompt=asked.prompt,
                settings=asked.settings,
                deadline=deadline,
            )
            for _ in range(admission.count)
        ]

    def _seconds(self, request: Request) -> float:
        """The client's own time limit, `X-Deadline` in seconds, where it is below the server's."""
        given = request.headers.get("x-deadline")
        if given is None:
            return self.settings.deadline
        try:
            seconds = float(given) if len(given) < 20 else 0.0
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise Problem(400, "X-Deadline is a number of seconds above 0", param="X-Deadline")
        return min(seconds, self.settings.deadline)


class _Stream(StreamingResponse):
    """A response in parts; whatever becomes of it, `end` is called once."""

    def __init__(self, parts: AsyncIterator[bytes], end: Callable[[], None], kind: str) -> None:
        super().__init__(parts, media_type=kind, headers={"Cache-Control": "no-store"})
        self._parts, self._end = parts, end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self.stream_response(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)
            await self._parts.aclose()  # type: ignore[attr-defined]  # a generator: its `finally` lets places go
            self._end()


async def _while_there(request: Request, work: Awaitable[Response]) -> Response:
    """The response, unless the client leaves first: then the work is given up."""
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        return Response(status_code=499)  # nobody reads it; the log tells
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _all(ask: Callable[[Place], Awaitable[Answer]], places: list[Place]) -> list[Answer]:
    """All answers, or the first problem; then nobody waits for the others."""
    tasks = [asyncio.ensure_future(ask(place)) for place in places]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _checked(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise problem_of_fields(error) from None


def _require_type(request: Request, wanted: str, *others: str) -> None:
    """A page of another site may send a form or plain text anywhere without asking; JSON it may not."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
        raise Problem(415, f"Content-Type must be {' or '.join([wanted, *others])}", code="unsupported_media_type")


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _tell(request: Request, **facts: Any) -> None:
    request.state.told = facts


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


async def _told(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    return JSONResponse(problem.body(), status_code=problem.status, headers=problem.headers)


async def _other(_: Request, error: Exception) -> Response:
    """Paths and methods that there are not, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing at this path", 405: "this path does not take this method"}
    problem = Problem(error.status_code, said.get(error.status_code, str(error.detail)))
    return JSONResponse(problem.body(), status_code=problem.status, headers=error.headers)
