"""Captions wait in turn, and those that can are made together: one model, many clients.

Clients take turns, whoever sends most: a batch takes one caption of each client, then a second of each, until it is
full. Whatever is in a batch was asked of one model, with one prompt and one way to decode. A caption whose client left,
or whose time is over, is not made.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rscap.recipe import GenerateSection
from rscap.records import Answer, Picture
from rscap.serving.metrics import Metrics
from rscap.serving.models import ServedModel
from rscap.serving.problems import Problem, problem_of
from rscap.serving.settings import ServeSettings

Made = TypeVar("Made")

_GAP_SECONDS = 0.1
"""How long an idle model waits, at most, for the next of the clients that it had lately, who may well ask again."""
_COMPANY_SECONDS = 0.5
"""How long it waits in all, at most, for captions to come along in one batch."""


@dataclass(slots=True)
class Admission:
    """Captions of one client that were let in together."""

    client: str
    count: int
    coming: int
    """How many of them are still being made ready."""


@dataclass(slots=True)
class Place:
    """A caption's place in the queue, from its admission to its answer."""

    admission: Admission
    model: ServedModel
    prompt: str
    settings: GenerateSection
    deadline: float
    """By the loop's clock."""
    row: Any = None
    """The picture made ready, a `PackedRow`."""
    answer: asyncio.Future[Answer] = field(default_factory=asyncio.Future)

    group: tuple[str, str, str] = field(init=False)
    """What captions of one batch have in common."""

    def __post_init__(self) -> None:
        self.group = self.model.name, self.prompt, self.settings.model_dump_json(exclude={"batch_size"})


class Scheduler:
    """Takes captions in from the event loop, and makes them in a thread of its own."""

    def __init__(self, settings: ServeSettings, metrics: Metrics, *, decoders: int = 2) -> None:
        self.settings, self.metrics = settings, metrics
        self.draining = False
        self.at_work = 0
        """Captions that the model is making."""
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._decoders = ThreadPoolExecutor(max_workers=decoders, thread_name_prefix="images")
        self._held: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[Place]] = OrderedDict()
        self._coming = 0
        """Captions of all admissions that are being made ready."""
        self._crowd = 0
        """Captions that were held at a time lately: so many clients may ask again."""
        self._arrived = asyncio.Event()
        self._seconds_each = 0.05
        self._work: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """Captions accepted and not answered."""
        return sum(self._held.values())

    def start(self) -> None:
        """Begin to work; called from the event loop."""
        self._work = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop working; what was accepted has been answered by then."""
        if self._work:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._model.shutdown(wait=True)
        self._decoders.shutdown(wait=True)

    async def in_decoder(self, work: Callable[..., Made], *given: Any) -> Made:
        """Run something that takes time, such as decoding an image, beside the event loop and the model."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *given)

    def admit(self, client: str, count: int) -> Admission:
        """Let a client in with so many captions, or not at all; `release` takes them out again.

        Raises:
            Problem: 429, the queue is full, or this client holds half of it already.
        """
        mine = self._held.get(client, 0)
        full = self.held + count > self.settings.queue
        if full or mine + count > max(self.settings.queue // 2, 1):
            self.metrics.refused.inc()
            wait = max(1, math.ceil(self.held * self._seconds_each))
            whose = "the queue is full" if full else "too many captions of this client wait already"
            raise Problem(429, f"{whose}; try again in {wait} s", code="queue_full", headers={"Retry-After": str(wait)})
        self._held[client] = mine + count
        self._coming += count
        self.metrics.waiting.set(self.held)
        return Admission(client, count, coming=count)

    def release(self, admission: Admission) -> None:
        """These captions are answered, or nobody wants them any more."""
        self._came(admission, admission.coming)
        left = self._held[admission.client] - admission.count
        if left:
            self._held[admission.client] = left
        else:
            del self._held[admission.client]
        self.metrics.waiting.set(self.held)

    def _came(self, admission: Admission, count: int) -> None:
        """So many captions are no longer being made ready."""
        admission.coming -= count
        self._coming -= count
        self._arrived.set()

    async def make_ready(self, places: Sequence[Place], read: Callable[[], Picture], *, param: str) -> str:
        """Read, decode and resize one picture, beside the model, for captions of it; its id.

        Raises:
            Problem: 400, the image or the prompt cannot be used.
        """
        first, *others = places
        try:
            async with self._in_time(first):
                first.row = await self.in_decoder(_encoded, first, read)
        except Exception as error:
            self._came(first.admission, len(places))
            raise problem_of(error, param=param) from error
        name = str(first.row.example_id)
        for number, place in enumerate(others, start=1):  # draws depend on the id: each has one of its own
            place.row = replace(first.row, example_id=f"{name}#{number}")
        return name

    async def caption(self, place: Place) -> Answer:
        """The caption of a place that is ready.

        Raises:
            Problem: 504, its time is over; or what made it impossible.
        """
        self._waiting.setdefault(place.admission.client, deque()).append(place)
        self._came(place.admission, 1)
        try:
            async with self._in_time(place):
                return await place.answer
        finally:
            if not place.answer.done():
                place.answer.cancel()

    @asynccontextmanager
    async def _in_time(self, place: Place) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(place.deadline):
                yield
        except TimeoutError:
            self.metrics.late.inc()
            raise Problem(504, "no caption within the time that was given", code="deadline_passed") from None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._arrived.clear()
            if not self._waiting:
                await self._arrived.wait()
                continue
            await self._company()
            if not (batch := self._next_batch()):
                continue
            begun = time.perf_counter()
            self.at_work = len(batch)
            found = await loop.run_in_executor(self._model, _answers, batch)
            self._count(batch, found, time.perf_counter() - begun)
            self._crowd = max(self.held, self._crowd * 7 // 8)
            self.at_work = 0
            for place, answer in zip(batch, found, strict=True):
                if place.answer.done():
                    self.metrics.left.inc()
                elif isinstance(answer, Answer):
                    place.answer.set_result(answer)
                else:
                    place.answer.set_exception(problem_of(answer))

    async def _company(self) -> None:
        """Let the next batch fill: a model makes captions together in far less time than one by one.

        It waits for captions that are being made ready, and for as many clients as it had lately while they keep
        coming, all that in proportion to the time of such a batch. Clients beside a busy model are slow to come back:
        without this wait batches shrink, and the model is busier still. A lone client does not wait for another, and
        nobody waits while captions of another kind could be made.
        """
        clock = asyncio.get_running_loop().time
        whole = min(max(self._crowd, self.held), self.settings.batch) * self._seconds_each
        gap, end = min(_GAP_SECONDS, whole / 20), clock() + min(_COMPANY_SECONDS, whole / 2)
        while not self._is_full() and (self._coming or self._ready < self._crowd):
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(end if self._coming else min(end, clock() + gap)):
                    await self._arrived.wait()
            except TimeoutError:
                return

    @property
    def _ready(self) -> int:
        """Captions that could be made now, and are still wanted."""
        return sum(not place.answer.done() for waiting in self._waiting.values() for place in waiting)

    def _is_full(self) -> bool:
        """Whether a batch would be no larger if more captions came: it is full, or others have to wait for it."""
        places = [place for waiting in self._waiting.values() for place in waiting if not place.answer.done()]
        return len(places) >= self.settings.batch or len({place.group for place in places}) > 1

    def _next_batch(self) -> list[Place]:
        """Captions of one group, of each client in turn."""
        batch: list[Place] = []
        passed: set[str] = set()
        while self._waiting and len(batch) < self.settings.batch and len(passed) < len(self._waiting):
            client, places = next(iter(self._waiting.items()))
            place = self._taken(places, batch[0].group if batch else None)
            if not places:
                del self._waiting[client]
            elif place is None:
                passed.add(client)
            if places:
                self._waiting.move_to_end(client)
            if place is not None:
                batch.append(place)
        return batch

    def _taken(self, places: deque[Place], group: tuple[str, str, str] | None) -> Place | None:
        """The client's first caption that is still wanted, if it belongs to the group."""
        while places:
            if places[0].answer.done():
                self.metrics.left.inc()
                places.popleft()
            elif group is None or places[0].group == group:
                return places.popleft()
            else:
                return None
        return None

    def _count(self, batch: list[Place], found: list[Answer | Exception], seconds: float) -> None:
        answers = [item for item in found if isinstance(item, Answer)]
        self._seconds_each += 0.2 * (seconds / len(batch) - self._seconds_each)
        model = batch[0].model
        self.metrics.batch.observe(len(batch))
        self.metrics.model_seconds.observe(seconds)
        self.metrics.captions.labels(model.name).inc(len(answers))
        self.metrics.tokens.labels(model.name).inc(sum(answer.prediction.tokens for answer in answers))
        self.metrics.near_ties.labels(model.name).inc(sum(answer.prediction.near_ties > 0 for answer in answers))


def _encoded(place: Place, read: Callable[[], Picture]) -> Any:
    return place.model.captioner.encoded(read(), prefix=place.prompt)


def _answers(batch: list[Place]) -> list[Answer | Exception]:
    """The answers of a batch, in its order. Where one of them makes it impossible, each is asked alone."""
    first = batch[0]
    rows = [place.row for place in batch]
    try:
        return list(first.model.captioner.answers_of(rows, prefix=first.prompt, settings=first.settings))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [answer for place in batch for answer in _answers([place])]
