"""The part `ray` of benchmarks/scenes.py: an archive on 1 and on 2 workers, second by second and process by process."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import rscap
from common import Phases
from rscap.data import opened
from rscap.records import Picture

TARGET = 1.6
_PLAIN_PICTURES = 192
_TOGETHER = 16


class Timed:
    """nano on one thread, which notes its processor seconds in a file of its process.

    Args:
        folder: where the file lies.
    """

    name, prefix = "nano", None

    def __init__(self, folder: Path) -> None:
        import torch

        torch.set_num_threads(1)
        self._model = rscap.load("nano", device="cpu", dtype="float32")
        self._file = folder / f"{os.getpid()}.json"
        self._seconds = {"until the model was loaded": time.process_time(), "captioning": 0.0}
        self._windows = 0

    def answers(self, pictures: Sequence[Picture]) -> Iterator[Any]:
        """As the model gives them."""
        began = time.process_time()
        found = list(self._model.answers(pictures))
        self._seconds["captioning"] += time.process_time() - began
        self._windows += len(found)
        self._file.write_text(json.dumps({"windows": self._windows, **self._seconds}), encoding="utf-8")
        return iter(found)


def one_run(archive: Path, out: Path, workers: int) -> dict[str, Any]:
    """Caption an archive on Ray, in this process as the driver."""
    import ray

    from rscap.scene import job, ray_engine
    from rscap.store.archive import Ledger

    phases, processes = Phases(), dict[str, float]()
    phases.watch(ray_engine.RayWorkers, "__init__", "start of Ray")
    phases.watch(job, "_begun", "scenes counted")
    phases.watch(ray_engine._Run, "carry_out", "captioning")
    phases.watch(Ledger, "add", "in it: ledger")
    phases.watch(ray, "get", "in it: results")
    phases.watch(ray, "wait", "in it: waiting")
    phases.watch(job, "_finish", "final files")
    close = ray_engine.RayWorkers.close

    def looked(pool: Any) -> None:
        processes.update(_processes())
        close(pool)

    ray_engine.RayWorkers.close = looked  # type: ignore[method-assign]
    phases.watch(ray_engine.RayWorkers, "close", "end of Ray")
    out.mkdir()
    notes = out / "workers"
    notes.mkdir()
    began, work = time.perf_counter(), time.process_time()
    options: dict[str, Any] = {"progress": False, "engine": "ray", "workers": workers}
    result = rscap.caption_scene(archive, _named(partial(Timed, notes)), out / "captions", **options)
    told = [json.loads(file.read_text()) for file in notes.iterdir()]
    return {
        "windows": result.captioned,
        "seconds": time.perf_counter() - began,
        "driver_processor_seconds": time.process_time() - work,
        "phases": phases.seconds,
        "processor_seconds_of_other_processes": processes,
        "workers": told,
    }


def _named(load: Callable[[], Any]) -> Any:
    """A captioner that workers load themselves: nothing of it travels but `load`."""
    from rscap.scene import job

    asked = job.Asked(name="nano", described={"name": "nano"}, prefix=None, batch_size=_TOGETHER, load=load)
    job.Asked.of = classmethod(lambda cls, captioner: asked)  # type: ignore[method-assign, assignment]
    return object()


def _processes() -> dict[str, float]:
    """Processor seconds of what this process has started, by kind."""
    import psutil

    found: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        kind = (
            "workers" if "ray::Worker" in command else "a worker that waits" if "ray::IDLE" in command else "Ray itself"
        )
        found[kind] += times.user + times.system
    return {kind: round(seconds, 2) for kind, seconds in found.items()}


def _plain(ready: Any, result: Any) -> None:
    """Caption pictures with nano in a plain process, and tell how long it took by the clock."""
    import torch

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    pictures = [
        Picture(id=str(number), image=opened(Image.fromarray(random.integers(0, 256, (224, 224, 3), dtype=np.uint8))))
        for number in range(_PLAIN_PICTURES)
    ]
    with rscap.load("nano", device="cpu", dtype="float32") as model:
        list(model.answers(pictures[:_TOGETHER]))
        ready.wait()
        began = time.perf_counter()
        for start in range(0, len(pictures), _TOGETHER):
            list(model.answers(pictures[start : start + _TOGETHER]))
        result.put(time.perf_counter() - began)


def plain_gain() -> float:
    """How many times as much two plain processes caption as one: what this machine has to give."""
    spawn = multiprocessing.get_context("spawn")
    longest = {}
    for count in (1, 2):
        ready, result = spawn.Barrier(count), spawn.Queue()
        started = [spawn.Process(target=_plain, args=(ready, result)) for _ in range(count)]
        for process in started:
            process.start()
        longest[count] = max(result.get() for _ in started)
        for process in started:
            process.join()
    return 2 * longest[1] / longest[2]


def measured(archive: Path, folder: Path) -> dict[str, Any]:
    """One run with 1 worker and one with 2, each in a fresh process; what follows from them."""
    found: dict[str, Any] = {"gain_of_two_plain_processes": plain_gain()}
    for workers in (1, 2):
        out = folder / f"on-{workers}"
        command = [sys.executable, __file__, str(archive), str(out), str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"workers_{workers}"] = json.loads(done.stdout.splitlines()[-1])
        print(f"{workers} worker(s):", json.dumps(found[f"workers_{workers}"], indent=2), flush=True)
    one, two = found["workers_1"], found["workers_2"]
    files = [sorted((folder / f"on-{workers}" / "captions").glob("captions.*")) for workers in (1, 2)]
    same = [first.read_bytes() == second.read_bytes() for first, second in zip(*files, strict=True)]
    captioning = [run["phases"]["captioning"]["clock"] for run in (one, two)]
    return found | {
        "same_bytes": all(same),
        "gain": one["seconds"] / two["seconds"],
        "gain_without_start_and_end": captioning[0] / captioning[1],
        "least_seconds_of_two_workers": _least(two),
        "target": TARGET,
    }


def _least(run: dict[str, Any]) -> float:
    """Seconds below which no run on two cores can end that costs as many processor seconds, were nothing serial."""
    others: float = sum(run["processor_seconds_of_other_processes"].values())
    driver: float = run["driver_processor_seconds"]
    return (driver + others) / 2


if __name__ == "__main__":
    print(json.dumps(one_run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
