"""Engines: jobs as processes of this machine, or as tasks of a Ray cluster.

The local engine starts one process for each job, so that a crash or a `kill -9` of one does not affect the others. On
Linux without a GPU it forks them from a server process that has imported torch, transformers and PEFT once, which saves
several seconds for each; elsewhere each process starts from scratch. A job whose study has ended ends itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from rscap.ablation.plan import Engine, Job
from rscap.errors import RscapError
from rscap.store import Attempt

EngineName = Literal["local", "ray"]
MOST_ON_CPU = 4
"""Default limit of jobs at once without a GPU, since they share the memory."""


def build_engine(name: EngineName, *, at_once: int | None, threads: int | None) -> tuple[Engine, int]:
    """The engine, and how many processor threads each of its jobs uses.

    By default one job for each GPU; without a GPU one for each core, at most four, which share the cores.

    Raises:
        RscapError: `name` is `ray` and Ray is not installed.
    """
    if name == "ray":
        return ray_engine(at_once=at_once, threads=threads)
    gpus, cores = visible_gpus(), available_cores()
    width = at_once or len(gpus) or min(cores, MOST_ON_CPU)
    return LocalEngine(at_once=width, gpus=gpus), threads or max(1, cores // width)


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs, with the names that CUDA_VISIBLE_DEVICES gives them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named == "":
        return []
    import torch

    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


PATIENCE_SECONDS = 60.0
"""How long a process may take to finish its update and save its state after it was asked to stop."""


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    process: Any
    results: Connection
    slot: int
    begun: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """`at_once` jobs at a time; with GPUs, each slot sees one of them."""

    at_once: int
    gpus: Sequence[str] = ()
    """Names for CUDA_VISIBLE_DEVICES."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield the outcome of each job, in the order in which they end."""
        context = _context(self.gpus)
        waiting = list(reversed(jobs))
        running: dict[int, _Running] = {}
        try:
            while waiting or running:
                free = set(range(self.at_once)) - {one.slot for one in running.values()}
                for slot in sorted(free)[: len(waiting)]:
                    started = self._start(context, waiting.pop(), slot)
                    running[started.process.sentinel] = started
                for sentinel in wait(list(running)):
                    yield _result(running.pop(sentinel))  # type: ignore[arg-type]
        finally:
            _stop(list(running.values()))

    def _start(self, context: Any, job: Job, slot: int) -> _Running:
        results, given = context.Pipe(duplex=False)
        gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
        process = context.Process(target=_work, args=(job, gpu, given), name=job.folder)
        process.start()
        given.close()
        return _Running(job, process, results, slot)


def _context(gpus: Sequence[str]) -> Any:
    """How processes start. Once a server has initialised CUDA, as an import may, forked processes cannot use it."""
    if gpus or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rscap.ablation.work", "peft"])
    return context


def _result(ended: _Running) -> Attempt:
    """The result that the process sent, or how it ended if it sent none."""
    with contextlib.suppress(EOFError), ended.results:
        if ended.results.poll():
            return ended.results.recv()
    ended.process.join()
    code = ended.process.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
    return Attempt(
        folder=ended.job.folder,
        progress="interrupted" if code == -signal.SIGTERM else "failed",
        reason=f"its process was {how}; see {ended.job.log}",
        seconds=round(time.perf_counter() - ended.begun, 3),
    )


def _stop(running: Sequence[_Running]) -> None:
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        for one in running:
            one.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for one in running:
            one.process.kill()  # does nothing to processes that have ended


def _work(job: Job, gpu: str | None, results: Connection) -> None:
    """The body of a job's process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # only the study receives Ctrl-C; it then asks each job to save and stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    results.send(_carried_out(job))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _carried_out(job: Job) -> Attempt:
    from rscap.ablation.work import carry_out_logged  # here and not above: it imports torch

    return carry_out_logged(job)


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Jobs as tasks of a Ray cluster, each in a process of its own. All nodes must see the study folder."""

    at_once: int
    threads: int
    """Processor cores that each task requests, and the threads it uses."""
    gpus: int
    """GPUs that each task requests."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield the outcome of each job, in the order in which they end."""
        ray = import_ray()
        task = ray.remote(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=0,  # a failed run is reported, not silently repeated
            max_calls=1,  # a fresh process for every job, as on one machine
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
        )(_carried_out)
        waiting = list(reversed(jobs))
        running: dict[Any, tuple[Job, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    job = waiting.pop()
                    running[task.remote(job)] = job, time.perf_counter()
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                yield _fetched(ray, ended, *running.pop(ended))
        finally:
            _cancel(ray, list(running))


def ray_engine(*, at_once: int | None, threads: int | None) -> tuple[RayEngine, int]:
    """An engine on the cluster that RAY_ADDRESS names, or on a new one on this machine.

    Raises:
        RscapError: the package ray is not installed.
    """
    ray = import_ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    there = ray.cluster_resources()
    gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
    width = at_once or gpus or cores
    threads = threads or max(1, cores // width)
    return RayEngine(at_once=min(width, max(1, cores // threads)), threads=threads, gpus=min(1, gpus)), threads


def _cancel(ray: Any, running: list[Any]) -> None:
    for one in running:
        ray.cancel(one)
    if running:
        ray.wait(running, num_returns=len(running), timeout=PATIENCE_SECONDS)
    for one in running:
        ray.cancel(one, force=True)


def import_ray() -> Any:
    """The ray package.

    Raises:
        RscapError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise RscapError("--engine ray needs the package ray", hint="pip install 'rscap[ray]'") from None
    return ray


def _fetched(ray: Any, ended: Any, job: Job, begun: float) -> Attempt:
    try:
        return ray.get(ended)
    except ray.exceptions.RayError as error:
        return Attempt(
            folder=job.folder,
            progress="failed",
            reason=f"its task ended without a result: {str(error).strip().splitlines()[-1]}; see {job.log}",
            seconds=round(time.perf_counter() - begun, 3),
        )
