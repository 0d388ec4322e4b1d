"""Jobs as processes of this machine: one process a job, so that a crash or a `kill -9` of one takes no other with it.

On Linux without a GPU the processes are forked from a server that has imported torch, transformers and PEFT once, which
saves some six seconds each; elsewhere each starts anew. A process whose study is gone ends itself.
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
from typing import Any

from rscap.ablation.jobs import Job, carry_out_logged
from rscap.ablation.state import Attempt

PATIENCE_SECONDS = 60.0
"""How long a process that was asked to stop may take to finish its update and save its state."""


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
    """What CUDA_VISIBLE_DEVICES calls them."""

    def run(self, jobs: Sequence[Job]) -> Generator[Attempt, None, None]:
        """Yield what came of each job, in the order in which they end."""
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
    """How processes start. The server must not have touched CUDA, which a fork cannot take over; imports may do so."""
    if gpus or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rscap.ablation.work", "peft"])
    return context


def _result(ended: _Running) -> Attempt:
    """What the process sent before it ended; if it sent nothing, how it ended."""
    with contextlib.suppress(EOFError), ended.results:
        if ended.results.poll():
            return ended.results.recv()
    ended.process.join()
    code = ended.process.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
    return Attempt(
        folder=ended.job.folder,
        progress="partial" if code == -signal.SIGTERM else "failed",
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
            one.process.kill()  # nothing happens to those that have ended


def _work(job: Job, gpu: str | None, results: Connection) -> None:
    """The body of a job's process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the study alone, which then asks each job once to save and stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    results.send(carry_out_logged(job))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
