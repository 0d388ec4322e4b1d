"""Jobs as tasks of a Ray cluster, or of one started on this machine. All nodes must see the study folder."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from rscap.ablation.jobs import Job, carry_out_logged
from rscap.ablation.state import Attempt
from rscap.errors import RscapError

PATIENCE_SECONDS = 60.0
"""How long tasks that were cancelled may take to finish their update and save their state."""


@dataclass(frozen=True, slots=True)
class RayEngine:
    """One task a job, in a process of its own."""

    at_once: int
    threads: int
    """Processor cores each task asks for, and threads it computes with."""
    gpus: int
    """GPUs each task asks for."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield what came of each job, in the order in which they end."""
        ray = import_ray()
        task = ray.remote(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=0,  # a run that failed is told, not tried again in silence
            max_calls=1,  # a fresh process for every job, as on one machine
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
        )(carry_out_logged)
        waiting = list(reversed(jobs))
        running: dict[Any, tuple[Job, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    job = waiting.pop()
                    running[task.remote(job)] = job, time.perf_counter()
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                yield _result(ray, ended, *running.pop(ended))
        finally:
            _stop(ray, list(running))


def ray_engine(*, at_once: int | None, threads: int | None) -> tuple[RayEngine, int]:
    """An engine on the cluster that RAY_ADDRESS names, or on one that is started on this machine.

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


def _stop(ray: Any, running: list[Any]) -> None:
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


def _result(ray: Any, ended: Any, job: Job, begun: float) -> Attempt:
    try:
        return ray.get(ended)
    except ray.exceptions.RayError as error:
        return Attempt(
            folder=job.folder,
            progress="failed",
            reason=f"its task ended without a result: {str(error).strip().splitlines()[-1]}; see {job.log}",
            seconds=round(time.perf_counter() - begun, 3),
        )
