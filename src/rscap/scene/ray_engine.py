"""Runs `rscap.scene.cluster` on Ray: workers as actors, surveys and batches as their calls."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from rscap.errors import RscapError
from rscap.progress import Say
from rscap.scene.aoi import Area
from rscap.scene.cluster import AHEAD, MOST_DEATHS, Archive, Batch, Worker
from rscap.scene.request import SceneRequest
from rscap.store.archive import EndRow, Ledger

_LOOK_S = 5.0


class RayWorkers:
    """Workers on the cluster that RAY_ADDRESS names, or on one that is started on this machine.

    Args:
        load: gives the captioner; it is called once in each worker.
        request: how scenes are read.
        count: how many; by default one for each GPU of the cluster, else one for each core.

    Raises:
        RscapError: the package ray is not installed.
    """

    def __init__(self, load: Callable[[], Any], request: SceneRequest, count: int | None) -> None:
        self.ray = _ray()
        self._ours = not self.ray.is_initialized()
        if self._ours:
            self.ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        there = self.ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        self.count = count or gpus or cores
        threads = 0 if gpus else max(1, cores // self.count)
        held = {"num_gpus": gpus / max(self.count, gpus) if gpus else 0, "num_cpus": min(1.0, cores / self.count)}
        self._make = lambda: self.ray.remote(**held)(Worker).remote(load, request, threads, os.getcwd())
        self.actors: list[Any] = [self._make() for _ in range(self.count)]

    def replace(self, place: int) -> None:
        """Start another worker in the place of one that died."""
        self.ray.kill(self.actors[place])
        self.actors[place] = self._make()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        for actor in self.actors:
            self.ray.kill(actor)
        if self._ours:
            self.ray.shutdown()


def caption_on_ray(
    ledger: Ledger,
    names: Sequence[str],
    load: Callable[[], Any],
    request: SceneRequest,
    *,
    area: Area | None,
    batch_size: int,
    workers: int | None,
    each: Callable[[int], None],
    finished: Callable[[EndRow], None],
    say: Say,
) -> None:
    """Caption scenes into the ledger; each ends in `finished`, in whatever order.

    Raises:
        RscapError: ray is not installed, or the model cannot be loaded.
        StoreError: no room is left for the ledger.
    """
    pool = RayWorkers(load, request, workers)
    try:
        archive = Archive(ledger, request, area, batch_size, finished)
        _Run(pool, archive, deque(names), each, say).carry_out()
    finally:
        pool.close()


class _Run:
    """Calls in flight, by their references."""

    def __init__(
        self, pool: RayWorkers, archive: Archive, names: deque[str], each: Callable[[int], None], say: Say
    ) -> None:
        self.pool, self.archive, self.names, self.each, self.say = pool, archive, names, each, say
        self.calls: dict[Any, tuple[int, str | Batch]] = {}
        self.deaths = 0
        """Of workers, since the last call that gave something."""

    def carry_out(self) -> None:
        self._hand_out()
        self.each(0)  # the first count opens every scene: here workers load the model meanwhile
        while True:
            self._hand_out()
            if not self.calls:
                return
            done, _ = self.pool.ray.wait(list(self.calls), num_returns=1, timeout=_LOOK_S)
            for call in done:
                self._take(call)

    def _hand_out(self) -> None:
        """Give every worker with room a batch, or else a scene to survey."""
        while (place := self._free()) is not None:
            surveys = sum(isinstance(what, str) for _, what in self.calls.values())
            wanted = bool(self.names) or surveys > 0
            batch = self.archive.batch(whole=wanted)
            actor = self.pool.actors[place]
            if batch is not None:
                self.calls[actor.caption.remote(batch.parts)] = (place, batch)
            elif self.names and surveys < AHEAD * self.pool.count:
                name = self.names.popleft()
                self.calls[actor.survey.remote(name)] = (place, name)
            else:
                return

    def _free(self) -> int | None:
        """The worker with the fewest calls, if it has room."""
        load = [0] * self.pool.count
        for place, _ in self.calls.values():
            load[place] += 1
        least = min(range(self.pool.count), key=load.__getitem__)
        return least if load[least] < AHEAD else None

    def _take(self, call: Any) -> None:
        place, what = self.calls.pop(call)
        try:
            found = self.pool.ray.get(call)
        except self.pool.ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, RscapError) else error from None
        except self.pool.ray.exceptions.RayError as error:
            self._died(place, what, " ".join(str(error).split()))
            return
        self.deaths = 0
        if isinstance(what, str):
            self.archive.surveyed(what, *found)
            self.each(self.archive.ledger.done(what))
            return
        self.each(self.archive.captioned(what, found))

    def _died(self, place: int, what: str | Batch, reason: str) -> None:
        """A worker is gone: its calls are lost, and another takes its place.

        Raises:
            RscapError: workers die without giving anything, as where they lack a package.
        """
        self.deaths += 1
        if self.deaths > MOST_DEATHS + self.pool.count:
            raise RscapError(f"workers end before they give anything: {reason[:600]}", hint="can they import rscap?")
        lost = [what, *(one for call, (where, one) in list(self.calls.items()) if where == place)]
        self.calls = {call: known for call, known in self.calls.items() if known[0] != place}
        self.pool.replace(place)
        self.say(f"note: a worker ended ({reason[:120]}); another goes on in its place")
        for number, one in enumerate(lost):
            if isinstance(one, str):
                self.names.appendleft(one)
            elif number == 0:
                self.archive.died(one, reason)
            else:
                self.archive.back(one)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise RscapError("--engine ray needs the package ray", hint="pip install 'rscap[ray]'") from None
    return ray
